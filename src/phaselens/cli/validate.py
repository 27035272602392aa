"""`phaselens validate`: what the rules of the claims say about studies whose truth is known."""

import json
from pathlib import Path
from typing import Annotated

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.show import note, plain, print_json, print_table


def validate(
    claim: Annotated[
        list[str] | None,
        typer.Option(help="Only this claim, e.g. R1; may be given again. Default: all with scenarios."),
    ] = None,
    studies: Annotated[
        int | None,
        typer.Option(help="Simulated studies per claim at the null, and as many at the effect (default 200)."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="30 studies per claim: wide intervals, a look only.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Also write the JSON here; as results/validity.json it enters a study's report.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Plant effects and artefacts in simulated studies, and count what the rule of each claim says about them."""
    from phaselens.errors import InputError
    from phaselens.validity import (
        CLAIM_COLUMNS,
        QUICK_STUDIES,
        SCENARIO_COLUMNS,
        SCENARIOS,
        STUDIES,
        claim_rows,
        scenario_rows,
    )
    from phaselens.validity import validate as run

    if quick and studies is not None:
        raise InputError("--quick sets the number of studies; give --quick or --studies, not both.")
    n = QUICK_STUDIES if quick else STUDIES if studies is None else studies
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f"{out} cannot be written: give a file in a folder that exists.")
    found = {"quick": quick, **run(SCENARIOS, claims=claim or (), studies=n, seed=seed, progress=note)}
    if out is not None:
        _write(out, found)
    if as_json:
        print_json(found)
        return
    print_table(SCENARIO_COLUMNS, scenario_rows(found), "what the rules said; 95 % Wilson intervals")
    print_table(CLAIM_COLUMNS, claim_rows(found), f"goal: at most {found['goal']:.0%} false positives")
    if quick:
        note(f"--quick: {n} studies per claim, so the intervals are wide; run without it for figures to quote.")
    if found["without_scenario"]:
        note(f"registered, but without a scenario yet: {', '.join(found['without_scenario'])}")


def _write(file: Path, document: dict) -> None:
    from phaselens.trace.store import atomic_write

    text = json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(file, text.encode("utf-8"))
