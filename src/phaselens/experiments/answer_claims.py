"""Evidence for the claims about answers: S1, S2, S3, S5, S7, A5, O3.

Kinds of question differ in difficulty and in everything measured, so runs are compared within strata of one model, one
category, one tag and one sampling arm; the number without strata stands beside and decides nothing. Each model gives
one number and models weigh the same: what each says, how many lie on either side, and how they spread is said with it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from phaselens.claims import IntervalEvidence, Outcome, Requirement, inside, outside
from phaselens.claims.verdict_records import word_of
from phaselens.dynamics.correctness_scores import prefix_means
from phaselens.experiments.base import Panel
from phaselens.experiments.by_model import Own, below_bound, mean_evidence, own, refitted_gain
from phaselens.experiments.graded_runs import Graded, lacking_grades, strata_of
from phaselens.experiments.pooled import Pooled, of_draws, signs
from phaselens.experiments.separations import counts
from phaselens.statistics.detection import resampled_auroc_within
from phaselens.statistics.intervals import Interval, percentile_interval
from phaselens.statistics.strata import coefficient_within, crossed, rank_correlation_within

CLAIMS = ("S1", "S2", "S3", "S5", "S7", "A5", "O3")
FEWEST_RUNS, FEWEST_UNITS, FEWEST_CALIBRATION = 1000, 300, 10
MARGIN = 0.2
UPTO = 16
NOTHING = 1e-9  # what rounding leaves of a difference of 0
THIRDS = (1 / 3, 2 / 3)
HOPS = re.compile(r"(\d+) steps?\b")
INNER, OUTER = ("coherence", "turning_angle"), ("surprisal", "entropy")
NO_TEXT = "no model has both texts and the states its answers begin with: run the study anew"
LEAST_GAIN = 0.02  # of AUROC: what states add to text is as good as nothing below it

Oriented = Mapping[str, Mapping[str, np.ndarray]]


def trap_risk(panel: Panel, g: Graded) -> Own | None:
    """S1: adjusted risk difference from no commitment trap to a full one (probability)."""
    columns = [g.scores.get("commitment trap"), *(g.baselines.get(n) for n in ("mean entropy", "mean log-probability"))]
    if any(c is None for c in columns):
        return None
    use = g.measured & np.isfinite(np.stack(columns)).all(axis=0)
    if not use.any():
        return None
    rank = rankdata(columns[0][use]) / use.sum()
    x = np.column_stack([rank, *(c[use] for c in columns[1:])])
    return own(panel, g, use, lambda s, w: coefficient_within(x, g.wrong[use], s, g.unit[use], w))


@dataclass(frozen=True, eq=False)
class _Contrast:
    """Runs of resolved less runs of unresolved turbulence within (prompt, arm): share right, tokens; unit of each."""

    right: np.ndarray
    tokens: np.ndarray
    unit: np.ndarray


def _contrast(g: Graded) -> tuple[np.ndarray, _Contrast] | None:
    score = g.scores.get("resolved turbulence")
    if score is None or not np.isfinite(score[g.measured]).any():
        return None
    low, high = np.nanquantile(score[g.measured], THIRDS)
    use = g.measured & ((score >= high) | (score <= low))
    up = (score >= high)[use]
    runs = g.model.runs
    cell = crossed(np.asarray(runs["prompt_id"])[g.rows][use], np.asarray(runs["arm"])[g.rows][use])
    size = int(cell.max()) + 1
    n = [np.bincount(cell[side], minlength=size) for side in (up, ~up)]
    both = (n[0] > 0) & (n[1] > 0)
    if not both.any():
        return None

    def difference(values: np.ndarray) -> np.ndarray:
        means = [
            np.bincount(cell[s], values[s], minlength=size)[both] / c[both] for s, c in zip((up, ~up), n, strict=True)
        ]
        return means[0] - means[1]

    unit = np.zeros(size, int)
    unit[cell] = g.unit[use]
    tokens = np.asarray(runs["n_generated"], float)[g.rows][use]
    return use, _Contrast(difference(1 - g.wrong[use]), difference(tokens), unit[both])


def _paired_mean(of: _Contrast, w: np.ndarray) -> np.ndarray:
    sums, n = (np.bincount(of.unit, v, minlength=w.shape[1]) for v in (of.right, None))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (w @ sums) / (w @ n)


def resolved_difference(panel: Panel, g: Graded) -> Own | None:
    """S2: share right of resolved less that of unresolved turbulence, within prompt and arm (probability)."""
    found = _contrast(g)
    if found is None:
        return None
    use, contrast = found
    drawn = _paired_mean(contrast, np.vstack([np.ones((1, len(panel.units)), int), panel.weights]))
    score = g.scores["resolved turbulence"][use]
    up = score > np.nanmean(score)
    plain = float(g.wrong[use][~up].mean() - g.wrong[use][up].mean())
    return Own(g.model.info.name, float(drawn[0]), drawn[1:], plain, int(use.sum()), len(np.unique(contrast.unit)))


def resolved_at_equal_length(panel: Panel, graded: Sequence[Graded]) -> Outcome:
    """S2's control: the same with the difference in answer length taken out (intercept over pairs)."""
    found = [(g.model.info.name, both[1]) for g in graded if (both := _contrast(g)) is not None]
    if not found:
        return Outcome("length", "missing", "no runs to compare")
    if not any(c.tokens.any() for _, c in found):
        return Outcome("length", "survived", "all answers have one length")
    w, parts = np.vstack([np.ones((1, len(panel.units)), int), panel.weights]), []
    for name, c in found:
        drawn = _paired_mean(c, w)
        if c.tokens.any():  # undefined where length differs by one number in all: what it does cannot be told apart
            slope = coefficient_within(c.tokens[:, None], c.right, np.zeros(len(c.right), int), c.unit, w)
            drawn = drawn - slope * _paired_mean(replace(c, right=c.tokens), w)
        parts.append((name, float(drawn[0]), drawn[1:]))
    return _still(of_draws(parts, len(panel.units)), "length", "at equal length")


