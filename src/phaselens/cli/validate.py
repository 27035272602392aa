"""`phaselens validate`: what the rules of the claims say about studies whose truth is known."""

from pathlib import Path
from typing import Annotated

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.terminal import note, print_json, print_table, say


def validate(
    claim: Annotated[
        list[str] | None,
        typer.Option(help="Only this claim, e.g. R1; may be given again. Default: all with scenarios."),
    ] = None,
    studies: Annotated[int | None, typer.Option(help="Simulated studies of every scenario (default 200).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="30 studies per claim: wide intervals, a look only.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Also write the JSON here; as results/validity.json it enters a study's report.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the studies. Default: one a core; no number depends on it.")
    ] = None,
    stored: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Show what --out wrote, and run nothing; given again, the claims of all files."),
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Both tables, as docs/validity.md has them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Plant effects and artefacts in simulated studies, and count what the rule of each claim says about them."""
    from phaselens.cli.validate_files import kept_in, part, read, write
    from phaselens.engines.forked_workers import checked, spare_cores, spread
    from phaselens.errors import InputError
    from phaselens.validity import QUICK_STUDIES, SCENARIOS, STUDIES
    from phaselens.validity import validate as run

    if quick and studies is not None:
        raise InputError("--quick sets the number of studies; give --quick or --studies, not both.")
    if as_markdown and as_json:
        raise InputError("--markdown and --json are two forms of one answer; give one.")
    if stored:
        _show(read(stored), as_json, as_markdown)
        return
    n = QUICK_STUDIES if quick else STUDIES if studies is None else studies
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f"{out} cannot be written: give a file in a folder that exists.")
    processes = spare_cores() if workers is None else checked(workers)
    kept, keep = ({}, lambda name, rulings: None) if out is None else kept_in(part(out), seed, note)
    found = {
        "quick": quick,
        **run(
            SCENARIOS,
            claims=claim or (),
            studies=n,
            seed=seed,
            quick=quick,
            progress=note,
            spread=lambda do, blocks, hear: spread(do, blocks, processes, hear),
            kept=kept,
            keep=keep,
        ),
    }
    if out is not None:
        write(out, found)
        part(out).unlink(missing_ok=True)
    _show(found, as_json, as_markdown)


def _show(found: dict, as_json: bool, as_markdown: bool) -> None:
    """Print the document in the form that was asked for."""
    from phaselens.validity import CLAIM_COLUMNS, SCENARIO_COLUMNS, claim_rows, markdown, scenario_rows

    if as_json:
        print_json(found)
        return
    if as_markdown:
        say(*markdown(found).removesuffix("\n").split("\n"))
        return
    print_table(SCENARIO_COLUMNS, scenario_rows(found), "what the rules said; 95 % Wilson intervals")
    print_table(CLAIM_COLUMNS, claim_rows(found), f"goal: at most {found['goal']:.0%} false positives")
    if found["quick"]:
        note(f"--quick: {found['studies']} studies per claim: wide intervals; run without it for figures to quote.")
    if found["without_scenario"]:
        note(f"without a scenario: {', '.join(found['without_scenario'])}")
