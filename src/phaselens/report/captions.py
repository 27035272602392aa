"""What the report says of its figures and tables, from `templates/said.toml`, with the numbers of the study put in."""

import tomllib
from collections.abc import Iterable
from functools import cache
from string import Formatter

from markupsafe import Markup

from phaselens.report import template_files
from phaselens.report.study_files import Row
from phaselens.report.symbols import GROUPS
from phaselens.report.written_values import count, extent, is_number, listing, visible


@cache
def texts() -> dict[str, dict]:
    """The texts by kind (captions, plain, tables) and name."""
    return tomllib.loads(template_files.text("said.toml"))


def plain(text: str, **facts: object) -> str:
    """A text with the facts put in, as one line."""
    return texts()["plain"][text].replace("\n", " ").format(**facts)


def written(figure: str, rows: Iterable[Row] = (), **facts: object) -> Markup:
    """A caption: a bold first sentence, then the others.

    A place {n_NAME} that is not among the facts says how many of NAME every row had.
    """
    asks, how = (texts()["captions"][figure][part].replace("\n", " ") for part in ("asks", "how"))
    rows, named = list(rows), {field for _, field, _, _ in Formatter().parse(how) if field}
    facts |= {n: extent((row[n] for row in rows), n.removeprefix("n_")) for n in named - facts.keys()}
    return Markup("<b>{}</b> {}").format(asks.format(**facts), how.format(**facts).replace("  ", " ").strip())


def _sample(rows: list[Row]) -> str:
    """Say how many prompts and runs stand behind the defined values of a table."""
    rows = [row for row in rows if is_number(row.get("ratio_norm", row.get("GD_ratio")))]
    known = [noun for noun in ("prompts", "runs") if rows and f"n_{noun}" in rows[0]]
    said = listing(extent((row[f"n_{noun}"] for row in rows), noun) for noun in known)
    return f"n: {said} per model." if said else "n: not recorded."


def _absent(names: list[str]) -> str:
    """Name what is undefined for every model."""
    return f"Undefined for every model, so not drawn: {listing(visible(name) for name in names)}." if names else ""


def sampled(name: str, rows: list[Row]) -> Markup:
    """Caption of a figure that says how many prompts and runs stand behind it."""
    return written(name, sample=_sample(rows))


def gd(rows: list[Row], versions: int, undefined: list[str]) -> Markup:
    """Caption of the GD panels; `undefined` names the versions that no model has, which are not drawn."""
    said = count(versions, "version").capitalize()
    return written("gd", versions=said, sample=_sample(rows), undefined=_absent(undefined))


def profiles(rows: list[Row], group: str, undefined: list[str]) -> Markup:
    """Caption of the depth profiles of one group of observables; `undefined` are not drawn."""
    prompts = extent((row["n_prompts"] for row in rows if is_number(row["value"])), "prompts")
    return written("profiles", group=GROUPS[group], prompts=prompts, undefined=_absent(undefined))
