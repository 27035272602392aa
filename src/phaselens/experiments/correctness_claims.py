"""Evidence for the claims about answers: S1, S2, S3, S5, S7, A5; and about what comes later: X3, R5, R8."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from phaselens.claims import IntervalEvidence, Region, Requirement, above, below, inside, outside
from phaselens.dynamics.correctness import cycle_start, prefix_means, repetition, run_mean_of
from phaselens.dynamics.regimes import max_over_mean, ratio_norm
from phaselens.experiments.base import ModelData, Panel
from phaselens.experiments.graded import Graded
from phaselens.experiments.separations import counts
from phaselens.statistics.detection import auroc, resampled_auroc, run_weights
from phaselens.statistics.intervals import percentile_interval
from phaselens.statistics.logistic import held_out_probability
from phaselens.statistics.resampling import bootstrap_weights

CLAIMS = ("S1", "S2", "S3", "S5", "S7", "X3", "A5", "R5", "R8")
ENOUGH_DRAWS = 0.9  # of the resamples must be defined, as for an interval
ROUNDING = 1e-12
FEWEST_RUNS, FEWEST_PROMPTS, FEWEST_COLLAPSES, FEWEST_MODELS = 1000, 300, 10, 4
MARGIN = 0.2
UPTO = 16
BAND = (2.27, 2.92)
ONSET, BEFORE, LAST = 32, 8, 8
REASONING = ("science", "reasoning")
HOPS = re.compile(r"(\d+) steps?\b")
Oriented = Mapping[str, Mapping[str, np.ndarray]]
Draws = tuple[float, np.ndarray]
NOTHING: Draws = (math.nan, np.full(1, math.nan))


def evidence_of(panel: Panel, graded: Mapping[str, Graded], turned: Oriented) -> dict[str, IntervalEvidence]:
    """The evidence of all nine claims from the graded runs of the trained models."""
    ungraded = (
        "" if graded else "no run is graded: give the battery answers, and prompts that models get right and wrong"
    )
    n_runs = sum(int(g.measured.sum()) for g in graded.values())
    n_prompts = len({int(p) for g in graded.values() for p in g.prompt[g.measured]})
    enough = Requirement(
        "runs", n_runs >= FEWEST_RUNS, f"{n_runs} graded runs < {FEWEST_RUNS}", f"{FEWEST_RUNS} graded runs"
    )
    many = Requirement(
        "prompts", n_prompts >= FEWEST_PROMPTS, f"{n_prompts} prompts < {FEWEST_PROMPTS}", f"{FEWEST_PROMPTS} prompts"
    )
    every = tuple(graded.values())

    def of(found: Draws, units: int = n_prompts, lacking: str = ungraded, **more: object) -> IntervalEvidence:
        return _evidence(panel, found, units, lacking, n_runs, **more)

    hops = "" if any(_hops(g) is not None for g in every) else "no prompts with 1, 2 and 3 steps of derivation (tags)"
    loops, n_loops = late_before_collapse(panel)
    few = Requirement(
        "collapses",
        n_loops >= FEWEST_COLLAPSES,
        f"{n_loops} collapses after step {ONSET}",
        f"{FEWEST_COLLAPSES} collapses",
    )
    near, n_models = reasoning_by_closeness(panel, every)
    short = "" if n_models >= FEWEST_MODELS else f"{n_models} models with graded reasoning, {FEWEST_MODELS} are needed"
    if not short and not np.isfinite(near[0]):
        short = "all models are as near to the band, or answer as many reasoning questions right: ask harder ones"
    return {
        "S1": of(trap_risk(panel, every), requirements=(enough,)),
        "S2": of(resolved_difference(panel, every), requirements=(enough,)),
        "S3": of(
            decoupling(panel, every),
            supported=inside(MARGIN),
            rejected=outside(MARGIN),
            requirements=(many,),
            margin=MARGIN,
        ),
        "S5": of(earlier(panel, every), requirements=(enough,)),
        "S7": of(load_slope(panel, every), lacking=ungraded or hops),
        "X3": of(later_regime(panel), len(panel.units), ""),
        "A5": of(grammar_gain(panel, every, turned), requirements=(enough,)),
        "R5": of(loops, len(panel.units), "", requirements=(few,)),
        "R8": of(near, n_models, ungraded or short),
    }


def _evidence(
    panel: Panel,
    found: Draws,
    units: int,
    lacking: str,
    n_runs: int,
    *,
    supported: tuple[Region, ...] = above(0),
    rejected: tuple[Region, ...] = below(0),
    requirements: tuple[Requirement, ...] = (),
    margin: float = 0.0,
) -> IntervalEvidence:
    estimate, draws = found
    around = percentile_interval(draws, units)
    seen = draws[np.isfinite(draws)]
    p = math.nan
    if not around.reason:
        p = (1 + (seen <= 0).sum()) / (len(seen) + 1)
        if margin:
            p = max((1 + (side * seen >= margin).sum()) / (len(seen) + 1) for side in (1, -1))
    return IntervalEvidence(
        estimate=estimate,
        interval=around,
        supported=supported,
        rejected=rejected,
        counts=counts(panel) | {"graded runs": n_runs},
        n=units,
        needed=f"more prompts (this study: {units})",
        requirements=requirements,
        p=float(p),
        null=margin,
        lacking=lacking,
    )


def _mean_over(parts: Sequence[Draws]) -> Draws:
    """The mean over models of an estimate and of its draws; undefined models left out."""
    parts = [part for part in parts if np.isfinite(part[0])]
    if not parts:
        return NOTHING
    return float(np.mean([e for e, _ in parts])), np.mean([d for _, d in parts], axis=0)


def trap_risk(panel: Panel, graded: Sequence[Graded]) -> Draws:
    """Adjusted risk difference from no commitment trap to a full one (probability), all models together."""
    x, y, prompt = [], [], []
    for k, g in enumerate(graded):
        trap = g.scores.get("commitment trap")
        others = [g.baselines.get(n) for n in ("mean entropy", "mean log-probability")]
        if trap is None or any(o is None for o in others):
            continue
        use = g.measured & np.isfinite(trap) & np.isfinite(others).all(0)
        constant = np.zeros((int(use.sum()), len(graded)))
        constant[:, k] = 1
        rank = rankdata(trap[use]) / use.sum()
        x.append(np.column_stack([rank, *(o[use] for o in others), constant]))
        y.append(g.wrong[use])
        prompt.append(g.prompt[use])
    if not x:
        return NOTHING
    whole = np.concatenate(x)
    return _coefficient(panel, whole[:, whole.any(0)], np.concatenate(y), np.concatenate(prompt))


def _coefficient(panel: Panel, x: np.ndarray, y: np.ndarray, prompt: np.ndarray) -> Draws:
    """The first coefficient of least squares, and in each resample of prompts."""
    xx = np.zeros((len(panel.units), x.shape[1], x.shape[1]))
    xy = np.zeros((len(panel.units), x.shape[1]))
    np.add.at(xx, prompt, x[:, :, None] * x[:, None, :])
    np.add.at(xy, prompt, x * y[:, None])
    weights = np.vstack([np.ones(len(panel.units), int), panel.weights])
    a = np.tensordot(weights, xx, 1) + 1e-9 * np.eye(x.shape[1])
    found = np.linalg.solve(a, (weights @ xy)[..., None])[:, 0, 0]
    return float(found[0]), found[1:]


def resolved_difference(panel: Panel, graded: Sequence[Graded]) -> Draws:
    """Share right of resolved less that of unresolved turbulence, within prompt, model and arm (probability)."""
    sums, ns = np.zeros(len(panel.units)), np.zeros(len(panel.units))
    for g in graded:
        score = g.scores.get("resolved turbulence")
        if score is None or not np.isfinite(score[g.measured]).any():
            continue
        low, high = np.nanquantile(score[g.measured], [1 / 3, 2 / 3])
        arm = np.asarray(g.model.runs["arm"]).astype(str)[g.rows]
        for prompt in np.unique(g.prompt[g.measured]):
            for one in np.unique(arm):
                here = (g.prompt == prompt) & (arm == one)
                up, down = here & (score >= high), here & (score <= low)
                if up.any() and down.any():
                    sums[prompt] += g.wrong[down].mean() - g.wrong[up].mean()
                    ns[prompt] += 1
    if not ns.sum():
        return NOTHING
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(sums.sum() / ns.sum()), (panel.weights @ sums) / (panel.weights @ ns)


def decoupling(panel: Panel, graded: Sequence[Graded]) -> Draws:
    """Random-effects mean over models of the rank correlation of mean instability with correctness (1)."""
    found, draws = [], []
    for g in graded:
        stable = g.scores.get("mean instability")
        use = g.measured if stable is None else g.measured & np.isfinite(stable)
        if stable is None or len(np.unique(g.wrong[use])) < 2:
            continue
        ranks = np.column_stack([rankdata(stable[use]), rankdata(1 - g.wrong[use])])
        weights = np.vstack([np.ones(len(panel.units), int), panel.weights])[:, g.prompt[use]]
        r = _weighted_correlation(ranks, weights)
        if np.isfinite(r).mean() < ENOUGH_DRAWS:
            continue
        found.append(r[0])
        draws.append(r[1:])
    if not found:
        return NOTHING
    each, all_draws = np.array(found), np.array(draws)
    spread = np.maximum(np.nanvar(all_draws, axis=1), 1e-12)
    return _random_effects(each, spread), np.array([_random_effects(d, spread) for d in all_draws.T])


def _weighted_correlation(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Correlation of two columns under each row of weights (1); NaN where a column has no spread left."""
    total = np.maximum(w.sum(1), 1)
    mean = w @ x / total[:, None]
    square = w @ (x**2) / total[:, None] - mean**2
    both = w @ (x[:, 0] * x[:, 1]) / total - mean[:, 0] * mean[:, 1]
    spread = np.where((square > ROUNDING * (1 + mean**2)).all(1), square[:, 0] * square[:, 1], np.nan)
    return both / np.sqrt(spread)


