"""`phaselens run` and `phaselens report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phaselens.cli.show import bounded, note, number, print_json, print_table, quiet_models, watching

if TYPE_CHECKING:
    from phaselens.engines import Outcome
    from phaselens.study import Study

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Device = Annotated[str | None, typer.Option(help="Where to compute, e.g. cpu or cuda.")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16.")]
Seed = Annotated[int | None, typer.Option(help="Seed of every draw.")]


def run(
    study: Annotated[str, typer.Argument(help="A preset or a study.toml.")] = "organisms",
    out: Annotated[Path | None, typer.Option(help="Folder to fill; by default the study's name.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The quick form of the study: few prompts, wide intervals.")
    ] = False,
    seed: Seed = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Carry a study out: generate, observe, analyse, judge, report. Run it again to go on after an interruption."""
    from phaselens.engines import run_study
    from phaselens.report import render
    from phaselens.study import read_study

    quiet_models()
    declared = read_study(study)
    declared = declared.quickened() if quick else declared
    declared = declared.changed(seed=seed, device=device, dtype=dtype)
    check_device(declared.device)
    with watching() as listener:
        outcome = run_study(declared, out or Path(declared.name), listener=listener)
        page = render(outcome.folder)
    if as_json:
        print_json(_document(outcome, page))
    else:
        _print(declared, outcome, page)


def check_device(device: str) -> None:
    """See that `device` is there, before anything is loaded."""
    import torch

    from phaselens.errors import InputError

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"device {device!r} cannot be used: {reason} Use --device cpu.") from error


def _document(outcome: "Outcome", page: Path) -> dict[str, Any]:
    return {
        "out": str(outcome.folder),
        "report": str(page),
        "panel": outcome.panel,
        "claims": outcome.claims,
        "refused": outcome.refused,
        "failed": outcome.failed,
        "notes": outcome.notes,
        "seconds": round(outcome.seconds, 3),
    }


def _print(study: "Study", outcome: "Outcome", page: Path) -> None:
    columns = ("model", "parameters", "runs", "ratio_norm", "mean ct", "entropy_norm", "GD_ratio", "collapsed")
    rows = [
        (
            row["model"], row["parameters"], row["n_runs"],
            bounded(row, "ratio_norm", "ratio_norm_lo", "ratio_norm_hi"), number(row["mean_ct"]),
            number(row["entropy_norm"]), bounded(row, "GD_ratio", "GD_lo", "GD_hi"), number(row["collapse_share"]),
        )
        for row in outcome.panel
    ]  # fmt: skip
    prompts = max(row["n_prompts"] for row in outcome.panel)
    print_table(columns, rows, f"{study.name}: {prompts} prompts per model, 95 % intervals over prompts")
    print_verdicts(outcome.claims)
    absent = [entry["model"] for entry in (*outcome.refused, *outcome.failed)]
    if absent:
        note(f"not in this panel: {', '.join(absent)} (the reasons stand above and in the report)")
    print(f"\nreport: {page}   ({outcome.seconds:.0f} s)")


def print_verdicts(claims: tuple[dict[str, Any], ...] | list[dict[str, Any]]) -> None:
    """One line per claim: verdict, statement, and why."""
    for claim in claims:
        print(f"{claim['id']:3} {claim['verdict']:14} {claim['statement']}")
        print(f"    {'':14} {claim['why']}")


def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a study.")],
    as_json: AsJson = False,
) -> None:
    """Write report.html of a study again, from the files in its folder."""
    from phaselens.report import render

    page = render(folder)
    print_json({"report": str(page)}) if as_json else print(f"report: {page}")
