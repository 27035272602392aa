"""What the studies that change a running model give, as plain arrays: signatures, growth, causal regions, control.

One record serves the measurement, the file and the analysis, so reading and judging needs no model library.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(eq=False)
class Counts:
    """Forward passes as rows x share of the blocks: run, and what they would be without the shared prefix."""

    run: float = 0.0
    unshared: float = 0.0
    clean: int = 0

    @property
    def saved(self) -> float:
        """Share of the passes that sharing the prefix saves (1). NaN: none were needed."""
        return 1 - (self.run + self.clean) / self.unshared if self.unshared else float("nan")


@dataclass(eq=False)
class Signature:
    """The perturbation signature of one model at one site. Halves are halves of the draws.

    `layers` are those perturbed, `depth` l/L. `log_gain` and `kl` [prompt, layer, strength, half]: mean over draws of
    ln g(l -> L), and mean over draws and steps of KL(p || p') in nats, of matched noise. `beside[name]` holds both
    [gain or KL, prompt, layer, half] at the deciding strength. `through` [prompt, layer, layer to]: mean ln g(l -> l')
    there (NaN up to l). `substitution`: both [gain or KL, prompt, half], of another token in place of the last of the
    prompt, from layer 0. `rms` and `into_rms` [layer 0..L] of the residual states and of those of the site (NaN where
    the site is not), `massive` [layer 0..L] the number of their dimensions that are massive in any state; `identity`
    is the largest change of a logit by strength 0 (must be 0).
    """

    model: str
    family: str
    n_layers: int
    site: str
    prompts: tuple[str, ...]
    layers: tuple[int, ...]
    depth: np.ndarray
    strengths: tuple[float, ...]
    deciding: float
    log_gain: np.ndarray
    kl: np.ndarray
    through: np.ndarray
    rms: np.ndarray
    into_rms: np.ndarray
    rms_without_massive: np.ndarray
    massive: np.ndarray
    identity: float
    beside: dict[str, np.ndarray] = field(default_factory=dict)
    substitution: np.ndarray | None = None
    counts: Counts = field(default_factory=Counts)
    notes: tuple[str, ...] = ()

    @property
    def conditions(self) -> list[tuple[str, float, np.ndarray, np.ndarray]]:
        """Condition, strength, ln gain and KL [prompt, layer] of each, means over halves of the draws."""
        out = [
            ("matched", eps, self.log_gain[:, :, e].mean(-1), self.kl[:, :, e].mean(-1))
            for e, eps in enumerate(self.strengths)
        ]
        return out + [(n, self.deciding, g.mean(-1), k.mean(-1)) for n, (g, k) in self.beside.items()]


@dataclass(eq=False)
class Causal:
    """Margins `ln p(right) - ln p(wrong)` (nats) of one model under every arm: `margin[arm]` [layer, item].

    `random[kind]` [draw, layer, item]; `plain` [item] without intervention; `capacity` [layer] of the label, held out;
    `units` [item] names what is resampled; `elsewhere[arm]` [layer, run]: mean surprisal (nats) of other text with the
    same subspace out, `elsewhere_plain` [run]. NaN: an item without partner; a random subspace of that variance that
    does not exist.
    """

    model: str
    family: str
    layers: tuple[int, ...]
    n_layers: int
    plain: np.ndarray
    capacity: np.ndarray
    margin: dict[str, np.ndarray]
    random: dict[str, np.ndarray]
    units: np.ndarray
    identity: float
    rank: int
    elsewhere_plain: np.ndarray = field(default_factory=lambda: np.zeros(0))
    elsewhere: dict[str, np.ndarray] = field(default_factory=dict)


ARMS = ("none", "again", "cool", "guard", "monitor", "both", "random")


@dataclass(eq=False)
class Control:
    """Every arm of one model on every question: `right` bool, `ct` mean over steps (rad), `tokens`, `triggered` bool,
    and `in_time` bool: whether the run was taken up where its answer was still open.

    All [question]; `ct` is NaN for runs of fewer than three steps. `steered` [steered question] and `random_steered`
    [direction, steered question]: mean ct when the whole run is steered toward the calm centroid, and along random
    directions of equal norm (X1), on the first questions. `turbulence` [question]: mean over steps at `layer`, of the
    arm `again` alone (S6). `threshold` and `median` of ct are those of the calibration runs (rad).
    """

    model: str
    family: str
    questions: tuple[str, ...]
    units: np.ndarray
    identity: float
    layer: int
    threshold: float
    median: float
    action: str = "seed"
    right: dict[str, np.ndarray] = field(default_factory=dict)
    ct: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: dict[str, np.ndarray] = field(default_factory=dict)
    triggered: dict[str, np.ndarray] = field(default_factory=dict)
    steered: np.ndarray = field(default_factory=lambda: np.zeros(0))
    random_steered: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    turbulence: np.ndarray = field(default_factory=lambda: np.zeros(0))
    in_time: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(eq=False)
class Growth:
    """Growth of infinitesimal changes in the runs of one model (ln), and the exponents that it gives.

    `by_block` [prompt, start, layer 1..L, k]: of the state of one step through each block, tangents orthonormal before
    it; `stream` [prompt, start, layer]: `ln |h_l| / |h_(l-1)|` of the same states; `depth` [prompt, start, k]:
    exponents along depth (nats per block). `by_step` [prompt, step]: at layer L behind a change of the state of step 0
    at layer 0, mean over directions (NaN beyond the run); `tokens` [prompt]: its exponent (nats per token). `gap`
    [prompt]: relative difference of these tangents from central finite differences.
    """

    model: str
    family: str
    n_layers: int
    prompts: tuple[str, ...]
    by_block: np.ndarray
    stream: np.ndarray
    depth: np.ndarray
    by_step: np.ndarray
    tokens: np.ndarray
    gap: np.ndarray


KINDS: Mapping[str, type] = {"perturbation": Signature, "growth": Growth, "causal": Causal, "control": Control}
Found = Signature | Growth | Causal | Control


@dataclass(frozen=True)
class Acted:
    """What was found of one model; None: not asked, or refused, and then `refused` says why by kind."""

    perturbation: Signature | None = None
    growth: Growth | None = None
    causal: Causal | None = None
    control: Control | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
