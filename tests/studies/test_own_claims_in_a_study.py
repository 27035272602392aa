"""A study's own claims: registered before the data, judged at the end, post hoc when they came or changed later."""

import json

import pytest

from phaselens.errors import InputError, StudyFileError
from phaselens.studies import analyse_study, run_study
from phaselens.studies.declaration import read_claims, read_study
from phaselens.studies.store.registration import own_claims, unjudged, with_later
from tiny_panel import save_study

CLAIM = """
[[claims]]
id = "U1"
statement = "Runs turn by more than a tenth of a radian."
table = "regimes_runs"
value = "mean_ct"
statistic = "mean"
unit = "prompt_id"
comparison = "above"
margin = 0.1

[[claims.controls]]
name = "untrained twin"
must = "destroy"
where = { twin = true }
"""


def document(folder, name):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def done(place):
    path = save_study(place / "in", families=("llama",), experiments=["regimes"], claims="own.toml")
    (path.parent / "own.toml").write_text(CLAIM)
    return run_study(read_study(path), place / "out").folder


def test_it_stands_in_the_manifest_before_the_data_and_in_the_ledger_after(done):
    manifest = document(done, "manifest.json")
    assert manifest["claims"] == ["R1", "U1"]
    (row,) = [r for r in manifest["registered"] if r["id"] == "U1"]
    assert len(row["lock"]) == 64 and row["statement"].startswith("Runs turn")
    claim = {c["id"]: c for c in document(done, "claims.json")}["U1"]
    assert claim["estimate"] > 0.1 and claim["verdict"] in ("supported", "rejected", "open")
    assert claim["post_hoc"] is False and "Holm over 1 of the study's own claims" in claim["family"]
    assert [c["name"] for c in claim["controls"]] == ["untrained twin"]
    assert "U1" in (done / "study.toml").read_text()  # read from its file, kept in the study


def test_the_declaration_reads_back(done):
    again = read_study(done / "study.toml")
    assert again.claims[0].id == "U1" and again.claims[0].controls[0].where == {"twin": True}
    assert again.hash == document(done, "manifest.json")["study"]["hash"]


def test_later_and_changed_claims_are_post_hoc_and_nothing_is_deleted(done, tmp_path):
    later = tmp_path / "later.toml"
    later.write_text(CLAIM.replace("margin = 0.1", "margin = 0.2") + CLAIM.replace('"U1"', '"U2"').strip() + "\n")
    with pytest.raises(InputError, match="need another folder"):
        analyse_study(done, claims=read_claims(later))
    analyse_study(done, out=tmp_path / "b", claims=read_claims(later))
    rows = {c["id"]: c for c in document(tmp_path / "b", "claims.json")}
    assert rows["U1"]["post_hoc"] is False
    assert rows["U1-changed"]["reasons"]["post_hoc"] == "changed since it was registered as U1"
    assert rows["U2"]["reasons"]["post_hoc"] == "not registered before the data"
    assert {r["id"] for r in document(tmp_path / "b", "manifest.json")["analysis"]["later_claims"]} == {"U1", "U2"}
    before = {c["id"]: c for c in document(done, "claims.json")}
    assert rows["U1"] == before["U1"]


def test_what_is_registered_and_not_judged_stays_in_the_ledger():
    row = {"id": "G1", "document": 3, "statement": "S.", "lock": "ab" * 32}
    (kept,) = unjudged({"registered": [row]}, {"R1"})
    assert (kept["id"], kept["verdict"], kept["decided_by"], kept["p"]) == ("G1", "open", "not judged", None)
    assert unjudged({"registered": [row]}, {"G1"}) == []


def test_an_unchanged_claim_given_again_is_the_registered_one(tmp_path):
    (tmp_path / "c.toml").write_text(CLAIM)
    (own,) = read_claims(tmp_path / "c.toml")
    registered = own_claims({"claims": [own.model_dump(mode="json")]})
    assert with_later(registered, [own]) == registered


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('table = "regimes_runs"', 'table = "regime_runs"', "Did you mean 'regimes_runs'"),
        ('table = "regimes_runs"', 'table = "gd_models"', "the experiment 'gd' makes: add it to experiments"),
        ('id = "U1"', 'id = "G1"', "one of the register"),
        ("margin = 0.1", "margins = 0.1", "unknown field 'margins'. Did you mean 'margin'"),
        ('must = "destroy"', 'must = "die"', "line "),
    ],
)
def test_mistakes_are_said_with_the_nearest_name(tmp_path, old, new, says):
    path = save_study(tmp_path, families=("llama",), experiments=["regimes"], claims="own.toml")
    (tmp_path / "own.toml").write_text(CLAIM.replace(old, new))
    with pytest.raises(StudyFileError, match=says.replace("(", r"\(")):
        read_study(path)


