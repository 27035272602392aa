"""The battery for natural models, written for this package: docs/batteries.md says what is in it and what it is not."""

from dataclasses import replace
from pathlib import Path

from phaselens.batteries.battery import Battery
from phaselens.batteries.items import ForcedChoice, MinimalPair, Question
from phaselens.batteries.user_files import load_battery, load_choices, load_pairs, load_questions

NATURAL, QUESTIONS = "natural", "questions"
DATA = Path(__file__).parent / "data"


def natural_battery() -> Battery:
    """96 prompts, 16 in each of the six `CATEGORIES`, and 36 calibration prompts, 6 in each, by turns.

    Half of each are completions, half questions (`tag`). Open and ambiguous prompts have no answer.
    """
    return replace(load_battery(DATA / "prompts.jsonl"), name=NATURAL)


def natural_questions() -> tuple[Question, ...]:
    """100 short factual questions in two wordings, with every accepted answer; `tag` is the topic."""
    return load_questions(DATA / "questions.jsonl")


def natural_pairs() -> tuple[MinimalPair, ...]:
    """90 minimal pairs about as many words, 30 a kind: homonym, attachment (verb, noun), coordination (wide, not)."""
    return load_pairs(DATA / "pairs.jsonl")


def natural_choices() -> tuple[ForcedChoice, ...]:
    """100 forced choices, 20 each of factual, arithmetic, comparison, grammar and logic; half have the first right."""
    return load_choices(DATA / "choices.jsonl")
