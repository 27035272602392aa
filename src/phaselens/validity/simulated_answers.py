"""Simulated studies for claims about answers (S1, S2, S3, S5, S7, A5) and about what comes later (X3, R5, R8).

Runs of 72 steps that are right or wrong, and columns that go with it by so much or not at all. A strength is that of
one link, 0 for none; all else is noise of the run (half of its variance) and of the step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from phaselens.experiments import ModelData, ModelInfo, Panel
from phaselens.validity.simulated_panels import BOOTSTRAPS, runs_of

LAYERS, RECORDED, STEPS = 4, (3, 4), 72
SMALL: dict = {"prompts": 60, "calibration": 10, "samples": 1}


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
    """What the columns of one model share: its generator, and of every run whether it is wrong and its hops.

    `shifted` are the runs that links shift up (those that are wrong, or those of one category), `unit` what each run is
    about where runs about one thing have one level (None: every run its own). With `drift` all that is `noisy`
    rises by its spread over the run.
    """

    rng: np.random.Generator
    wrong: np.ndarray
    level: np.ndarray
    shifted: np.ndarray
    unit: np.ndarray | None = None
    drift: bool = False

    @property
    def sign(self) -> np.ndarray:
        return np.where(self.shifted, 1.0, -1.0)[:, None]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.wrong), STEPS

    def noisy(self, level: float, spread: float = 0.3) -> np.ndarray:
        run, step = self.rng.normal(size=(len(self.wrong), 1)), self.rng.normal(size=self.shape)
        if self.unit is not None:
            run = self.rng.normal(size=(int(self.unit.max()) + 1, 1))[self.unit]
        return level + spread * (step + run + self.drift * np.linspace(0, 1, STEPS))


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
    usual = rng.uniform(size=shape) < np.where(drawn.shifted, 0.9 - 0.5 * links.grammar, 0.9)[:, None]
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
    kinds: float = 0.0,
    wordings: int = 1,
    states: float | None = None,
    tagged: bool = False,
    drift: str = "",
    uneven: bool = False,
    off: float = 0.0,
) -> ModelData:
    """One model with graded runs; `right` is the share of right answers, `difficulty` the SD of units in log odds.

    With `kinds` the links go with the category, which moves errors by as many log odds to either side, and with nothing
    within it (`tagged`: with the tag, within one category). `wordings` prompts ask about one thing, which has one
    difficulty and one level of every column. With `states` a word of the prompt says which units are hard, the states
    at the beginning of the answer say so too, and beyond that are shifted by so many SD where the answer is wrong. With
    `drift` all columns rise by a spread over the run, and answers that are "wrong", or have more "steps" of derivation,
    are longer. `uneven`: hard prompts have five times the runs of easy ones. With `off` that share of the answers is
    cut off by the limit of tokens and wrong for that, and the links go with it.
    """
    n_prompts = prompts + calibration
    odd = np.exp(difficulty * rng.normal(size=n_prompts))
    times = np.where(odd[np.arange(n_prompts) // wordings] > 1, 5, 1) if uneven else np.full(n_prompts, samples)
    sample, prompt = np.nonzero(times > np.arange(times.max())[:, None])
    n, unit = len(prompt), prompt // wordings
    hard = odd[unit] if difficulty else 1.0
    second = unit % 2 == 1
    odds = (1 - right) / right * hard * np.exp(kinds * np.where(second, 1, -1))
    level = 1 + (unit if difficulty else np.arange(n)) % 3
    wrong = rng.uniform(size=n) < odds / (1 + odds)
    cut = rng.uniform(size=n) < off if off else np.zeros(n, bool)
    wrong |= cut
    drawn = _Drawn(
        rng, wrong, level, cut if off else second if kinds else wrong, unit if wordings > 1 else None, bool(drift)
    )
    ct, tokens = _instability(drawn, links)
    at, plain = _columns(drawn, links, ct)
    later = np.asarray({"": STEPS, "wrong": 24 * wrong, "steps": 12 * (level - 1)}[drift])
    lengths = np.where(cut, STEPS, np.minimum(rng.integers(24, 49, n) + later, STEPS))
    there = np.arange(STEPS) < lengths[:, None]
    at, plain = ({k: np.where(there, v, np.nan) for k, v in of.items()} for of in (at, plain))
    run, step, layer = (x.ravel() for x in np.indices((n, STEPS, len(RECORDED))))
    layers = {"run": run, "step": step, "layer": np.array(RECORDED)[layer]}
    layers |= {k: np.repeat(v[:, :, None], len(RECORDED), 2).ravel() for k, v in at.items()}
    run, step = (x.ravel() for x in np.indices((n, STEPS)))
    runs = runs_of(
        [f"{'c' if p >= prompts else 'p'}{p:04d}" for p in prompt],
        lengths,
        unit=np.array([f"u{u:04d}" for u in unit]),
        category=np.where(second & (not tagged), "science", "factual"),
        sample=sample,
        calibration=prompt >= prompts,
        n_prompt=rng.integers(5, 20, n),
        correct=(~drawn.wrong).astype(float),
        answer_state=rng.normal(size=(n, 4)),
        tag=np.array([f"{k} steps" if k > 1 else "1 step" for k in level]),
    )
    if off:
        runs["finish"] = np.where(cut, "length", "eos")
    if tagged:
        runs["tag"] = np.where(second, "rare", "common")
    if states is not None:
        hinted = np.broadcast_to(hard, n) > 1
        runs["prompt"] = np.array([f"q{u} {'rare' if h else 'common'}" for u, h in zip(unit, hinted, strict=True)])
        runs["answered"] = np.array([f"a{k}" for k in rng.integers(0, 20, n)])
        runs["answer_state"] = runs["answer_state"] + np.column_stack([2 * hinted, states * wrong, *np.zeros((2, n))])
    info = ModelInfo(name, "f", LAYERS, 16, 500, int(rng.integers(10**6, 10**8)), training_loss=rng.normal(2.0, 0.3))
    steps = {"run": run, "step": step} | {k: v.ravel() for k, v in plain.items()}
    said = tuple(tuple(t[:k]) for t, k in zip(tokens.tolist(), lengths, strict=True))
    return ModelData(info, runs, steps, layers, said)


def linked(generator: np.random.Generator, *, links: Mapping[str, float] = {}, **size: float) -> Panel:
    """A study of one model whose runs have these links (`Links`); prompts differ in difficulty (1 in log odds)."""
    return several(generator, links=(links,), **size)


def several(generator: np.random.Generator, *, links: Sequence[Mapping[str, float]], **size: Any) -> Panel:
    """A study of as many models as links, asked the same prompts."""
    models = [graded_model(f"m{i}", generator, Links(**one), difficulty=1.0, **size) for i, one in enumerate(links)]
    return Panel(tuple(models), seed=int(generator.integers(2**31)), n_boot=BOOTSTRAPS)


def reasoning(generator: np.random.Generator, *, slope: float, m: int = 12) -> Panel:
    """A study of M models, max / mean of instability from 2.5 to 8: right answers fall by `slope` over that range."""
    near = np.sort(2.5 + 5.5 * generator.random(m))
    right = np.clip(0.5 + slope * (0.5 - (near - 2.5) / 5.5) + 0.12 * generator.standard_normal(m), 0.05, 0.95)
    models = [
        graded_model(f"m{i}", generator, Links(closeness=float(c)), right=float(r), **SMALL)
        for i, (c, r) in enumerate(zip(near, right, strict=True))
    ]
    return Panel(tuple(models), seed=int(generator.integers(2**31)), n_boot=BOOTSTRAPS)
