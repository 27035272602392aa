"""Observe while generating: the same loop, the same tiles, one step at a time, and a way to stop."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from phaselens.capture.generate import Decoding, OnStep, Progress, Stepper
from phaselens.capture.intervene import At, intervening
from phaselens.capture.prompts import Given
from phaselens.capture.replay import Columns, Reduces
from phaselens.models import Guard, Model, Taps, guarded, record
from phaselens.models.hooks import check_layers
from phaselens.trace.tile import Tile
from phaselens.trace.transcripts import Transcripts

GATHER = 16


def live(
    model: Model,
    prompts: Sequence[Given],
    reducer: Reduces,
    *,
    layers: Iterable[int] | None = None,
    interventions: Sequence[At] = (),
    on_step: OnStep | None = None,
    sink: Callable[[Columns, Columns], None] | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Transcripts:
    """Generate as `generate` does (with its `settings`), and hand the state behind every token to `reducer` meanwhile.

    The last position of the prompt is step 0. `on_step(step, {"steps": ..., "layers": ...})` sees the rows of every
    step of a batch right after its tokens are chosen; it may return run numbers to stop, or True to stop all and begin
    no further batch. A run that is stopped at step s keeps its token s. With `sink`, finished rows are drained into
    it. Without a callback, steps are handed on sixteen at a time, which is faster and gives the same numbers.

    Raises as `generate` does, InputError for a layer that does not exist, and ModelRefused as `replay` does, where it
    looks at every sixteenth step.
    """
    chosen = check_layers(layers, model.n_layers)
    how = Decoding(**settings)
    observing = record(model, chosen, last_only=True), guarded(model), intervening(model, interventions)
    with observing[0] as taps, observing[1] as guard, observing[2] as clock:
        watcher = _Watcher(taps, guard, reducer, on_step, sink)
        return how.said(model, prompts, watcher, clock, progress, watcher.flush)


class _Watcher:
    """Gathers the states of steps, and hands them on as tiles: each at once for a callback, else several together."""

    def __init__(
        self,
        taps: Taps,
        guard: Guard,
        reducer: Reduces,
        on_step: OnStep | None,
        sink: Callable[[Columns, Columns], None] | None,
    ) -> None:
        self.taps, self.guard, self.reducer, self.on_step, self.sink = taps, guard, reducer, on_step, sink
        self.hidden: list[Tensor] = []
        self.tokens: list[Tensor] = []
        self.valid: list[Tensor] = []
        self.stepper: Stepper | None = None

    def __call__(self, stepper: Stepper, step: int, tokens: Tensor) -> None:
        """Take the states of the pass that just ended; called when its tokens are chosen."""
        self.stepper = stepper
        if step % GATHER == 0:
            self.guard.check(stepper.runs, max(len(job.ids) for job in stepper.batch) - 1 + step)
        self.hidden.append(torch.cat([self.taps.states[layer][:, None] for layer in self.taps.layers], dim=1).float())
        self.tokens.append(tokens)
        self.valid.append(stepper.alive)
        if self.on_step is not None:
            steps, layers = self.flush()
            stepper.stop(self.on_step(step, {"steps": steps, "layers": layers}))
        elif len(self.hidden) == GATHER:
            self.flush()

    def flush(self) -> tuple[Columns, Columns]:
        """Hand the gathered steps to the reducer as one tile; returns the rows, if they are drained."""
        if not self.hidden:
            return {}, {}
        self.reducer.update(self._tile())
        self.hidden, self.tokens, self.valid = [], [], []
        if self.on_step is None and self.sink is None:
            return {}, {}
        rows = self.reducer.rows()
        if self.sink is not None:
            self.sink(*rows)
        return rows

    def _tile(self) -> Tile:
        stepper = self.stepper
        device = self.hidden[0].device
        last = len(stepper.tokens) - 1
        steps = torch.arange(last - len(self.hidden) + 1, last + 1, device=device).expand(len(stepper.batch), -1)
        n_prompt = torch.tensor([len(job.ids) for job in stepper.batch], device=device)
        valid = torch.stack(self.valid, dim=1)
        return Tile(
            run=torch.tensor(stepper.runs, device=device),
            step=steps,
            position=steps + n_prompt[:, None] - 1,
            token=torch.stack(self.tokens, dim=1).masked_fill(~valid, -1),
            valid=valid,
            layers=self.taps.layers,
            hidden=self.hidden[0] if len(self.hidden) == 1 else torch.cat(self.hidden, dim=2),
        )