def _still(found: Pooled, name: str, where: str) -> Outcome:
    interval = found.whole.interval
    word = word_of(interval.lo > NOTHING, interval.hi < -NOTHING)
    return Outcome(name, word, f"{where}: {found.whole.value:.3g} [{interval.lo:.3g}, {interval.hi:.3g}]")


def decoupling(panel: Panel, g: Graded) -> Own | None:
    """S3: rank correlation of mean instability with correctness (1)."""
    stable = g.scores.get("mean instability")
    if stable is None:
        return None
    use = g.measured & np.isfinite(stable)
    if len(np.unique(g.wrong[use])) < 2:
        return None
    return own(panel, g, use, lambda s, w: rank_correlation_within(stable[use], 1 - g.wrong[use], s, w[:, g.unit[use]]))


@dataclass(frozen=True, eq=False)
class _Prefixes:
    """Running means of the better inner and the better output score over steps 1-16, each turned: [run, step]."""

    inner: np.ndarray
    outer: np.ndarray
    use: np.ndarray
    steps: tuple[int, ...]


def _prefixes(g: Graded) -> _Prefixes | None:
    known = ~g.measured
    if known.sum() < FEWEST_CALIBRATION:
        return None
    chosen = []
    for group, layer in ((INNER, g.model.layer_of_record), (OUTER, None)):
        every = [c for name in group if (c := _prefix(g, name, layer)) is not None]
        if not every:
            return None
        chosen.append(max(every, key=lambda c: c[0])[1])
    inner, outer = chosen
    use = g.measured & np.isfinite(inner[:, -1]) & np.isfinite(outer[:, -1])
    steps = tuple(k for k in range(UPTO) if all(np.isfinite(c[use, k]).any() for c in chosen))
    return _Prefixes(inner, outer, use, steps) if steps and use.any() else None


def _prefix(g: Graded, name: str, layer: int | None) -> tuple[float, np.ndarray] | None:
    """A running mean turned by calibration runs, and its AUROC there within strata, mean over the steps."""
    if layer is None:
        values = g.model.per_step(name) if name in g.model.steps else None
    else:
        values = g.model.at_layer(name, layer)
    if values is None:
        return None
    means = prefix_means(values[g.rows], UPTO)
    known = ~g.measured
    one = np.ones((1, int(known.sum())))
    there = np.array(
        [resampled_auroc_within(means[known, k], g.wrong[known], g.strata[known], one)[0] for k in range(UPTO)]
    )
    level = float(np.nanmean(there)) if np.isfinite(there).any() else 0.5
    return (1 - level, -means) if level < 0.5 else (level, means)


def _lead(g: Graded, p: _Prefixes, stratum: np.ndarray, w: np.ndarray, against: np.ndarray | None = None) -> np.ndarray:
    """Mean over steps of the AUROC of the inner score less that of the output's, or of one score [run] (1): [draw]."""
    wrong, runs = g.wrong[p.use], w[:, g.unit[p.use]]

    def of(values: np.ndarray) -> np.ndarray:
        return resampled_auroc_within(values, wrong, stratum, runs)

    inner = [of(p.inner[p.use, k]) for k in p.steps]
    other = [of(p.outer[p.use, k]) for k in p.steps] if against is None else of(against[p.use])
    return np.mean(inner, axis=0) - (np.mean(other, axis=0) if against is None else other)


