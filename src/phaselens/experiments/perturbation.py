"""Experiment: perturbation signatures of several models, the words they give, and the evidence for P1.

Reads stored signatures only (`phaselens perturb` and studies that name this experiment make them).
"""

import math
from collections.abc import Sequence

import numpy as np

from phaselens.claims import IntervalEvidence, Outcome, Requirement, above, below
from phaselens.claims.verdict_records import word_of
from phaselens.dynamics.perturbation_signatures import Share, SplitHalf, geometric, split_half, vector
from phaselens.experiments.base import Panel, Result, declared, of_interventions
from phaselens.experiments.pooled import identity
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.interventions.outcome_records import Signature
from phaselens.statistics.intervals import undefined_interval
from phaselens.statistics.resampling import bootstrap_weights

LEAST_KL = 1e-12
LEAST = 16


def weights_of(stored: Sequence[Signature], seed: int, n_boot: int) -> np.ndarray:
    """One bootstrap of prompts for all models: int [n_boot, prompt]."""
    return bootstrap_weights(len(stored[0].prompts), np.random.default_rng([seed, 21]), n_boot=n_boot)


def signature_rows(stored: Sequence[Signature], weights: np.ndarray) -> list[dict[str, object]]:
    """One row per model, condition, strength and layer: gain and KL with prompt intervals, and the word of the gain."""
    rows = []
    for s in stored:
        for condition, eps, gains, kl in s.conditions:
            drifts = geometric(np.log(np.maximum(kl, LEAST_KL)), weights)
            shares = geometric(gains, weights)
            rows += [
                _row(s, condition=condition, layer=layer, depth=depth, eps=eps, gain=g, kl=k)
                for layer, depth, g, k in zip(s.layers, s.depth, shares, drifts, strict=True)
            ]
        if s.substitution is not None:
            columns = [x.mean(axis=-1)[:, None] for x in (s.substitution[0], s.substitution[1])]
            gain = geometric(columns[0], weights)[0]
            drift = geometric(np.log(np.maximum(columns[1], LEAST_KL)), weights)[0]
            rows.append(_row(s, condition="token substitution", layer=0, depth=0.0, eps=math.nan, gain=gain, kl=drift))
    return rows


def _row(
    s: Signature, condition: str, layer: int, depth: float, eps: float, gain: Share, kl: Share
) -> dict[str, object]:
    return (
        {**picked(s, "model family site"), "condition": condition, "layer": layer, "depth": float(depth)}
        | {"strength": eps, "gain": gain.value, **bounds(gain.interval), "word": gain.word}
        | {"kl": kl.value, **bounds(kl.interval, "kl")}
    )


def through_rows(stored: Sequence[Signature]) -> list[dict[str, object]]:
    """Gain from every layer to every later one at the deciding strength: geometric mean over prompts."""
    rows = []
    for s in stored:
        for i, layer in enumerate(s.layers):
            for to in range(layer + 1, s.n_layers + 1):
                value = float(np.exp(np.nanmean(s.through[:, i, to])))
                rows.append({"model": s.model, "layer": layer, "to": to, "gain": value})
    return rows


def halves(stored: Sequence[Signature], condition: str = "matched") -> tuple[np.ndarray, np.ndarray]:
    """Signatures of even prompts under the first half of the draws, and of odd prompts under the second.

    Two arrays [model, prompt, feature]; a feature is ln gain or ln KL at one relative depth and strength.
    """
    features = np.stack([_features(s, condition) for s in stored])  # [model, half, prompt, feature]
    return features[:, 0, ::2], features[:, 1, 1::2]


def _features(s: Signature, condition: str) -> np.ndarray:
    if condition == "matched":
        gains, kl = np.moveaxis(s.log_gain, (3, 2), (0, 2)), np.moveaxis(s.kl, (3, 2), (0, 2))
    else:
        g, k = s.beside[condition]
        gains, kl = np.moveaxis(g, 2, 0)[:, :, None], np.moveaxis(k, 2, 0)[:, :, None]
    parts = [vector(x, s.depth) for x in (gains, np.log(np.maximum(kl, LEAST_KL)))]
    return np.concatenate([p.reshape(*p.shape[:2], -1) for p in parts], axis=-1)


