"""Experiment: which motifs of the grammar are conserved along depth, in every model and under both nulls? A4."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phaselens.claims import LEVEL, Outcome
from phaselens.claims.permutation_rule import PermutationEvidence
from phaselens.dynamics.motifs import NULLS, Sequential, first_order_shares, motifs, sequential_motifs
from phaselens.dynamics.state_alphabets import GRAMMAR
from phaselens.experiments.base import Panel, Result, declared
from phaselens.experiments.result_tables import filled, picked
from phaselens.experiments.separations import counts
from phaselens.experiments.state_labels import COLUMNS, Labelled, label_panel
from phaselens.statistics.multiplicity import holm

PER_BOOTSTRAP, EXCEEDANCES = 10, 20
FEWEST_PLACES = 3
WORDS = motifs(len(GRAMMAR))
EXPLORE, PROCESS, DECIDE = range(3)
OWN_ORDER = ((EXPLORE, PROCESS), (PROCESS, DECIDE), (EXPLORE, PROCESS, DECIDE))
OWN = np.array([w in OWN_ORDER for w in WORDS])


@dataclass(frozen=True, eq=False)
class Tested:
    """Both nulls of one group of models under one lens; `adjusted` is Holm over motifs of the larger p, [motif]."""

    group: str
    lens: str
    models: tuple[Labelled, ...]
    by_null: tuple[Sequential, ...]
    permutations: int

    @property
    def p(self) -> np.ndarray:
        """Largest p over models and nulls of each motif, [motif]; NaN: not asked about.

        A motif above .05 is not tested further, so there it is a lower bound.
        """
        values = np.stack([found.p for found in self.by_null])
        asked = np.isfinite(values).any(axis=0)
        return np.where(asked, np.where(np.isfinite(values), values, 0.0).max(axis=0), np.nan)

    @property
    def adjusted(self) -> np.ndarray:
        """Holm over all motifs, [motif]."""
        return holm(self.p)

    @property
    def conserved(self) -> np.ndarray:
        """Motifs with an adjusted p of at most .05, bool [motif]."""
        return self.adjusted <= LEVEL


def spelled(word: Sequence[int]) -> str:
    """A motif in words, e.g. "explore-process-decide"."""
    return "-".join(GRAMMAR[s] for s in word)


def prompt_chains(found: Labelled) -> np.ndarray:
    """Depth chains of the grammar by prompt, int8 [prompt, chain, layer]: a chain per run and step, -1 where none.

    Prompts with fewer runs or shorter ones have chains without a state. Layers at which no cell has a state are left
    out.
    """
    states = found.states["grammar"]
    runs = [states[found.cells.prompt == p].reshape(-1, states.shape[-1]) for p in np.unique(found.cells.prompt)]
    most = max(len(r) for r in runs)
    out = np.full((len(runs), most, states.shape[-1]), -1, np.int8)
    for i, chains in enumerate(runs):
        out[i, : len(chains)] = chains
    return out[:, :, (out >= 0).any(axis=(0, 1))]


def tested(
    panel: Panel, models: Sequence[Labelled], group: str, lens: str, words: np.ndarray | None = None
) -> Tested | None:
    """Both nulls over the models that have depth enough; None where there is none.

    The second null is only asked about motifs that passed the first: the larger p of the two decides.
    """
    chains = [prompt_chains(one) for one in models]
    usable = [(one, c) for one, c in zip(models, chains, strict=True) if c.shape[-1] >= FEWEST_PLACES and len(c) > 1]
    if not usable:
        return None
    n = PER_BOOTSTRAP * panel.n_boot
    found: list[Sequential] = []
    for null in NULLS:
        generator = panel.generator(f"A4 {group} {lens} {null}")
        one = sequential_motifs(
            [c for _, c in usable],
            len(GRAMMAR),
            generator,
            null=null,
            words=words,
            n_permutations=n,
            exceedances=EXCEEDANCES,
            level=LEVEL,
        )
        words = one.p <= LEVEL
        found.append(one)
    return Tested(group, lens, tuple(one for one, _ in usable), tuple(found), n)


def motif_rows(test: Tested) -> list[dict]:
    """One row per motif of one group: p under both nulls (NaN: not tested any more), and after Holm."""
    order, exchange = (found.p for found in test.by_null)
    p, adjusted, conserved = test.p, test.adjusted, test.conserved
    return [
        {**picked(test, "group lens permutations"), "motif": spelled(word), "own_order": bool(OWN[i])}
        | {"length": len(word), "p_order": order[i], "p_exchange": exchange[i], "p": p[i], "p_holm": adjusted[i]}
        | {"conserved": bool(conserved[i]), "n_models": len(test.models), "exceedances": EXCEEDANCES}
        for i, word in enumerate(WORDS)
    ]


def model_rows(panel: Panel, test: Tested) -> list[dict]:
    """One row per model, motif and null: how often it occurs, its share of the words of its length, and its p.

    `share_first_order` is the share under chains of the same transitions without longer memory; it decides nothing.
    """
    rows = []
    generator = panel.generator(f"A4 {test.group} {test.lens} first order")
    first_order = [first_order_shares(prompt_chains(one), len(GRAMMAR), generator) for one in test.models]
    length = np.array([len(w) for w in WORDS])
    for null, found in zip(NULLS, test.by_null, strict=True):
        for m, one in enumerate(test.models):
            named = {"model": one.cells.model.info.name, **picked(test, "group lens")}
            named |= {"n_prompts": len(np.unique(one.cells.prompt))}
            named |= {"n_chains": int((one.states["grammar"] >= 0).any(axis=-1).sum())}
            for i, word in enumerate(WORDS):
                whole = found.counts[m][length == length[i]].sum()
                count = found.counts[m, i]
                rows.append(
                    {**named, "motif": spelled(word), "length": len(word), "null": null, "p": found.by_model[m, i]}
                    | {"count": count, "share": count / whole if whole else np.nan}
                    | {"share_first_order": first_order[m][i], "permutations": found.draws[m, i]}
                )
    return rows


def _twin_outcome(words: np.ndarray, twins: Tested | None, wanted: int) -> Outcome:
    """Whether the untrained twins conserve the words that the trained models conserve."""
    seen = 0 if twins is None else len(twins.models)
    if seen < wanted or twins is None:
        return Outcome(
            "untrained twin", "undecided" if seen else "missing", f"untrained twins of {seen} of {wanted} models"
        )
    again = words & (twins.p <= LEVEL)
    said = f"{int(again.sum())} of {int(words.sum())} have p <= {LEVEL:g} before training"
    return Outcome("untrained twin", "explains it away" if again.sum() == words.sum() else "survived", said)


def _lens_outcome(words: np.ndarray, other: Tested | None, wanted: int) -> Outcome:
    """Whether one of the words is conserved under the tuned lens as well."""
    seen = 0 if other is None else len(other.models)
    if seen < wanted or other is None:
        why = f"states under a tuned lens in {seen} of {wanted} models" if seen else "no tuned lens in this study"
        return Outcome("tuned lens", "undecided" if seen else "missing", why)
    again = words & other.conserved
    said = f"{int(again.sum())} of {int(words.sum())} are conserved under the tuned lens"
    return Outcome("tuned lens", "survived" if again.any() else "undecided", said)


def _evidence(panel: Panel, base: Tested | None, twins: Tested | None, other: Tested | None) -> PermutationEvidence:
    if base is None:
        why = "no trained model has states at three layers in two prompts, so no word of the grammar can occur"
        return PermutationEvidence(math.nan, math.nan, math.nan, counts(panel), 0, why, lacking=why)
    words = OWN & base.conserved
    best = int(np.argmin(np.where(OWN, base.adjusted, np.inf)))
    names = ", ".join(spelled(WORDS[i]) for i in np.flatnonzero(words)) or "none"
    said = (
        f"conserved in the grammar's own order: {names} ({int(base.conserved.sum())} of {len(WORDS)} motifs in all); "
        f"at most {base.permutations} permutations of {len(base.models)} models"
    )
    outcomes = [_twin_outcome(words, twins, len(base.models)), _lens_outcome(words, other, len(base.models))]
    if not words.any():
        outcomes = [Outcome(o.name, "undecided", "no conserved word to explain") for o in outcomes]
    return PermutationEvidence(
        estimate=float(words.sum()),
        null=0.0,  # with Holm over motifs, 95 % of panels without conserved motifs have none
        p_with_twins=float(base.adjusted[best]),
        counts=counts(panel)
        | {
            "models tested": len(base.models),
            "motifs conserved": int(base.conserved.sum()),
            "of the grammar's own order": int(words.sum()),
            "permutations at most": base.permutations,
        },
        n=len(base.models),
        needed="more prompts; more permutations where p is at their limit; or a grammar that the models share",
        outcomes=tuple(outcomes),
        of=said,
    )


def _tests(panel: Panel) -> tuple[Tested | None, Tested | None, Tested | None]:
    """The trained models; then, for the words that they conserve, their untrained twins and the tuned lens."""
    found = label_panel(panel)
    base = tested(panel, [found[m.info.name] for m in panel.trained if m.info.name in found], "trained", "final_norm")
    words = np.zeros(len(WORDS), bool) if base is None else OWN & base.conserved
    if base is None or not words.any():
        return base, None, None
    kept = [one.cells.model.info.name for one in base.models]
    twins = [panel.untrained_twin(name) for name in kept]
    untrained = [found[t.info.name] for t in twins if t is not None and t.info.name in found]
    tuned = label_panel(panel, suffix="__tuned")
    others = [tuned[name] for name in kept if name in tuned]
    return (
        base,
        tested(panel, untrained, "untrained", "final_norm", words) if untrained else None,
        tested(panel, others, "trained", "tuned", words) if others else None,
    )


def motifs_evidence(panel: Panel) -> dict:
    """The evidence for A4 as `analyse_motifs` gives it, without its tables."""
    return {"A4": _evidence(panel, *_tests(panel))}


def analyse_motifs(panel: Panel) -> Result:
    """Tables motifs, motifs_models; evidence for A4."""
    tests = _tests(panel)
    shown = [t for t in tests if t is not None]
    return Result(
        filled(
            motifs=[row for t in shown for row in motif_rows(t)],
            motifs_models=[row for t in shown for row in model_rows(panel, t)],
        ),
        evidence={"A4": _evidence(panel, *tests)},
    )


MOTIF = declared("motifs", analyse_motifs, motifs_evidence, layers=COLUMNS)