def earlier(panel: Panel, g: Graded) -> Own | None:
    """S5: AUROC over steps 1-16 of the better of coherence and curvature less that of the better output score (1)."""
    p = _prefixes(g)
    return None if p is None else own(panel, g, p.use, lambda s, w: _lead(g, p, s, w))


def earlier_beside(panel: Panel, graded: Sequence[Graded], turned: Oriented) -> tuple[Outcome, ...]:
    """S5's controls: within thirds of the answer's length, and against CoE-R and a linear probe of the whole run.

    Both of these read states too, so what is asked is that neither is surely better than what is said to warn.
    """
    known = [(g, p) for g in graded if (p := _prefixes(g)) is not None]
    w = np.vstack([np.ones((1, len(panel.units)), int), panel.weights])
    out = []
    for name in ("length", "CoE-R", "linear probe"):
        having = [(g, p) for g, p in known if name in g.baselines]
        if not having:
            out.append(Outcome(name, "missing", "not recorded"))
            continue
        if name == "length" and not any(np.ptp(g.baselines[name][p.use]) for g, p in having):
            out.append(Outcome(name, "survived", "all answers have one length"))
            continue
        parts = []
        for g, p in having:
            if name == "length":
                length = g.baselines[name][p.use]
                finer = crossed(g.strata[p.use], np.searchsorted(np.quantile(length, THIRDS), length))
                drawn = _lead(g, p, finer, w)
            else:
                drawn = _lead(g, p, g.strata[p.use], w, turned[g.model.info.name][name])
            if math.isfinite(drawn[0]):
                parts.append((g.model.info.name, float(drawn[0]), drawn[1:]))
        if not parts:
            out.append(Outcome(name, "undecided", "no stratum has a wrong and a right answer"))
            continue
        found = of_draws(parts, len(panel.units))
        if name == "length":
            out.append(_still(found, name, "within thirds of length"))
            continue
        ends = found.whole.interval
        said = f"better by {found.whole.value:.3g} [{ends.lo:.3g}, {ends.hi:.3g}] than {name} of the whole run"
        out.append(Outcome(name, "undecided" if ends.hi < 0 else "survived", said))
    return tuple(out)


def hops_of(g: Graded) -> np.ndarray | None:
    """Steps of derivation of each graded run (count), NaN where its tag says none; None: fewer than two levels."""
    if "tag" not in g.model.runs:
        return None
    found = [HOPS.search(str(tag)) for tag in np.asarray(g.model.runs["tag"])[g.rows]]
    hops = np.array([float(f.group(1)) if f else np.nan for f in found])
    return hops if len(np.unique(hops[np.isfinite(hops)])) >= 2 else None


def load_slope(panel: Panel, g: Graded) -> Own | None:
    """S7: slope of mean turbulence over steps of derivation with prompt length taken out (1 per step)."""
    hops, turbulence = hops_of(g), g.scores.get("mean turbulence")
    if hops is None or turbulence is None:
        return None
    length = np.asarray(g.model.runs.get("n_prompt", g.model.runs["n_generated"]), float)[g.rows]
    use = g.measured & np.isfinite(hops) & np.isfinite(turbulence)
    if not use.any():
        return None
    x = np.column_stack([hops[use], length[use]])
    strata = strata_of(g.model, ("category", "arm"))[g.rows]  # the tag says the steps themselves
    return own(panel, g, use, lambda s, w: coefficient_within(x, turbulence[use], s, g.unit[use], w), strata)


def grammar_gain(panel: Panel, g: Graded, turned: Mapping[str, np.ndarray]) -> Own | None:
    """A5: AUROC of the grammar violation less that of the best baseline (1)."""
    violation, use = g.scores.get("grammar violation"), g.measured
    if violation is None:
        return None
    wrong, one = g.wrong[use], np.ones((1, int(use.sum())))
    known = {n: resampled_auroc_within(turned[n][use], wrong, g.strata[use], one)[0] for n in g.baselines}
    known = {n: v for n, v in known.items() if np.isfinite(v)}
    if not known:
        return None
    best = turned[max(known, key=lambda n: known[n])]

    def gain(stratum: np.ndarray, w: np.ndarray) -> np.ndarray:
        runs = w[:, g.unit[use]]
        first, second = (resampled_auroc_within(v[use], wrong, stratum, runs) for v in (violation, best))
        return first - second

    return own(panel, g, use, gain)


def beyond_text(panel: Panel, g: Graded) -> Own | None:
    """O3: AUROC gain of text and the linear probe of the states over text alone, in predicting wrong answers (1)."""
    texts = [v for name, v in g.baselines.items() if name.startswith("text: ")]
    probe = g.baselines.get("linear probe")
    if not texts or probe is None:
        return None
    use = g.measured & np.isfinite([*texts, probe]).all(0)
    if use.sum() < FEWEST_CALIBRATION or len(np.unique(g.wrong[use])) < 2:
        return None
    plain = [v[use] for v in texts]
    return refitted_gain(
        panel, g.model.info.name, ([*plain, probe[use]], plain), g.wrong[use], g.unit[use], g.strata[use]
    )


