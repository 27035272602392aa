"""SVG as strings: one escaping element builder, and the frame that every figure of the report stands in."""

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup, escape

from phaselens.report.written_values import visible

FONT_WIDTH = 0.56
"""Mean advance of a sans-serif letter over its size: enough to decide whether a label fits, never to measure it."""


def element(name: str, *children: Any, **attributes: object) -> Markup:
    """Write one element; children and attribute values that are not Markup are escaped.

    A trailing underscore in an attribute name is dropped (`class_`), inner ones become hyphens (`text_anchor`); None
    leaves the attribute out; floats are written with two decimals.

    >>> str(element("text", "a < b", x=1.0, class_="tick"))
    '<text x="1" class="tick">a &lt; b</text>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(place(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(children)
    return Markup(f"<{name}{written}/>") if not children else Markup(f"<{name}{written}>{inner}</{name}>")


def place(value: object) -> object:
    """Write a coordinate with at most two decimals (`12.5`, `3`); anything but a float is returned as it is."""
    if not isinstance(value, float):
        return value
    short = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if short == "-0" else short


def group(*children: Any, **attributes: object) -> Markup:
    """Write a `<g>` around the children."""
    return element("g", Markup("").join(children), **attributes)


def text(content: object, x: float, y: float, kind: str = "label", anchor: str | None = None, **more: object) -> Markup:
    """Write one line of text; `kind` is a class of the style sheet, `anchor` is `middle` or `end` (start if None)."""
    return element("text", content, x=float(x), y=float(y), class_=kind, text_anchor=anchor, **more)


def line(x1: float, y1: float, x2: float, y2: float, kind: str, **more: object) -> Markup:
    """Write a straight stroke from (x1, y1) to (x2, y2)."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=kind, **more)


def rect(x: float, y: float, width: float, height: float, kind: str, *children: object, **more: object) -> Markup:
    """Write a rectangle."""
    size: dict = {"x": float(x), "y": float(y), "width": float(width), "height": float(height), "class_": kind}
    return element("rect", *children, **size, **more)


def tip(content: str) -> Markup:
    """Write the native tooltip of the mark that contains it."""
    return element("title", content)


def path(points: Iterable[tuple[float, float]], kind: str, *children: object, **more: object) -> Markup:
    """Write an open polyline through the points."""
    d = "M" + "L".join(f"{place(float(x))} {place(float(y))}" for x, y in points)
    return element("path", *children, d=d, class_=kind, **more)


def frame(name: str, title: str, description: str, width: float, height: float, *children: Any) -> Markup:
    """Write the figure's `<svg>` with its title and description for those who do not see it.

    `name` makes the ids, so it must be unique on the page.
    """
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-desc"),
        Markup("").join(children),
        id=name,
        viewBox=f"0 0 {place(float(width))} {place(float(height))}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def swatch(kind: str) -> Markup:
    """Write a short piece of curve for a legend; the name beside it says what it is."""
    return element("svg", line(0, 4, 28, 4, f"curve {kind}"), viewBox="0 0 28 8", aria_hidden="true")


def fitted(label: str, room: float, size: float = 12.0) -> str:
    """Shorten a label to the room (px) at a font size (px) by taking letters out of its middle.

    >>> fitted("an-organisation/a-very-long-model-name", 120)
    'an-organ…del-name'
    """
    label = visible(label)
    letters = max(3, int(room / (size * FONT_WIDTH)))
    if len(label) <= letters:
        return label
    head = letters // 2
    return f"{label[:head]}…{label[len(label) - (letters - head - 1) :]}"


def wrapped(label: str, room: float, size: float = 12.0) -> list[str]:
    """Break a label at spaces into at most two lines of the room (px); what does not fit is shortened.

    >>> wrapped("soft cap of half the median top logit", 160, 11)
    ['soft cap of half the', 'median top logit']
    """
    label, letters = visible(label), max(3, int(room / (size * FONT_WIDTH)))
    if len(label) <= letters:
        return [label]
    at = label.rfind(" ", 0, letters + 1)
    if at < 1:
        return [fitted(label, room, size)]
    return [label[:at], fitted(label[at + 1 :], room, size)]


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions apart so that neighbours keep a distance of `gap`, inside [low, high] where there is room.

    >>> spread([10.0, 11.0, 40.0], 12.0, 0.0, 100.0)
    [4.5, 16.5, 40.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    blocks: list[list[float]] = []  # each: [centre of the block, number of labels in it]
    for i in order:
        blocks.append([wanted[i], 1])
        while len(blocks) > 1 and _end(blocks[-2], gap) > _start(blocks[-1], gap):
            (c1, n1), (c2, n2) = blocks[-2:]
            blocks[-2:] = [[(c1 * n1 + c2 * n2) / (n1 + n2), n1 + n2]]
    out = [0.0] * len(wanted)
    at = iter(order)
    for centre, count in blocks:
        half = (count - 1) * gap / 2
        centre = min(max(centre, low + half), max(high - half, low + half))
        for k in range(int(count)):
            out[next(at)] = centre - half + k * gap
    return out


def _start(block: list[float], gap: float) -> float:
    return block[0] - block[1] * gap / 2


def _end(block: list[float], gap: float) -> float:
    return block[0] + block[1] * gap / 2
