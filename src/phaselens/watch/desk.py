"""The desk: takes requests, gives each its place, and runs the one model for all of them, a token each by turns."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from phaselens.capture.sampling import NOT_FINITE
from phaselens.errors import InputError, PhaselensError
from phaselens.models import Model
from phaselens.monitor import Card, Monitor, Policy, Step
from phaselens.watch.completion_request import Asked
from phaselens.watch.limits import Limits
from phaselens.watch.step_view import WATCHED, View
from phaselens.watch.stop_texts import Stops
from phaselens.watch.turns import Dice, Turns
from phaselens.web.door import Refusal

BUSY = "all {n} places are taken; try again in a moment."


@dataclass(frozen=True)
class Piece:
    """What one token brought: the text that may be shown after it, and the step; of choice `index`."""

    index: int
    text: str
    step: dict[str, Any]
    logprob: dict[str, object] | None = None


@dataclass(frozen=True)
class Ended:
    """The end of choice `index`: text that was held back, why it ended, how many tokens it had."""

    index: int
    text: str
    reason: str
    n_tokens: int


Event = Piece | Ended | Exception | None


@dataclass(eq=False)
class Job:
    """One request while it is carried out. `cancel()` ends it at its next token."""

    asked: Asked
    loop: asyncio.AbstractEventLoop
    events: "asyncio.Queue[Event]" = field(default_factory=asyncio.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """End the generation at its next token; nothing more is told."""
        self.cancelled.set()

    def tell(self, event: Event) -> None:
        """Hand an event over to the loop of the server, from any thread."""
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # the loop is closed: the server is gone
            self.cancelled.set()

    async def told(self) -> AsyncIterator[Piece | Ended]:
        """The events as they come. Raises what the generation raised."""
        while (event := await self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


class Desk:
    """Carries requests out on one model: at most `limits.streams` at a time, each in its own thread, by turns.

    Raises InputError for a card of another model, or one whose score is not measured at the layers of the view.
    """

    def __init__(self, model: Model, view: View, limits: Limits, card: Card | None = None) -> None:
        self.view = view if card is None else replace(view, card=card)
        self.model, self.limits = model, limits
        self.turns = Turns()
        self.jobs: set[Job] = set()
        self._policy = self._alarms(card)
        self._observables = tuple(dict.fromkeys((*WATCHED, *([card.rule.score.column] if card else []))))
        self._monitor(None)  # says now, not at the first request, what does not fit
        self._threads = ThreadPoolExecutor(limits.streams, thread_name_prefix="phaselens-watch")

    def _alarms(self, card: Card | None) -> Policy | None:
        """Alarms are told and nothing is done about them: the client decides. With a card, it alone alarms."""
        rules = self.view.thresholds.rules
        if card is not None:
            rules = tuple(replace(rule, threshold=math.inf) for rule in rules)
        if card is None and not rules:
            return None
        return Policy("escalate", rules=rules, card=card, callback=lambda alarm: None)

    def _monitor(self, on_step: Callable[[Step], bool] | None) -> Monitor:
        return Monitor(
            self.model, self._policy, observables=self._observables, lens_layers=self.view.lens_layers, on_step=on_step
        )

    def take(self, asked: Asked) -> Job:
        """Begin a request. Raises Refusal (429) where no place is free."""
        if len(self.jobs) >= self.limits.streams:
            raise Refusal(
                429,
                BUSY.format(n=self.limits.streams),
                kind="rate_limit_error",
                code="rate_limit_exceeded",
                headers={"Retry-After": "1"},
            )
        job = Job(asked, asyncio.get_running_loop())
        self.jobs.add(job)
        self._threads.submit(self._carry_out, job)
        return job

    def cancel_all(self) -> None:
        """End all requests at their next token."""
        for job in tuple(self.jobs):
            job.cancel()

    def close(self) -> None:
        """End all requests at their next token and wait for that."""
        self.cancel_all()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _carry_out(self, job: Job) -> None:
        try:
            with self.turns.turn():
                for index in range(len(job.asked.prompts)):
                    if not job.cancelled.is_set():
                        self._choice(job, index)
        except PhaselensError as error:
            job.tell(Refusal(400, str(error)))
        except Exception as error:  # told to the client in a word, and by the server in its log
            job.tell(error)
        finally:
            self._free(job)
            job.tell(None)

    def _free(self, job: Job) -> None:
        try:
            job.loop.call_soon_threadsafe(self.jobs.discard, job)
        except RuntimeError:  # the loop is closed: the server is gone
            self.jobs.discard(job)

    def _choice(self, job: Job, index: int) -> None:
        asked = job.asked
        dice = Dice(self.model.device, None if asked.seed is None else asked.seed + index)
        eos = self.model.eos_ids if asked.eos is None else asked.eos
        likely = _Likely(self.model, asked.top)
        one = _Choice(job, index, self.view, eos, lambda: self._others_first(dice), likely)
        ids = torch.tensor([asked.prompts[index]], device=self.model.device)
        how: dict[str, Any] = {"do_sample": asked.temperature > 0, "max_new_tokens": asked.max_tokens}
        how |= {"logits_processor": LogitsProcessorList([likely])}
        how |= {} if asked.eos is None else {"eos_token_id": list(eos)}
        if asked.temperature > 0:
            how |= {"temperature": asked.temperature, "top_p": asked.top_p, "top_k": 0}
        dice.take()
        try:
            with self._monitor(one) as monitor:
                monitor.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), pad_token_id=self.model.pad_id, **how
                )
        finally:
            dice.leave()
        job.tell(one.ended())

    def _others_first(self, dice: Dice) -> None:
        if self.turns.wanted:
            dice.leave()
            self.turns.pass_on()
            dice.take()


class _Choice:
    """Takes the steps of one choice: tells them, lets others go first, and says when to stop."""

    def __init__(
        self,
        job: Job,
        index: int,
        view: View,
        eos: tuple[int, ...],
        others_first: Callable[[], None],
        likely: "_Likely",
    ) -> None:
        self._likely = likely
        self._job, self._index, self._view, self._eos, self._others_first = job, index, view, eos, others_first
        self._stops = Stops(job.asked.stops)
        self._n, self._last = 0, -1

    def __call__(self, step: Step) -> bool:
        """Tell one step; True to stop."""
        self._n, self._last = self._n + 1, step.token
        text = self._stops.push(step.text or "")
        shown = self._view.live(step, layers=self._job.asked.layers)
        self._job.tell(Piece(self._index, text, shown, self._likely.of(step.token)))
        if self._stops.reached or self._job.cancelled.is_set():
            return True
        self._others_first()
        return self._job.cancelled.is_set()

    def ended(self) -> Ended:
        """The end, once the generation has returned."""
        done = self._stops.reached or self._last in self._eos
        return Ended(self._index, self._stops.rest(), "stop" if done else "length", self._n)


class _Likely(LogitsProcessor):
    """Looks at the model's own logits before each token, and changes none: log-probabilities, where they are asked for.

    Raises InputError for logits that are not finite.
    """

    def __init__(self, model: Model, top: int | None) -> None:
        self._model, self._top = model, top
        self._row: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The same scores [run, vocab]."""
        if not bool(scores.max().isfinite()):
            raise InputError(NOT_FINITE)
        if self._top is not None:
            self._row = scores[0, : self._model.vocab_size].float().log_softmax(-1)
        return scores

    def of(self, token: int) -> dict[str, Any] | None:
        """The token that was taken and the likeliest ones, as the API says them; None where it did not ask."""
        if self._row is None:
            return None
        best = self._row.topk(min(self._top or 0, len(self._row))).indices.tolist() if self._top else []
        return {**self._said(token), "top_logprobs": [self._said(i) for i in best]}

    def _said(self, token: int) -> dict[str, Any]:
        text = self._model.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return {"token": text, "logprob": float(self._row[token]), "bytes": list(text.encode("utf-8", "replace"))}
