"""Claims judged by the S test: regimes by ratio_norm, and the split by GD_ratio."""

from phaselens.claims.record import Claim

S_RULE = "S test: p <= .05 with twins in and with twins dropped, p also after Holm within the family"
S_REJECTED = (
    "groups whose neighbours lie 6 within-group SDs apart (the smallest effect that counts) are excluded: p larger "
    "than in 95 % of panels with such groups, whatever their sizes"
)
SURVIVES = (
    "G1 is supported; then S test: p <= .05 with twins in and with twins dropped, and the same two groups (adjusted "
    "Rand 1, same order)"
)
EXPLAINED = (
    "or there is such a split and a control explains it away: less than half of its gap is left (upper bound), or the "
    "untrained twins fall into the same groups (p <= .05) or keep more than half of the gap (lower bound)"
)
LOST = "there is a split to begin with and the upper bound of the share of its gap that is left is below one half"
UNIFORM = "as many points drawn uniformly (20,000 draws)"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="R1",
        seed_doc=4,
        statement="Models fall into distinct regimes by ratio_norm.",
        statistic="S of the models' medians of log ratio_norm (64 values, layer l* = round(.75 L), all measured runs) "
        "for the best partition into two, three or four groups of two or more; the least p of the three, corrected for "
        "it",
        supported=f"{S_RULE}; every control survived",
        rejected=f"{S_REJECTED}; {EXPLAINED}",
        controls=("length fixed", "outlier state", "frozen share", "untrained twin"),
        nulls=(UNIFORM,),
        published="bands 1.55-1.70, 2.27-2.92, about 2.97, 4.42-35.55 (never decide)",
    ),
    Claim(
        id="G1",
        seed_doc=3,
        statement="GD_ratio splits the panel into two groups.",
        statistic="S of log GD_ratio (G = p1, D = p2/p1, final-norm lens, layers 1..L, all measured runs)",
        supported=f"{S_RULE}; every control survived",
        rejected=f"{S_REJECTED}; {EXPLAINED}",
        controls=("untrained twin",),
        nulls=(UNIFORM,),
        published="> 1.5 against < .1",
    ),
    Claim(
        id="G2",
        seed_doc=3,
        statement="The split by GD_ratio survives a common temperature.",
        statistic="S of log GD_ratio on logits / T, T per model: mean output entropy (nats) that of the panel's median",
        supported=SURVIVES,
        rejected=LOST,
        controls=("common temperature",),
        nulls=(UNIFORM,),
        published="asked for by the reviewer",
        after="G1",
    ),
    Claim(
        id="G3",
        seed_doc=3,
        statement="The split by GD_ratio survives vocabulary normalisation.",
        statistic="S of log GD_ratio with G = p1/nucleus mass (within 1 % of p1, bounded by it where not recorded), "
        "with G = p1/top10_mass, and on the tokens that all tokenizers share; the largest p counts",
        supported=SURVIVES,
        rejected=LOST,
        controls=("nucleus", "top ten tokens", "shared tokens"),
        nulls=(UNIFORM,),
        published="asked for by the reviewer",
        after="G1",
    ),
    Claim(
        id="G4",
        seed_doc=3,
        statement="The split by GD_ratio survives the choice of lens.",
        statistic="S of log GD_ratio under the raw and final-norm lens, at the output only, and under a tuned lens; "
        "the largest p counts",
        supported=f"{SURVIVES}; under every lens, none missing",
        rejected=LOST,
        controls=("raw lens", "final-norm lens", "output only", "tuned lens"),
        nulls=(UNIFORM,),
        published="ours",
        after="G1",
    ),
)
