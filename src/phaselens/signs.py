"""Text from models, files and users as it may be shown: on a terminal, a page, in Markdown, in a notebook."""

import unicodedata

SIGNS = {"\n": "↵", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\u00ad": "⟨U+00AD⟩"}
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(content: str, limit: int | None = None) -> str:
    r"""Turn every sign that a page would hide or obey into one that shows, and cut at `limit` signs with an ellipsis.

    Control signs, direction marks, joiners, line separators, lone surrogates and unassigned code points become
    symbols; a text that begins with a combining mark gets a dotted circle to stand on. Spaces inside stay. HTML is not
    escaped here: the template and the SVG builder do that for every text.

    >>> visible("a\n\u202eb\x00")
    'a↵⟨U+202E⟩b␀'
    """
    pieces = [_shown(sign) for sign in (content if limit is None else content[: limit + 1])]
    while limit is not None and sum(map(len, pieces)) > limit:
        pieces = [*pieces[:-2], "…"] if pieces[-1] == "…" else [*pieces[:-1], "…"]
    shown = "".join(pieces)
    return "◌" + shown if shown and unicodedata.category(shown[0]).startswith("M") else shown


def _shown(sign: str) -> str:
    if sign in SIGNS:
        return SIGNS[sign]
    code = ord(sign)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if unicodedata.category(sign) in HIDDEN:
        return f"⟨U+{code:04X}⟩"
    return sign
