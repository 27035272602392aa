"""Simulated studies of interventions, for P1, F5, X1, X2, X4 and S6: records as stored, with what is planted in them.

A subspace or a direction is one draw of many: random ones have effects of their own, and a null is that the one which
a claim speaks of is just another of them. Questions are hard or easy, hard ones are turbulent, and what the models are
asked is the same for all of them.
"""

from collections.abc import Sequence

import numpy as np

from phaselens.experiments import causal_regions, dynamic_control, perturbation
from phaselens.interventions.outcome_records import Causal, Control, Signature
from phaselens.validity.scenario import Judge, Ruling, rulings

QUESTIONS, UNITS, DIRECTIONS, STEERED = 720, 600, 24, 96
NOUNS, EACH, LAYERS, SUBSPACES = 12, 4, 7, 40
PROMPTS, DEPTHS, STRENGTHS = 32, 6, (0.01, 0.03, 0.1, 0.3, 1.0)
FAMILIES = ("a", "b", "c", "d", "e", "f")
MODELS = 4


def judge_signatures(study: Sequence[Signature]) -> dict[str, Ruling]:
    """P1 as in a study."""
    return rulings(("P1",), {"P1": perturbation.evidence(study, perturbation.compared(study, 0, n_boot=500), 0)})


def judge_causal(study: Sequence[Causal]) -> dict[str, Ruling]:
    """F5 as in a study."""
    return rulings(("F5",), {"F5": causal_regions.evidence(study, 0)})


def judge_control(study: Sequence[Control]) -> dict[str, Ruling]:
    """X1, X2, X4 and S6 as in a study."""
    return rulings(dynamic_control.CONTROL.claims, dynamic_control.evidence(study, 0))


JUDGES: dict[str, Judge] = {"perturbation": judge_signatures, "causal": judge_causal, "control": judge_control}


# --- P1 ---


def signatures(
    generator: np.random.Generator, *, apart: float, prompt_sd: float = 0.3, unequal: bool = True
) -> list[Signature]:
    """Six models of six families whose log gains and log KL differ by `apart` (ln) at every depth and strength.

    Prompts move all models together; `unequal`: some models are four times as noisy as others.
    """
    shape = (DEPTHS, len(STRENGTHS), 2)
    common, shared = generator.standard_normal(shape), prompt_sd * generator.standard_normal((PROMPTS, 1, 1, 2))
    depth, ones = np.arange(DEPTHS) / DEPTHS, np.ones(DEPTHS + 1)
    out = []
    for name in FAMILIES:
        noise = prompt_sd * (generator.choice([0.5, 2.0]) if unequal else 1.0)
        own = common + apart * generator.standard_normal(shape)
        drawn = own[:, :, None] + noise * generator.standard_normal((PROMPTS, DEPTHS, len(STRENGTHS), 2, 2))
        drawn = drawn + shared[:, :, :, None]
        gains, kl = drawn[..., 0], np.exp(drawn[..., 1])
        out.append(
            Signature(
                name,
                family=name,
                n_layers=DEPTHS,
                site="resid_post",
                prompts=tuple(map(str, range(PROMPTS))),
                layers=tuple(range(DEPTHS)),
                depth=depth,
                strengths=STRENGTHS,
                deciding=0.1,
                log_gain=gains,
                kl=kl,
                through=np.zeros((PROMPTS, DEPTHS, DEPTHS + 1)),
                rms=ones,
                into_rms=ones,
                rms_without_massive=ones,
                massive=ones,
                identity=0.0,
                beside={"unmatched": np.stack([gains[:, :, 2], kl[:, :, 2]])},
            )
        )
    return out


# --- F5 ---


def regions(generator: np.random.Generator, *, there: float, elsewhere: float, m: int = MODELS) -> list[Causal]:
    """Models whose margin falls by this much more (nats) than by a random subspace, in and outside of the region."""
    units = np.repeat(np.arange(NOUNS), EACH).astype(str)
    capacity = np.array([0.1, 0.3, 0.6, 0.8, 0.95, 1.0, 0.85])
    planted = np.where(capacity >= causal_regions.REGION, there, elsewhere)
    hard = np.repeat(0.5 * generator.standard_normal(NOUNS), EACH)
    out = []
    for k in range(m):
        plain = 2 + hard + 0.3 * generator.standard_normal(len(units))
        # effects of subspaces: of their own at every layer, and other for every noun
        size = 0.3 * np.abs(generator.standard_normal((SUBSPACES + 1, LAYERS)))[:, :, None]
        by_noun = np.repeat(0.2 * generator.standard_normal((SUBSPACES + 1, LAYERS, NOUNS)), EACH, axis=-1)
        fall = size + by_noun + 0.1 * generator.standard_normal((SUBSPACES + 1, LAYERS, len(units)))
        fall[0] += planted[:, None]
        out.append(
            Causal(
                f"m{k}",
                family=f"m{k}",
                layers=tuple(range(LAYERS)),
                n_layers=LAYERS - 1,
                plain=plain,
                capacity=capacity,
                margin={"probe subspace": plain - fall[0]},
                random={causal_regions.BAND: plain - fall[1:]},
                units=units,
                identity=0.0,
                rank=2,
            )
        )
    return out


