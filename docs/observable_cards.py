"""Cards of the observables for people, made from what each declares about itself and from its docstring."""

import inspect
import math
import re
from collections.abc import Iterable

from phaselens.observables.spec import Observable

ROW = {"layer": "run, step, layer", "step": "run, step", "run_layer": "run, layer", "run": "run"}
HEAD = "| name | first line | per | along | unit | bounds | looks back | keeps |\n" + "|---" * 8 + "|"


def table(observables: Iterable[Observable]) -> str:
    """A Markdown table, one row per observable, in the order given."""
    return "\n".join([HEAD, *(_row(one) for one in observables)])


def card(one: Observable) -> str:
    """One observable as Markdown: heading, what it is, its formula, the rest of its docstring, and what it declares."""
    first, _, rest = inspect.getdoc(one.fn).partition("\n\n")
    about, *named = re.split(r"\s*\b(Keeps|Moves with|Source):\s+", rest)
    pairs = zip(named[::2], named[1::2], strict=True)
    said = [f"- *{name}:* {_linked(' '.join(text.split()))}" for name, text in pairs]
    said.append(
        f"- *Declared:* one value per ({ROW[one.per]}); along {one.axis}; unit {one.unit}; "
        f"bounds {_bounds(one)}; looks back {_lookback(one)}; keeps {_keeps(one)}; needs {', '.join(one.needs)}."
    )
    return "\n\n".join([f"### {one.name}", f"**{first}**", *_with_formula(" ".join(about.split())), "\n".join(said)])


def _with_formula(about: str) -> list[str]:
    """The words between the first line and what is kept, a formula at their head as a paragraph of its own."""
    formula, _, rest = re.match(r"(.*?)(\.$|[.;:] |, (?=states|with|both|as |from)|$)(.*)", about).groups()
    signs = re.search(r"[|/=<(^*]| - |^-?sum ", formula) and "`" not in formula
    written = signs and not re.match(r"[A-Z][a-z]", formula)  # a sentence begins with a word
    if not written:
        return [about] if about else []
    return [f"`{formula}`", *([rest[:1].upper() + rest[1:]] if rest else [])]


def _linked(text: str) -> str:
    text = re.sub(r"\bdoi:(10\.\S+?)(?=[.,;)]*(?:\s|$))", r"[doi:\1](https://doi.org/\1)", text)
    return re.sub(r"\barXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _row(one: Observable) -> str:
    cells = (f"`{one.name}`", one.summary, one.per, one.axis, one.unit, _bounds(one), _lookback(one), _keeps(one))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _bounds(one: Observable) -> str:
    if one.bounds is None:
        return "none"
    return f"[{_number(one.bounds[0])}, {_number(one.bounds[1])}]"


def _number(value: float) -> str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    multiple = value / math.pi
    if value and abs(multiple - round(multiple)) < 1e-3:
        return "pi" if round(multiple) == 1 else f"{round(multiple)} pi"
    return f"{value:.4g}"


def _lookback(one: Observable) -> str:
    if one.lookback is None:
        return "the whole run"
    return f"{one.lookback} step{'' if one.lookback == 1 else 's'}"


def _keeps(one: Observable) -> str:
    return ", ".join(sorted(one.keeps)) or "nothing"
