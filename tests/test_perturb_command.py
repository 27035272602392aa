"""`phaselens perturb`: results and page on disk, nothing done twice, wrong input exits with 2 and lists what exists."""

import json

import pytest

from phaselens.cli import call

SMALL = ["--n-prompts", "4", "--draws", "2", "--max-new-tokens", "3", "--strengths", "0,.1", "--bootstraps", "40"]


def cli(capsys, *given):
    code = call([str(g) for g in given])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_results_page_and_verdict_are_written_once(tmp_path, capsys):
    models = ["organism:gpt2-512", "organism:llama-512"]
    code, out, err = cli(capsys, "perturb", *models, "--out", tmp_path / "p", *SMALL, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [m["identity"] for m in found["models"]] == [0.0, 0.0] and found["models"][0]["passes_saved"] > 0.2
    assert {r["word"] for r in found["signatures"]} <= {"absorb", "carry", "amplify", "undetermined"}
    assert found["claims"][0]["id"] == "P1" and (tmp_path / "p" / "claims.json").is_file()
    page = (tmp_path / "p" / "report.html").read_text()
    assert "<svg" in page and "gpt2-512" in page and "http" not in page.replace("http://www.w3.org", "")
    code, out, _ = cli(capsys, "perturb", *models, "--out", tmp_path / "p", *SMALL)
    assert code == 0 and "2 models were there" in out
    code, _, err = cli(capsys, "perturb", *models, "--out", tmp_path / "p", *SMALL, "--seed", 3)
    assert code == 2 and "other settings" in err


@pytest.mark.slow
def test_causal_regions_and_control_are_judged_with_it(tmp_path, capsys):
    given = ["organism:llama-512", "--out", tmp_path / "p", *SMALL, "--causal", "--control", "8", "--json"]
    code, out, err = cli(capsys, "perturb", *given)
    assert code == 0, err
    found = json.loads(out)
    verdicts = {c["id"]: c["verdict"] for c in found["claims"]}
    assert set(verdicts) == {"P1", "F5", "X1", "X2", "X4", "S6"} and verdicts["X2"] == "open"
    assert {r["arm"] for r in found["control"]["rows"]} >= {"none", "monitor", "random", "guard", "both"}
    assert "Causal regions" in (tmp_path / "p" / "report.html").read_text()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["organism:gpt2-512", "--layers", "2,9"], "layers [9] of gpt2-512 cannot be perturbed: it has 0"),
        (["organism:gpt2-513"], "gpt2-512"),
        (["organism:gpt2-512", "--control", "8", "--action", "stear"], "steer"),
        (["organism:gpt2-512", "--draws", "3"], "even number"),
        (["organism:gpt2-512", "--strengths", "a"], "numbers separated by commas"),
        (["organism:gpt2-512", "organism:gpt2-512"], "named twice"),
        (["organism:gpt2-512", "--n-prompts", "2"], "at least 4 prompts"),
        (["organism:gpt2-512", "--prompts", "/nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_wrong_input_exits_with_2(tmp_path, capsys, given, match):
    code, _, err = cli(capsys, "perturb", *given, "--out", tmp_path / "x")
    assert code == 2 and match in err


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("x")
    code, _, err = cli(capsys, "perturb", "organism:gpt2-512", "--out", tmp_path)
    assert code == 2 and "not empty" in err
