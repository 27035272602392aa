"""Simulated studies for claims about answers (S1, S2, S3, S5, S7, A5) and about what comes later (X3, R5, R8).

Runs of 72 steps that are right or wrong, and columns that go with it by so much or not at all. A strength is that of
one link, 0 for none; all else is noise of the run (half of its variance) and of the step.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from phaselens.experiments import ModelData, ModelInfo, Panel
from phaselens.validity.panels import BOOTSTRAPS
from phaselens.validity.scenario import Scenario, by_experiment

LAYERS, RECORDED, STEPS = 4, (3, 4), 72
SMALL = {"prompts": 60, "calibration": 10, "samples": 1}


@dataclass(frozen=True)
class Links:
    """What goes with wrong answers (or, `hops`, with steps of derivation; `regime` and `loops`, with what comes later).

    `trap` shifts step length and commitment by 0.3 per unit (1 SD of the run), `resolves` tilts turbulence over the
    steps, `unstable` and `coherent` shift those two, `grammar` lowers the probability of a usual transition (.9) by .5
    per unit, `hops` adds .05 of turbulence a step of derivation, `regime` shifts instability before a late peak by .2,
    `loops` lowers it before a loop. `closeness` sets max / mean of instability exactly.
    """

    trap: float = 0.0
    resolves: float = 0.0
    unstable: float = 0.0
    coherent: float = 0.0
    grammar: float = 0.0
    hops: float = 0.0
    regime: float = 0.0
    loops: float = 0.0
    closeness: float | None = None


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What the columns of one model share: its generator, and of every run whether it is wrong and its hops."""

    rng: np.random.Generator
    wrong: np.ndarray
    level: np.ndarray
    sign: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sign", np.where(self.wrong, 1.0, -1.0)[:, None])

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.wrong), STEPS

    def noisy(self, level: float, spread: float = 0.3) -> np.ndarray:
        run, step = self.rng.normal(size=(len(self.wrong), 1)), self.rng.normal(size=self.shape)
        return level + spread * (step + run)


def _instability(drawn: _Drawn, links: Links) -> tuple[np.ndarray, np.ndarray]:
    """Instability [run, step] and tokens [run, step] of one model."""
    rng, n, steps = drawn.rng, len(drawn.wrong), np.arange(STEPS)
    later = rng.integers(0, 2, n)
    early = 0.2 * links.regime * (2 * later - 1)[:, None] * (steps < 10)
    ct = np.exp(drawn.noisy(0.0, 0.2) + 0.3 * links.unstable * drawn.sign + early)
    ct *= np.where((steps == 40)[None] & (later == 1)[:, None], 1 + 4 * (links.regime != 0), 1.0)
    if links.closeness is not None:
        ct = np.exp(0.05 * rng.normal(size=drawn.shape))
        ct[:, 30] = links.closeness * ct.mean()
    tokens = rng.integers(0, 500, drawn.shape)
    looping = rng.uniform(size=n) < 0.1
    tokens[looping, 44:] = np.tile([1, 2, 3, 4], 7)
    ct[looping, 24:40] *= np.exp(-links.loops)
    ct[:, :2] = np.nan
    return ct, tokens


