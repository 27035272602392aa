"""Generate completions with the library's own loop, choosing the tokens ourselves."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from phaselens.capture.cache import roomy_cache
from phaselens.capture.intervene import At, Clock, intervening
from phaselens.capture.progress import Progress, showing
from phaselens.capture.prompts import Given, Job, as_chat, batches, jobs, length_kind, text_notes
from phaselens.capture.sampling import Sampling, choose, uniforms
from phaselens.models import Model, run
from phaselens.models.facts import Network
from phaselens.trace.transcripts import Transcript, Transcripts

BATCH = 32
Rows = Mapping[str, Mapping[str, np.ndarray]]
OnStep = Callable[[int, Rows], bool | Iterable[int] | None]
Each = Callable[["Stepper", int, Tensor], None]


class Stepper:
    """Stands where the library asks for the next token: chooses it, calls `each`, and says which runs go on.

    `alive` [run] are the runs that still generate; `each(stepper, step, tokens)` sees every step right after its
    tokens are chosen, with `alive` as it was before them, and may call `stop`. `told` hears of the tokens so far.
    """

    def __init__(
        self,
        model: Model,
        batch: Sequence[Job],
        how: "Decoding",
        each: Each | None = None,
        clock: Clock | None = None,
        told: Callable[[int], None] | None = None,
    ) -> None:
        self.model, self.batch, self.sampling, self.seed = model, batch, how.sampling, how.seed
        self.each, self.clock, self.told = each, clock or Clock(), told
        self.runs = [job.run for job in batch]
        self.uniform = None
        if how.sampling.temperature:
            drawn = np.stack([uniforms(how.seed, job.ids, job.sample, how.max_new_tokens) for job in batch])
            self.uniform = torch.from_numpy(drawn)
        ends = {*model.eos_ids, *(i for job in batch for i in job.ends)}
        known = sorted(i for i in ends if i < model.vocab_size)
        self.eos = torch.tensor(known, dtype=torch.long, device=model.device)
        self.alive = torch.ones(len(batch), dtype=torch.bool, device=model.device)
        self.stopped = ~self.alive
        self.ended = ~self.alive
        self.length = torch.zeros(len(batch), dtype=torch.long, device=model.device)
        self.tokens: list[Tensor] = []
        self.halted = False

    def __call__(self, ids: Tensor, logits: Tensor) -> Tensor:
        """Choose one token per run from `logits` [run, vocab]; return scores whose argmax is that token."""
        step = len(self.tokens)
        real = logits[:, : self.model.vocab_size]
        if self.sampling.suppress_eos and len(self.eos):
            real[:, self.eos] = -torch.inf
        tokens = choose(real, None if self.uniform is None else self.uniform[:, step], self.sampling)
        self.tokens.append(tokens)
        if self.told is not None:
            self.told(len(self.tokens) * len(self.batch))
        self.clock.end = (self.clock.end or 0) + 1
        self.length += self.alive
        if self.each is not None:
            self.each(self, step, tokens)
        if not self.sampling.suppress_eos and len(self.eos):
            self.ended |= self.alive & torch.isin(tokens, self.eos)
        self.alive = self.alive & ~self.ended & ~self.stopped
        return logits.fill_(-torch.inf).scatter_(1, tokens[:, None], 0.0)

    def finished(self, ids: Tensor, scores: Any) -> Tensor:
        """Which runs are done; the library asks after every token."""
        return ~self.alive

    def stop(self, runs: bool | Iterable[int] | None) -> None:
        """Stop the given run numbers, or with True all of them and every batch to come."""
        if runs is None or runs is False:
            return
        if runs is True:
            self.halted = True
            self.stopped |= self.alive
            return
        wanted = {int(r) for r in runs}
        self.stopped |= self.alive & torch.tensor([r in wanted for r in self.runs], device=self.alive.device)

    def transcripts(self) -> list[Transcript]:
        """What every run of the batch said, as records."""
        tokens = torch.stack(self.tokens, dim=1).tolist()
        length, ended, stopped = self.length.tolist(), self.ended.tolist(), self.stopped.tolist()
        out = []
        for i, job in enumerate(self.batch):
            finish = "eos" if ended[i] else "stopped" if stopped[i] else "length"
            out.append(self._transcript(job, tokens[i][: length[i]], finish))
        return out

    def _transcript(self, job: Job, completion: list[int], finish: str) -> Transcript:
        tokenizer, asked = self.model.tokenizer, job.prompt
        text, prompt = None, asked.text or None
        if tokenizer is not None:
            text = tokenizer.decode(completion, skip_special_tokens=True)
            prompt = prompt or tokenizer.decode(list(job.ids), skip_special_tokens=True)
        return Transcript(
            job.run,
            job.ids,
            tuple(completion),
            asked.id,
            category=asked.category,
            sample=job.sample,
            seed=self.seed,
            prompt=prompt,
            completion=text,
            finish=finish,
            arm=self.sampling.arm,
            answer=asked.answer,
            aliases=tuple(asked.aliases),
            tag=asked.tag,
            unit=asked.unit,
        )


@dataclass(frozen=True)
class Decoding:
    """How prompts are continued; `generate` says what each field is."""

    max_new_tokens: int = 72
    sampling: Sampling = Sampling()
    samples: int = 1
    seed: int = 0
    batch_size: int | None = None
    chat: bool = False
    system: str | None = None

    def said(
        self,
        model: Model,
        prompts: Sequence[Given],
        each: Each | None,
        clock: Clock,
        progress: Progress | None,
        flush: Callable[[], object] = lambda: None,
    ) -> Transcripts:
        """What the model says to the prompts, in batches of rising length; a halt ends it, `flush` follows each."""
        chat = as_chat(self.chat, self.system)
        work = jobs(model, prompts, self.samples, self.max_new_tokens, chat)
        how = replace(self, sampling=self.sampling.settled(any(job.in_turns for job in work)))
        n, notes = self.max_new_tokens, text_notes(model, prompts, chat)
        runs: list[Transcript] = []

        def length(job: Job) -> int:
            return len(job.ids)

        def kind(job: Job) -> object:
            return length_kind(model, len(job.ids), len(job.ids) + n - 1)

        done, total, alike = 0, len(work) * n, kind if model.facts.pads_left is True else length
        for batch in batches(work, length, self.batch_size or BATCH, alike=alike):
            told = None if progress is None else (lambda k, done=done: progress(done + k, total))
            stepper = decode(model, batch, how, each, clock, told)
            flush()
            runs += stepper.transcripts()
            done += len(batch) * n
            if progress is not None:
                progress(done, total)
            if stepper.halted:
                break
        kept = {
            **how.sampling.to_dict(),
            "arm": how.sampling.arm,
            "max_new_tokens": n,
            "samples": self.samples,
            "seed": self.seed,
            "batch_size": self.batch_size or BATCH,
            **({} if chat is None else {"chat": {"system": chat.system}}),
            **({"notes": list(notes)} if notes else {}),
        }
        return Transcripts(tuple(sorted(runs, key=lambda t: t.run)), kept, model.fingerprint)


def generate(
    model: Model,
    prompts: Sequence[Given],
    *,
    max_new_tokens: int = 72,
    sampling: Sampling = Sampling(),  # noqa: B008  frozen
    samples: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
    chat: bool = False,
    system: str | None = None,
    interventions: Sequence[At] = (),
    on_step: OnStep | None = None,
    progress: Progress | bool | None = None,
) -> Transcripts:
    """Generate `samples` completions of every prompt, up to `max_new_tokens` tokens each, in input order.

    `prompts` are texts, lists of token ids, conversations (`[{"role": "user", "content": ...}, ...]`), or battery
    prompts. Conversations go through the tokenizer's own chat template up to where the model answers, and with `chat`
    every text does, as the user's turn (after `system`, where given); such a run ends with the model's turn if the
    sampling lets it (`suppress_eos=False`). Prompts of different lengths share a batch (padded on
    the left) where the model was proved to allow it. The numbers behind a sampled run depend on (seed, prompt, sample)
    alone, so a run is the same in any batch up to float rounding.

    `interventions` change states while it generates, from step 0 on unless they say otherwise.

    `on_step(step, {"steps": {run, step, position, token}})` is called after every step of a batch; it may return run
    numbers to stop, or True to stop all and begin no further batch (runs never begun are left out). `progress(done,
    total)` counts tokens; None shows a bar in a terminal or notebook, False none.

    Raises InputError for no prompts or counts below 1; PromptError for an empty prompt, ids outside the vocabulary, or
    a prompt too long for the context; TokenizerError for text without a tokenizer.
    """

    def each(stepper: Stepper, step: int, tokens: Tensor) -> None:
        stepper.stop(on_step(step, {"steps": _step_rows(stepper, step, tokens)}))

    how = Decoding(max_new_tokens, sampling, samples, seed, batch_size=batch_size, chat=chat, system=system)
    with intervening(model, interventions) as clock, showing(progress, "generate") as told:
        return how.said(model, prompts, None if on_step is None else each, clock, told)


def _step_rows(stepper: Stepper, step: int, tokens: Tensor) -> dict[str, np.ndarray]:
    """Labels of the runs that are still going, as NumPy columns."""
    alive = stepper.alive.cpu().numpy()
    return {
        "run": np.array(stepper.runs)[alive],
        "step": np.full(int(alive.sum()), step),
        "position": np.array([len(job.ids) - 1 + step for job in stepper.batch])[alive],
        "token": tokens.cpu().numpy()[alive],
    }


def decode(
    model: Model,
    batch: Sequence[Job],
    how: Decoding,
    each: Each | None = None,
    clock: Clock | None = None,
    told: Callable[[int], None] | None = None,
) -> Stepper:
    """Generate for one batch; the stepper holds what was chosen, the clock counts columns."""
    stepper = Stepper(model, batch, how, each, clock, told)
    ids, mask = pad_left([job.ids for job in batch], model.pad_id, model.device)
    stepper.clock.begin(ids.shape[1], ids.shape[1] - 1, stepper.runs)
    with torch.no_grad():
        loop = _library_loop if has_own_loop(model.network) else _plain_loop
        loop(model, ids, mask, stepper, how.max_new_tokens)
    return stepper


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [run, position], real tokens at the right."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def has_own_loop(network: Network) -> bool:
    """Whether the library can generate with this network: it hands it arguments that an own way must let through."""
    if not (hasattr(network, "generate") and hasattr(network, "can_generate") and network.can_generate()):
        return False
    taken = inspect.signature(network.prepare_inputs_for_generation).parameters.values()
    return any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken)


@contextmanager
def neutral_settings(network: Network) -> Iterator[None]:
    """Put the network's own generation defaults (penalties, forced tokens, end of text) aside for a while."""
    own = network.generation_config
    network.generation_config = GenerationConfig()
    try:
        yield
    finally:
        network.generation_config = own


