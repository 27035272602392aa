"""What a section of the page is: a record that says which tables it reads and what it shows of them, in order.

A figure enters the page in one place: a module that draws it ends with a `Section`, and `sections.py` names it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from markupsafe import Markup, escape

from phaselens.report.data_tables import Table
from phaselens.report.models_shown import Member
from phaselens.report.study_files import Folder


@dataclass(frozen=True)
class Figure:
    """A figure drawn twice, for wide pages and for narrow ones; `claims` are those whose data it shows.

    Its caption begins with what it asks, in bold; the rest says how to read it. `pages` gives it cut for paper.
    """

    kind: ClassVar[str] = "figure"
    name: str
    wide: Markup
    narrow: Markup
    caption: Markup | str
    claims: tuple[str, ...] = ()
    pages: Callable[[], list[Markup]] | None = None

    @property
    def id(self) -> str:
        """Its anchor."""
        return f"fig-{self.name.replace('_', '-')}"

    @property
    def asks(self) -> Markup:
        """The bold head of the caption, else its first sentence."""
        return self._parts[0]

    @property
    def how(self) -> Markup:
        """The rest of the caption: how to read the figure, on what it stands."""
        return self._parts[1]

    @property
    def _parts(self) -> tuple[Markup, Markup]:
        text = str(escape(self.caption))
        head, mark, rest = text.partition("</b>")
        if not mark:
            head, mark, rest = text.partition(". ") if ". " in text else (text, "", "")
            return Markup(f"<b>{head}{'.' if mark else ''}</b>"), Markup(rest.strip())  # noqa: S704 (escaped above)
        return Markup(head + mark), Markup(rest.strip())  # noqa: S704 (made of escaped parts)


@dataclass(frozen=True)
class Listed:
    """A table of the page, folded under `summary` where there is one."""

    kind: ClassVar[str] = "table"
    table: Table
    summary: str = ""


@dataclass(frozen=True)
class Said:
    """Sentences in the place of what cannot be shown (`gone`), or beside what is."""

    kind: ClassVar[str] = "said"
    sentences: Sequence[str]
    gone: bool = True


@dataclass(frozen=True)
class Legend:
    """The models of the figures below, by colour."""

    kind: ClassVar[str] = "legend"
    twins: bool


@dataclass(frozen=True)
class Card:
    """One finding at a glance; its `label` leads to the row of a claim (`anchor`) or to the definition of a `term`."""

    label: str
    place: str
    heading: str
    drawn: Markup
    said: str
    term: str = ""
    anchor: str = ""
    badge: str = ""
    style: str = ""


@dataclass(frozen=True)
class Cards:
    """The first findings, side by side."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]


class Block(Protocol):
    """What a section shows: `kind` says how `report.html.j2` writes it."""

    kind: ClassVar[str]


Blocks = Callable[[Folder, list[Member]], Sequence[Block | None]]


@dataclass(frozen=True)
class Section:
    """One section: anchor, title (contents, heading), tables of `results/` it reads, what it shows of them.

    `terms` are the definitions that it needs. A section with nothing to show has no place on the page unless it is
    `always` there, to say what is missing. `lead` is a sentence under its heading. The page of a panel of at most
    `heads` trained models opens with it, before summary and ledger.
    """

    anchor: str
    title: str
    heading: str
    tables: tuple[str, ...]
    blocks: Blocks
    terms: tuple[str, ...] = ()
    always: bool = False
    lead: Markup | str = ""
    heads: int = 0

    def shown(self, folder: Folder, members: list[Member]) -> list[Block]:
        """What it shows of a study: first what is missing or cannot be read, then its blocks."""
        for name in self.tables:  # read, so that it is known which cannot be
            folder.rows(name)
        found = [block for block in self.blocks(folder, members) if block is not None]
        gone = folder.lack(*(f"results/{name}.parquet" for name in self.tables))
        return [*([Said(gone)] if gone else []), *found]


def pair(name: str, draw: Callable[..., Markup], *args: object, layouts: Sequence[object], **more: Any) -> Figure:
    """A figure of two layouts, wide and narrow; `draw` takes a name, `args` and a layout."""
    wide, narrow = (draw(f"{name}-{form}", *args, layout) for form, layout in zip(FORMS, layouts, strict=True))
    return Figure(name, wide, narrow, **more)


FORMS = ("wide", "narrow")


def listed(table: Table | None, summary: str = "") -> Listed | None:
    """A table as a block; None for none."""
    return None if table is None else Listed(table, summary)
