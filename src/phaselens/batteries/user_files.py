"""What a user's file holds, by a mapping of columns: prompts, questions, minimal pairs, forced choices, labels."""

import math
from pathlib import Path
from typing import TypeVar

from phaselens.batteries.battery import Battery, Prompt
from phaselens.batteries.chat import answered, as_turns
from phaselens.batteries.file_rows import (
    Columns,
    Row,
    Table,
    build,
    mapped,
    read_table,
    require_unique_ids,
    word,
    words,
)
from phaselens.batteries.items import ForcedChoice, Labelled, MinimalPair, Question
from phaselens.errors import InputError, PromptError, StudyFileError, unknown_name

TEXT_KEYS, DELIMITED, PARTS = ("text", "prompt"), (".csv", ".tsv"), ";|"
PROMPT_FIELDS = tuple("id text prompt messages category answer aliases tag unit prompt_ids calibration".split())
QUESTION_FIELDS = ("id", "completion", "question", "answers", "tag")
PAIR_FIELDS = ("id", "ambiguous", "first", "second", "answers", "kind", "senses", "unit")
CHOICE_FIELDS = ("id", "text", "alternatives", "right", "answer", "tag", "category")
Item = TypeVar("Item", Question, MinimalPair, ForcedChoice)
LONGEST_ID = 500
MISSING = ("error", "drop")
FORM = 'Each line is like {"prompt": "..."} or {"id": "q1", "text": "...", "category": "factual", "answer": "..."}.'


def load_battery(
    path: str | Path,
    *,
    columns: Columns | None = None,
    separator: str | None = None,
    answer_after: str | None = None,
    encoding: str = "utf-8",
) -> Battery:
    """A battery from JSON Lines, .json (a list), .csv or .tsv (with a header), or .txt (a prompt a line).

    Fields are `text` (or `prompt`), `messages` instead of it (turns of a conversation; an assistant's turn at their end
    is what is to be generated, and left out), `id` (default: `p0001` and so on, by line), `category`, `answer`,
    `aliases`, `tag`, `unit` (what the prompt is about, where several ask about one thing; default: `id`), `prompt_ids`
    (token ids instead of text) and `calibration`. An answer may be a list: the first is the usual one.

    Args:
        path: the file.
        columns: for each field the column it stands in, a template (`"Q: {question}"`), or a list of columns. Columns
            that are not named are left alone. Without it the columns must have the names of the fields.
        separator: cuts several answers in one cell, such as ";": those of `aliases`, or of `answer` without aliases.
            Without one a cell of a CSV or TSV that holds ";" or "|" is refused; "" takes every cell as one answer.
        answer_after: the answer is what stands after the last such mark, such as "####".
        encoding: of the file.

    Raises:
        StudyFileError: not there, not readable, or a line is wrong; says which line and what was wanted.

    """
    table = read_table(path, encoding)
    if columns is None:
        _require_text_column(table)
    rows = mapped(table, columns, PROMPT_FIELDS)
    if columns is not None and not {*TEXT_KEYS, "messages", "prompt_ids"} & set(columns):
        raise StudyFileError(f'{path}: columns must say where the text is, such as columns = {{"text": "question"}}.')
    cut = None if "aliases" in (table.columns if columns is None else columns) else separator
    doubtful = PARTS if separator is None and table.path.suffix.lower() in DELIMITED else ""

    def make(row: Row) -> Prompt:
        prompt = _prompt(row, cut, separator, answer_after)
        for answer in prompt.accepted:
            if mark := next((mark for mark in doubtful if mark in answer), None):
                raise PromptError(
                    f"the answer {answer[:60]!r} holds {mark!r}: one answer or several? Say --separator '{mark}' where "
                    "it parts them, --separator '' where it does not (separator in a study or in load_battery)."
                )
        return prompt

    prompts = build(rows, make)
    require_unique_ids(rows, [p.id for p in prompts])
    apart = [str(row.values.get("calibration", "")).strip().lower() in ("true", "1", "yes") for row in rows.rows]
    try:
        return Battery(
            name=Path(path).stem,
            prompts=tuple(p for p, held in zip(prompts, apart, strict=True) if not held),
            calibration=tuple(p for p, held in zip(prompts, apart, strict=True) if held),
        )
    except InputError as error:
        raise StudyFileError(f"{path}: {error}") from error


