"""Numbers and names as a reader meets them: the one place where the report writes a value or lets foreign text in."""

import math
import re
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import TypeGuard

from phaselens.signs import visible

DASH = "—"
SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

# What Markdown or HTML would read as more than text, in what models and files gave us.
ACTIVE = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")


def is_number(value: object) -> TypeGuard[float]:
    """Say whether the value is a finite number (a truth value is none)."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def number(value: object, digits: int = 4) -> str:
    """Write a number with `digits` significant digits, a true minus sign, and groups of three; a dash where undefined.

    >>> number(1234567), number(0.0213), number(-1.5), number(1.2e-7), number(float("nan"))
    ('1,234,567', '0.0213', '−1.5', '1.2×10⁻⁷', '—')
    """
    if isinstance(value, Real) and not isinstance(value, bool) and math.isinf(value):
        return "∞" if value == math.inf else "−∞"
    if not is_number(value):
        return DASH
    if isinstance(value, Integral) or (float(value).is_integer() and abs(value) < 1e15 and abs(value) >= 1000):
        return f"{int(value):,}".replace("-", "−")
    value = float(value)
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}×10{str(int(exponent)).translate(SUPERSCRIPT)}".replace("-", "−")
    places = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
    written = f"{value:,.{places}f}"
    return (written.rstrip("0").rstrip(".") if "." in written else written).replace("-", "−")


def tick(value: float) -> str:
    """Write a round value for an axis, large powers of ten in their short form.

    >>> tick(0.5), tick(1000000.0), tick(2000.0)
    ('0.5', '10⁶', '2,000')
    """
    if value >= 1e5 and math.log10(value).is_integer():
        return f"10{str(round(math.log10(value))).translate(SUPERSCRIPT)}"
    return number(value)


def interval(low: object, high: object) -> str:
    """Write an interval in square brackets; a dash where either end is undefined.

    >>> interval(1.25, 1.5), interval(float("nan"), 2.0)
    ('[1.25, 1.5]', '—')
    """
    return f"[{number(low)}, {number(high)}]" if defined(low) and defined(high) else DASH


def places(low: object, high: object, at: object = None) -> int | None:
    """Decimals that show the width of an interval with two digits; None where `number` knows better.

    Where the estimate `at` lies close to one end, that distance counts instead.

    >>> places(0.008468, 0.008817), places(0.51, 0.94), places(0.2, 38.7, 0.5), places(1200.0, 1900.0), places(1.0, 1.0)
    (5, 2, 1, None, None)
    """
    if not (is_number(low) and is_number(high)) or not high > low or max(abs(low), abs(high)) >= 1e5:
        return None
    width = float(high) - float(low)
    near = min(abs(float(at) - float(low)), abs(float(high) - float(at))) if is_number(at) else width
    found = 1 - math.floor(math.log10(min(width, 4 * near) if near > 0 else width))
    return found if 0 <= found <= 6 else None


def fixed(content: object, decimals: int | None) -> str:
    """Write a number with so many decimals; as `number` does where they are None.

    >>> fixed(0.7996, 2), fixed(-1.5, None)
    ('0.80', '−1.5')
    """
    if decimals is None or not is_number(content):
        return number(content)
    return f"{content:,.{decimals}f}".replace("-", "−")


def estimated(content: object, low: object, high: object) -> str:
    """Write a number with its interval, both with the digits that the interval leaves to it.

    >>> estimated(0.7996, 0.5114, 0.9447), estimated(2.0, float("nan"), 3.0)
    ('0.80 [0.51, 0.94]', '2 —')
    """
    n = places(low, high, content)
    bounds = f"[{fixed(low, n)}, {fixed(high, n)}]" if is_number(low) and is_number(high) else DASH
    return f"{fixed(content, n)} {bounds}"


def defined(value: object) -> bool:
    """Say whether there is anything to write: neither None nor NaN, nor an empty text."""
    if value is None or value == "":
        return False
    return not (isinstance(value, float) and math.isnan(value))


def value(content: object) -> str:
    """Write whatever a verdict holds: a number, a pair as an interval, a mapping, a list, a truth value, a text.

    >>> value([0.5, 1.0]), value({"M": 5, "prompts": 24}), value(None)
    ('[0.5, 1]', 'M 5, prompts 24', '—')
    """
    if isinstance(content, bool):
        return "yes" if content else "no"
    if isinstance(content, Real):
        return number(content)
    if isinstance(content, Mapping):
        return ", ".join(f"{visible(str(k)).replace('_', ' ')} {value(v)}" for k, v in content.items()) or DASH
    if isinstance(content, (list, tuple)):
        if len(content) == 2 and all(isinstance(c, Real) or c is None for c in content):
            return interval(*content)
        return ", ".join(value(c) for c in content) or DASH
    return visible(str(content)) if defined(content) else DASH


def marked(content: object) -> str:
    r"""Any text so that Markdown shows it as it is, in one line.

    >>> marked("<b>|a\x1b\n")
    '\\<b\\>\\|a␛↵'
    """
    return ACTIVE.sub(r"\\\1", visible(str(content)))


def token(content: str, limit: int | None = None) -> str:
    """Write a token so that its spaces can be seen; an empty token is `∅`.

    >>> token(" the"), token(""), token("<script>")
    ('·the', '∅', '<script>')
    """
    return visible(content.replace(" ", "·"), limit) or "∅"


def count(amount: int, noun: str, plural: str | None = None) -> str:
    """Write an amount with its noun, small amounts in words.

    >>> count(1, "claim"), count(5, "claim"), count(40, "claim"), count(2, "study", "studies")
    ('one claim', 'five claims', '40 claims', 'two studies')
    """
    name = noun if amount == 1 else plural or noun + "s"
    return f"{SMALL[amount] if amount < len(SMALL) else f'{amount:,}'} {name}"


def listing(items: Iterable[object], last: str = "and") -> str:
    """Join items as a sentence does.

    >>> listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    said = [str(item) for item in items]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} {last} {said[-1]}" if said else ""


def extent(values: Iterable[object], noun: str) -> str:
    """Write how many of something every row had: one number if all agree, else the least and the most.

    >>> extent([24, 24], "prompts"), extent([8, 24], "prompts"), extent([], "prompts")
    ('24 prompts', '8 to 24 prompts', 'an unrecorded number of prompts')
    """
    known = sorted({v for v in values if is_number(v)})
    if not known:
        return f"an unrecorded number of {noun}"
    return f"{number(known[0])} {noun}" if len(known) == 1 else f"{number(known[0])} to {number(known[-1])} {noun}"


def sentence(content: str) -> str:
    """Begin with a capital letter and end with a full stop; a name with an underscore at its head stays as it is.

    >>> sentence("the split survives"), sentence("max_new_tokens >= 66")
    ('The split survives.', 'max_new_tokens >= 66.')
    """
    content = visible(content).strip()
    head = content[:1] if "_" in content.partition(" ")[0] else content[:1].upper()
    return content and head + content[1:] + ("" if content[-1] in ".?!…" else ".")
