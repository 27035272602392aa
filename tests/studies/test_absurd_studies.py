"""Studies that nobody means: one line, exit 2, at once."""

import time

import pytest

from phaselens import GREEDY, Prompt, generate, load
from phaselens.cli import call
from phaselens.errors import InputError

WHOLE = 'name = "s"\nmodels = ["organism:llama-512"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WHOLE + "bootstraps = 100000000000000\n", "bootstraps"),
        (WHOLE + "arms = [{temperature = 0.7, samples = 1000000000000}]\n", "samples"),
        (WHOLE + "arms = [{temperature = nan}]\n", "temperature"),
        ('name = "s"\n[[models]]\nsource = "organism:llama-512"\ntraining_loss = nan\n', "training_loss"),
        (WHOLE + "seed = " + "9" * 5000 + "\n", "is not TOML"),
        (WHOLE + "quick = " + "[" * 100_000 + "\n", "is not TOML"),
        (f'name = "{"a" * 5_000_000}"\nmodels = ["organism:llama-512"]\n', "name"),
        (f'name = "s"\nmodels = ["{"a" * 5_000_000}"]\n', "source"),
        (f'name = "s"\nmodels = ["organism:llama-512"]\nexperiments = ["{"a" * 5_000_000}"]\n', "5,000,000 characters"),
        (f'name = "s"\nmodels = ["organism:llama-512"]\n{"a" * 5_000_000} = 1\n', "unknown field"),
    ],
    ids=range(10),
)
def test_one_line_exit_2_at_once(tmp_path, capsys, text, says):
    (tmp_path / "s.toml").write_text(text)
    started = time.monotonic()
    assert call(["run", str(tmp_path / "s.toml"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and len(error) < 20_000
    assert time.monotonic() - started < 20
    assert not (tmp_path / "out").exists()


def test_samples_without_number_are_refused_before_any_is_made():
    with pytest.raises(InputError, match="1,000,000,000,000 samples of 1 prompts"):
        generate(load("organism:llama-512"), [Prompt("a", "The")], samples=10**12, sampling=GREEDY)