# --- X1, X2, X4, S6 ---


def arms(
    generator: np.random.Generator,
    *,
    m: int = MODELS,
    steer: float = 1.0,
    repaired: float = 0.0,
    of: int = MODELS,
    guard: float = 0.0,
    guard_ct: float = 0.0,
    falls_with_repair: bool = False,
    sharper: float = 1.0,
    cooled: float = 0.0,
    damped: float = 0.0,
    ct_of_right: float = -0.3,
    late: float = 0.0,
) -> list[Control]:
    """Models that answer the same questions in every arm, with what is planted.

    `steer`: how much more (SDs of ct) the calm direction moves ct than random ones, whose own sizes differ;
    `repaired`: change of the share of right answers by the monitor, in the first `of` models; `guard`: share of wrong
    answers that the guard prompt repairs, with a fall of ct where `falls_with_repair`, and `guard_ct` what it adds to
    ct (SDs) everywhere; `sharper`: factor on the log-odds of a right answer at low temperature; `cooled` and `damped`:
    answers that it loses, as a share, everywhere and in the turbulent quarter; `ct_of_right`: ct of right less that of
    wrong runs (SDs); `late`: share of the monitor's actions that come after the answer.
    """
    units = (np.arange(QUESTIONS) % UNITS).astype(str)
    ease = 1.5 * generator.standard_normal(UNITS)[np.arange(QUESTIONS) % UNITS]
    return [
        _one(
            generator,
            f"m{k}",
            units,
            ease + 0.7 * generator.standard_normal(QUESTIONS),
            steer=steer,
            repaired=repaired if k < of else 0.0,
            guarding=(guard, guard_ct, falls_with_repair),
            cooling=(sharper, cooled, damped),
            ct_of_right=ct_of_right,
            late=late,
        )
        for k in range(m)
    ]


def _one(
    generator: np.random.Generator,
    name: str,
    units: np.ndarray,
    ease: np.ndarray,
    steer: float,
    repaired: float,
    guarding: tuple[float, float, bool],
    cooling: tuple[float, float, float],
    ct_of_right: float,
    late: float,
) -> Control:
    """One model of `arms`."""
    n = len(ease)
    base = generator.standard_normal(n)
    turbulence = -0.5 * (ease - ease.mean()) / ease.std() + generator.standard_normal(n)
    right, acts, mended = _answers(generator, ease, turbulence, repaired, guarding, cooling)

    def ct_of(right: np.ndarray, more: float | np.ndarray = 0.0) -> np.ndarray:
        return base + ct_of_right * right + generator.standard_normal(n) + more

    ct = {arm: ct_of(values) for arm, values in right.items()}
    ct["guard"] = ct_of(right["guard"], guarding[1] - 6.0 * (mended & guarding[2]))
    spread = float(np.std(ct["none"]))
    sizes = 0.3 * np.abs(generator.standard_normal(DIRECTIONS + 1))
    sizes[0] += steer
    plain = ct["none"][:STEERED]
    steered = plain + spread * (sizes[:, None] + 0.5 * generator.standard_normal((DIRECTIONS + 1, STEERED)))
    in_time = generator.random(n) < 1.0 - late
    return Control(
        name,
        name,
        tuple(units),
        units,
        identity=0.0,
        layer=4,
        threshold=1.0,
        median=0.0,
        right=right,
        ct=ct,
        tokens={arm: np.full(n, 16) for arm in right},
        triggered=acts,
        steered=steered[0],
        random_steered=steered[1:],
        turbulence=turbulence,
        in_time={arm: values & in_time for arm, values in acts.items()},
    )


def _answers(
    generator: np.random.Generator,
    ease: np.ndarray,
    turbulence: np.ndarray,
    repaired: float,
    guarding: tuple[float, float, bool],
    cooling: tuple[float, float, float],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Who answers right in each arm, where an arm acted, and which answers the guard prompt mended: bool [question]."""
    n, draw = len(ease), generator.random
    p = 1 / (1 + np.exp(-ease))
    right = {name: draw(n) < p for name in ("none", "again")}
    acted, moved = draw(n) < 0.2, draw(n) < 0.2
    right["monitor"] = _shifted(np.where(acted, draw(n) < p, right["none"]), repaired, acted, generator)
    right["random"] = np.where(moved, draw(n) < p, right["none"])
    fresh = draw(n) < p
    mended = ~fresh & (draw(n) < guarding[0])
    right["guard"] = fresh | mended
    factor, everywhere, where_turbulent = cooling
    high = turbulence > np.quantile(turbulence, dynamic_control.TURBULENT)
    lost = draw(n) < np.where(high, everywhere + where_turbulent, everywhere)
    right["cool"] = (draw(n) < 1 / (1 + np.exp(-factor * ease))) & ~lost
    return right, {arm: np.zeros(n, bool) for arm in right} | {"monitor": acted, "random": moved}, mended


def _shifted(right: np.ndarray, by: float, where: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Answers with the share of right ones moved by this much, at random among those `where` they can be moved."""
    at = np.flatnonzero(where & (~right if by > 0 else right))
    out = right.copy()
    out[generator.permutation(at)[: min(len(at), generator.binomial(len(right), abs(by)))]] = by > 0
    return out