def answers_by_model(
    panel: Panel, graded: Sequence[Graded], turned: Oriented, claims: Sequence[str] = CLAIMS
) -> dict[str, list[Own]]:
    """What each model says of each of the claims; models of which it is undefined are left out."""
    of = {
        "S1": trap_risk,
        "S2": resolved_difference,
        "S3": decoupling,
        "S5": earlier,
        "S7": load_slope,
        "O3": beyond_text,
        "A5": lambda panel, g: grammar_gain(panel, g, turned[g.model.info.name]),
    }
    return {claim: [o for g in graded if (o := of[claim](panel, g)) is not None] for claim in claims if claim in of}


def answers_evidence(
    panel: Panel, graded: Sequence[Graded], turned: Oriented, found: Mapping[str, Sequence[Own]]
) -> dict[str, IntervalEvidence]:
    """The evidence of those claims about answers of which it is given what each model says."""
    n_runs = sum(int(g.measured.sum()) for g in graded)
    units = len({int(u) for g in graded for u in g.unit[g.measured]})
    lacking = "" if graded else lacking_grades(panel)
    enough = Requirement(
        "runs", n_runs >= FEWEST_RUNS, f"{n_runs} graded runs < {FEWEST_RUNS}", f"{FEWEST_RUNS} graded runs"
    )
    many = Requirement("units", units >= FEWEST_UNITS, f"{units} units < {FEWEST_UNITS}", f"{FEWEST_UNITS} units")
    counted = counts(panel) | {"graded runs": n_runs, "graded units": units}
    no_hops = (
        "" if any(hops_of(g) is not None for g in graded) else "no prompts with 1, 2 and 3 steps of derivation (tags)"
    )
    more: dict[str, dict] = {
        "S1": {"requirements": (enough,)},
        "S2": {"requirements": (enough,)},
        "S5": {"requirements": (enough,)},
        "S7": {"lacking": lacking or no_hops},
        "A5": {"requirements": (enough,)},
        "O3": {
            "requirements": (enough,),
            "lacking": lacking or ("" if found.get("O3") else NO_TEXT),
            "least": LEAST_GAIN,
        },
    }
    if "S2" in found:
        more["S2"]["outcomes"] = (resolved_at_equal_length(panel, graded),)
    if "S5" in found:
        more["S5"]["outcomes"] = earlier_beside(panel, graded, turned)
    out = {c: mean_evidence(found[c], units, counted, **{"lacking": lacking, **more[c]}) for c in more if c in found}
    return out | ({"S3": _every_model(found["S3"], units, counted, lacking, many)} if "S3" in found else {})


def _every_model(
    found: Sequence[Own], units: int, counted: Mapping[str, int], lacking: str, many: Requirement
) -> IntervalEvidence:
    """S3: inside the margin in every model; one model surely outside it (Bonferroni over models) rejects."""
    level = 1 - 0.05 / max(len(found), 1)
    wide = {o.model: percentile_interval(o.draws, o.units, level=level) for o in found}
    coupled = [o for o in found if any(r.holds(wide[o.model]) for r in outside(MARGIN))]
    worst = max(coupled or found, key=lambda o: abs(o.value), default=None)
    own_ends = [percentile_interval(o.draws, o.units) for o in found]
    if worst is None:
        ends = percentile_interval(np.full(1, np.nan), units)
    elif coupled:
        ends = wide[worst.model]
    elif any(e.reason for e in own_ends):
        ends = next(e for e in own_ends if e.reason)
    else:
        ends = Interval(min(e.lo for e in own_ends), max(e.hi for e in own_ends))
    p = max((max(below_bound(s * o.draws, -MARGIN) for s in (1, -1)) for o in found), default=math.nan)
    said = "the model farthest from 0, its own interval" if coupled else "the model farthest from 0, and all intervals"
    whole = of_draws([(o.model, o.value, o.draws) for o in found], units) if found else None
    return IntervalEvidence(
        estimate=worst.value if worst else math.nan,
        interval=ends,
        supported=inside(MARGIN),
        rejected=outside(MARGIN),
        counts=counted,
        n=units,
        needed=f"more prompts about other things (this study: {units} units)",
        requirements=(many,),
        p=p,
        null=MARGIN,
        lacking=lacking,
        of=f"{worst.model}, {said}" if worst and len(found) > 1 else "",
        beside=f"without strata {worst.plain:.3g}; {signs(whole)}" if whole else "",
    )
