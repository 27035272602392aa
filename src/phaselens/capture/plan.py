"""What to record, as data."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Plan:
    """What a pass records: layers (empty = all of 0..L), lenses, observables by name, and whether states are kept.

    `lenses` are names, or frozen records that give a `canonical()` form; they are only carried, never read here.
    `chunk` is the number of positions per forward pass and moves numbers only within the noise floor, so it is not part
    of what identifies a result.
    """

    layers: tuple[int, ...] = ()
    lenses: tuple[Any, ...] = ("final_norm",)
    observables: tuple[str, ...] = ()
    keep_hidden: bool = False
    chunk: int = 256

    def canonical(self) -> dict[str, Any]:
        """What identifies a result, as plain JSON values in a fixed order: the form that is hashed."""
        return {
            "keep_hidden": self.keep_hidden,
            "layers": sorted(self.layers),
            "lenses": [{"kind": lens} if isinstance(lens, str) else lens.canonical() for lens in self.lenses],
            "observables": sorted(self.observables),
        }