def test_a_file_that_is_no_claims_is_refused(tmp_path):
    for text in ("[[claim]]\n", "claims = 3 =", ""):
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(StudyFileError):
            read_claims(tmp_path / "c.toml")
    with pytest.raises(StudyFileError, match="docs/claims.md"):
        read_claims(tmp_path / "absent.toml")


# --- a claim that cannot be judged fails before the data ---


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ('"mean_ct"', '"mean_cd"'),
            "unknown column of results/regimes_runs.parquet 'mean_cd'. Did you mean 'mean_ct'",
        ),
        (('"mean_ct"', '"label"'), "column 'label' of results/regimes_runs.parquet holds names, not numbers"),
        (("twin = true", "twim = true"), "unknown column of results/regimes_runs.parquet 'twim'. Did you mean 'twin'"),
        (("twin = true", 'twin = "yes"'), "twin of results/regimes_runs.parquet holds true or false; got 'yes'"),
        (("twin = true", 'model = "lama0"'), "unknown value of model of .*: 'lama0'. Did you mean 'llama0'"),
        (
            ("twin = true }", 'layer_choice = "L*" }\ntable = "regimes_models"\nvalue = "ratio_norm"'),
            r"unknown (column|value) of .*",
        ),
        (('"regimes_runs"', '"regime_runs"'), "unknown table of results 'regime_runs'. Did you mean 'regimes_runs'"),
    ],
)
def test_what_a_claim_cannot_find_is_said_before_the_data(tmp_path, change, said):
    path = save_study(tmp_path / "in", families=("llama",), experiments=["regimes"], claims="own.toml")
    (path.parent / "own.toml").write_text(CLAIM.replace(*change))
    with pytest.raises(StudyFileError, match=said):
        read_study(path)


def test_rows_that_are_averaged_without_a_word_are_named_in_the_verdict():
    import pyarrow as pa

    from phaselens.claims import OwnClaim
    from phaselens.experiments.own_evidence import own_evidence

    names, versions = ["a", "b", "c", "d"] * 3, ["raw"] * 4 + ["final_norm"] * 4 + ["tuned"] * 4
    table = pa.table(
        {"model": names, "twin": [False] * 12, "version": versions, "GD_ratio": [1.0 + i for i in range(12)]}
    )
    own = OwnClaim(
        id="U1", statement="s", table="gd_models", value="GD_ratio", statistic="mean", unit="model", comparison="above"
    )
    said = own_evidence(own, {"gd_models": table}, {}).decide(0.01).why
    assert said.startswith("averaged over version (up to 3 a model: raw, final_norm, tuned): ")
    one = own.model_copy(update={"where": {"version": "raw"}})
    assert "averaged" not in own_evidence(one, {"gd_models": table}, {}).decide(0.01).why


@pytest.mark.slow
def test_the_known_columns_are_those_that_a_study_writes(tmp_path):
    import pyarrow.parquet as pq

    from phaselens.experiments.own_evidence import _known

    run_study(read_study("organisms-full").quickened(), tmp_path / "out", workers=2)
    for path in (tmp_path / "out" / "results").glob("*.parquet"):
        table, known = pq.read_table(path), _known()[path.stem]
        assert list(known) == table.column_names, path.stem
        for column, kind in known.items():
            assert isinstance(kind, str) or set(table.column(column).to_pylist()) <= set(kind), (path.stem, column)


def test_a_claim_that_came_after_the_data_is_shown(done, tmp_path, capsys):
    from phaselens.cli import call

    later = tmp_path / "later.toml"
    later.write_text(CLAIM.replace('"U1"', '"U9"'))
    analyse_study(done, out=tmp_path / "b", claims=read_claims(later))
    assert call(["claims", "show", "u9", str(tmp_path / "b")]) == 0
    assert "(post hoc)" in capsys.readouterr().out
