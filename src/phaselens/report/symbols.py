"""The words and letters that the report uses, each with its unit and formula; a page lists those that occur on it."""

from dataclasses import dataclass

from phaselens.report.template_files import text


@dataclass(frozen=True)
class Symbol:
    """One entry of the definitions: its name, unit, formula, when it is undefined, and the group it belongs to."""

    name: str
    unit: str
    meaning: str
    undefined: str
    group: str


GROUPS = {
    "general": "Terms",
    "tokens": "Movement along tokens",
    "depth": "Movement along depth",
    "lens": "The distribution that the lens reads",
    "study": "Figures of a run or a model",
}
FIGURES = ("tokens", "lens", "depth", "study")


def _read(entry: str) -> Symbol:
    group, name, unit, rest = entry.split(" | ", 3)
    meaning, _, undefined = rest.rpartition(" |")
    return Symbol(name, unit, meaning.strip() + ".", undefined.strip(), group)


SYMBOLS = tuple(_read(line.replace(" | | ", " |  | ", 1)) for line in text("symbols.txt").splitlines()[1:])
BY_NAME = {symbol.name: symbol for symbol in SYMBOLS}


def unit_of(observable: str) -> str:
    """Give the unit of an observable (a lens suffix `__label` is ignored); empty if the name is not known here."""
    symbol = BY_NAME.get(observable.split("__")[0])
    return symbol.unit if symbol else ""


def group_of(observable: str) -> str:
    """Give the group of an observable, `study` if the name is not known here."""
    symbol = BY_NAME.get(observable.split("__")[0])
    return symbol.group if symbol else "study"


def used(names: set[str]) -> list[Symbol]:
    """Give the definitions to print: the general ones, and those of the names that occur on the page."""
    bare = {name.split("__")[0] for name in names}
    return [symbol for symbol in SYMBOLS if symbol.group == "general" or symbol.name in bare]
