"""The models of a study as the figures show them: their order, their label, the hue of their family."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import visible

HUES, DASHES = 8, 4


@dataclass(frozen=True)
class Member:
    """One model of the panel; a twin is its untrained copy and shares its family's hue.

    `dash` tells apart the trained models of one hue (0: an unbroken line).
    """

    model: str
    twin: bool
    family: str
    hue: int
    label: str
    dash: int = 0

    @property
    def short(self) -> str:
        """Name it for a narrow page: no organisation or kind before it, and a hollow circle for an untrained twin."""
        name = self.label.rsplit("/", 1)[-1]
        for word in (" (untrained)", ":untrained", "~untrained"):
            name = name.removesuffix(word)
        return name.rsplit(":", 1)[-1] + (" ○" if self.twin else "")

    @property
    def kind(self) -> str:
        """Name the style classes of its marks."""
        return f"hue{self.hue} twin" if self.twin else f"hue{self.hue} dash{self.dash}"


def cast(folder: Folder) -> list[Member]:
    """List every model named in a table of the study, trained ones first, each in the order of its first mention."""
    seen: dict[tuple[str, bool], str] = {}
    for table in ("panel", "regimes_models", "gd_models", "depth", "gd_depth"):
        for row in folder.rows(table):
            key = (str(row["model"]), bool(row["twin"]))
            seen.setdefault(key, str(row.get("family") or key[0]))
    families = list(dict.fromkeys(seen.values()))
    members = [
        Member(model, twin, family, families.index(family) % HUES, _label(model, twin))
        for (model, twin), family in seen.items()
    ]
    trained = [m for m in members if not m.twin]
    before = [sum(other.hue == m.hue for other in trained[:k]) for k, m in enumerate(trained)]
    told_apart = [replace(m, dash=k % DASHES) for m, k in zip(trained, before, strict=True)]
    return told_apart + [m for m in members if m.twin]


def _label(model: str, twin: bool) -> str:
    said = any(word in model.lower() for word in ("untrained", "twin"))
    return visible(model) + (" (untrained)" if twin and not said else "")


def of(rows: Iterable[Row], member: Member) -> list[Row]:
    """Give the rows that belong to this model."""
    return [row for row in rows if row["model"] == member.model and bool(row["twin"]) == member.twin]