def load_questions(
    path: str | Path, *, columns: Columns | None = None, separator: str | None = None, encoding: str = "utf-8"
) -> tuple[Question, ...]:
    """Questions in two wordings, with fields `id`, `completion`, `question`, `answers` (a list), `tag`.

    Mapping, separator and errors are those of `load_battery`.
    """
    rows = mapped(read_table(path, encoding), columns, QUESTION_FIELDS)

    def make(row: Row) -> Question:
        answers = tuple(dict.fromkeys(words(row.values.get("answers"), "answers", separator)))
        return Question(_id(row), _said(row, "completion"), _said(row, "question"), answers, _said(row, "tag"))

    return _unique(rows, build(rows, make))


def load_pairs(
    path: str | Path, *, columns: Columns | None = None, separator: str | None = None, encoding: str = "utf-8"
) -> tuple[MinimalPair, ...]:
    """Minimal pairs: fields `id`, `ambiguous`, `first`, `second`, `answers`, `kind`, `senses` (two texts each), `unit`.

    Mapping, separator and errors are those of `load_battery`.
    """
    rows = mapped(read_table(path, encoding), columns, PAIR_FIELDS)

    def make(row: Row) -> MinimalPair:
        ambiguous, first, second = (_said(row, name) for name in ("ambiguous", "first", "second"))
        answers, senses = (words(row.values.get(name), name, separator) or ("", "") for name in ("answers", "senses"))
        kind, unit = _said(row, "kind"), _said(row, "unit")
        return MinimalPair(_id(row), ambiguous, first, second, answers=answers, kind=kind, senses=senses, unit=unit)  # type: ignore[arg-type]

    return _unique(rows, build(rows, make))


def load_choices(
    path: str | Path, *, columns: Columns | None = None, separator: str | None = None, encoding: str = "utf-8"
) -> tuple[ForcedChoice, ...]:
    """Forced choices, with fields `id`, `text`, `alternatives` (a list, or several columns), `tag`, `category`.

    `right` is the index of the right alternative, from 0; or `answer` is its text. With neither of them the first
    alternative is the right one, and every second item is turned round, so that the right ones stand in balanced
    places. `text` may be missing where whole sentences are compared. Otherwise as `load_battery`.
    """
    rows = mapped(read_table(path, encoding), columns, CHOICE_FIELDS)
    told = any("right" in row.values or "answer" in row.values for row in rows.rows)
    turned = {row.number: i % 2 == 1 for i, row in enumerate(rows.rows)}

    def make(row: Row) -> ForcedChoice:
        alternatives = words(row.values.get("alternatives"), "alternatives", separator)
        right = _right(row, alternatives) if told else 0
        if not told and turned[row.number]:
            alternatives, right = alternatives[::-1], len(alternatives) - 1
        return ForcedChoice(
            _id(row), _said(row, "text"), alternatives, right, _said(row, "tag"), _said(row, "category")
        )

    return _unique(rows, build(rows, make))


def load_labelled(
    path: str | Path,
    *,
    text: str,
    label: str,
    group: str | None = None,
    numeric: bool = False,
    missing: str = "error",
    encoding: str = "utf-8",
) -> Labelled:
    """Texts with labels from the columns (or templates) `text` and `label`; `group` is what stays together in splits.

    Without `group` every row is its own group. With `numeric` labels are read as numbers. Rows without a label are an
    error, or with `missing="drop"` left out and counted.

    Raises:
        StudyFileError: as `load_battery`; also a label that is missing or no number.
        UnknownNameError: `missing` is none of its two words.

    """
    if missing not in MISSING:
        raise unknown_name("way with missing labels", missing, MISSING)
    columns = {"text": text, "label": label} | ({} if group is None else {"group": group})
    rows = mapped(read_table(path, encoding), columns, ("text", "label", "group"))
    kept = tuple(row for row in rows.rows if missing == "error" or "label" in row.values)
    if not kept:
        raise StudyFileError(f"{path}: no row has a label in {label!r}.")

    def make(row: Row) -> tuple[str, str | float, str]:
        said = _said(row, "text")
        if not said.strip():
            raise PromptError("the text is empty.")
        if "label" not in row.values:
            raise PromptError(f'no label in {label!r}; give missing="drop" to leave such rows out.')
        value = word(row.values["label"], label)
        return said, _number(value, label) if numeric else value, _said(row, "group") or str(row.number)

    texts, labels, groups = zip(*build(Table(rows.path, rows.columns, kept), make), strict=True)
    return Labelled(texts, labels, groups, len(rows.rows) - len(kept))


