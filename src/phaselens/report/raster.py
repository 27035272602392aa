"""Figures as PNG, for papers and slides that take no SVG: drawn by resvg (extra `report`), which needs no browser."""

from functools import cache

from phaselens.errors import InputError, missing_extra

SCALE = 3.0
"""Pixels for each unit of a figure: 288 to the inch, so that one of 1,000 units fills a page at 300."""

FAMILIES = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
PROBE = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">{}</svg>'
LETTER = f'<text y="15" font-family="{FAMILIES}">M</text>'


def png(svg: str, scale: float = SCALE) -> bytes:
    """A whole SVG document as PNG, `scale` pixels for each of its units.

    Raises MissingExtra without resvg, InputError where the machine has no font: a figure without words is none.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise missing_extra("a figure as PNG", "resvg-py", "report") from error
    _require_font()
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=scale))


@cache
def _require_font() -> None:
    """See that letters are drawn: resvg leaves out what it has no font for, and says nothing."""
    import resvg_py

    empty, letter = (bytes(resvg_py.svg_to_bytes(svg_string=PROBE.format(part))) for part in ("", LETTER))
    if empty == letter:
        raise InputError(
            "no sans-serif font is installed here, so figures as PNG would lack their words. Install one (for example "
            "DejaVu Sans or Liberation Sans), or take the SVG."
        )