def _random_effects(values: np.ndarray, variance: np.ndarray) -> float:
    """DerSimonian and Laird's mean (unit of the values)."""
    w = 1 / variance
    fixed = (w * values).sum() / w.sum()
    excess = (w * (values - fixed) ** 2).sum() - (len(values) - 1)
    scale = w.sum() - (w**2).sum() / w.sum()
    between = max(0.0, excess / scale) if scale > 0 else 0.0
    w = 1 / (variance + between)
    return float((w * values).sum() / w.sum())


def earlier(panel: Panel, graded: Sequence[Graded]) -> Draws:
    """Mean AUROC over steps 1-16 of the better of coherence and curvature less that of the better output score (1)."""
    return _mean_over([_earlier(panel, g) for g in graded])


def _earlier(panel: Panel, g: Graded) -> Draws:
    inner = [("coherence", g.model.layer_of_record), ("turning_angle", g.model.layer_of_record)]
    curves = []
    for group in (inner, [("surprisal", None), ("entropy", None)]):
        one = [_prefix(g, name, layer) for name, layer in group]
        known = [c for c in one if c is not None]
        if not known:
            return NOTHING
        curves.append(max(known, key=lambda c: c[0]))
    if (~g.measured).sum() < FEWEST_COLLAPSES:
        return NOTHING
    (_, ours), (_, theirs) = curves
    here = g.measured
    weights = run_weights(np.vstack([np.ones(len(panel.units), int), panel.weights]), g.prompt[here])
    steps = [k for k in range(UPTO) if np.isfinite(ours[here, k]).any() and np.isfinite(theirs[here, k]).any()]
    difference = [
        resampled_auroc(ours[here, k], g.wrong[here], weights)
        - resampled_auroc(theirs[here, k], g.wrong[here], weights)
        for k in steps
    ]
    found = np.mean(difference, axis=0)
    return float(found[0]), found[1:]