def _require_text_column(table: Table) -> None:
    """Raise StudyFileError where a CSV or TSV has no column of prompts by one of our names."""
    if table.path.suffix.lower() in DELIMITED and not set(TEXT_KEYS) & set(table.columns):
        raise StudyFileError(
            f"{table.path}, line 1: no column 'prompt' or 'text' among {', '.join(table.columns)}. "
            f'Rename it, or say in a study or in Python: columns = {{"text": "{table.columns[0]}"}}.'
        )


def _prompt(row: Row, separator: str | None, alias_separator: str | None, after: str | None) -> Prompt:
    """One prompt from one row."""
    values = row.values
    given = [key for key in TEXT_KEYS if key in values]
    if len(given) == 2:
        raise PromptError("both 'prompt' and 'text' are given; one of them is enough.")
    text = values[given[0]] if given else ""
    if not isinstance(text, str):
        raise PromptError(f"{given[0]!r} is a {type(text).__name__}, wanted text. {FORM}")
    ids = values.get("prompt_ids")
    turns = as_turns(values["messages"]) if "messages" in values else ()
    if turns and turns[-1][0] == "assistant":
        turns = answered(turns)[0]
    if ids is not None and not (isinstance(ids, list) and all(type(i) is int and i >= 0 for i in ids)):
        raise PromptError("'prompt_ids' must be a list of token ids (whole numbers from 0).")
    if turns and text:
        raise PromptError("both 'messages' and a text are given; one of them is enough.")
    if not text.strip() and not ids and not turns:
        raise PromptError(f"the prompt is empty. {FORM}")
    answers = words(values.get("answer"), "answer", separator)
    if after is not None:
        answers = tuple(_after(answer, after) for answer in answers)
    first, *others = dict.fromkeys(answers + words(values.get("aliases"), "aliases", alias_separator)) or (None,)
    return Prompt(
        id=_id(row),
        text=text,
        category=_said(row, "category"),
        answer=first,
        token_ids=None if ids is None else tuple(ids),
        aliases=tuple(others),
        tag=_said(row, "tag"),
        unit=_said(row, "unit"),
        messages=turns,
    )


def _after(answer: str, mark: str) -> str:
    _, found, rest = answer.rpartition(mark)
    if not found or not rest.strip():
        raise PromptError(f"nothing stands after {mark!r} in the answer {answer[-40:]!r}.")
    return rest.strip()


def _right(row: Row, alternatives: tuple[str, ...]) -> int:
    """Index of the right alternative."""
    if "answer" in row.values:
        answer = word(row.values["answer"], "answer").strip()
        if answer not in alternatives:
            raise PromptError(f"the answer {answer!r} is none of the alternatives {list(alternatives)}.")
        return alternatives.index(answer)
    right = word(row.values.get("right", ""), "right")
    if not right.isdecimal():
        raise PromptError(f"right is {right!r}, wanted the index of the right alternative, from 0.")
    return int(right)


def _number(value: str, name: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise PromptError(f"{name!r} is {value!r}, wanted a number.")
    return number


def _id(row: Row) -> str:
    name = word(row.values["id"], "id") if "id" in row.values else f"p{row.number:04d}"
    if len(name) > LONGEST_ID:
        raise PromptError(f"the id has {len(name):,} characters; an id is a name of at most {LONGEST_ID}.")
    return name


def _said(row: Row, name: str) -> str:
    """A field as text, empty where it is missing."""
    return word(row.values[name], name) if name in row.values else ""


def _unique(rows: Table, items: list[Item]) -> tuple[Item, ...]:
    require_unique_ids(rows, [item.id for item in items])
    return tuple(items)
