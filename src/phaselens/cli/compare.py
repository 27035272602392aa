"""`phaselens compare` and `check`: two studies side by side: verdicts, estimates, and what else was declared."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from phaselens.claims.verdict_records import LedgerRow
from phaselens.cli.claims import read_ledger
from phaselens.cli.run import AsJson
from phaselens.cli.terminal import number, print_json, print_table, say
from phaselens.errors import StudyFileError

# Facts of a manifest that move numbers and stand outside the declaration.
FACTS = ("claims_lock", "versions", "threads", "device", "dtype", "batch_size")


def compare(
    first: Annotated[Path, typer.Argument(metavar="DIR1", help="The folder of a study.")],
    second: Annotated[Path, typer.Argument(metavar="DIR2", help="The folder of another.")],
    out: Annotated[Path | None, typer.Option("--out", help="Also write a page (one HTML file) here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the verdicts of two studies side by side, their estimates, and what differs in what was declared."""
    found = compared(first, second)
    if out is not None:
        from phaselens.report.compare_page import write_comparison

        write_comparison(found, out)
    if as_json:
        print_json(found)
        return
    rows = [(r["id"], *_cells(r["first"]), *_cells(r["second"]), r["changed"]) for r in found["claims"]]
    names = found["names"]
    columns = ("claim", names[0], "estimate", names[1], "estimate ", "what changed")
    print_table(columns, rows, f"{names[0]} and {names[1]}: verdicts, with 95 % intervals")
    say("Different verdicts do not show a difference: compare the intervals. * marks a post hoc claim.")
    if not found["declaration"]:
        say("the two declarations say the same")
    for row in found["declaration"]:
        say(f"  {row['field']}: {_short(row['first'])} -> {_short(row['second'])}")
    if out is not None:
        say(f"page: {out}")


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study, e.g. of a changed model.")],
    against: Annotated[Path, typer.Option("--against", help="The folder of the study to hold it against.")],
    as_json: AsJson = False,
) -> None:
    """Exit 1 where a verdict differs from the base's, an interval lies apart from its own, or a claim is missing.

    For the CI of a model: the base's folder is kept, the study is run again, and what `phaselens compare` calls changed
    (in words but for what decided) fails the build. Claims that the base does not have are none of its business.
    """
    found = compared(against, folder)
    failed = [row for row in found["claims"] if row["first"] is not None and _fails(row)]
    if as_json:
        print_json({"fine": not failed, "failed": failed, "judged": len(found["claims"])})
    else:
        for row in failed:
            (was, before), (now, after) = _cells(row["first"]), _cells(row["second"])
            say(f"{row['id']}: {row['changed']}: {was} {before} -> {now} {after}")
        say(f"{len(failed)} of {sum(row['first'] is not None for row in found['claims'])} claims of {against} changed")
    if failed:
        raise typer.Exit(1)


class Beside(TypedDict):
    """One claim in both ledgers (None: not judged there): whether it is of unlike parts, and what is different."""

    id: str
    first: LedgerRow | None
    second: LedgerRow | None
    unlike: bool
    changed: str


def _fails(row: Beside) -> bool:
    """Whether a verdict, an interval, or the claim itself is not what it was."""
    one, other = row["first"], row["second"]
    if other is None or one["verdict"] != other["verdict"]:
        return True
    return not row["unlike"] and _apart(one.get("interval"), other.get("interval"))


def compared(first: Path, second: Path) -> dict[str, Any]:
    """Verdicts of both ledgers by claim, and the fields of declaration and manifest that differ."""
    ledgers = [{row["id"]: row for row in read_ledger(folder)} for folder in (first, second)]
    declared = [_declared(folder) for folder in (first, second)]
    ids = list(dict.fromkeys([*ledgers[0], *ledgers[1]]))
    return {
        "names": _names(declared, (first, second)),
        "claims": [_beside(i, ledgers[0].get(i), ledgers[1].get(i)) for i in ids],
        "declaration": [
            {"field": key, "first": declared[0].get(key), "second": declared[1].get(key)}
            for key in dict.fromkeys([*declared[0], *declared[1]])
            if declared[0].get(key) != declared[1].get(key)
        ],
    }


def _names(declared: Sequence[Mapping[str, object]], folders: Sequence[Path]) -> list[str]:
    """The studies' names, or their folders where the names are one."""
    names = [str(d.get("name", folder)) for d, folder in zip(declared, folders, strict=True)]
    return names if names[0] != names[1] else [str(folder) for folder in folders]


def _beside(name: str, first: LedgerRow | None, second: LedgerRow | None) -> Beside:
    unlike = _unlike(first, second)
    return Beside(id=name, first=first, second=second, unlike=unlike, changed=_moved(first, second, unlike))


def _declared(folder: Path) -> dict[str, Any]:
    """The declaration of a folder and the facts of its manifest that move numbers, flat."""
    try:
        declaration = tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StudyFileError(
            f"{folder} is not the folder of a study ({reason}). Give one that `phaselens run --out` made."
        ) from error
    out: dict[str, Any] = {}
    for key, value in {**declaration, **{f: manifest.get(f) for f in FACTS}}.items():
        if isinstance(value, Mapping):
            out |= {f"{key}.{k}": v for k, v in value.items()}
        else:
            out[key] = value
    models = {m["name"]: str(m.get("fingerprint", ""))[:12] for m in manifest.get("models", []) if "name" in m}
    return {**out, "models": sorted(f"{name} {print_}" for name, print_ in models.items())}


def _cells(row: LedgerRow | None) -> tuple[str, str]:
    """Verdict and estimate of one claim in one study."""
    if row is None:
        return "not there", ""
    ends = row.get("interval") or (None, None)
    said = number(row.get("estimate"))
    bounds = "" if None in ends else f" [{number(ends[0])}, {number(ends[1])}]"
    return row["verdict"] + ("*" if row.get("post_hoc") else ""), said + bounds


def _moved(one: LedgerRow | None, other: LedgerRow | None, unlike: bool) -> str:
    """What is different between the two, in a few words."""
    if one is None or other is None:
        return "only in one"
    out = []
    if one["verdict"] != other["verdict"]:
        out.append("verdict")
    if one.get("decided_by") != other.get("decided_by"):
        out.append("what decided")
    if unlike:
        out.append(f"estimates of unlike parts ({_part(one)}; {_part(other)})")
    elif _apart(one.get("interval"), other.get("interval")):
        out.append("intervals do not overlap")
    return ", ".join(out)


def _part(row: LedgerRow) -> str:
    """What the estimate of a claim with several is of: the words before it in the reason, e.g. `ln mean ct`."""
    said = re.match(r"([^:;=]+): -?[\d.]+(?:e[-+]\d+)? \[", str(row.get("why", "")))
    return said[1] if said and row.get("estimate") is not None else ""


def _unlike(one: LedgerRow | None, other: LedgerRow | None) -> bool:
    """Whether the two estimates are of different parts of the claim, so that they do not compare."""
    parts = [_part(row) for row in (one, other) if row is not None]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _apart(one: list[float] | None, other: list[float] | None) -> bool:
    return bool(one and other) and None not in (*one, *other) and (one[1] < other[0] or other[1] < one[0])


def _short(value: object, limit: int = 90) -> str:
    """A value in one line."""
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)} entries"
    text = "not said" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"
