"""Label files of others as tables with one row per labelled place: CoNLL-U words, and sentence-probing TSV."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phaselens.batteries.file_rows import Row, Table, read_table
from phaselens.batteries.file_text import read_text
from phaselens.errors import StudyFileError

CONLLU, SPLITS = ".conllu", ("tr", "va", "te")
FIELDS = 10
SENTENCE_COLUMNS = ("split", "label", "text")


def read_labels(path: str | Path) -> Table:
    """The labelled places of a file: .conllu by word, a sentence-probing .tsv without header, else as `read_table`.

    Raises StudyFileError with the line.
    """
    path = Path(path)
    if path.suffix.lower() == CONLLU:
        return read_conllu(path)
    return read_sentences(path) if _without_header(path) else read_table(path)


def read_sentences(path: str | Path) -> Table:
    """Sentence-probing rows without a header: `split` (tr, va or te), `label`, `text`, separated by tabs.

    The form of SentEval's probing files (Conneau et al. 2018). Raises StudyFileError for another number of fields,
    another split, or no text.
    """
    path, rows = Path(path), []
    for number, line in enumerate(_lines(read_text(path)), start=1):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != 3 or cells[0] not in SPLITS or not all(cell.strip() for cell in cells):
            raise StudyFileError(f"{path}, line {number}: wanted tr, va or te, a label and a sentence, by tabs.")
        rows.append(Row(number, f"line {number}", dict(zip(SENTENCE_COLUMNS, cells, strict=True))))
    if not rows:
        raise StudyFileError(f"{path} is empty.")
    return Table(path, SENTENCE_COLUMNS, tuple(rows))


def _lines(text: str) -> list[str]:
    """Lines end at a line feed alone: other separators of Unicode are text."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def _without_header(path: Path) -> bool:
    if path.suffix.lower() not in (".tsv", ".txt"):
        return False
    first = read_text(path).split("\n", 1)[0].split("\t")
    return len(first) == 3 and first[0] in SPLITS


@dataclass(frozen=True)
class _Word:
    """One line of a sentence: `parts` are the numbers of the words that it spells (more than one: a contraction)."""

    number: int
    parts: range
    cells: list[str]


def read_conllu(path: str | Path) -> Table:
    """One row per word of a CoNLL-U file: where it stands in its sentence, and everything it is labelled with.

    Columns: `text` (the sentence, in characters of `# text`, or put together from the forms), `start` and `end` of the
    word (end exclusive), `form` in small letters, `lemma`, `upos`, `xpos`, `deprel`, `depth` (heads above the word; 0
    for the root), every feature by its name (`Number`, `Tense`), `sentence` and `document`. A word without a feature
    has no value there. Empty nodes are passed over; the words of a contraction stand where they spell it, and at the
    whole of it where they do not.
    Raises StudyFileError with the line for another number of fields, numbers out of order, a head that is no word of
    the sentence or a circle of heads, a word that does not stand in the text, and a file without words.
    """
    path, rows, names = Path(path), list[Row](), dict[str, None]()
    document = ""
    for first, comments, lines in _sentences(read_text(path)):
        document = comments.get("newdoc id", document)
        said = comments.get("sent_id", f"line {first}")
        for row in _rows(path, lines, comments.get("text")):
            values = {"sentence": said, **({"document": document} if document else {}), **row.values}
            names |= dict.fromkeys(values)
            rows.append(Row(row.number, row.place, values))
    if not rows:
        raise StudyFileError(f"{path}: no word was found in it; a CoNLL-U line has {FIELDS} fields separated by tabs.")
    return Table(path, tuple(names), tuple(rows))


def _sentences(text: str) -> Iterator[tuple[int, dict[str, str], list[tuple[int, str]]]]:
    """First line, comments by name, and lines with their numbers, of every sentence."""
    comments: dict[str, str] = {}
    lines: list[tuple[int, str]] = []
    for number, line in enumerate([*_lines(text), ""], start=1):
        if line.startswith("#"):
            name, _, value = line[1:].partition("=")
            comments[name.strip()] = value.strip()
        elif line.strip():
            lines.append((number, line))
        elif lines:
            yield lines[0][0], comments, lines
            comments, lines = {}, []


