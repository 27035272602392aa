"""Grades of stored runs: right, wrong or not known, by the grader of the study; with examples for the report."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from phaselens.batteries.accepted_answers import Grade
from phaselens.batteries.graders import FUNCTION, Grader
from phaselens.trace.transcripts import Transcript, Transcripts

EXAMPLES, SHOWN = 2, 240
OUTCOMES = {True: "right", False: "wrong", None: "not graded"}


def grades_of(runs: Sequence[Transcript]) -> np.ndarray:
    """1 for a right answer, 0 for a wrong one [run]; NaN where that is not known."""
    return np.array([np.nan if t.correct is None else t.correct for t in runs], dtype=float)


def graded(said: Transcripts, grader: Grader) -> Transcripts:
    """The same runs with `correct` filled, but where a file said it already.

    None stays where the prompt has no answer or the text is not known.
    """
    return replace(said, runs=tuple(_filled(t, grader) for t in said))


def _filled(t: Transcript, grader: Grader) -> Transcript:
    grade = None if t.correct is not None else _grade(t, grader)
    return t if grade is None else replace(t, correct=grade.right)


def _grade(t: Transcript, grader: Grader) -> Grade | None:
    if t.answer is None or not t.answer.strip() or t.completion is None:
        return None
    return grader(t.completion, (t.answer, *(a for a in t.aliases if a.strip())))


def grading(runs: Iterable[tuple[str, Transcript]], name: str | None) -> dict[str, Any]:
    """What the report says on grading: the rule, counts of each outcome by model, and the first examples of each.

    `runs` are graded runs with the name of their model; `name` is that of the grader, of which a function is not run
    again here.
    """
    own = name is not None and name.startswith(f"{FUNCTION} ")
    grader = None if own else Grader.of(name)
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[str, list[dict[str, Any]]] = {"right": [], "wrong": []}
    for model, t in runs:
        outcome = OUTCOMES[t.correct]
        counts[model, outcome] += 1
        shown = examples.get(outcome, [])
        if t.correct is None or len(shown) >= EXAMPLES or any(one["prompt_id"] == t.prompt_id for one in shown):
            continue
        found = None if grader is None else _grade(t, grader)
        shown.append(
            {
                "model": model,
                "prompt_id": t.prompt_id,
                "outcome": outcome,
                "prompt": (t.prompt or "")[-SHOWN:],
                "completion": (t.completion or "")[:SHOWN],
                "answer": t.answer,
                "read": found.read if found else "",
                "rule": found.rule if found else "",
            }
        )
    models = dict.fromkeys(model for model, _ in counts)
    rows = [{"model": m, **{o.replace(" ", "_"): counts[m, o] for o in OUTCOMES.values()}} for m in models]
    return {
        "grader": name or Grader().name,
        "counts": rows,
        "examples": [one for part in examples.values() for one in part],
    }
