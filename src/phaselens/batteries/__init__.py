"""Prompts as data: with ids, categories and answers; how answers are graded; loaders for a user's own files."""

from phaselens.batteries.accepted_answers import RULES, Grade, exact, grade, normalise, normalised, settled, tally
from phaselens.batteries.battery import CATEGORIES, Battery, Prompt, by_turns, take
from phaselens.batteries.chat import Turns, answered, as_turns
from phaselens.batteries.items import FORMS, ForcedChoice, Labelled, MinimalPair, Question
from phaselens.batteries.natural import (
    NATURAL,
    QUESTIONS,
    natural_battery,
    natural_choices,
    natural_pairs,
    natural_questions,
)
from phaselens.batteries.user_files import load_battery, load_choices, load_labelled, load_pairs, load_questions
