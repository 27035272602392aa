"""Small pictures of matrices: a colour map, and a PNG writer of the standard library's zlib, as a data URI."""

import base64
import struct
import zlib
from collections.abc import Sequence

from phaselens.report.written_values import is_number

CIVIDIS = ("00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838")
MAKO = ("2e1e3c", "413d7b", "37659e", "348fa7", "40b7ad", "8ad9b1", "def5e5")
"""Two maps of even steps in lightness, safe for colour-blind readers: one per quantity, so they are not mistaken."""


def colour(share: float, anchors: Sequence[str]) -> tuple[int, int, int]:
    """Give the colour (r, g, b in 0..255) at a share in [0, 1] of the map.

    >>> colour(0.0, CIVIDIS), colour(1.0, ("000000", "ffffff"))
    ((0, 34, 78), (255, 255, 255))
    """
    at = min(max(share, 0.0), 1.0) * (len(anchors) - 1)
    i = min(int(at), len(anchors) - 2)
    ends = [tuple(int(anchor[k : k + 2], 16) for k in (0, 2, 4)) for anchor in anchors[i : i + 2]]
    r, g, b = (round(a + (z - a) * (at - i)) for a, z in zip(*ends, strict=True))
    return r, g, b


def heat_map(
    rows: Sequence[Sequence[object]], low: float, high: float, anchors: Sequence[str] = CIVIDIS, cell: int = 6
) -> str:
    """Draw a matrix as a PNG data URI, `cell` x `cell` pixels per value; what is no number stays transparent.

    Values map linearly from `low..high` to the anchors. The first row is on top.
    """
    room = (high - low) or 1.0
    picture = b""
    for row in rows:
        strip = b"".join(
            (bytes((*colour((v - low) / room, anchors), 255)) if is_number(v) else b"\0\0\0\0") * cell for v in row
        )
        picture += (b"\0" + strip) * cell  # a leading 0 per line: no filter
    return data_uri(picture, len(rows[0]) * cell, len(rows) * cell)


def data_uri(picture: bytes, width: int, height: int) -> str:
    """Pack filtered RGBA lines (each led by its filter byte) as a PNG data URI."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(picture, 9)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
