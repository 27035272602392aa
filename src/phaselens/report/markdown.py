"""The report as Markdown with its figures as SVG files beside it: for a repository, a wiki, or a paper's appendix."""

from collections.abc import Iterator
from pathlib import Path

from phaselens.report import verdict_prose
from phaselens.report.data_tables import Table
from phaselens.report.figures import write_files
from phaselens.report.render import content, figures
from phaselens.report.section import Block, Cards, Listed, Said
from phaselens.report.study_files import Row, read_folder
from phaselens.report.written_values import marked
from phaselens.trace.store import atomic_write


def write_markdown(study_dir: str | Path, png: bool = False) -> tuple[Path, ...]:
    """Write `report.md` and `figures/*.svg` (with `png` also PNG) into a study folder; return all, the page first.

    Raises StudyFileError if the folder is not that of a study, OutputError where a file cannot be written.
    """
    where = Path(study_dir)
    shown = content(read_folder(where))
    drawn = figures(shown)
    files = write_files({name: one.wide for name, one in drawn.items()}, where / "figures", png)
    return (atomic_write(where / "report.md", "\n".join(_lines(shown, list(drawn))) + "\n"), *files)


def _lines(shown: Row, figures: list[str]) -> Iterator[str]:
    yield from (f"# {marked(shown['name'])}", "", marked(shown["lede"]), "")
    yield from (f"- **{marked(term)}**: {marked(fact)}" for term, fact in shown["facts"])
    for section, blocks in shown["heads"]:
        yield from ("", f"## {marked(section.heading)}", "")
        for block in blocks:
            yield from _block(block)
    yield from ("", "## Ledger", "")
    if not shown["entries"]:
        yield from ("No verdicts are in this folder.", "")
    else:
        yield from _ledger(shown["entries"])
    blocks = [block for _, own in shown["rest"] for block in own]
    for table in (shown["panel"], shown["separation"], *(b.table for b in blocks if isinstance(b, Listed))):
        if table is not None:
            yield from _table(table)
    if figures:
        yield from ("## Figures", "")
        for name in figures:
            yield from (f"![{marked(name.replace('_', ' '))}](figures/{name}.svg)", "")
    yield from ("## Methods", "")
    for paragraph in shown["methods"]:
        yield from (_paragraph(paragraph), "")
    if shown["references"]:
        yield from ("## References", "")
        yield from (f"- {marked(source)} ({marked(of)})" for source, of in shown["references"])
        yield ""
    remarks = list(shown["remarks"])
    if remarks:
        yield from ("## Notes", "", *(f"- {_paragraph(remark)}" for remark in remarks), "")


def _block(block: Block) -> Iterator[str]:
    """What a section that opens the page says, finds and lists."""
    if isinstance(block, Said):
        yield from (line for said in block.sentences for line in (marked(said), ""))
    elif isinstance(block, Cards):
        of = ((f"{c.label} {c.place}: {c.heading}.", c.said) for c in block.cards)
        yield from (*(f"- **{marked(head)}** {marked(said)}" for head, said in of), "")
    elif isinstance(block, Listed):
        yield from _table(block.table)


def _paragraph(said: object) -> str:
    """A paragraph of the methods or a note: text, or its parts."""
    if isinstance(said, (list, tuple)):
        return " ".join(marked(part) for part in said)
    return marked(said)


def _ledger(entries: list[verdict_prose.Entry]) -> Iterator[str]:
    yield "| claim | verdict | estimate | null | p | decided by | published |"
    yield "|---|---|---|---|---|---|---|"
    for e in entries:
        late = " (post hoc)" if e.post_hoc else ""
        cells = (e.id, e.verdict + late, f"{e.estimate} {e.interval}", e.null, e.p, e.decided_by, e.published)
        yield "| " + " | ".join(marked(cell) for cell in cells) + " |"
    yield ""
    for e in entries:
        yield from (f"**{marked(e.id)}: {marked(e.statement)}** {marked(verdict_prose.finding(e))}", "")
        yield from (f"What would change this verdict: {marked(verdict_prose.change(e))}", "")


def _table(table: Table) -> Iterator[str]:
    heading, _, rest = table.caption.partition(". ")
    yield from (f"## {marked(heading.removesuffix('.'))}", "", *((marked(rest), "") if rest else ()))
    heads = [marked(f"{c.title} ({c.unit})" if c.unit else c.title) for c in table.columns]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for heading, rows in table.groups:
        if heading:
            yield f"| **{marked(heading)}** |" + " |" * (len(heads) - 1)
        for row in rows:
            yield "| " + " | ".join(marked(c.text) + (f" ({marked(c.note)})" if c.note else "") for c in row) + " |"
    yield ""
    yield from (f"{i}. {marked(note)}" for i, note in enumerate(table.notes, start=1))
    yield ""
