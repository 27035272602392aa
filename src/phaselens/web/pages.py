"""One page, one file: markup, style and script put together, with the policy under which a browser runs it.

The policy names the hashes of exactly this style and this script, and lets
nothing else run, whatever a model says.
"""

import base64
import hashlib
import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any

from phaselens.scripts import script, source

DIGITS = 6
SHARED = ("colours.js", "pictures.js", "parts.js")


def number(value: float) -> float | None:
    """A measure as JSON can say it: six digits, None where it is undefined.

    >>> number(0.12345678), number(float("nan"))
    (0.123457, None)
    """
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


@dataclass(frozen=True)
class Page:
    """The whole of a page, and its Content-Security-Policy."""

    html: str
    policy: str


def whole(name: str, data: Any = None) -> Page:
    """The page `NAME.html` with `page.css`, `NAME.css` where there is one, the shared scripts and `NAME.js`.

    With `data` it carries what it shows as JSON and asks no server: one file to keep or send.
    """
    own = resources.files("phaselens.web").joinpath("page", f"{name}.css")
    style = source("page.css") + (own.read_text(encoding="utf-8") if own.is_file() else "")
    code = script(*SHARED, f"{name}.js")
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (code, style)]
    ask = "'self'" if data is None else "'none'"
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        f"connect-src {ask}; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    parts = {"<!-- style -->": f"<style>{style}</style>", "<!-- script -->": f'<script type="module">{code}</script>'}
    if data is not None:
        parts["<!-- policy -->"] = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        parts["<!-- data -->"] = f'<script type="application/json" id="data">{_embedded(data)}</script>'
    html = source(f"{name}.html")
    for mark, part in parts.items():
        html = html.replace(mark, part, 1)
    return Page(html, f"{policy}; frame-ancestors 'none'")


def _embedded(data: Any) -> str:
    """JSON that cannot end the element it stands in: no sign of markup is left in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
