"""Prompts as token ids: encoding, the checks that a prompt can be run, and batches that waste little padding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from phaselens.batteries import Prompt, Turns, as_turns
from phaselens.errors import InputError, PromptError
from phaselens.models import Encoder, Model, encoder
from phaselens.trace.transcripts import Transcripts

Given = str | Prompt | Sequence[int] | Sequence[Mapping[str, str]]
MOST_RUNS = 10**6
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One run that is to be generated: its number, its prompt, which of several samples it is, whether it is put as a
    conversation, and what ends the model's turn there besides its own end of text.
    """

    run: int
    prompt: Prompt
    ids: tuple[int, ...]
    sample: int
    in_turns: bool = False
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chat:
    """Prompts are put to the model as conversations, by its own template; `system` is the turn before the user's."""

    system: str | None = None

    def turns(self, prompt: Prompt) -> Turns:
        """The turns of a prompt: its own, or its text as the user's; without a system turn they get this one."""
        turns = prompt.messages or (("user", prompt.text),)
        own = turns[0][0] in ("system", "developer")
        return turns if own or self.system is None else (("system", self.system), *turns)


def as_chat(chat: bool, system: str | None) -> Chat | None:
    """How prompts are put to the model. Raises InputError for a system turn without a conversation."""
    if system is not None and not chat:
        raise InputError("system is a turn of a conversation: say chat too, or leave system out.")
    return Chat(system) if chat else None


def as_prompt(given: Given, number: int) -> Prompt:
    """A battery's prompt as it is; text, turns or token ids as a prompt named by its place in the list.

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
    ids: list[Any] = given.tolist() if hasattr(given, "tolist") else list(given)
    if ids and isinstance(ids[0], Mapping):
        return Prompt(id=name, text="", messages=as_turns(ids))
    if not ids:
        raise PromptError(f"prompt {number} has no tokens. Give at least one to start from.")
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise PromptError(f"prompt {number} holds {ids[:5]}; token ids are whole numbers.")
    return Prompt(id=name, text="", token_ids=tuple(ids))


def jobs(
    model: Model, given: Sequence[Given], samples: int, max_new_tokens: int, chat: Chat | None = None
) -> list[Job]:
    """The runs to generate: `samples` of every prompt, numbered prompt by prompt in input order.

    With `chat` texts are put as turns of a conversation; prompts that are conversations always are.

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
    if samples * len(given) > MOST_RUNS:
        raise InputError(
            f"{samples:,} samples of {len(given):,} prompts are more than {MOST_RUNS:,} runs; lower samples."
        )
    out, prompts = [], [as_prompt(item, number) for number, item in enumerate(given)]
    text = None if all(prompt.token_ids for prompt in prompts) else encoder(model)
    ends = text.turn_ends if text is not None and any(_in_turns(prompt, chat) for prompt in prompts) else ()
    for number, prompt in enumerate(prompts):
        ids = prompt.token_ids or prompt_ids(text, prompt, chat)
        check_ids(model, ids, f"prompt {prompt.id!r}")
        check_room(model, len(ids), max_new_tokens, f"prompt {prompt.id!r}")
        turns = _in_turns(prompt, chat)
        mine = ends if turns else ()
        out += [Job(number * samples + sample, prompt, ids, sample, turns, mine) for sample in range(samples)]
    return out


def _in_turns(prompt: Prompt, chat: Chat | None) -> bool:
    """Whether a prompt is put as a conversation: ids never are, they stand for themselves."""
    return prompt.token_ids is None and (chat is not None or bool(prompt.messages))


def prompt_ids(text: Encoder, prompt: Prompt, chat: Chat | None) -> tuple[int, ...]:
    """Token ids of a prompt's text or turns; raises as the encoder does, with the prompt's name."""
    try:
        if not _in_turns(prompt, chat):
            return tuple(text(prompt.text))
        return tuple(text.chat((chat or Chat()).turns(prompt)))
    except PromptError as error:
        raise PromptError(f"prompt {prompt.id!r}: {error}") from error


def text_notes(model: Model, given: Sequence[Given], chat: Chat | None) -> tuple[str, ...]:
    """What a reader should know of how these prompts became tokens, a sentence each; none without a tokenizer."""
    prompts = [p for p in (as_prompt(item, i) for i, item in enumerate(given)) if p.token_ids is None]
    if model.tokenizer is None or not prompts:
        return ()
    text, plain = encoder(model), [p for p in prompts if not _in_turns(p, chat)]
    out, doubled = [], sum(text.doubled(p.text) for p in plain)
    if doubled:
        first = model.tokenizer.convert_ids_to_tokens(list(text.opening))
        out.append(
            f"{model.name}: {doubled} of {len(prompts)} prompts already begin with {' '.join(first)}, which the "
            "tokenizer sets before every text; it stands there once."
        )
    if plain and text.template is not None:
        out.append(bare_note(model, len(plain), len(prompts), "chat = true, or --chat, is"))
    return tuple(out)


def bare_note(model: Model, bare: int, all_: int, instead: str) -> str:
    """That prompts were put to a model with a chat template as bare text, and what would be otherwise."""
    return (
        f"{model.name} has a chat template, and {bare} of {all_} prompts were put to it as bare text: it was tuned on "
        f"conversations, so this is not how it is used ({instead})."
    )


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


def length_kind(model: Model, first: int, last: int) -> object:
    """What must be alike in a batch where a model's factors change with the whole length (`facts.switch`).

    One kind for runs whose sequences of `first` to `last` positions never pass that length, another for those that
    always do; each that crosses it is of its own.
    """
    switch = model.facts.switch
    if switch is None or last <= switch:
        return "below"
    return "beyond" if first > switch else object()


def batches(
    items: Sequence[T], length: Callable[[T], int], batch_size: int, *, alike: Callable[[T], object] | None = None
) -> Iterator[list[T]]:
    """Cut `items` into batches by rising length; no batch holds two items of which `alike` gives unlike values.

    Raises InputError for a batch size below 1.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; wanted at least 1.")
    batch: list[T] = []
    kind: object = None
    for item in sorted(items, key=length):
        own = None if alike is None else alike(item)
        if batch and (len(batch) == batch_size or own != kind):
            yield batch
            batch = []
        kind = own
        batch.append(item)
    if batch:
        yield batch
