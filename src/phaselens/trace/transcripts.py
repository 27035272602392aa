"""What was said: prompts and completions as token ids, written and read as JSON Lines; our own and other people's."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from html import escape
from pathlib import Path
from typing import Any

from phaselens.errors import InputError, PromptError, StudyFileError
from phaselens.signs import visible
from phaselens.trace.seal import SEAL, DamagedFile, file_fits, sealed
from phaselens.trace.store import atomic_write, canonical_json

HEADER = "phaselens_transcripts"
VERSION = 2  # 1 had no seal
FINISHES = ("length", "eos", "stopped", "given")


@dataclass(frozen=True)
class Transcript:
    """One run: a prompt and what followed, as token ids.

    `sample` counts the generations of one prompt; `seed` is -1 where the text came from elsewhere. `finish` says why
    it ended: `length`, `eos` (its last token is end-of-text), `stopped` (by a callback), or `given`. `arm` names the
    sampling. `logprobs` are those that another tool gave for the completion's tokens (nats; None: none given). `unit`
    is what the prompt is about ("": the prompt itself).
    """

    run: int
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    prompt_id: str = ""
    category: str = ""
    sample: int = 0
    seed: int = -1
    prompt: str | None = None
    completion: str | None = None
    finish: str = "given"
    arm: str = "given"
    answer: str | None = None
    aliases: tuple[str, ...] = ()
    tag: str = ""
    unit: str = ""
    correct: bool | None = None
    logprobs: tuple[float | None, ...] | None = None

    @property
    def n_prompt(self) -> int:
        """Tokens of the prompt, P."""
        return len(self.prompt_ids)

    @property
    def n_generated(self) -> int:
        """Generated tokens, n."""
        return len(self.completion_ids)

    @property
    def fed(self) -> tuple[int, ...]:
        """What a replay feeds the model: the prompt and all generated tokens but the last, which no state follows."""
        return self.prompt_ids + self.completion_ids[:-1]


@dataclass(frozen=True)
class Transcripts:
    """Some runs with the settings that made them and the fingerprint of the model (empty where unknown).

    Raises InputError where a run number occurs twice.
    """

    runs: tuple[Transcript, ...]
    sampling: dict[str, Any] = field(default_factory=dict)
    model: str = ""

    def __post_init__(self) -> None:
        numbers = [t.run for t in self.runs]
        if len(set(numbers)) != len(numbers):
            raise InputError("transcripts hold a run number twice; number the runs 0, 1, 2 ...")

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        prompts, tokens = len({t.prompt_id for t in self.runs}), sum(t.n_generated for t in self.runs)
        return f"Transcripts({len(self)} runs of {prompts} prompts, {tokens:,} generated tokens)"

    def _repr_html_(self) -> str:
        shown = [[str(t.run), *(visible(s or "", 200) for s in (t.prompt, t.completion))] for t in self.runs[:8]]
        rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in shown)
        head = "<tr><th>run</th><th>prompt</th><th>completion</th></tr>"
        return f"<p><code>{escape(repr(self))}</code></p><table>{head}{rows}</table>"

    def __iter__(self) -> Iterator[Transcript]:
        return iter(self.runs)

    def __getitem__(self, index: int) -> Transcript:
        return self.runs[index]

    def run_rows(self) -> list[dict[str, object]]:
        """One dict per run, in order: the `runs` table of a trace."""
        plain = "run prompt_id unit category sample seed arm n_prompt n_generated finish answer aliases tag correct"
        return [
            {name: getattr(t, name) for name in plain.split()}
            | {"unit": t.unit or t.prompt_id, "aliases": "\n".join(t.aliases) or None, "tag": t.tag or None}
            for t in sorted(self.runs, key=lambda t: t.run)
        ]

    def write_jsonl(self, path: str | Path) -> Path:
        """Write a header line and one line per run, whole or not at all; equal transcripts give equal bytes.

        Raises OutputError where the place cannot be written.
        """
        return atomic_write(path, sealed("".join(line + "\n" for line in self.lines()).encode()))

    def lines(self) -> Iterator[str]:
        """The lines of the file, without line ends."""
        yield canonical_json({HEADER: VERSION, "hash": SEAL, "model": self.model, "sampling": self.sampling})
        for transcript in self.runs:
            row = asdict(transcript)
            yield canonical_json(row if transcript.logprobs else {k: v for k, v in row.items() if k != "logprobs"})


def from_pairs(pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Transcripts:
    """Transcripts from pairs (prompt token ids, completion token ids), numbered in order.

    >>> [t.fed for t in from_pairs([([5, 6], [7, 8])])]
    [(5, 6, 7)]

    Raises PromptError for something that is no such pair, or an empty prompt or completion.
    """
    runs = []
    for number, pair in enumerate(pairs):
        where = f"pair {number}"
        try:
            prompt, completion = pair
        except (TypeError, ValueError) as error:
            raise PromptError(f"{where}: wanted (prompt_ids, completion_ids), got {pair!r:.80}.") from error
        runs.append(
            Transcript(
                run=number,
                prompt_id=f"p{number:04d}",
                prompt_ids=as_ids(prompt, where, "prompt_ids"),
                completion_ids=as_ids(completion, where, "completion_ids"),
            )
        )
    return Transcripts(tuple(runs))


def read_jsonl(path: str | Path) -> Transcripts:
    """Transcripts from a file that `write_jsonl` wrote.

    Raises StudyFileError naming the line for anything else, DamagedFile where its bytes are not those written.
    """
    path = Path(path)
    header: dict[str, Any] = {}
    runs: list[Transcript] = []
    for number, row in _rows(path):
        if not header:
            header = _header(row, path, number)
            continue
        try:
            runs.append(_own(row))
        except (InputError, TypeError) as error:
            raise StudyFileError(f"{path}, line {number}: {error}") from error
    if not runs:
        raise StudyFileError(f"{path} holds no transcripts.")
    return Transcripts(tuple(runs), header.get("sampling", {}), header.get("model", ""))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line numbers and objects of a JSON Lines file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyFileError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except OSError as error:
        raise StudyFileError(f"cannot read {path}: {error.strerror or error}.") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise StudyFileError(f"{path}, line {number}: not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise StudyFileError(f"{path}, line {number}: got a {type(row).__name__}, wanted an object.")
        yield number, row


def _header(row: dict[str, Any], path: Path, number: int) -> dict[str, Any]:
    if row.get(HEADER) is None:
        raise StudyFileError(f"{path}, line {number}: not written by phaselens (read_transcripts reads others).")
    if row[HEADER] not in (1, VERSION):
        raise StudyFileError(
            f"{path}, line {number}: transcripts of version {row[HEADER]}; this phaselens reads 1 to {VERSION}."
        )
    if row[HEADER] > 1 and not file_fits(path):
        raise DamagedFile(
            f"{path} is not what was written: its SHA-256 does not fit its bytes. In a study, delete it and run the "
            "same command again; to read a copy that you edited, take its first line out."
        )
    return row


def _own(row: dict[str, Any]) -> Transcript:
    """A line that `write_jsonl` wrote."""
    names = {f.name for f in fields(Transcript)}
    row = {"aliases": (), "tag": "", "unit": "", "logprobs": None, **row}  # files of earlier versions lack them
    if set(row) != names:
        raise PromptError(f"fields {sorted(set(row) ^ names)} are missing or unknown in a file written by phaselens.")
    if row["finish"] not in FINISHES:
        raise PromptError(f"finish {row['finish']!r} is none of {', '.join(FINISHES)}.")
    ids = {key: as_ids(row[key], f"run {row['run']}", key) for key in ("prompt_ids", "completion_ids")}
    logprobs = None if row["logprobs"] is None else tuple(row["logprobs"])
    return Transcript(**{**row, **ids, "aliases": tuple(row["aliases"]), "logprobs": logprobs})


def as_ids(values: Any, where: str, key: str) -> tuple[int, ...]:
    """Token ids as a tuple of whole numbers from 0, at least one."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise PromptError(f"{where}: {key} is a {type(values).__name__}, wanted a list of token ids.")
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    wrong = [v for v in values if isinstance(v, bool) or not isinstance(v, int) or v < 0]
    if wrong:
        raise PromptError(f"{where}: {key} holds {wrong[0]!r}; token ids are whole numbers from 0.")
    if not values:
        raise PromptError(f"{where}: {key} is empty; a run needs at least one prompt token and one generated token.")
    return tuple(values)