def _prefix(g: Graded, name: str, layer: int | None) -> tuple[float, np.ndarray] | None:
    """A running mean turned by calibration runs, and its AUROC there, mean over the steps."""
    if layer is None:
        values = g.model.per_step(name) if name in g.model.steps else None
    else:
        values = g.model.at_layer(name, layer)
    if values is None:
        return None
    means = prefix_means(values[g.rows], UPTO)
    known = ~g.measured
    there = np.array([auroc(means[known, k], g.wrong[known]) for k in range(UPTO)])
    level = np.nanmean(there) if np.isfinite(there).any() else 0.5
    return (1 - level, -means) if level < 0.5 else (level, means)


def _hops(g: Graded) -> np.ndarray | None:
    """Steps of derivation of each graded run (count), NaN where its tag says none; None: fewer than two levels."""
    if "tag" not in g.model.runs:
        return None
    found = [HOPS.search(str(tag)) for tag in np.asarray(g.model.runs["tag"])[g.rows]]
    hops = np.array([float(f.group(1)) if f else np.nan for f in found])
    return hops if len(np.unique(hops[np.isfinite(hops)])) >= 2 else None


def load_slope(panel: Panel, graded: Sequence[Graded]) -> Draws:
    """Slope of mean turbulence over steps of derivation with prompt length taken out (1 per step), mean over models."""
    parts = []
    for g in graded:
        hops, turbulence = _hops(g), g.scores.get("mean turbulence")
        if hops is None or turbulence is None:
            continue
        length = np.asarray(g.model.runs.get("n_prompt", g.model.runs["n_generated"]), float)[g.rows]
        use = g.measured & np.isfinite(hops) & np.isfinite(turbulence)
        x = np.column_stack([hops[use], length[use], np.ones(int(use.sum()))])
        parts.append(_coefficient(panel, x, turbulence[use], g.prompt[use]))
    return _mean_over(parts)


