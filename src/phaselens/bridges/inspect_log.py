"""Logs of inspect_ai by its own reader: samples as rows of messages with a grade."""

from pathlib import Path
from typing import Any

from phaselens.batteries.file_rows import Row
from phaselens.errors import StudyFileError, missing_extra, unknown_name


def inspect_rows(path: Path, scorer: str | None) -> tuple[Row, ...]:
    """The samples of a log that ended without an error: turns, id, target, and the grade of the scorer.

    Raises StudyFileError for an archive that is no log, UnknownNameError for a scorer that did not score.
    """
    try:
        from inspect_ai.log import read_eval_log
    except ModuleNotFoundError as error:
        what = f"{path} is a ZIP archive: reading it as a log of inspect_ai"
        raise missing_extra(what, "inspect-ai", "bridges") from error
    try:
        log = read_eval_log(str(path))
    except Exception as error:  # the library raises errors of many kinds for an archive that is no log
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise StudyFileError(f"{path} is a ZIP archive and no log of inspect_ai ({why[:120]}).") from error
    samples = [sample for sample in log.samples or [] if sample.error is None]
    if not samples:
        raise StudyFileError(f"{path} is a log of inspect_ai ({log.status}) without a sample that ended well.")
    known = sorted({name for sample in samples for name in sample.scores or {}})
    if scorer is not None and scorer not in known:
        raise unknown_name("scorer", scorer, known)
    return tuple(Row(n, f"sample {s.id}, epoch {s.epoch}", _values(s, scorer)) for n, s in enumerate(samples, start=1))


def _values(sample: Any, scorer: str | None) -> dict[str, Any]:
    """One sample by our names."""
    turns = [{"role": m.role, "content": m.text, "tool_calls": getattr(m, "tool_calls", None)} for m in sample.messages]
    scores = sample.scores or {}
    score = scores.get(scorer) if scorer else next(iter(scores.values()), None)
    target = sample.target if isinstance(sample.target, str) else next(iter(sample.target), None)
    grade = None if score is None else score.value
    found = {"id": str(sample.id), "messages": turns, "answer": target, "correct": grade}
    return {key: value for key, value in found.items() if value not in (None, "")}