def _rows(path: Path, lines: list[tuple[int, str]], text: str | None) -> list[Row]:
    words, surface = _words(path, lines)
    text = _spelled(surface) if text is None else text
    spans = _spans(path, words, surface, text)
    heads = {word.parts[0]: _number(path, word, 6) for word in words}
    out = []
    for word in words:
        start, end = spans[word.parts[0]]
        form, lemma, upos, xpos, feats, _, deprel = word.cells[1:8]
        values = {"form": form.lower(), "lemma": lemma, "upos": upos, "xpos": xpos, "deprel": deprel}
        values |= dict(pair.split("=", 1) for pair in feats.split("|") if "=" in pair)
        kept: dict[str, Any] = {k: v for k, v in values.items() if v != "_" or k == "form"}
        kept |= {"depth": str(_depth(path, word, heads)), "start": start, "end": end, "text": text}
        out.append(Row(word.number, f"line {word.number}", kept))
    return out


def _words(path: Path, lines: list[tuple[int, str]]) -> tuple[list[_Word], list[_Word]]:
    """The words of a sentence, and what is written: words, or contractions in the place of theirs."""
    words: list[_Word] = []
    surface: list[_Word] = []
    for number, line in lines:
        cells = line.split("\t")
        found = re.fullmatch(r"(\d+)(?:-(\d+)|\.\d+)?", cells[0])
        if len(cells) != FIELDS or found is None:
            raise StudyFileError(
                f"{path}, line {number}: a CoNLL-U word has {FIELDS} fields separated by tabs, the first its number; "
                f"got {len(cells)} fields."
            )
        if "." in cells[0]:
            continue
        low = int(found[1])
        word = _Word(number, range(low, int(found[2] or low) + 1), cells)
        covered = bool(surface) and low <= surface[-1].parts[-1]
        if "-" not in cells[0]:
            if low != len(words) + 1:
                raise StudyFileError(f"{path}, line {number}: word {low} follows word {len(words)}.")
            words.append(word)
        if not covered:
            surface.append(word)
    return words, surface


def _spelled(surface: list[_Word]) -> str:
    return "".join(w.cells[1] + ("" if "SpaceAfter=No" in w.cells[9] else " ") for w in surface).rstrip()


def _spans(path: Path, words: list[_Word], surface: list[_Word], text: str) -> dict[int, tuple[int, int]]:
    """First character and the one after the last of every word, by its number."""
    out, at = {}, 0
    by_number = {word.parts[0]: word for word in words}
    for written in surface:
        form = written.cells[1]
        start = text.find(form, at)
        if start < 0 or text[at:start].strip():
            raise StudyFileError(
                f"{path}, line {written.number}: the word {form!r} does not stand in the text after character {at}: "
                f"{text[at : at + 20]!r}."
            )
        at, inside = start + len(form), start
        parts = [by_number[n].cells[1] for n in written.parts if n in by_number]
        whole = len(parts) > 1 and "".join(parts).lower() != form.lower()
        for number, part in zip(written.parts, parts, strict=False):
            out[number] = (start, at) if whole else (inside, inside + len(part))
            inside += len(part)
    return out


def _number(path: Path, word: _Word, field: int) -> int | None:
    """The head of a word, 0 for the root, None where none is given."""
    said = word.cells[field]
    if said == "_":
        return None
    if not said.isdigit():
        raise StudyFileError(f"{path}, line {word.number}: the head is a word's number, or 0; got {said!r}.")
    return int(said)


def _depth(path: Path, word: _Word, heads: dict[int, int | None]) -> int:
    steps, at = 0, heads[word.parts[0]]
    while at:
        if at not in heads or steps > len(heads):
            raise StudyFileError(
                f"{path}, line {word.number}: following heads leads to word {at}, which is not in the sentence or "
                "leads back."
            )
        steps, at = steps + 1, heads[at]
    return steps
