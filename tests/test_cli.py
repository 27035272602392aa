"""The command line: what it prints where, and one clear line with exit code 2 for every kind of bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from phaselens import __version__
from phaselens.cli import call
from phaselens.errors import KINDS
from tiny_panel import save_battery, save_model, save_study


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> Path:
    return save_battery(tmp_path_factory.mktemp("prompts") / "b.jsonl")


@pytest.fixture
def cli(capsys):
    """A function that runs a command line and returns (exit code, stdout, stderr)."""

    def run(*arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        code = call([str(a) for a in arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def refused(result, *says) -> None:
    """Exit code 2, nothing on stdout, and one line on stderr with all of `says`."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.partition("(more: phaselens explain ")[2].strip(")\n") in {kind.__name__ for kind in KINDS}
    assert "Traceback" not in err
    for text in says:
        assert text in err


# --- what it prints ---


def test_the_shell_completes_commands():
    asked = {"_PHASELENS_COMPLETE": "complete_bash", "COMP_WORDS": "phaselens claims sh", "COMP_CWORD": "2"}
    command = [sys.executable, "-m", "phaselens"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.split() == ["show"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_is_explained(cli, kind):
    code, out, _ = cli("explain", kind.__name__)
    assert code == 0 and out.startswith(f"{kind.__name__}: ") and len(out.splitlines()) >= 3


def test_an_unknown_kind_of_error_is_refused(cli):
    refused(cli("explain", "PromtError"), "Did you mean 'PromptError'")


def test_alone_it_says_what_to_do_next(cli):
    code, out, _ = cli()
    assert code == 0
    assert "phaselens run --quick" in out


def test_version_and_help(cli):
    assert cli("--version")[:2] == (0, f"phaselens {__version__}\n")
    code, out, _ = cli("--help")
    assert code == 0
    for command in ("run", "observe", "report", "claims", "models", "organisms", "bench"):
        assert command in out


def test_a_wrong_option_is_one_error_with_usage(cli):
    code, out, err = cli("run", "--quikc")
    assert (code, out) == (2, "")
    assert "--quick" in err


def test_help_and_claims_need_no_model_library():
    code = (
        "import sys; from phaselens.cli import call; call(['--help']); call(['claims', 'list', '--json']); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_claims_list_and_show(cli):
    code, out, _ = cli("claims", "list", "--json")
    assert code == 0
    assert {"R1", "G1", "G2", "G3", "G4"} <= {claim["id"] for claim in json.loads(out)}
    code, out, _ = cli("claims", "show", "G2")
    assert code == 0
    assert "supported" in out
    refused(cli("claims", "show", "G22"), "unknown claim 'G22'. Did you mean 'G2'?")


def test_run_prints_panel_verdicts_and_report_and_as_json_nothing_else(cli, tmp_path):
    study = save_study(tmp_path / "in", families=("llama",), twins=False)
    code, out, err = cli("run", study, "--out", tmp_path / "out")
    assert code == 0, err
    assert "llama0" in out
    assert f"report: {tmp_path / 'out' / 'report.html'}" in out
    assert "G4" in out
    assert "observe: 3 done" in err
    code, out, err = cli("run", study, "--out", tmp_path / "out", "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["model"] for row in found["panel"]] == ["llama0"]
    assert found["panel"][0]["ratio_norm"] is None
    assert "3 were there" in err
    code, out, _ = cli("report", tmp_path / "out", "--json")
    assert json.loads(out) == {"report": str(tmp_path / "out" / "report.html")}


def test_observe_writes_tables_and_does_nothing_twice(cli, model, prompts, tmp_path):
    given = ("observe", model, "--prompts", prompts, "--out", tmp_path / "o", "--max-new-tokens", 6, "--json")
    code, out, err = cli(*given)
    assert code == 0, err
    found = json.loads(out)
    assert (found["runs"], found["steps"], found["skipped"]) == (6, 36, False)
    assert all(Path(file).is_file() for file in found["files"])
    assert json.loads(cli(*given)[1])["skipped"] is True
    refused(cli(*given, "--seed", 1), "holds a trace of another model, other prompts or other settings")
    given = (
        "observe",
        model,
        "--transcripts",
        tmp_path / "o" / "transcripts.jsonl",
        "--out",
        tmp_path / "p",
        "--lens",
        "raw",
    )
    code, out, err = cli(*given)
    assert code == 0, err
    assert "6 runs, 36 steps" in out


def test_foreign_transcripts_as_text(cli, model, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"prompt": "a b", "completion": " c d"}\n')
    code, out, err = cli("observe", model, "--transcripts", tmp_path / "t.jsonl", "--out", tmp_path / "o", "--json")
    assert code == 0, err
    assert json.loads(out)["runs"] == 1


def test_a_model_without_a_pad_token_works(cli, prompts, tmp_path):
    folder = save_model(tmp_path / "nopad", pad=False)
    code, _, err = cli("observe", folder, "--prompts", prompts, "--out", tmp_path / "o", "--max-new-tokens", 4)
    assert code == 0, err


def test_states_that_are_not_finite_are_kept_and_said(cli, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = save_model(tmp_path / "m", "gpt2")
    network = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        network.transformer.wte.weight[5] = 3e38
    network.save_pretrained(folder)
    (tmp_path / "t.jsonl").write_text(
        '{"prompt_ids": [4, 6], "completion_ids": [7, 8]}\n{"prompt_ids": [5], "completion_ids": [5, 5]}\n'
    )
    code, out, err = cli("observe", folder, "--transcripts", tmp_path / "t.jsonl", "--out", tmp_path / "o", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["runs"], found["steps"]) == (2, 4)
    assert found["nonfinite_steps"] == 2


def test_models_check_prints_the_proof(cli, model):
    code, out, _ = cli("models", "check", model)
    assert code == 0
    assert "lens at layer L equals the model's own logits" in out
    found = json.loads(cli("models", "check", model, "--json")[1])
    assert found["passed"] is True
    assert {"chain", "lens", "hooks_on"} <= {row["name"] for row in found["rows"]}


def test_models_families_is_the_committed_table(cli):
    table = json.loads(cli("models", "families", "--json")[1])
    assert len(table) > 100
    assert {"family", "outcome"} <= table[0].keys()
    assert "llama" in cli("models", "families")[1]


def test_models_list_and_organisms_list(cli):
    listed = json.loads(cli("models", "list", "--json")[1])
    organisms = json.loads(cli("organisms", "list", "--json")[1])
    assert {f"organism:{o['name']}" for o in organisms} <= {row["model"] for row in listed}
    assert cli("organisms", "list")[0] == 0


def test_debug_may_stand_anywhere_and_shows_the_traceback(cli, tmp_path):
    code, _, err = cli("report", tmp_path / "none", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: ")


def test_an_unexpected_error_is_one_line_with_a_hint(cli, monkeypatch, tmp_path):
    import phaselens.report

    def broken(folder, **how):
        raise KeyError("surprise")

    monkeypatch.setattr(phaselens.report, "render", broken)
    code, _, err = cli("report", tmp_path)
    assert code == 1
    assert err == "unexpected error: KeyError: 'surprise' (run again with --debug for the traceback)\n"


def test_an_interruption_says_how_to_go_on(cli, monkeypatch, tmp_path):
    import phaselens.report

    def interrupted(folder, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(phaselens.report, "render", interrupted)
    code, _, err = cli("report", tmp_path)
    assert code == 130
    assert "goes on from there" in err


# --- bad input ---


def test_from_takes_no_study_and_nothing_of_models(cli, tmp_path):
    refused(cli("run", "organisms", "--from", tmp_path), "a study cannot be given with it")
    refused(cli("run", "--from", tmp_path, "--quick", "--device", "cpu"), "--quick, --device cannot be given with it")
    refused(cli("run", "--from", tmp_path, "--dtype", "float16"), "--dtype cannot be given with it")
    refused(cli("run", "organisms", "--experiments", "gd"), "--experiments goes with --from")


def test_from_a_folder_that_is_no_traced_study(cli, tmp_path):
    refused(cli("run", "--from", tmp_path / "none"), "is not a folder")
    refused(cli("run", "--from", tmp_path), "has no manifest.json", "`phaselens run --out`")
    (tmp_path / "manifest.json").write_text("[]")
    refused(cli("run", "--from", tmp_path), "is not the manifest of a study")


def test_unknown_model(cli, prompts, tmp_path):
    refused(cli("observe", tmp_path / "none", "--prompts", prompts, "--out", tmp_path / "o"), "no model at")
    refused(cli("models", "check", "no/such-model"), "'no/such-model'", "Check the name")
    refused(cli("models", "check", "organism:lama"), "unknown organism 'lama'")


def test_unknown_and_refused_family(cli, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "oddity"}')
    refused(cli("models", "check", tmp_path / "odd"), "oddity")
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text('{"model_type": "t5"}')
    refused(cli("models", "check", tmp_path / "t5"), "t5", "causal")


def test_a_model_that_fails_its_proof_is_refused_with_the_proof(cli, model, tmp_path):
    overrides = tmp_path / "o.toml"
    overrides.write_text("scale = 2.0\n")
    code, _, err = cli("models", "check", model, "--overrides", overrides)
    assert code == 2
    assert err.startswith("error: ")


def test_missing_tokenizer(cli, prompts, tmp_path):
    folder = save_model(tmp_path / "mute", with_tokenizer=False)
    refused(cli("observe", folder, "--prompts", prompts, "--out", tmp_path / "o"), "mute has no tokenizer", "token ids")
    (tmp_path / "ids.jsonl").write_text('{"prompt_ids": [3, 4, 5]}\n')
    code, _, err = cli(
        "observe", folder, "--prompts", tmp_path / "ids.jsonl", "--out", tmp_path / "p", "--max-new-tokens", 3
    )
    assert code == 0, err


def test_prompt_longer_than_the_context(cli, model, tmp_path):
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "a " * 200}) + "\n")
    refused(
        cli("observe", model, "--prompts", tmp_path / "long.jsonl", "--out", tmp_path / "o"),
        "prompt 'p0001'",
        "context of tiny is 128",
        "Shorten the prompt",
    )


def test_empty_prompt(cli, model, tmp_path):
    (tmp_path / "b.jsonl").write_text('{"prompt": "a"}\n{"prompt": ""}\n')
    refused(
        cli("observe", model, "--prompts", tmp_path / "b.jsonl", "--out", tmp_path / "o"), "line 2: the prompt is empty"
    )


def test_ids_outside_the_vocabulary(cli, model, tmp_path):
    (tmp_path / "b.jsonl").write_text('{"prompt_ids": [3, 4000]}\n')
    refused(
        cli("observe", model, "--prompts", tmp_path / "b.jsonl", "--out", tmp_path / "o"),
        "token id 4000",
        "ids 0 to 47",
    )


def test_unreadable_toml(cli, tmp_path):
    (tmp_path / "s.toml").write_text("name = \n")
    refused(cli("run", tmp_path / "s.toml", "--out", tmp_path / "o"), "s.toml is not TOML", "line 1")
    refused(cli("run", tmp_path / "none.toml", "--out", tmp_path / "o"), "cannot read the study")
    (tmp_path / "o.toml").write_text("= 1")
    refused(cli("models", "check", tmp_path, "--overrides", tmp_path / "o.toml"))


def test_unknown_observable_lens_and_device(cli, model, prompts, tmp_path):
    given = ("observe", model, "--prompts", prompts, "--out", tmp_path / "o")
    refused(cli(*given, "--observables", "entropi"), "unknown observable 'entropi'. Did you mean 'entropy'?")
    refused(cli(*given, "--lens", "rau"), "unknown lens 'rau'. Did you mean 'raw'?")
    refused(cli(*given, "--device", "quantum"), "device 'quantum' cannot be used")
    refused(cli(*given, "--dtype", "float31"), "unknown dtype 'float31'")
    assert not (tmp_path / "o").exists()


def test_prompts_or_transcripts_but_not_both(cli, model, prompts, tmp_path):
    refused(cli("observe", model, "--out", tmp_path / "o"), "give one of --prompts")
    refused(
        cli("observe", model, "--out", tmp_path / "o", "--prompts", prompts, "--transcripts", prompts), "give one of"
    )
    refused(cli("observe", model, "--out", tmp_path / "o", "--transcripts", tmp_path / "none"), "no such file")


def test_out_that_cannot_be_written(cli, model, prompts, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(cli("observe", model, "--prompts", prompts, "--out", tmp_path / "file" / "o"), "cannot make the folder")


def test_a_full_disk_in_mid_write_is_one_line(cli, model, prompts, tmp_path, monkeypatch):
    import errno
    import os

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    given = ("observe", model, "--prompts", prompts, "--out", tmp_path / "o", "--max-new-tokens", 4)
    monkeypatch.setattr(os, "fsync", full)
    code, out, err = cli(*given)
    assert (code, out) == (2, "")
    assert "No space left on device" in err.splitlines()[-1]
    assert list((tmp_path / "o").iterdir()) == []
    monkeypatch.undo()
    assert cli(*given)[0] == 0


def test_report_of_no_study(cli, tmp_path):
    refused(cli("report", tmp_path / "none"), "is not a folder")
    refused(cli("report", tmp_path), "holds nothing that a study writes")


def test_bench_outside_a_checkout_says_where_to_go(cli, monkeypatch, tmp_path):
    from phaselens.cli import bench

    monkeypatch.setattr(bench, "__file__", str(tmp_path / "a" / "b" / "c" / "d" / "bench.py"))
    monkeypatch.chdir(tmp_path)
    refused(cli("bench", "capture", "--quick"), "source checkout")
    refused(cli("organisms", "train", "llama-512"), "source checkout")