def _columns(drawn: _Drawn, links: Links, ct: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns at l* and at the output, each [run, step]."""
    rng, shape, sign = drawn.rng, drawn.shape, drawn.sign
    tilt = 0.1 * links.resolves * -sign * np.linspace(1, -1, STEPS)[None]
    order = np.arange(STEPS)[None] % 2
    usual = rng.uniform(size=shape) < np.where(drawn.wrong, 0.9 - 0.5 * links.grammar, 0.9)[:, None]
    states = np.where(usual, order, rng.integers(0, 2, shape))
    at = {
        "instability": ct,
        "step_length": np.exp(drawn.noisy(0.0) - 0.3 * links.trap * sign),
        "turning_angle": drawn.noisy(1.0),
        "coherence": drawn.noisy(0.0) - 0.4 * links.coherent * sign,
        "turbulence": np.abs(drawn.noisy(0.4, 0.05) + tilt + 0.05 * links.hops * drawn.level[:, None]),
        "rivalry": np.where(states == 1, 0.9, 0.1),
        "n_above_1pct": np.full(shape, 5.0),
        "top1": np.full(shape, 0.4),
        "agrees": np.ones(shape),
    }
    steps = {"entropy": drawn.noisy(2.0), "surprisal": drawn.noisy(2.0), "entropy_norm": drawn.noisy(0.5)}
    steps["coe_r"] = drawn.noisy(1.0)
    return at, steps | {"commitment": drawn.noisy(0.0) + 0.3 * links.trap * sign}


def graded_model(
    name: str,
    rng: np.random.Generator,
    links: Links = Links(),
    *,
    prompts: int = 350,
    samples: int = 3,
    calibration: int = 40,
    right: float = 0.5,
    difficulty: float = 0.0,
) -> ModelData:
    """One model with graded runs; `right` is the share of right answers, `difficulty` the SD of prompts in log odds."""
    n_prompts = prompts + calibration
    n = n_prompts * samples
    prompt = np.arange(n) % n_prompts
    hard = np.exp(difficulty * rng.normal(size=n_prompts))[prompt] if difficulty else 1.0
    odds = (1 - right) / right * hard
    level = 1 + (prompt if difficulty else np.arange(n)) % 3
    drawn = _Drawn(rng, rng.uniform(size=n) < odds / (1 + odds), level)
    ct, tokens = _instability(drawn, links)
    at, plain = _columns(drawn, links, ct)
    run, step, layer = (x.ravel() for x in np.indices((n, STEPS, len(RECORDED))))
    layers = {"run": run, "step": step, "layer": np.array(RECORDED)[layer]}
    layers |= {k: np.repeat(v[:, :, None], len(RECORDED), 2).ravel() for k, v in at.items()}
    run, step = (x.ravel() for x in np.indices((n, STEPS)))
    runs = {
        "run": np.arange(n),
        "prompt_id": np.array([f"{'c' if p >= prompts else 'p'}{p:04d}" for p in prompt]),
        "category": np.where(prompt % 2, "science", "factual"),
        "arm": np.full(n, "t0.7"),
        "sample": np.arange(n) // n_prompts,
        "calibration": prompt >= prompts,
        "n_generated": np.full(n, STEPS),
        "n_prompt": rng.integers(5, 20, n),
        "finish": np.full(n, "length"),
        "correct": (~drawn.wrong).astype(float),
        "answer_state": rng.normal(size=(n, 4)),
        "tag": np.array([f"{k} steps" if k > 1 else "1 step" for k in level]),
    }
    info = ModelInfo(name, "f", LAYERS, 16, 500, int(rng.integers(10**6, 10**8)), training_loss=rng.normal(2.0, 0.3))
    steps = {"run": run, "step": step} | {k: v.ravel() for k, v in plain.items()}
    return ModelData(info, runs, steps, layers, tuple(map(tuple, tokens.tolist())))


def linked(generator: np.random.Generator, *, links: Links = Links(), **size: float) -> Panel:
    """A study of one model whose runs have these links; prompts differ in difficulty (1 in log odds)."""
    model = graded_model("m0", generator, links, difficulty=1.0, **size)
    return Panel((model,), seed=int(generator.integers(2**31)), n_boot=BOOTSTRAPS)


def reasoning(generator: np.random.Generator, *, slope: float, m: int = 12) -> Panel:
    """A study of M models, max / mean of instability from 2.5 to 8: right answers fall by `slope` over that range."""
    near = np.sort(2.5 + 5.5 * generator.random(m))
    right = np.clip(0.5 + slope * (0.5 - (near - 2.5) / 5.5) + 0.12 * generator.standard_normal(m), 0.05, 0.95)
    models = [
        graded_model(f"m{i}", generator, Links(closeness=float(c)), right=float(r), **SMALL)
        for i, (c, r) in enumerate(zip(near, right, strict=True))
    ]
    return Panel(tuple(models), seed=int(generator.integers(2**31)), n_boot=BOOTSTRAPS)


PLANTED = Links(trap=0.12, resolves=0.25, coherent=0.2, grammar=0.1, hops=0.1, regime=0.25, loops=0.3)
TOGETHER = ("S1", "S2", "S5", "S7", "X3", "A5", "R5")
# A shift of instability whose rank correlation with right answers is the margin of S3, .2 (found by simulation).
AT_MARGIN = 0.14
_JUDGE = by_experiment("correctness")
_ONE_SAMPLE = {"samples": 1, "prompts": 400}

GRADED: tuple[Scenario, ...] = (
    Scenario(
        "answers, no link", "null", TOGETHER, "answers, late peaks and loops that nothing before goes with",
        "0", linked, _JUDGE,
    ),
    Scenario(
        "answers, all links", "effect", TOGETHER,
        "seven links at once: trap, early turbulence that resolves, coherence, rare transitions, load, early "
        "instability before a peak, low instability before a loop",
        "0.24 SD in trap, 0.5 SD in coherence, usual transitions .9 and .85, 0.1 SD a step of load; 1,050 runs",
        partial(linked, links=PLANTED),
        _JUDGE, headline=True,
    ),
    Scenario(
        "S3 coupled at the margin", "null", ("S3",), "instability goes with answers by just the margin", "r = .2",
        partial(linked, links=Links(unstable=AT_MARGIN), **_ONE_SAMPLE), _JUDGE,
    ),
    Scenario(
        "S3 decoupled", "effect", ("S3",), "instability and answers are independent", "r = 0, 400 prompts",
        partial(linked, **_ONE_SAMPLE), _JUDGE, headline=True,
    ),
    Scenario(
        "R8 null", "null", ("R8",), "reasoning does not go with the band", "0, M = 12", partial(reasoning, slope=0.0),
        _JUDGE,
    ),
    Scenario(
        "R8 effect", "effect", ("R8",), "right answers fall from the band on", ".4 over the range, M = 12",
        partial(reasoning, slope=0.4), _JUDGE, headline=True,
    ),
)  # fmt: skip
