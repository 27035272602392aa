"""Model organisms: small trained language models of a world whose truth is known, bundled with the package."""

from phaselens.organisms.catalog import default_names, list_models, measure, names, path, samples, train
from phaselens.organisms.opening import ORGANISM, load, resolve
from phaselens.organisms.questions import PROMPT_CATEGORIES, MinimalPair, Prompt, minimal_pairs, prompts

__all__ = [
    "ORGANISM", "PROMPT_CATEGORIES", "MinimalPair", "Prompt", "default_names", "list_models", "load", "measure",
    "minimal_pairs", "names", "path", "prompts", "resolve", "samples", "train",
]  # fmt: skip
