"""Transcripts from a file of ours or of another tool: rows, then runs, then tokens; every refusal names its line."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from phaselens.batteries.file_rows import HUB, Row, read_table
from phaselens.batteries.file_text import ZIP, beginning, what_it_is
from phaselens.bridges.formats import FORM, Said, format_of
from phaselens.bridges.inspect_log import inspect_rows
from phaselens.errors import InputError, PromptError, StudyFileError, TokenizerError
from phaselens.trace.transcripts import HEADER, Transcript, Transcripts, as_ids, read_jsonl

FOREIGN = "from"  # in the header of transcripts that another tool said: how many runs of which format


class Encoder(Protocol):
    """What turns text into token ids: `phaselens.models.encoder(model)`."""

    def split(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of what follows it."""

    def split_chat(self, messages: Sequence[tuple[str, str]], completion: str) -> tuple[list[int], list[int]]:
        """Ids of a conversation and of the answer to it."""


def read_transcripts(path: str | Path, encoder: Encoder | None = None, *, scorer: str | None = None) -> Transcripts:
    """Transcripts from a file: ours, rows of prompt and completion, or what another tool wrote, told by its content.

    Read are JSON Lines, .json, .csv, .tsv, Parquet and folders of `datasets` with text (`prompt` or `text`;
    `completion`, `response`, `output` or `generation`), `messages`, or token ids (`prompt_ids`, `completion_ids`);
    samples of lm-eval; logs of inspect_ai (`.eval`; `scorer` names the score that grades, default the first); ShareGPT;
    responses of the OpenAI API and of vLLM with their log-probabilities. Text becomes tokens by `encoder`, the one of
    the model. A grade (`correct`) and an id stand beside; rows with one id are samples of one prompt.

    Raises StudyFileError naming the line for anything unreadable, and for one id of two prompts; TokenizerError where
    text is given without `encoder`.
    """
    path = Path(path)
    if not str(path).startswith(HUB) and _ours(path):
        return read_jsonl(path)
    kinds: Counter[str] = Counter()
    runs: list[Transcript] = []
    first: dict[str, tuple[Any, str]] = {}
    filters: dict[str, None] = {}
    for row, said in _said(path, scorer, kinds, filters):
        try:
            runs.append(_run(said, row, len(runs), encoder, first))
        except TokenizerError:
            raise
        except (InputError, TypeError, KeyError, AttributeError) as error:
            raise StudyFileError(f"{path}, {row.place}: {_words(error)}") from error
    if not runs:
        raise StudyFileError(f"{path} holds no transcripts. {FORM}")
    return Transcripts(_numbered(runs), {FOREIGN: dict(kinds), **_notes(runs, filters)})


def _ours(path: Path) -> bool:
    """Whether the first line says that phaselens wrote the file."""
    if path.is_dir() or what_it_is(beginning(path)) is not None:
        return False
    with path.open("rb") as file:
        return f'"{HEADER}"'.encode() in file.readline(1 << 16)


def _said(path: Path, scorer: str | None, kinds: Counter[str], filters: dict[str, None]) -> Iterator[tuple[Row, Said]]:
    """Every run of the file with the row it stands in; of several filters of lm-eval the first."""
    zipped = path.is_file() and what_it_is(beginning(path)) == what_it_is(ZIP)
    rows: Iterable[Row] = inspect_rows(path, scorer) if zipped else read_table(path).rows
    for row in rows:
        if "filter" in row.values and "resps" in row.values:
            filters[str(row.values["filter"])] = None
            if row.values["filter"] != next(iter(filters)):
                continue
        kind, read = format_of(row.values)
        try:
            found = read(row.values)
        except (InputError, TypeError, KeyError, AttributeError, IndexError, ValueError) as error:
            raise StudyFileError(f"{path}, {row.place}: {_words(error)}") from error
        kinds["inspect_ai" if zipped else kind] += len(found)
        yield from ((row, said) for said in found)


def _words(error: Exception) -> str:
    """What is wrong with a row, in a sentence; a field that is missing or of another kind is named."""
    if isinstance(error, InputError):
        return str(error)
    return f"it is not what it looks like ({type(error).__name__}: {str(error)[:120]}). {FORM}"


def _run(said: Said, row: Row, number: int, encoder: Encoder | None, first: dict[str, tuple[Any, str]]) -> Transcript:
    """One run as token ids; refuses an id that stood for another prompt before."""
    name = said.id or f"p{row.number:04d}"
    asked = said.turns or said.prompt or tuple(said.ids[0] if said.ids else ())
    before, place = first.setdefault(name, (asked, row.place))
    if before != asked:
        raise PromptError(f"the id {name!r} already stands for another prompt ({place}); an id names one prompt.")
    if said.ids is not None:
        prompt_ids, completion_ids = said.ids
    elif encoder is None:
        raise TokenizerError("the transcripts are text, and there is no tokenizer; give prompt_ids and completion_ids.")
    elif not said.completion:
        raise PromptError("the completion is empty: a run needs at least one generated token.")
    elif said.turns:
        prompt_ids, completion_ids = encoder.split_chat(said.turns, said.completion)
    else:
        prompt_ids, completion_ids = encoder.split(said.prompt or "", said.completion)
    completion = as_ids(completion_ids, "the row", "completion_ids")
    logs = said.logprobs
    logs = logs[:-1] if logs is not None and len(logs) == len(completion) + 1 else logs  # the end of the turn
    return Transcript(
        run=number,
        prompt_ids=as_ids(prompt_ids, "the row", "prompt_ids"),
        completion_ids=completion,
        prompt_id=name,
        category=said.category,
        prompt=said.prompt if not said.turns else said.turns[-1][1],
        completion=said.completion,
        answer=said.answer,
        tag=said.tag,
        unit=said.unit,
        correct=said.correct,
        logprobs=logs if logs is not None and len(logs) == len(completion) else None,
    )


def _numbered(runs: Sequence[Transcript]) -> tuple[Transcript, ...]:
    """Runs of one prompt are its samples 0, 1, 2 ..., in the order of the file."""
    seen: Counter[str] = Counter()
    out = []
    for run in runs:
        out.append(replace(run, sample=seen[run.prompt_id]))
        seen[run.prompt_id] += 1
    return tuple(out)


def _notes(runs: Sequence[Transcript], filters: dict[str, None]) -> dict[str, list[str]]:
    """What a reader should know of the import."""
    out = []
    if len(filters) > 1:
        used, *others = filters
        out.append(f"graded by the filter {used!r}; rows of {', '.join(others)} hold the same runs and are left out.")
    return {"notes": out} if out else {}
