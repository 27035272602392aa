"""Stands in the library's loop: after every token it measures the states behind it, and does what the policy says."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase, StoppingCriteria

from phaselens.dynamics.alarms import Rule, Running
from phaselens.models import Model, Taps
from phaselens.models.hooks import Answers
from phaselens.models.token_texts import Text
from phaselens.monitor.calls import Call
from phaselens.monitor.meters import Columns, Meters
from phaselens.monitor.policy import Policy, check_action
from phaselens.monitor.steps import Alarm, Step
from phaselens.trace.tile import Tile


class MonitorWarning(UserWarning):
    """A score of a run went beyond its threshold, under the policy `warn`."""


@dataclass
class Followed:
    """One run while it is generated: its scores, and the last calm step with what they were there (`saved`)."""

    number: int
    n_prompt: int
    scores: list[Running]
    text: Text | None
    calm: int = -1
    saved: tuple[list[Running], Text | None] | None = None
    beyond: bool = False
    warned: bool = False
    hot: int = 0
    attempt: int = 0


@dataclass(eq=False)
class Watcher(StoppingCriteria):
    """Called by the library right after each token: measures it, tells `tell`, and says which runs end.

    `since` is the first step of this call (not 0 after a restart, when the first pass brings earlier steps again).
    `back_to` holds the run and step to restart from once the policy asked for that.
    """

    model: Model
    call: Call
    runs: Sequence[Followed]
    meters: Meters
    taps: Taps
    answers: Answers
    policy: Policy | None
    tell: Callable[[Sequence[Step]], bool]
    keep: Callable[[Columns, Columns], None] | None
    since: int = 0

    def __post_init__(self) -> None:
        self.step, runs, policy, device = self.since, self.runs, self.policy, self.model.device
        self.numbers = torch.tensor([run.number for run in runs], device=device)
        self.first_position = torch.tensor([run.n_prompt - 1 for run in runs], device=device)[:, None]
        self.eos = torch.tensor(self.call.eos, device=device)
        self.alive = torch.ones(len(runs), dtype=torch.bool, device=device)
        self.stopped = ~self.alive
        self.back_to: tuple[Followed, int, int] | None = None
        self.rules = policy.all_rules if policy else ()
        self.goes_back = policy is not None and policy.action in ("restart", "escalate")

    def __call__(self, input_ids: Tensor, scores: Tensor | None, **kwargs: object) -> Tensor:
        """Measure the step whose tokens are the last column of `input_ids`; return which runs are done [run]."""
        done = self.call.criteria(input_ids, scores, **kwargs) if len(self.call.criteria) else ~self.alive
        tokens = input_ids[:, -1]
        alive = self.alive.tolist()
        if any(alive):
            self._measure(input_ids, alive)
        ended = torch.isin(tokens, self.eos) if len(self.eos) else torch.zeros_like(self.alive)
        done = done.to(self.alive.device) | self.stopped
        self.alive = self.alive & ~done & ~ended
        self.step += 1
        return done.to(input_ids.device)

    def _measure(self, input_ids: Tensor, alive: list[bool]) -> None:
        again = min(self.step, self.meters.back) if self.step == self.since else 0
        if again:
            self.meters.update(self._tile(input_ids, slice(-1 - again, -1)))
            self.meters.rows()
            self.taps.last_only = True
        self.meters.update(self._tile(input_ids, slice(-1, None)))
        steps, layers = self.meters.rows()
        if self.keep is not None:
            self.keep(steps, layers)
        told = self._steps(steps, layers, [run for run, lives in zip(self.runs, alive, strict=True) if lives])
        if self.tell(told):
            self.stopped |= True

    def _tile(self, input_ids: Tensor, where: slice) -> Tile:
        """The tile of the last positions `where` of the pass; logits stand behind the last one alone."""
        states = [self.taps.states[layer] for layer in self.meters.layers]
        if states[0].shape[1] == 1:
            hidden = torch.cat(states, dim=1)[:, :, None].float()
        else:
            hidden = torch.stack([state[:, where] for state in states], dim=1).float()
        n = hidden.shape[2]
        is_last = where.stop is None
        stop = self.step + 1 if is_last else self.step
        steps = torch.arange(stop - n, stop, device=hidden.device).expand(len(self.runs), -1)
        tokens = input_ids[:, -n:] if is_last else input_ids[:, -1 - n : -1]
        logits = None
        if is_last and self.answers.logits is not None:
            logits = self.answers.logits[:, None, : self.model.vocab_size]
        return Tile(
            run=self.numbers,
            step=steps,
            position=steps + self.first_position,
            token=tokens.to(hidden.device),
            valid=self.alive[:, None].expand(-1, n),
            layers=self.meters.layers,
            hidden=hidden,
            logits=logits,
        )

    def _steps(self, steps: Columns, layers: Columns, runs: list[Followed]) -> list[Step]:
        """One record per run that still generates, its alarms handled."""
        n_layers = len(self.meters.layers)
        place = {int(number): i for i, number in enumerate(steps["run"])}
        of_steps = {name: values.tolist() for name, values in steps.items() if values.dtype == np.float32}
        of_layers = {
            name: values.reshape(-1, n_layers) for name, values in layers.items() if values.dtype == np.float32
        }
        out = []
        for run in runs:
            at = place[run.number]
            output = {name: values[at] for name, values in of_steps.items()}
            rows = {name: values[at] for name, values in of_layers.items()}
            values = [self._score(run, i, rule, output, rows) for i, rule in enumerate(self.rules)]
            alarms = self._alarms(run, values)
            token = int(steps["token"][at])
            text = None if run.text is None else run.text.push(token)
            if self.goes_back and all(r.is_calm(v) for r, v in zip(self.rules, values, strict=True)):
                run.calm = self.step
                run.saved = [score.copy() for score in run.scores], run.text and run.text.copy()
            out.append(
                Step(
                    run=run.number,
                    step=self.step,
                    position=int(steps["position"][at]),
                    token=token,
                    text=text,
                    output=output,
                    layers=rows,
                    recorded=self.meters.layers,
                    scores={rule.score.name: value for rule, value in zip(self.rules, values, strict=True)},
                    alarms=alarms,
                    attempt=run.attempt,
                )
            )
        return out

    def _score(self, run: Followed, i: int, rule: Rule, output: dict[str, float], rows: dict[str, np.ndarray]) -> float:
        score = rule.score
        if score.layer is None:
            return run.scores[i].push(output[score.column])
        return run.scores[i].push(float(rows[score.column][self.meters.layers.index(score.layer)]))

    def _alarms(self, run: Followed, values: list[float]) -> tuple[Alarm, ...]:
        """Alarms of this step: one for a rule whose score has just gone beyond; and what they cause."""
        if self.policy is None:
            return ()
        if run.hot:
            run.hot -= 1
        crossed = [i for i, rule in enumerate(self.rules) if rule.alarms(values[i], self.step)]
        fresh = crossed if not run.beyond else []
        run.beyond = bool(crossed)
        made = []
        for i in fresh:
            alarm = Alarm(run.number, self.step, self.rules[i], values[i], self.policy.action)
            self._act(run, alarm)
            made.append(alarm)
        return tuple(made)

    def _act(self, run: Followed, alarm: Alarm) -> None:
        action: str | None = alarm.action
        if action == "escalate":
            action = self.policy.callback(alarm)
            if action is None:
                return
            check_action(action)
        if action == "warn" and not run.warned:
            run.warned = True
            warnings.warn(str(alarm), MonitorWarning, stacklevel=2)
        elif action == "temperature":
            run.hot = self.policy.hold
        elif action == "stop":
            self._stop(run)
        elif action == "restart" and run.attempt < self.policy.max_restarts:
            self.back_to = (run, run.calm, self.step)
            self._stop(run)

    def _stop(self, run: Followed) -> None:
        self.stopped |= self.numbers == run.number


class Temper(LogitsProcessor):
    """Divides the logits of runs that alarmed lately by a factor; of the others by exactly 1."""

    def __init__(self, runs: Sequence[Followed], factor: float) -> None:
        self.runs, self.factor = runs, factor

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [run, vocab] with the factor of each run taken in."""
        if not any(run.hot for run in self.runs):
            return scores
        by = torch.tensor([self.factor if run.hot else 1.0 for run in self.runs], device=scores.device)
        return scores / by[:, None]


def follow(model: Model, call: Call, policy: Policy | None, first: int, listens: bool) -> list[Followed]:
    """Fresh records of the runs of a call, numbered from `first`; texts only where somebody listens."""
    rules = policy.all_rules if policy else ()
    speaks = listens and model.tokenizer is not None
    return [
        Followed(first + i, n, [Running(rule.score) for rule in rules], Text(model.tokenizer) if speaks else None)
        for i, n in enumerate(call.n_prompt)
    ]


def rewind(run: Followed, policy: Policy, tokenizer: PreTrainedTokenizerBase) -> None:
    """Put a run back to its last calm step: its scores and text are what they were there."""
    run.attempt += 1
    run.hot, run.beyond = 0, False
    if run.saved is None:
        run.scores = [Running(rule.score) for rule in policy.all_rules]
        run.text = None if run.text is None else Text(tokenizer)
    else:
        scores, text = run.saved
        run.scores, run.text = [score.copy() for score in scores], None if text is None else text.copy()
