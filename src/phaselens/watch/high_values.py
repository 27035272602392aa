"""What counts as high for this model: learned from a few short runs at the start, or from those of a stored study."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phaselens.batteries import natural_battery
from phaselens.capture import Sampling
from phaselens.dynamics.alarms import Rule, Score, alarm_threshold, peaks, running
from phaselens.dynamics.profile import fit_values
from phaselens.dynamics.state_alphabets import turbulence_threshold
from phaselens.models import Model, encoder
from phaselens.observing.recording import live
from phaselens.organisms import ORGANISM, world_battery
from phaselens.trace import Trace
from phaselens.watch.completion_request import Talk

RUNS, STEPS = 8, 32


@dataclass(frozen=True)
class Thresholds:
    """`tau` of the instability debt at the layer of record (rad), the turbulence above which a cell is turbulent (1),
    and the debt of an alarm (rad), the highest of `n_runs` calm runs; NaN where nothing defines one. `source` in words.
    """

    layer: int
    tau: float
    turbulence: float
    alarm: float
    n_runs: int
    source: str

    @property
    def score(self) -> Score:
        """The streaming instability debt at the layer of record."""
        return Score("instability", self.layer, "debt", tau=self.tau)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rule that follows the debt; none without tau. Without an alarm threshold it never alarms."""
        if math.isnan(self.tau):
            return ()
        return (Rule(self.score, math.inf if math.isnan(self.alarm) else self.alarm),)

    def to_dict(self) -> dict[str, object]:
        """The thresholds as plain values."""
        return {**vars(self)}


def layer_of_record(n_layers: int) -> int:
    """`l* = round(.75 L)`, below L, since turbulence has no value there."""
    return max(1, min(round(0.75 * n_layers), n_layers - 1))


def thresholds_of(
    model: Model,
    name: str = "",
    lens_layers: Sequence[int] | None = None,
    talk: Talk = Talk(),  # noqa: B008  frozen
) -> Thresholds:
    """Thresholds from eight short runs of this model (T = .7, seed 0) on calibration prompts, which takes seconds.

    The prompts are those of the organisms' world where `name` is `organism:NAME`, else the natural ones.
    """
    if name.startswith(ORGANISM):
        prompts = [prompt.text for prompt in world_battery().calibration[:RUNS]]
    else:
        prompts = [prompt.text for prompt in natural_battery().calibration[:RUNS]]
    layer = layer_of_record(model.n_layers)
    recorded = sorted({layer, min(layer + 1, model.n_layers), model.n_layers, *(lens_layers or ())})
    room = STEPS if model.context is None else max(4, min(STEPS, model.context // 4))
    encode = encoder(model)
    told = [((("system", talk.system),) if talk.system else ()) + (("user", p),) for p in prompts]
    given = [encode.chat(turns) for turns in told] if talk.chat else [encode(p) for p in prompts]
    fitting = [ids for ids in given if model.context is None or len(ids) + room < model.context]
    _, trace = live(
        model,
        fitting,
        max_new_tokens=room,
        sampling=Sampling(temperature=0.7),
        observables=("instability", "turbulence"),
        layers=recorded,
        batch_size=RUNS,
    )
    return learned([trace], layer, f"{len(fitting)} short runs of this model when the server started")


def learned(traces: Sequence[Trace], layer: int, source: str) -> Thresholds:
    """Thresholds from recorded calibration runs of one model."""
    cells = [trace.numpy("layers", ("run", "layer", "instability", "turbulence")) for trace in traces]
    series = [
        rows["instability"][(rows["layer"] == layer) & (rows["run"] == run)].astype(float)
        for rows in cells
        for run in np.unique(rows["run"])
    ]
    tau = float(fit_values(np.concatenate(series)).tau)
    score = Score("instability", layer, "debt", tau=tau)
    highest = [peaks(running(one, score)) for one in series if len(one)]
    n = len(highest)
    # The rate at which the highest of n runs is the threshold; a hair above 1 / (n + 1), since that is no exact number.
    alarm = alarm_threshold(np.array(highest), 1.0001 / (n + 1)) if n else math.nan
    cut = turbulence_threshold(np.concatenate([r["turbulence"][r["layer"] >= 1] for r in cells]))
    return Thresholds(layer, tau, float(cut), alarm if math.isfinite(alarm) else math.nan, n, source)
