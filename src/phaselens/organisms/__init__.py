"""Model organisms: small trained language models of a world whose truth is known, bundled with the package."""

from phaselens.batteries import ForcedChoice, MinimalPair
from phaselens.organisms.battery_of_world import (
    ParaphrasePair,
    ProbeSentence,
    WorldBattery,
    forced_choices,
    graded,
    paraphrase_pairs,
    probe_sentences,
    world_battery,
)
from phaselens.organisms.by_name import ORGANISM, load, resolve
from phaselens.organisms.catalog import default_names, list_models, names, path, samples, twin_of
from phaselens.organisms.item_labels import LabelledItem, label, label_document
from phaselens.organisms.questions import PROMPT_CATEGORIES, Prompt, minimal_pairs, prompts
from phaselens.organisms.truth import NextToken, generator, next_token
