"""Prompts as token ids: encoding, the checks that a prompt can be run, and batches that waste little padding."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from phaselens.batteries import Prompt
from phaselens.errors import InputError, PromptError
from phaselens.models import Model, require_tokenizer
from phaselens.trace.transcripts import Transcripts

Given = str | Prompt | Sequence[int]
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One run that is to be generated: its number, its prompt, and which of several samples it is."""

    run: int
    prompt: Prompt
    ids: tuple[int, ...]
    sample: int


def encoder(model: Model) -> Callable[[str, bool], list[int]]:
    """A function (text, first) -> token ids; the model's special tokens are added where the text begins the sequence.

    Raises TokenizerError where the model has no tokenizer.
    """
    tokenizer = require_tokenizer(model)
    return lambda text, first: list(tokenizer.encode(text, add_special_tokens=first))


def as_prompt(given: Given, number: int) -> Prompt:
    """A battery's prompt as it is; text or token ids as a prompt named by its place in the list.

    Raises PromptError for an empty prompt or one of no known kind.
    """
    if isinstance(given, Prompt):
        return given
    name = f"p{number:04d}"
    if isinstance(given, str):
        if not given:
            raise PromptError(f"prompt {number} is empty text. Give at least one token to start from.")
        return Prompt(id=name, text=given)
    if isinstance(given, (bytes, dict)) or not hasattr(given, "__iter__"):
        raise PromptError(f"prompt {number} is a {type(given).__name__}; wanted text, token ids, or a Prompt.")
    ids = given.tolist() if hasattr(given, "tolist") else list(given)
    if not ids:
        raise PromptError(f"prompt {number} has no tokens. Give at least one to start from.")
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise PromptError(f"prompt {number} holds {ids[:5]}; token ids are whole numbers.")
    return Prompt(id=name, text="", token_ids=tuple(ids))


def jobs(model: Model, given: Sequence[Given], samples: int, max_new_tokens: int) -> list[Job]:
    """The runs to generate: `samples` of every prompt, numbered prompt by prompt in input order.

    Raises InputError for no prompts or counts below 1, PromptError for a prompt that cannot be run, TokenizerError
    where text is given and the model has no tokenizer.
    """
    if isinstance(given, str):
        raise InputError("prompts is one text; give a list of prompts: [text].")
    if len(given) == 0:
        raise InputError("no prompts were given; wanted a list of at least one.")
    for name, value in (("samples", samples), ("max_new_tokens", max_new_tokens)):
        if value < 1:
            raise InputError(f"{name} is {value}; wanted at least 1.")
    out = []
    for number, item in enumerate(given):
        prompt = as_prompt(item, number)
        ids = prompt.token_ids
        if ids is None:
            ids = tuple(encoder(model)(prompt.text, True))
        check_ids(model, ids, f"prompt {prompt.id!r}")
        check_room(model, len(ids), max_new_tokens, f"prompt {prompt.id!r}")
        out += [Job(number * samples + sample, prompt, ids, sample) for sample in range(samples)]
    return out


def check_ids(model: Model, ids: Sequence[int], where: str) -> None:
    """Raise PromptError where `ids` are empty or outside the vocabulary."""
    if not ids:
        raise PromptError(f"{where} has no tokens. Give at least one to start from.")
    wrong = [i for i in ids if not 0 <= i < model.vocab_size]
    if wrong:
        raise PromptError(
            f"{where}: token id {wrong[0]} is outside the vocabulary of {model.name}, which has ids 0 to "
            f"{model.vocab_size - 1}. Were the ids made by the tokenizer of another model?"
        )


def check_room(model: Model, n_prompt: int, n_new: int, where: str) -> None:
    """Raise PromptError where P prompt tokens and n new ones need more positions (P + n - 1) than the context has."""
    if model.context is None or n_prompt + n_new - 1 <= model.context:
        return
    most = model.context - n_prompt + 1
    hint = f"Lower max_new_tokens to {most} or shorten the prompt." if most > 0 else "Shorten the prompt."
    raise PromptError(
        f"{where}: {n_prompt} prompt tokens and max_new_tokens = {n_new} need {n_prompt + n_new - 1} positions, and "
        f"the context of {model.name} is {model.context}. {hint}"
    )


def check_transcripts(model: Model, transcripts: Transcripts) -> None:
    """Raise PromptError for a run whose ids are outside the vocabulary or that is longer than the context.

    Raises InputError where there are no runs.
    """
    if not len(transcripts):
        raise InputError("no transcripts were given; wanted at least one run.")
    for t in transcripts:
        check_ids(model, t.prompt_ids, f"run {t.run}, prompt")
        check_ids(model, t.completion_ids, f"run {t.run}, completion")
        check_room(model, t.n_prompt, t.n_generated, f"run {t.run}")


def batches(items: Sequence[T], length: Callable[[T], int], batch_size: int, *, mix: bool = True) -> Iterator[list[T]]:
    """Cut `items` into batches by rising length; with `mix=False` no batch holds two lengths.

    Raises InputError for a batch size below 1.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; wanted at least 1.")
    batch: list[T] = []
    for item in sorted(items, key=length):
        full = len(batch) == batch_size
        if batch and (full or (not mix and length(item) != length(batch[0]))):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