def _library_loop(model: Model, ids: Tensor, mask: Tensor, stepper: Stepper, n: int) -> None:
    """The library's `generate`: its cache classes, position ids and mask handling for every family."""
    wanted = GenerationConfig(
        max_new_tokens=n, do_sample=False, num_beams=1, use_cache=model.facts.decodes is not False
    )
    inputs = roomy_cache(model, ids.shape[1] + n)
    if "attention_mask" in model.facts.takes:
        inputs["attention_mask"] = mask
    with neutral_settings(model.network):
        model.network.generate(
            ids,
            generation_config=wanted,
            logits_processor=LogitsProcessorList([stepper]),
            stopping_criteria=StoppingCriteriaList([stepper.finished]),
            **inputs,
        )


def _plain_loop(model: Model, ids: Tensor, mask: Tensor, stepper: Stepper, n: int) -> None:
    """For a network that the library cannot generate with: feed it its own tokens, with the cache if that is proved."""
    cached, cache = bool(model.facts.decodes), None
    for _ in range(n):
        fed = ids[:, -1:] if cache is not None else ids
        done = run(model.network, fed, mask=mask, cache=cache, use_cache=cached)
        cache = done.cache
        scores = stepper(ids, done.logits[:, -1].to(copy=True, dtype=torch.float32))
        ids = torch.cat([ids, scores.argmax(dim=-1, keepdim=True)], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        if bool(stepper.finished(ids, scores).all()):
            return
