"""Grades of stored runs: whether the first line of a generation gives an accepted answer, from its transcript."""

from collections.abc import Sequence

import numpy as np

from phaselens.batteries.grading import grade
from phaselens.trace.transcripts import Transcript


def grades_of(runs: Sequence[Transcript]) -> np.ndarray:
    """1 for a right answer, 0 for a wrong one [run]; NaN where the prompt has no answer or the text is not known."""
    return np.array([_grade(t) for t in runs], dtype=float)


def _grade(t: Transcript) -> float:
    if t.correct is not None:
        return float(t.correct)
    if t.answer is None or not t.answer.strip() or t.completion is None:
        return float("nan")
    return float(grade(t.completion, t.answer).right)
