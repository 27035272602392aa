"""Labelled places in texts: what a probe is asked, read from a user's JSON Lines, and which tokens each place is."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from phaselens.batteries.file_rows import Row, Table, word
from phaselens.batteries.label_files import CONLLU, read_labels
from phaselens.capture.prompts import check_ids, check_room
from phaselens.errors import InputError, PromptError, StudyFileError, unknown_name
from phaselens.models import Model, encoder

TEXTS = ("text", "statement", "sentence", "prompt")


@dataclass(frozen=True)
class Example:
    """A text and the place in it that is read.

    `span` counts characters (of `token_ids`: tokens), end exclusive; None: the last token. `label` None: no label, the
    example is read and left out of every fit. `group` stays together in splits and draws (prompt, fact); `kind` is the
    word type or template for control tasks and type-disjoint splits ("" for none); `fold` is the user's own split.
    """

    text: str
    label: str | None
    group: str
    span: tuple[int, int] | None = None
    kind: str = ""
    fold: str = ""
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Flag:
    """An example that was left out: where it stood, and why."""

    place: str
    reason: str


@dataclass(frozen=True)
class Examples:
    """The examples of one question, and those that were left out with the reason."""

    name: str
    items: tuple[Example, ...]
    flags: tuple[Flag, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labels(self) -> np.ndarray:
        """Labels as an object array [example]; None where there is none."""
        out = np.empty(len(self.items), object)
        out[:] = [item.label for item in self.items]
        return out

    @property
    def groups(self) -> np.ndarray:
        """Groups [example]."""
        return np.array([item.group for item in self.items])

    @property
    def kinds(self) -> np.ndarray | None:
        """Word types or templates [example]; None where no example has one."""
        kinds = np.array([item.kind for item in self.items])
        return kinds if (kinds != "").any() else None

    @property
    def folds(self) -> np.ndarray | None:
        """The user's own folds, numbered in sorted order, int [example]; None where none were given."""
        names = np.array([item.fold for item in self.items])
        return np.unique(names, return_inverse=True)[1] if (names != "").any() else None

    def keep(self, rows: np.ndarray) -> "Examples":
        """The examples at these indices, in this order."""
        return replace(self, items=tuple(self.items[int(i)] for i in rows))


@dataclass(frozen=True)
class Columns:
    """Which columns of a file say what; None: the usual one for this kind of file, or nothing.

    Usual are `label`, the first of `text`, `statement`, `sentence` and `prompt`, and in CoNLL-U the label `upos` of
    every word by its `start` and `end`, in groups of `sentence`, with its `form` as type.
    """

    label: str | None = None
    group: str | None = None
    kind: str | None = None
    span: tuple[str, str] | None = None
    fold: str | None = None
    text: str | None = None

    def for_file(self, table: Table) -> "Columns":
        """The same with the usual columns of this file filled in; raises StudyFileError for one that is not there."""
        if table.path.suffix.lower() == CONLLU:
            usual = Columns("upos", "sentence", "form", ("start", "end"), None, "text")
        else:
            usual = Columns("label", text=next((name for name in TEXTS if name in table.columns), None))
        mine = Columns(*(getattr(self, f.name) or getattr(usual, f.name) for f in fields(self)))
        for name in (mine.label, mine.group, mine.kind, mine.fold, self.text, *(mine.span or ())):
            if name is not None and name not in table.columns:
                raise StudyFileError(f"{table.path}: {unknown_name('column', name, table.columns)}")
        if mine.text is None and "token_ids" not in table.columns:
            raise StudyFileError(
                f"{table.path}: no column of texts ({', '.join(TEXTS)}) and no column 'token_ids'; name one of "
                f"{', '.join(table.columns)}."
            )
        return mine


def read_examples(path: str | Path, columns: Columns = Columns(), *, bins: int | None = None) -> Examples:  # noqa: B008  frozen
    """Examples from JSON Lines, .csv or .tsv, CoNLL-U (.conllu), or sentence-probing TSV without a header.

    A label may be a list in a row: one label for each word between blanks (null: none). Without a column of groups
    rows of one text are one group; without a span the last token is read; a row without a label is read and left out of
    fits. With `bins`, labels are numbers and become so many classes of about equal size.
    Raises StudyFileError with the line for a missing text, more labels than words, or a span outside its text,
    InputError for `bins` and a label that is no number.
    """
    table = read_labels(path)
    mine = columns.for_file(table)
    out: list[Example] = []
    for row in table.rows:
        try:
            out += _of_row(row, mine)
        except InputError as error:
            raise StudyFileError(f"{path}, {row.place}: {error}") from error
    found = Examples(Path(path).stem, tuple(out))
    return found if bins is None else _binned(found, bins)


def _binned(examples: Examples, bins: int) -> Examples:
    """Numbers as classes "a to b" between quantiles; labels that are none stay without."""
    known = [item.label for item in examples.items if item.label is not None]
    try:
        values = np.array([float(label) for label in known])
    except ValueError as error:
        raise InputError(f"--bins wants labels that are numbers: {error}.") from error
    if bins < 2 or not np.isfinite(values).all():
        raise InputError(f"at least 2 bins and finite labels are needed; got {bins} bins.")
    inner = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="higher"))
    part = np.searchsorted(inner, values, side="right")
    names = {k: f"{values[part == k].min():g} to {values[part == k].max():g}" for k in np.unique(part)}
    said = iter(names[k] for k in part)
    return replace(
        examples, items=tuple(i if i.label is None else replace(i, label=next(said)) for i in examples.items)
    )


