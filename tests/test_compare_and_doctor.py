"""`phaselens compare` and `phaselens doctor`: what they print, as JSON, and what is wrong in one line."""

import json
import os
import subprocess
import sys
import tomllib

import pytest

from phaselens.cli import call, doctor


@pytest.fixture
def cli(capsys):
    def run(*arguments):
        capsys.readouterr()
        code = call([str(a) for a in arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def claim(name, verdict, estimate=1.0, interval=(0.9, 1.1), **more):
    return {"id": name, "statement": "S.", "verdict": verdict, "estimate": estimate, "interval": interval} | more


def study(folder, claims, seed=0, **facts):
    folder.mkdir()
    (folder / "claims.json").write_text(json.dumps(claims))
    (folder / "study.toml").write_text(f'name = "{folder.name}"\nseed = {seed}\nmodels = ["a"]\n')
    manifest = {"versions": {"numpy": "2"}, "models": [{"name": "a", "fingerprint": "f" * 64}]} | facts
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_verdicts_stand_side_by_side_and_changes_are_named(cli, tmp_path):
    one = study(tmp_path / "one", [claim("R1", "open"), claim("G1", "open", None, None), claim("G2", "open")])
    both = [claim("R1", "supported", 2.0, (1.8, 2.2), post_hoc=True), claim("G1", "open", None, None)]
    other = study(tmp_path / "two", both, seed=1, versions={"numpy": "3"})
    code, out, _ = cli("compare", one, other)
    assert code == 0
    assert "supported*" in out and "verdict, intervals do not overlap" in out and "not there" in out
    assert "seed: 0 -> 1" in out and 'versions.numpy: "2" -> "3"' in out and "models:" not in out
    found = json.loads(cli("compare", one, other, "--json")[1])
    assert [row["id"] for row in found["claims"]] == ["R1", "G1", "G2"]
    assert {row["field"] for row in found["declaration"]} == {"name", "seed", "versions.numpy"}


def test_estimates_of_unlike_parts_of_a_claim_are_not_compared(cli, tmp_path):
    one = study(tmp_path / "one", [claim("V2", "open", 0.5, (0.4, 0.6), why="ln mean ct: 0.5 [0.4, 0.6], n = 8")])
    far = claim("V2", "open", 2.0, (1.9, 2.1), why="ln ratio_norm: 2 [1.9, 2.1], n = 8")
    same = claim("V2", "open", 2.0, (1.9, 2.1), why="ln mean ct: 2 [1.9, 2.1], n = 8")
    unlike = cli("compare", one, study(tmp_path / "two", [far]))[1]
    assert "unlike parts (ln mean ct; ln ratio_norm)" in unlike and "do not overlap" not in unlike
    assert "intervals do not overlap" in cli("compare", one, study(tmp_path / "three", [same]))[1]


def test_a_study_beside_itself_changes_nothing(cli, tmp_path):
    one = study(tmp_path / "one", [claim("R1", "open")])
    code, out, _ = cli("compare", one, one)
    assert code == 0 and "the two declarations say the same" in out


def test_check_fails_where_a_verdict_or_an_interval_or_a_claim_is_gone_and_not_else(cli, tmp_path):
    base = study(tmp_path / "base", [claim("R1", "open"), claim("G1", "supported", 1.0, (0.9, 1.1))])
    near = [claim("R1", "open", 1.05, (0.95, 1.15)), claim("G1", "supported", decided_by="other"), claim("X1", "open")]
    code, out, _ = cli("check", study(tmp_path / "near", near), "--against", base)
    assert code == 0 and "0 of 2 claims" in out
    worse = {
        "verdict": [claim("R1", "rejected"), claim("G1", "supported")],
        "intervals do not overlap": [claim("R1", "open", 2.0, (1.9, 2.1)), claim("G1", "supported")],
        "only in one": [claim("R1", "open")],
    }
    for what, claims in worse.items():
        folder = study(tmp_path / what.split()[0], claims)
        code, out, _ = cli("check", folder, "--against", base)
        assert code == 1 and what in out and "1 of 2 claims" in out
        found = json.loads(cli("check", folder, "--against", base, "--json")[1])
        assert found["fine"] is False and len(found["failed"]) == 1
    assert cli("check", base, "--against", tmp_path / "nowhere")[0] == 2


def test_two_runs_of_one_study_are_called_by_their_folders(cli, tmp_path):
    one, other = study(tmp_path / "a", [claim("R1", "open")]), study(tmp_path / "b", [claim("R1", "open")])
    (other / "study.toml").write_text((one / "study.toml").read_text())
    assert json.loads(cli("compare", one, other, "--json")[1])["names"] == [str(one), str(other)]


def test_what_is_no_study_is_said(cli, tmp_path):
    one = study(tmp_path / "one", [claim("R1", "open")])
    (tmp_path / "two").mkdir()
    for arguments, says in (((one, tmp_path / "two"), "no ledger"), ((tmp_path / "x", one), "no ledger")):
        code, out, err = cli("compare", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1) and says in err
    (tmp_path / "two" / "claims.json").write_text("[]")
    code, _, err = cli("compare", one, tmp_path / "two")
    assert code == 2 and "not the folder of a study" in err


def test_doctor_says_what_is_there_and_what_is_missing(cli, tmp_path, monkeypatch):
    code, out, _ = cli("doctor", tmp_path, "--json")
    found = json.loads(out)
    assert code == 0 and found["fine"] is True
    by_name = {c["what"]: c for c in found["checks"]}
    assert by_name["torch"]["fine"] and int(by_name["bundled organisms"]["found"]) > 0
    assert "nothing is in the way" in cli("doctor", tmp_path)[1]
    monkeypatch.setattr(doctor, "CORE", ("torch", "a-package-that-is-nowhere"))
    code, out, _ = cli("doctor", tmp_path, "--json")
    assert code == 2 and json.loads(out)["fine"] is False
    assert "pip install a-package-that-is-nowhere" in out


def test_extras_are_those_of_the_package():
    from pathlib import Path

    declared = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    extras = declared["project"]["optional-dependencies"]
    for extra, name, _ in doctor.EXTRAS:
        assert any(need.replace("-", "_").startswith(name) for need in extras[extra]), (extra, name)


def test_a_missing_extra_is_no_problem_and_says_its_install_line(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "EXTRAS", (("tables", "nowhere", "use"),))
    code, out, _ = cli("doctor", tmp_path, "--json")
    assert code == 0 and "pip install 'phaselens[tables]'" in out


def test_the_shell_completes_commands():
    given = {"_PHASELENS_COMPLETE": "complete_bash", "COMP_WORDS": "phaselens clai", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from phaselens.cli import main; main()"],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["claims"], done.stderr
