"""Claims on what could explain the split by GD_ratio: size, soft cap, corpus, sinks and massive dimensions."""

from phaselens.claims.declared.separation import LOST, SURVIVES, UNIFORM
from phaselens.claims.record import Claim

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="G5",
        seed_doc=3,
        statement="Parameter count does not explain the split by GD_ratio.",
        statistic="R^2 of log GD_ratio on log parameters over models that are twins of none, interval by Fisher's z; "
        "and pairs of such models, disjoint, of a size ratio <= 1.3, in opposite groups of the split",
        supported="there is a split (p <= .05), >= 2 matched pairs, and the upper bound of R^2 is below .25",
        rejected="there is a split and the lower bound of R^2 is above .25",
        controls=("matched pairs",),
        nulls=("R^2 >= .25 (both one-sided tests on Fisher's z)",),
        published="GPT-2 against OPT-125M, of one size",
    ),
    Claim(
        id="G6",
        seed_doc=3,
        statement="A soft-capped model goes by its cap, not its corpus.",
        statistic="mean size of the effect of the cap on log GD_ratio (pairs that differ in the cap alone) less that "
        "of the corpus (pairs that differ in the corpus alone, all families), Welch interval over pairs",
        supported="the interval is above 0, over >= 3 seeds of the cap and >= 2 pairs of the corpus, and more than "
        "half of the cap's effect is left when the capped models are read without their cap (lower bound)",
        rejected="the interval is below 0, or less than half of the effect is left without the cap at read-out",
        controls=("read-out removal",),
        nulls=("both effects of one size",),
        published="predicted",
    ),
    Claim(
        id="G9",
        seed_doc=3,
        statement="The training corpus explains the split by GD_ratio.",
        statistic="effect of the corpus on log GD_ratio (pairs that differ in the corpus alone), mean over families, t "
        "interval over families",
        supported="the interval excludes 0 and is not within ln 1.25 of it, over >= 3 families; the effect is there at "
        "a common temperature too",
        rejected="the interval is within ln 1.25 of 0, or less than half of the effect is left at a common temperature "
        "(upper bound)",
        controls=("temperature-matched",),
        nulls=("no effect of the corpus",),
        published="hypothesis",
    ),
    Claim(
        id="G10",
        seed_doc=3,
        statement="The split by GD_ratio survives QK-norm, sinks and massive dimensions.",
        statistic="S of log GD_ratio with attention to position 0 masked and everything recomputed, and with massive "
        "dimensions masked at read-out; the largest p counts; and the effect of QK-norm on log GD_ratio (pairs that "
        "differ in it alone) as a share of the gap",
        supported=f"{SURVIVES}; and QK-norm makes less than half of the gap (upper bound)",
        rejected=f"{LOST}; or QK-norm makes more than half of it (lower bound) and the groups are those "
        "with and without QK-norm",
        controls=("sinks", "massive dimensions", "QK-norm pair"),
        nulls=(UNIFORM,),
        published="asked for by the reviewer",
        after="G1",
    ),
)
