"""`phaselens claims`: explained, drawn, listed, exported and read back, and one clear line for every mistake."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.report.synthetic_study import make_study

from phaselens.claims import OwnClaim, registered_own
from phaselens.claims.explain import explain
from phaselens.cli import call

OWN = """
[[claims]]
id = "U1"
statement = "Means exceed a tenth."
table = "panel"
value = "mean_ct"
statistic = "mean"
unit = "model"
comparison = "above"
margin = 0.1
"""
STUDY = 'name = "mine"\nmodels = ["organism:llama-512"]\nclaims = "own.toml"\n'


@pytest.fixture
def cli(capsys):
    def run(*arguments):
        capsys.readouterr()
        code = call([str(a) for a in arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("synthetic") / "study")


@pytest.fixture
def study(tmp_path):
    (tmp_path / "own.toml").write_text(OWN)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def test_show_says_the_rule_in_plain_words(cli):
    code, out, _ = cli("claims", "show", "G2")
    assert code == 0
    for heading in (
        "What is claimed",
        "It counts as supported if",
        "What could fool it",
        "Correction",
        "In other words",
    ):
        assert f"\n{heading}\n" in out


def test_a_control_of_ones_own_is_explained_by_what_it_does_not_by_words_in_its_name():
    control = {"name": "another size", "must": "destroy", "value": "mean_ct", "where": {"twin": True}}
    own = OwnClaim(
        id="U1",
        statement="s",
        table="panel",
        value="ratio_norm",
        statistic="mean",
        unit="model",
        comparison="above",
        controls=(control,),
    )
    claim = registered_own(own)
    (said,) = next(p.lines for p in explain(claim, (claim,)) if p.heading == "What could fool it")
    assert said == "another size: the same statistic with column mean_ct, twin = True; the effect must go"


def test_show_with_a_folder_gives_verdict_and_figures(cli, folder):
    before = sorted(folder.rglob("*"))
    code, out, _ = cli("claims", "show", "r1", folder)
    assert code == 0 and "In this study\n  rejected" in out and "figure:" not in out
    assert sorted(folder.rglob("*")) == before
    code, out, _ = cli("claims", "show", "R1", folder, "--figures")
    files = re.findall(r"figure: (\S+\.svg)", out)
    assert [f.rpartition("/")[2] for f in files] == ["claim-R1.svg", "phase.svg"]
    for file in files:
        root = ElementTree.parse(file).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(--" not in Path(file).read_text()
    code, out, _ = cli("claims", "show", "R1", folder, "--json")
    assert json.loads(out)["verdict"]["id"] == "R1"


def test_the_falsification_list(cli, folder):
    code, out, _ = cli("claims", "falsified", folder)
    assert code == 0 and "R1" in out and "untrained twin" in out
    rows = json.loads(cli("claims", "falsified", folder, "--json")[1])
    assert {row["verdict"] for row in rows} == {"rejected"}


def test_a_claim_that_was_taken_out_by_hand_is_missed(cli, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    manifest, claims = (json.loads((copy / name).read_text()) for name in ("manifest.json", "claims.json"))
    (copy / "manifest.json").write_text(json.dumps({**manifest, "claims": [row["id"] for row in claims]}))
    assert cli("claims", "falsified", copy)[0] == 0
    (copy / "claims.json").write_text(json.dumps([row for row in claims if row["id"] != "R1"]))
    code, _, err = cli("claims", "falsified", copy)
    assert code == 2 and "lacks R1, registered before the data" in err
    assert cli("report", copy)[0] == 0 and "claims.json lacks R1" in (copy / "report.html").read_text()


def test_own_claims_are_listed_after_the_register(cli, study):
    ids = [c["id"] for c in json.loads(cli("claims", "list", "--study", study, "--json")[1])]
    assert ids[-1] == "U1" and "R1" in ids
    assert "U1" not in cli("claims", "list")[1]


def test_export_and_import_are_inverse_and_see_tampering(cli, study, tmp_path):
    given = ("--study", study, "--producer", "example.org", "--out", tmp_path, "--at", "2026-11-21T12:00:00Z", "--json")
    code, out, err = cli("claims", "export", "U1", *given)
    assert code == 0, err
    made = json.loads(out)
    assert made["manifest"].endswith(".prml.yaml") and len(made["sha256"]) == 64
    code, out, err = cli("claims", "import", made["manifest"])
    assert code == 0 and "as published" in err
    (tmp_path / "back.toml").write_text(out)
    from phaselens.studies.declaration import read_claims

    assert read_claims(tmp_path / "back.toml") == read_claims(tmp_path / "own.toml")
    path = tmp_path / made["manifest"].rpartition("/")[2]
    path.write_text(path.read_text().replace("threshold: 0.1", "threshold: 0.2"))
    code, out, err = cli("claims", "import", path)
    assert code == 3 and out == "" and "was changed" in err


def test_mistakes_are_one_line_with_exit_code_2(cli, study, folder, tmp_path):
    for arguments, says in (
        (("claims", "show", "G22"), "Did you mean 'G2'"),
        (("claims", "show", "C1", folder), "did not judge C1"),
        (("claims", "show", "R1", tmp_path / "nowhere"), "no ledger can be read"),
        (("claims", "falsified", tmp_path), "no ledger can be read"),
        (("claims", "export", "U2", "--study", study, "--producer", "x"), "unknown claim 'U2'"),
        (("claims", "export", "U1", "--study", study, "--producer", "x", "--at", "now"), "must have the form"),
        (("claims", "import", tmp_path / "absent.yaml"), "cannot be read"),
        (("claims", "import", study), "not a PRML manifest"),
        (("run", "organisms", "--claims", study), "goes with --from"),
    ):
        code, out, err = cli(*arguments)
        assert (code, out) == (2, ""), arguments
        assert err.count("\n") == 1 and says in err, err