def compared(stored: Sequence[Signature], seed: int, *, condition: str = "matched", n_boot: int = 1000) -> SplitHalf:
    """Split-half reproducibility of all models, and its separation from other families."""
    first, second = halves(stored, condition)
    families = tuple(s.family for s in stored)
    return split_half(first, second, families, np.random.default_rng([seed, 22]), n_boot=n_boot)


def reproduced_rows(stored: Sequence[Signature], split: SplitHalf) -> list[dict[str, object]]:
    """One row per model: similarity with its own other half, and with the most similar other model's."""
    rows = []
    for i, (s, (value, interval)) in enumerate(zip(stored, split.reproducibility, strict=True)):
        others = [j for j in range(len(stored)) if j != i]
        near = max(others, key=lambda j: split.similarity[i, j]) if others else None
        rows.append(
            {
                "model": s.model,
                "family": s.family,
                "reproducibility": value,
                **bounds(interval),
                "nearest_other": "" if near is None else stored[near].model,
                "with_nearest": math.nan if near is None else float(split.similarity[i, near]),
            }
        )
    return rows


def evidence(stored: Sequence[Signature], split: SplitHalf | None, seed: int) -> IntervalEvidence:
    """Evidence for P1."""
    counts = {"models": len(stored), "prompts": len(stored[0].prompts) if stored else 0}
    families = {s.family for s in stored}
    if len(families) < 2 or split is None:
        why = "signatures of models of two families are needed: name more models"
        none = undefined_interval(why)
        return IntervalEvidence(math.nan, none, above(0), below(0), counts=counts, n=0, needed=why, lacking=why)
    return IntervalEvidence(
        split.separation,
        interval=split.interval,
        supported=above(0),
        rejected=below(0),
        counts=counts,
        n=split.n_pairs,
        needed="more prompts, or models whose signatures differ more",
        outcomes=(identity([s.identity for s in stored]), _unmatched(stored, seed), _distance(split)),
        requirements=(Requirement("prompts", counts["prompts"] >= LEAST, _few(counts["prompts"]), f"{LEAST} prompts"),),
        p=split.p,
        null=0.0,
        of="own half less other families",
    )


def _few(prompts: int) -> str:
    return f"{prompts} prompts: a bootstrap of fewer than {LEAST // 2} in a half is too narrow"


def _unmatched(stored: Sequence[Signature], seed: int) -> Outcome:
    """Shown, never decisive: matching is there because noise of one absolute size is not one size for two models."""
    if not all("unmatched" in s.beside for s in stored):
        return Outcome("unmatched noise", "missing", "it was not drawn for every model")
    other = compared(stored, seed, condition="unmatched", n_boot=200)
    said = f"with noise of one absolute size the separation is {other.separation:.3g}"
    return Outcome("unmatched noise", "survived", f"{said}: matching takes the scale of the states out")


def _distance(split: SplitHalf) -> Outcome:
    lo, hi = split.distance_interval.lo, split.distance_interval.hi
    word = word_of(lo > 0, hi < 0)
    return Outcome("distance version", word, f"mean squared distance of other families less own [{lo:.3g}, {hi:.3g}]")


def analysed(stored: Sequence[Signature], seed: int, n_boot: int = 1000) -> Result:
    """The tables of signatures and the evidence for P1, from stored records."""
    alike = [s for s in stored if (s.strengths, len(s.prompts)) == (stored[0].strengths, len(stored[0].prompts))]
    if not alike:
        return Result(filled(signatures=[], reproducibility=[], through=[]), evidence={"P1": evidence([], None, seed)})
    split = compared(alike, seed, n_boot=n_boot)
    tables = filled(
        signatures=signature_rows(alike, weights_of(alike, seed, n_boot)),
        reproducibility=reproduced_rows(alike, split),
        through=through_rows(alike),
    )
    return Result(tables, evidence={"P1": evidence(alike, split, seed)})


def _analyse(panel: Panel) -> Result:
    return of_interventions(panel, "perturbation", analysed, panel.n_boot)


PERTURBATION = declared("perturbation", _analyse)
