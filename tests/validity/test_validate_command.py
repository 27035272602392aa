"""`phaselens validate`: keys of the JSON, files, the section of the report, and one clear line for bad input."""

import json

import pytest

from phaselens.cli import call
from phaselens.report import render
from phaselens.validity import claim_rows, markdown

KEYS = {"false_positive_rate", "false_positive_interval", "power", "power_at", "n", "scenarios"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The document of a tiny run for R1, what stood on stdout, and the file."""
    import contextlib
    import io

    file, out = tmp_path_factory.mktemp("v") / "validity.json", io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = call(["validate", "--claim", "R1", "--studies", "1", "--seed", "3", "--json", "--out", str(file)])
    assert code == 0
    return json.loads(out.getvalue()), file


def test_json_holds_every_claim_with_its_rates_and_scenarios(run):
    document, file = run
    assert set(document["claims"]) == {"R1"} and document["seed"] == 3 and document["goal"] == 0.05
    r1 = document["claims"]["R1"]
    assert (
        set(r1) >= KEYS and r1["n"] == 6 and r1["power_at"] == "8 SD, M = 12" and r1["false_rejection_rate"] is not None
    )
    for scenario in r1["scenarios"]:
        assert sum(scenario["verdicts"].values()) == scenario["n"] == 1
    assert json.loads(file.read_text()) == document


def test_a_stored_document_becomes_tables(run):
    document, _ = run
    assert claim_rows(document)[0][0] == "R1" and "| R1 | R1 outlier state | artefact |" in markdown(document)


def test_the_report_shows_it_only_where_it_is_stored(run, tmp_path):
    (tmp_path / "claims.json").write_text("[]")
    assert "Does the instrument hold?" not in render(tmp_path).read_text()
    (tmp_path / "results").mkdir()
    stored = tmp_path / "results" / "validity.json"
    stored.write_text(run[1].read_text())
    page = render(tmp_path).read_text()
    assert "Does the instrument hold?" in page and "R1 outlier state" in page
    stored.write_text('{"claims": {"R1": {}}}')
    page = render(tmp_path).read_text()
    assert "results/validity.json is not what" in page and "R1 outlier state" not in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--claim", "R11"), "Did you mean 'R1'"),
        (("--studies", "0"), "at least one simulated study"),
        (("--studies", "-3"), "at least one simulated study"),
        (("--studies", "2", "--quick"), "not both"),
        (("--studies", "1", "--out", "no/such/folder/v.json"), "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, says, capsys):
    assert call(["validate", *arguments]) == 2
    out = capsys.readouterr()
    assert out.out == "" and out.err.startswith("error: ") and out.err.count("\n") == 1 and says in out.err


@pytest.mark.slow
def test_processes_and_an_ended_run_move_no_number(tmp_path, capsys, monkeypatch):
    from phaselens.validity import runner

    arguments = ["validate", "--claim", "R1", "--studies", "1", "--json"]
    assert call([*arguments, "--workers", "1"]) == 0
    whole = capsys.readouterr().out
    out, part = tmp_path / "v.json", tmp_path / "v.json.part"
    done, seen = runner.rulings_of, []

    def ended(*arguments):
        seen.append(arguments)
        if len(seen) > 5:
            raise KeyboardInterrupt
        return done(*arguments)

    monkeypatch.setattr(runner, "rulings_of", ended)
    assert call([*arguments, "--workers", "1", "--out", str(out)]) != 0
    assert not out.exists() and len(part.read_text().splitlines()) == 6
    part.write_text(part.read_text() + '{"block": "tor')
    monkeypatch.setattr(runner, "rulings_of", lambda *a: seen.append(a) or done(*a))
    seen.clear()
    capsys.readouterr()
    assert call([*arguments, "--workers", "1", "--out", str(out)]) == 0
    found = capsys.readouterr()
    assert found.out == whole and "goes on after 5 blocks" in found.err and seen and not part.exists()
    monkeypatch.setattr(runner, "rulings_of", done)
    assert call([*arguments, "--workers", "2"]) == 0
    assert capsys.readouterr().out == whole
    part.write_text('{"seed": 0, "code": "another"}\n{"block": "R1 outlier state / 0 to 3", "rulings": {}}\n')
    assert call([*arguments, "--workers", "2", "--out", str(out)]) == 0
    assert "starts again" in capsys.readouterr().err


def test_what_is_stored_is_shown_again_without_a_run(run, tmp_path, capsys, monkeypatch):
    from phaselens.validity import runner

    document, file = run
    monkeypatch.setattr(runner, "rulings_of", None)
    assert call(["validate", "--from", str(file), "--markdown"]) == 0
    assert capsys.readouterr().out == markdown(document)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**document, "claims": {"G1": document["claims"]["R1"]}}))
    assert call(["validate", "--from", str(other), "--from", str(file), "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert list(both["claims"]) == ["R1", "G1"] and "R1" not in both["without_scenario"]
    other.write_text(json.dumps({**document, "seed": 4}))
    for wrong in (["--from", str(other), "--from", str(file)], ["--from", str(tmp_path / "no.json")]):
        assert call(["validate", *wrong]) == 2 and capsys.readouterr().err.startswith("error: ")
    other.write_text("[]")
    assert call(["validate", "--from", str(other)]) == 2 and "--out" in capsys.readouterr().err
    assert call(["validate", "--from", str(file), "--markdown", "--json"]) == 2