def _of_row(row: Row, columns: Columns) -> list[Example]:
    values, ids = row.values, row.values.get("token_ids")
    text = values.get(columns.text or "text", "")
    if not isinstance(text, str) or (not text.strip() and ids is None):
        raise PromptError(f"no text in {columns.text!r}, and no token_ids.")
    if ids is not None and not (isinstance(ids, list) and ids and all(type(i) is int and i >= 0 for i in ids)):
        raise PromptError("token_ids is a list of whole numbers from 0, not empty.")
    named = {k: getattr(columns, k) for k in ("group", "kind", "fold")}
    said = {k: word(values[c], c) if c in values else "" for k, c in named.items()}
    whole = text if ids is None else f"tokens {ids}"
    shared: dict = {"group": said["group"] or whole, "fold": said["fold"]}
    given = values.get(columns.label)
    if isinstance(given, list):
        return _of_words(text, given, said["kind"], shared)
    length = len(text) if ids is None else len(ids)
    return [
        Example(
            text,
            None if given is None else word(given, columns.label),
            span=_span(values, columns.span, length),
            kind=said["kind"],
            token_ids=None if ids is None else tuple(ids),
            **shared,
        )
    ]


def _of_words(text: str, labels: list, kind: str, shared: dict) -> list[Example]:
    """One example per word between blanks; its type is the word in small letters unless a column gives it."""
    out, end = [], 0
    words = text.split()
    if len(labels) != len(words):
        more = "more" if len(labels) > len(words) else "fewer"
        raise PromptError(f"{more} labels ({len(labels)}) than words between blanks in the text ({len(words)}).")
    for one, name in zip(words, labels, strict=True):
        start = text.index(one, end)
        end = start + len(one)
        said = None if name is None else word(name, "label")
        out.append(Example(text, said, span=(start, end), kind=kind or one.lower(), **shared))
    return out


def _span(values: Any, columns: tuple[str, str] | None, length: int) -> tuple[int, int] | None:
    if columns is None:
        return None
    ends = [values.get(name) for name in columns]
    if ends == [None, None]:
        return None
    try:
        start, end = (int(str(e)) for e in ends)
    except ValueError as error:
        raise PromptError(f"a span is two whole numbers; got {ends[0]!r} and {ends[1]!r}.") from error
    if not 0 <= start < end <= length:
        raise PromptError(f"the span {start}:{end} does not lie in a text of length {length} (end exclusive).")
    return start, end


def thinned(examples: Examples, generator: np.random.Generator, *, most: int | None = None) -> Examples:
    """One labelled example per group, drawn at random, and at most `most` of them.

    With one word of each prompt, folds that keep word types together keep prompts together as well.
    """
    order = [int(i) for i in generator.permutation(len(examples)) if examples.items[int(i)].label is not None]
    first: dict[str, int] = {}
    for i in order:
        first.setdefault(examples.items[i].group, i)
    chosen = list(first.values())[: len(first) if most is None else most]
    return examples.keep(np.sort(np.array(chosen, int)))


@dataclass(frozen=True)
class Places:
    """Which tokens are read: the ids of each example's text, and its tokens lo..hi-1."""

    ids: tuple[tuple[int, ...], ...]
    lo: np.ndarray
    hi: np.ndarray


def place(model: Model, examples: Examples) -> tuple[Examples, Places]:
    """The examples whose places are whole tokens of the model, with those tokens; the others become flags.

    A place is aligned where the tokens that touch its span spell it, but for blanks around it. Texts beyond the
    context are flagged too. Raises InputError where no example is left, TokenizerError for text without a tokenizer,
    PromptError for ids outside the vocabulary.
    """
    kept, flags, found = [], list(examples.flags), list[tuple[object, ...]]()
    known: dict[str, tuple[tuple[int, ...], Sequence[tuple[int, int]] | None]] = {}
    for i, item in enumerate(examples.items):
        if item.token_ids is None and item.text not in known:
            known[item.text] = _tokens(model, item.text, spans=item.span is not None)
        ids, offsets = (item.token_ids, None) if item.token_ids is not None else known[item.text]
        check_ids(model, ids, f"example {i}")
        try:
            check_room(model, len(ids), 1, f"example {i}")
            lo, hi = _range(item, ids, offsets)
        except PromptError as error:
            flags.append(Flag(f"example {i}", str(error)))
            continue
        kept.append(i)
        found.append((ids, lo, hi))
    if not kept:
        raise InputError(f"{examples.name}: no example could be placed; the first: {flags[0].reason}")
    texts, begin, end = zip(*found, strict=True)
    return replace(examples.keep(np.array(kept)), flags=tuple(flags)), Places(texts, np.array(begin), np.array(end))


def _tokens(model: Model, text: str, *, spans: bool) -> tuple[tuple[int, ...], Sequence[tuple[int, int]] | None]:
    encode = encoder(model)
    if not spans:
        return tuple(encode(text)), None
    ids, offsets = encode.spans(text)
    return tuple(ids), offsets


def _range(item: Example, ids: Sequence[int], offsets: Sequence[tuple[int, int]] | None) -> tuple[int, int]:
    """Tokens lo..hi-1 of an example; raises PromptError where the span is not whole tokens."""
    if item.span is None:
        return len(ids) - 1, len(ids)
    start, end = item.span
    if item.token_ids is not None:
        return start, end
    assert offsets is not None
    touching = [t for t, (a, b) in enumerate(offsets) if a < end and b > start and b > a]
    wanted = item.text[start:end].strip()
    if touching:
        covered = item.text[offsets[touching[0]][0] : offsets[touching[-1]][1]].strip()
        if covered == wanted:
            return touching[0], touching[-1] + 1
        raise PromptError(f"the span {start}:{end} ({wanted!r}) is not whole tokens: they spell {covered!r}.")
    raise PromptError(f"no token stands at the span {start}:{end} ({wanted!r}).")
