"""How a figure of rows is laid out: names at the left, panels side by side."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Total width, room for names at the left, panels side by side, height of a row."""

    width: float
    left: float
    across: int
    row: float
