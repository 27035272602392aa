"""`phaselens bench`: the speed figures, measured by the scripts of the source checkout."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.terminal import note, number, print_json, print_table
from phaselens.errors import InputError, StateError

app = typer.Typer(help="Speed and memory figures, as ratios within one run.", no_args_is_help=True)
SCRIPTS = ("capture", "lens")


@app.callback()
def _root() -> None:
    """Speed and memory figures, as ratios within one run."""


@app.command("capture")
def bench_capture(
    quick: Annotated[bool, typer.Option("--quick", help="A smaller form, under a minute.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure generating, observing and reading through the lens against bare work and against peers."""
    folder = scripts_folder()
    found: dict[str, Any] = {}
    for script in SCRIPTS:
        if script == "capture" or "lens_over_gemm" not in found:
            note(f"benchmarks/{script}.py{' --quick' if quick else ''}")
            found |= _run(folder / f"{script}.py", quick)
    _show(found, as_json)


@app.command("probes")
def bench_probes(
    quick: Annotated[bool, typer.Option("--quick", help="One layer of the thirteen, under a minute.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure the batched probe fits against a loop over scikit-learn's LogisticRegression."""
    note(f"benchmarks/probes.py{' --quick' if quick else ''}")
    _show(_run(scripts_folder() / "probes.py", quick), as_json)


@app.command("perturb")
def bench_perturb(
    quick: Annotated[bool, typer.Option("--quick", help="Four prompts instead of 32, under a minute.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a perturbation signature against the bare forward passes that it needs."""
    note(f"benchmarks/perturb.py{' --quick' if quick else ''}")
    _show(_run(scripts_folder() / "perturb.py", quick), as_json)


@app.command("analysis")
def bench_analysis(
    quick: Annotated[bool, typer.Option("--quick", help="Four models instead of twenty, under a minute.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure time and memory of all analyses of simulated traces of a large panel, and of its prompt bootstrap."""
    note(f"benchmarks/analysis.py{' --quick' if quick else ''}")
    _show(_run(scripts_folder() / "analysis.py", quick), as_json)


@app.command("monitor")
def bench_monitor(
    quick: Annotated[bool, typer.Option("--quick", help="A smaller form, about a minute.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure what the live monitor costs over bare generation, and how far its numbers are from those of observe."""
    note(f"benchmarks/monitor.py{' --quick' if quick else ''}")
    _show(_run(scripts_folder() / "monitor.py", quick), as_json)


@app.command("study")
def bench_study(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer tokens and repetitions, a few minutes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure observing, calibrating and loading over bare work, at vocabularies of 49,152 and 262,144."""
    note(f"benchmarks/study.py{' --quick' if quick else ''}")
    _show(_run(scripts_folder() / "study.py", quick), as_json)


@app.command("scale")
def bench_scale(
    quick: Annotated[bool, typer.Option("--quick", help="A fifth of the units and 4 x the tokens at most.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how the driver grows with units, a resume with files, and analyses with tokens."""
    note(f"benchmarks/scale.py{' --quick' if quick else ''}")
    _show(_run(scripts_folder() / "scale.py", quick), as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [(k, v if isinstance(v, str) else number(v)) for k, v in found.items() if not isinstance(v, (dict, list))]
    print_table(("figure", "value"), rows)


def scripts_folder() -> Path:
    """The folder `benchmarks` of the source checkout; raises InputError where there is none."""
    for above in (Path(__file__).resolve().parents[3], Path.cwd()):
        if (above / "benchmarks" / "capture.py").is_file():
            return above / "benchmarks"
    raise InputError(
        "the benchmarks are scripts of the source checkout, and this is an installed package. Get the source, go into "
        "its folder, and run `phaselens bench capture` there."
    )


def _run(script: Path, quick: bool) -> dict[str, Any]:
    """What one script prints as JSON; its own messages go to stderr."""
    command = [sys.executable, str(script), *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise StateError(f"{script} ended with exit code {done.returncode}.")
    return json.loads(done.stdout)
