"""The monitor: an unchanged call of the library's `generate`, measured token by token, and acted upon.

    with phaselens.Monitor(model, policy=Policy("stop", card=card)) as m:
        model.network.generate(**inputs, do_sample=True)
    m.alarms

Numbers are those of `observe` within float rounding: the same reducers with the same lookback. What is measured by
default is every layer's trajectory and the output distribution, read from the network's own logits; `lens_layers` adds
the lens at a few layers.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessorList, StoppingCriteriaList

from phaselens.errors import InputError, StateError
from phaselens.models import Model, load, record
from phaselens.models.hooks import answers
from phaselens.monitor.calls import Call, read_call
from phaselens.monitor.interception import intercept, release
from phaselens.monitor.meters import Meters, default_lens_layers, readable_logits
from phaselens.monitor.policy import Policy
from phaselens.monitor.recorder import Recorder
from phaselens.monitor.steps import Alarm, Restart, Step
from phaselens.monitor.stream import Stream
from phaselens.monitor.watcher import Followed, Temper, Watcher, follow, rewind
from phaselens.observables import Observable
from phaselens.trace import Trace
from phaselens.trace.transcripts import Transcripts
from phaselens.version import __version__

OnStep = Callable[[Step], bool | None]
MOST_ALARMS = 10_000


class Monitor:
    """Measures every `generate` of a model inside its `with` block, in the thread that entered it.

    `model` is a phaselens Model, or a network of the library (loaded and proved here). `policy` says what to do at an
    alarm; None only watches. `observables` default to all that need no more than the layers at hand, `layers` to all of
    0..L; `lens_layers` is a number of layers, or which ones. `on_step(step)` sees every step of every run right after
    its token, and may return True to stop. With `record`, rows are kept for `trace()`.

    `alarms` and `restarts` list what happened (at most 10,000 alarms), `last` is the last step of each run of the
    latest call. Memory does not grow with the length of a run unless `record` is on.

    Raises InputError for a policy that does not fit the model, a network that cannot generate, and, when `generate` is
    called: beams, assisted decoding, or a policy that the call cannot follow.
    """

    def __init__(
        self,
        model: Model | nn.Module,
        policy: Policy | None = None,
        *,
        observables: Iterable[str | Observable] | None = None,
        layers: Iterable[int] | None = None,
        lens_layers: int | Iterable[int] = (),
        on_step: OnStep | None = None,
        record: bool = False,
    ) -> None:
        self.model = model if isinstance(model, Model) else load(model)
        if not hasattr(self.model.network, "generate"):
            raise InputError(f"{self.model.name} has no generate of the library; observe it with phaselens.live.")
        if isinstance(lens_layers, int):
            lens_layers = default_lens_layers(self.model.n_layers, lens_layers) if lens_layers else ()
        self.meters = Meters(self.model, observables, layers, tuple(lens_layers))
        self.policy, self.on_step = policy, on_step
        if policy is not None:
            policy.for_model(self.model, self.columns)
        self.alarms: list[Alarm] = []
        self.restarts: list[Restart] = []
        self.last: dict[int, Step] = {}
        self._recorder = Recorder(self.model, self.meters) if record else None
        self._n_runs = 0
        self._open: ExitStack | None = None
        self._busy = threading.Lock()
        self._reads_logits = readable_logits(self.model)

    @property
    def columns(self) -> dict[str, tuple[int, ...] | None]:
        """Measured columns: name to the layers it has values at, None where it has one value per step."""
        wide = self.meters.layers
        return {
            c.name: None if c.table == "steps" else (wide if c.lens is None else self.meters.lens_layers)
            for c in reversed(self.meters.columns)
        }

    def __enter__(self) -> "Monitor":
        if self._open is not None:
            raise StateError("this monitor is on already; make another one for another `with` block.")
        with ExitStack() as stack:
            self._taps = stack.enter_context(record(self.model, self.meters.layers, last_only=True))
            self._answers = stack.enter_context(answers(self.model.network))
            self._taps.owner = self._answers.owner = threading.get_ident()
            intercept(self.model.network, self)
            stack.callback(release, self.model.network, self)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            opened.close()

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The library's `generate` of the network, watched; takes and returns what that does, in any thread.

        Raises StateError outside the `with` block or while another call of this monitor runs.
        """
        if self._open is None:
            raise StateError("the monitor is off; call generate inside its `with` block.")
        if not self._busy.acquire(blocking=False):
            raise StateError("this monitor follows another call right now; use one monitor for each stream.")
        owner = self._taps.owner
        try:
            self._taps.owner = self._answers.owner = threading.get_ident()
            return self._followed(read_call(self.model.network, args, kwargs))
        finally:
            self._taps.owner = self._answers.owner = owner
            self._taps.states.clear()
            self._answers.logits = None
            self._busy.release()

    def stream(self, *args: Any, ahead: int = 64, **kwargs: Any) -> Stream:
        """The steps of one `generate` call as they are made, from a thread of its own.

        At most `ahead` steps wait to be taken. Leaving the loop, or `close()`, ends the generation at its next step;
        `result` of the stream is what `generate` returned. Raises as `generate` does, at the first step.
        """
        return Stream(self, args, kwargs, ahead)

    def trace(self) -> tuple[Transcripts, Trace]:
        """What was said and its trace so far. Raises StateError without `record=True` or before any step."""
        if self._recorder is None or not self._n_runs:
            raise StateError("nothing was recorded: make the monitor with record=True and generate inside its block.")
        meta = {"phaselens": __version__, "model": self.model.to_dict(), "capture": {"how": "monitor"}}
        return self._recorder.trace(meta)

    def _followed(self, call: Call) -> object:
        """Run one call, and again from a calm step as often as the policy asks for it."""
        self._permit(call)
        runs = follow(self.model, call, self.policy, self._n_runs, self._listens)
        self._n_runs += len(runs)
        self.last = {}
        if self._recorder is not None:
            copies = len(runs) // len(call.ids)
            ids = call.ids.repeat_interleave(copies, 0).tolist()
            self._recorder.begin({run.number: tuple(row[-run.n_prompt :]) for run, row in zip(runs, ids, strict=True)})
        out, back_to = self._once(call, runs, call.ids, 0)
        seed = 0
        while back_to is not None:
            run, kept, step = back_to
            seed = self.policy.seed + run.attempt
            self.restarts.append(Restart(run.number, step, kept, seed))
            rewind(run, self.policy, self.model.tokenizer)
            if self._recorder is not None:
                self._recorder.withdraw(run.number, kept)
            out, back_to = self._again(call, run, out, kept + 1, seed)
        return out

    def _once(self, call: Call, runs: Sequence[Followed], ids: Tensor, since: int, **changed: Any) -> tuple[Any, Any]:
        """One call of the library's generate from step `since` on, and where to restart from (None: nowhere)."""
        heard = self._answers if self._reads_logits else type(self._answers)()
        keep = None if self._recorder is None else self._recorder.keep
        watcher = Watcher(self.model, call, runs, self.meters, self._taps, heard, self.policy, self._tell, keep, since)
        arguments = {**call.arguments, **changed, "stopping_criteria": StoppingCriteriaList([watcher])}
        if self.policy is not None and self.policy.action in ("temperature", "escalate") and call.samples:
            own = arguments.get("logits_processor") or []
            arguments["logits_processor"] = LogitsProcessorList([*own, Temper(runs, self.policy.factor)])
        self._taps.last_only = since == 0
        try:
            return self.library_generate(ids, **arguments), watcher.back_to
        finally:
            self._taps.last_only = True

    def _again(self, call: Call, run: Followed, out: Tensor, kept: int, seed: int) -> tuple[Any, Any]:
        """Go on after `kept` generated tokens with another seed; the global random state stays as it is."""
        ids = out[:, : call.ids.shape[1] + kept]
        mask = torch.cat([call.mask, call.mask.new_ones(1, kept)], 1)
        rest = None if call.max_new_tokens is None else call.max_new_tokens - kept
        changed: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": rest}
        if call.min_new_tokens:
            changed["min_new_tokens"] = max(0, call.min_new_tokens - kept)
        if rest is None:
            del changed["max_new_tokens"]
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return self._once(call, [run], ids, kept, **changed)

    @property
    def library_generate(self) -> Callable[..., Any]:
        """The library's own generate of this network, unwatched."""
        network = self.model.network
        return type(network).generate.__get__(network)

    @property
    def _listens(self) -> bool:
        return self.on_step is not None

    def _tell(self, steps: Sequence[Step]) -> bool:
        """Take note of the steps of one token, and hand them on; whether anybody wants to stop."""
        stop = False
        for step in steps:
            self.last[step.run] = step
            if step.alarms and len(self.alarms) < MOST_ALARMS:
                self.alarms += step.alarms
            if self.on_step is not None:
                stop |= self.on_step(step) is True
        return stop

    def _permit(self, call: Call) -> None:
        """Raises InputError where the policy cannot act on this call."""
        if self.policy is None:
            return
        action = self.policy.action
        if action in ("temperature", "restart") and not call.samples:
            raise InputError(f"the policy {action!r} needs do_sample=True: greedy decoding would say the same again.")
        if action in ("restart", "escalate"):
            why = {
                "several runs at once": call.n_runs > 1,
                "a streamer, which cannot take tokens back (use on_step or stream)": bool(
                    call.arguments.get("streamer")
                ),
                "return_dict_in_generate": bool(call.arguments.get("return_dict_in_generate")),
            }
            bad = [reason for reason, holds in why.items() if holds]
            if bad and action == "restart":
                raise InputError(f"the policy 'restart' cannot be followed with {bad[0]}.")
