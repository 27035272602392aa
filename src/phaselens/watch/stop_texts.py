"""Stop texts: what may be shown so far, and whether the end has come."""

from collections.abc import Sequence


class Stops:
    """Takes a text piece by piece and hands out what cannot become part of a stop text; the stop text itself never."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._held = ""
        self.reached = False

    def push(self, piece: str) -> str:
        """What may be shown after this piece; everything before the first stop text once one is complete.

        >>> s = Stops(["END"])
        >>> s.push("a E"), s.push("N"), s.push("X"), s.push("END!"), s.reached
        ('a ', '', 'ENX', '', True)
        """
        if self.reached:
            return ""
        held = self._held + piece
        found = [at for at in (held.find(text) for text in self._texts) if at >= 0]
        if found:
            self.reached, self._held = True, ""
            return held[: min(found)]
        keep = max((self._overlap(held, text) for text in self._texts), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def rest(self) -> str:
        """What was held back, once nothing follows."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(held: str, text: str) -> int:
        """Length of the longest end of `held` that a stop text begins with."""
        return next((n for n in range(min(len(held), len(text) - 1), 0, -1) if held.endswith(text[:n])), 0)
