"""`phaselens validate`: what the rules of the claims say about studies whose truth is known."""

import hashlib
import json
from collections.abc import Callable
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
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the studies. Default: one a core; no number depends on it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Plant effects and artefacts in simulated studies, and count what the rule of each claim says about them."""
    from phaselens.engines.workers import checked, spare_cores, spread
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
    processes = spare_cores() if workers is None else checked(workers)
    kept, keep = ({}, lambda name, rulings: None) if out is None else _kept(_part(out), seed, note)
    found = {
        "quick": quick,
        **run(
            SCENARIOS,
            claims=claim or (),
            studies=n,
            seed=seed,
            progress=note,
            spread=lambda do, blocks, hear: spread(do, blocks, processes, hear),
            kept=kept,
            keep=keep,
        ),
    }
    if out is not None:
        _write(out, found)
        _part(out).unlink(missing_ok=True)
    if as_json:
        print_json(found)
        return
    print_table(SCENARIO_COLUMNS, scenario_rows(found), "what the rules said; 95 % Wilson intervals")
    print_table(CLAIM_COLUMNS, claim_rows(found), f"goal: at most {found['goal']:.0%} false positives")
    if quick:
        note(f"--quick: {n} studies per claim, so the intervals are wide; run without it for figures to quote.")
    if found["without_scenario"]:
        note(f"registered, but without a scenario yet: {', '.join(found['without_scenario'])}")


def _part(out: Path) -> Path:
    """Where the finished studies of a run lie until it is whole."""
    return out.with_name(f"{out.name}.part")


def _kept(part: Path, seed: int, say: Callable[[str], None]) -> tuple[dict, Callable[[str, dict], None]]:
    """The blocks that an ended run left in this file, and the function that adds one to it.

    Blocks of another seed or of other code are not used: the file starts again, and that is said.
    """
    head = json.dumps({"seed": seed, "code": _code()})
    lines = part.read_text(encoding="utf-8").splitlines() if part.is_file() else []
    good = [line for line in lines[1:] if _whole(line)] if lines[:1] == [head] else []
    if lines:
        say(f"{part}: " + (f"goes on after {len(good)} blocks." if good else "of another seed or code; starts again."))
    part.write_text("\n".join([head, *good]) + "\n", encoding="utf-8")

    def keep(name: str, rulings: dict) -> None:
        with part.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"block": name, "rulings": plain(rulings)}) + "\n")

    found = [json.loads(line) for line in good]
    return {one["block"]: one["rulings"] for one in found}, keep


def _code() -> str:
    """A digest of this package's source: the studies of changed rules are not mixed with those of the old."""
    import phaselens

    files = sorted(Path(phaselens.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _whole(line: str) -> bool:
    """Whether a line is whole JSON; the last one of a killed run may be torn."""
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def _write(file: Path, document: dict) -> None:
    from phaselens.trace.store import atomic_write

    text = json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(file, text.encode("utf-8"))