def later_regime(panel: Panel) -> Draws:
    """AUROC gain of values 1-8 of the dynamics over prompt length, entropy and surprisal for the later regime (1)."""
    return _mean_over([_later_regime(panel, m) for m in panel.trained])


def _later_regime(panel: Panel, m: ModelData) -> Draws:
    ct = m.at_layer("instability", m.layer_of_record)
    if ct is None or not {"entropy", "surprisal"} <= set(m.steps):
        return NOTHING
    first = int(np.argmax(np.isfinite(ct).any(0)))
    window = ct[:, first + 8 : first + 72]
    later = np.where(np.isfinite(window).sum(1) >= 32, max_over_mean(window, ("",) * len(window)).value, np.nan)
    use = m.measured & np.isfinite(later)
    if use.sum() < 40:
        return NOTHING
    label = (later > np.median(later[use]))[use].astype(float)
    early = slice(0, first + 8)
    inner = [
        run_mean_of(found[:, early])
        for name in ("instability", "step_length", "turning_angle")
        for layer in (m.layer_of_record, m.info.n_layers)
        if (found := m.at_layer(name, layer)) is not None
    ]
    plain = [run_mean_of(m.per_step(name)[:, early]) for name in ("entropy", "surprisal")]
    plain.append(np.asarray(m.runs.get("n_prompt", m.runs["n_generated"]), float))
    prompt = panel.unit_index(m)[use]
    both = []
    for features in ([*plain, *inner], plain):
        x = np.column_stack(features)[use]
        both.append(
            held_out_probability(x, label, prompt, panel.generator(f"later regime {m.info.name}"), constant=False)
        )
    weights = run_weights(np.vstack([np.ones(len(panel.units), int), panel.weights]), prompt)
    gain = resampled_auroc(both[0], label, weights) - resampled_auroc(both[1], label, weights)
    return float(gain[0]), gain[1:]


