"""`phaselens perturb`: results and page on disk, nothing done twice, wrong input exits with 2 and lists what exists."""

import json

import pytest
from tools.tiny import build_tiny

from phaselens.cli import call

SMALL = ["--n-prompts", "4", "--draws", "2", "--max-new-tokens", "3", "--strengths", "0,.1", "--bootstraps", "40"]


def cli(capsys, *given):
    code = call([str(g) for g in given])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_results_page_and_verdict_are_written_once(tmp_path, capsys):
    models = ["organism:gpt2-512", "organism:llama-512"]
    code, out, err = cli(capsys, "perturb", *models, "--out", tmp_path / "p", *SMALL, "--growth", "--json")
    assert code == 0, err
    found = json.loads(out)
    exponents = {r["model"]: r["value"] for r in found["growth"] if r["what"] == "exponent along depth"}
    assert set(exponents) == set(models) and all(-2 < value < 3 for value in exponents.values())
    assert [m["identity"] for m in found["models"]] == [0.0, 0.0] and found["models"][0]["passes_saved"] > 0.2
    assert {r["word"] for r in found["signatures"]} <= {"absorb", "carry", "amplify", "undetermined"}
    assert found["claims"][0]["id"] == "P1" and (tmp_path / "p" / "claims.json").is_file()
    page = (tmp_path / "p" / "report.html").read_text()
    assert (
        "<svg" in page
        and "Growth" in page
        and "gpt2-512" in page
        and "http" not in page.replace("http://www.w3.org", "")
    )
    code, out, _ = cli(capsys, "perturb", *models, "--out", tmp_path / "p", *SMALL, "--growth")
    assert code == 0 and "nats per token" in out and "2 models were there" in out
    code, _, err = cli(capsys, "perturb", *models, "--out", tmp_path / "p", *SMALL, "--seed", 3)
    assert code == 2 and "other settings" in err


@pytest.mark.slow
def test_causal_regions_and_control_are_judged_with_it(tmp_path, capsys):
    models = ["organism:llama-512", "organism:gpt2-512"]
    given = [*models, "--out", tmp_path / "p", *SMALL, "--causal", "--control", "8", "--json"]
    code, out, err = cli(capsys, "perturb", *given)
    assert code == 0, err
    found = json.loads(out)
    verdicts = {c["id"]: c["verdict"] for c in found["claims"]}
    assert set(verdicts) == {"P1", "F5", "X1", "X2", "X4", "S6"} and verdicts["X2"] == "open"
    assert {r["arm"] for r in found["control"]} >= {"none", "monitor", "random", "guard", "both"}
    assert {r["model"] for r in found["control"]} == {r["model"] for r in found["causal"]} == set(models)
    page = (tmp_path / "p" / "report.html").read_text()
    assert "Causal regions" in page and "Control of the dynamics" in page
    code, out, _ = cli(capsys, "perturb", *given[:-1])
    assert code == 0 and "acted on" in out and "2 models were there" in out


def test_a_part_of_a_block_is_perturbed_too(tmp_path, capsys):
    given = ["organism:gpt2-512", "--out", tmp_path / "p", *SMALL, "--site", "mlp_out", "--layers", "2,5", "--json"]
    code, out, err = cli(capsys, "perturb", *given)
    assert code == 0, err
    found = json.loads(out)
    assert found["models"][0]["site"] == "mlp_out" and found["models"][0]["identity"] == 0
    assert {(r["layer"], r["site"]) for r in found["signatures"] if r["condition"] == "matched"} == {
        (2, "mlp_out"),
        (5, "mlp_out"),
    }


def test_a_site_that_the_family_lacks_is_named_with_those_it_has(tmp_path, capsys):
    build_tiny("mamba", 0).save_pretrained(tmp_path / "mamba")
    (tmp_path / "said.jsonl").write_text("".join(f'{{"text": "a{i}"}}\n' for i in range(4)))
    code, _, err = cli(
        capsys,
        "perturb",
        tmp_path / "mamba",
        "--out",
        tmp_path / "x",
        "--site",
        "mlp_out",
        "--prompts",
        tmp_path / "said.jsonl",
        *SMALL,
    )
    assert code == 2 and "mamba has no site 'mlp_out'" in err and "It has embedding, resid_post, attn_out" in err


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["organism:gpt2-512", "--layers", "2,9"], "layers [9] of gpt2-512 cannot be perturbed: it has 0"),
        (["organism:gpt2-513"], "gpt2-512"),
        (["organism:gpt2-512", "--control", "8", "--action", "stear"], "'steer'"),
        (["organism:gpt2-512", "--draws", "3"], "--draws: input should be a multiple of 2"),
        (["organism:gpt2-512", "--site", "nose"], "--site: input should be 'resid_post', 'embedding', 'attn_out'"),
        (
            ["organism:gpt2-512", "--site", "mlp_out", "--layers", "0"],
            "does not exist at layers [0]: this model has it at 1",
        ),
        (["organism:gpt2-512", "--control", "5000"], "5000 questions were asked for; there are 1200"),
        (["organism:gpt2-512", "--strengths", "0"], "--strengths: strengths: one of them must be above 0"),
        (["organism:gpt2-512", "--strengths", "a"], "numbers separated by commas"),
        (["organism:gpt2-512", "organism:gpt2-512"], "named twice"),
        (["organism:gpt2-512", "--n-prompts", "2"], "--n-prompts: input should be greater than or equal to 4"),
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
