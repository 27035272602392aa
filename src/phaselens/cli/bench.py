"""`phaselens bench`: the speed figures, measured by the scripts of the source checkout."""

import json
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.terminal import note, number, print_json, print_table
from phaselens.errors import InputError, StateError

app = typer.Typer(help="Speed and memory figures, as ratios within one run.", no_args_is_help=True)
BENCHES = tomllib.loads(files("phaselens.cli").joinpath("benches.toml").read_text(encoding="utf-8"))


@app.callback()
def _root() -> None:
    """Speed and memory figures, as ratios within one run."""


def _command(name: str, shorter: str, about: str) -> None:
    """Add the command that runs the script of this name."""

    @app.command(name, help=about)
    def bench(quick: Annotated[bool, typer.Option("--quick", help=shorter)] = False, as_json: AsJson = False) -> None:
        script = checkout("the benchmarks", f"phaselens bench {name}") / "benchmarks" / f"{name}.py"
        note(f"benchmarks/{script.name}{' --quick' if quick else ''}")
        found = _run(script, quick)
        if as_json:
            print_json(found)
            return
        shown = {k: v for k, v in found.items() if not isinstance(v, (dict, list))}
        print_table(("figure", "value"), [(k, v if isinstance(v, str) else number(v)) for k, v in shown.items()])


for _name, _said in BENCHES.items():
    _command(_name, *_said)


def checkout(what: str, command: str) -> Path:
    """The folder of the source checkout; raises InputError where there is none, for the command that asks."""
    for above in (Path(__file__).resolve().parents[3], Path.cwd()):
        if (above / "benchmarks" / "capture.py").is_file():
            return above
    raise InputError(
        f"{what} are scripts of the source checkout, and this is an installed package. Get the source, go into its "
        f"folder, and run `{command}` there."
    )


def _run(script: Path, quick: bool) -> dict[str, Any]:
    """What one script prints as JSON; its own messages go to stderr."""
    command = [sys.executable, str(script), *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise StateError(f"{script} ended with exit code {done.returncode}.")
    return json.loads(done.stdout)