def grammar_gain(panel: Panel, graded: Sequence[Graded], turned: Oriented) -> Draws:
    """AUROC of the grammar violation less that of the best baseline (1), mean over models."""
    parts = []
    for g in graded:
        found = turned[g.model.info.name]
        violation, here = g.scores.get("grammar violation"), g.measured
        if violation is None:
            continue
        known = {n: auroc(found[n][here], g.wrong[here]) for n in g.baselines}
        known = {n: v for n, v in known.items() if np.isfinite(v)}
        if not known:
            continue
        best = found[max(known, key=lambda n: known[n])]
        weights = run_weights(np.vstack([np.ones(len(panel.units), int), panel.weights]), g.prompt[here])
        gain = resampled_auroc(violation[here], g.wrong[here], weights) - resampled_auroc(
            best[here], g.wrong[here], weights
        )
        parts.append((float(gain[0]), gain[1:]))
    return _mean_over(parts)


def late_before_collapse(panel: Panel) -> tuple[Draws, int]:
    """AUROC gain of low late instability over repetition and entropy, from steps before t - 8; and the collapses."""
    columns: dict[str, list[float]] = {"ct": [], "repetition": [], "entropy": [], "loops": [], "prompt": []}
    for m in panel.trained:
        ct = m.at_layer("instability", m.layer_of_record)
        if ct is None or not m.completions or "entropy" not in m.steps:
            continue
        entropy, prompt = m.per_step("entropy"), panel.unit_index(m)
        starts = np.array([cycle_start(tokens) for tokens in m.completions])
        onsets = starts[(starts >= ONSET) & m.measured]
        if not len(onsets):
            continue
        calm = np.flatnonzero((starts < 0) & m.measured)
        pairs = [(int(i), int(starts[i]), 1) for i in np.flatnonzero((starts >= ONSET) & m.measured)]
        pairs += [(int(i), int(onsets[k % len(onsets)]), 0) for k, i in enumerate(calm)]
        for i, t, loops in pairs:
            if len(m.completions[i]) < t:
                continue
            window = slice(max(0, t - BEFORE - LAST), t - BEFORE)
            columns["ct"].append(-run_mean_of(ct[i : i + 1, window])[0])
            columns["entropy"].append(-run_mean_of(entropy[i : i + 1, window])[0])
            columns["repetition"].append(repetition(m.completions[i][: t - BEFORE]))
            columns["loops"].append(loops)
            columns["prompt"].append(prompt[i])
    loops = np.array(columns["loops"], float)
    if not loops.sum() or loops.all():
        return NOTHING, int(loops.sum())
    weights = run_weights(np.vstack([np.ones(len(panel.units), int), panel.weights]), np.array(columns["prompt"], int))
    of = {n: resampled_auroc(np.array(columns[n]), loops, weights) for n in ("ct", "repetition", "entropy")}
    gain = of["ct"] - of[max(("repetition", "entropy"), key=lambda n: of[n][0])]
    return (float(gain[0]), gain[1:]), int(loops.sum())


def reasoning_by_closeness(panel: Panel, graded: Sequence[Graded]) -> tuple[Draws, int]:
    """Rank correlation over models of closeness to the adaptive band with right reasoning; and the models."""
    closeness, right = [], []
    for g in graded:
        ct = g.model.at_layer("instability", g.model.layer_of_record)
        kind = np.isin(np.asarray(g.model.runs["category"]).astype(str)[g.rows], REASONING) & g.measured
        if ct is None or not kind.any():
            continue
        middle = (
            float(np.nanmedian(values))
            if np.isfinite(values := ratio_norm(ct).value[g.model.measured]).any()
            else np.nan
        )
        if np.isfinite(middle):
            closeness.append(-max(BAND[0] - middle, middle - BAND[1], 0.0))
            right.append(1 - g.wrong[kind].mean())
    n = len(right)
    if n < FEWEST_MODELS:
        return NOTHING, n
    weights = bootstrap_weights(n, panel.generator("adaptive regime"), n_boot=panel.n_boot)
    ranks = np.column_stack([rankdata(closeness), rankdata(right)])
    found = _weighted_correlation(ranks, np.vstack([np.ones(n, int), weights]))
    return (float(found[0]), found[1:]), n
