"""The claims about fingerprints and what becomes of findings when the panel grows, and about state normalisations."""

from phaselens.claims.record import Claim

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="F0",
        seed_doc=0,
        statement="Dynamic fingerprints are reproducible.",
        statistic="share of trained models whose fingerprint on one half of the prompts is nearest to their own on the "
        "other half (1,000 random halves; the list of features is fixed in experiments/fingerprints.py)",
        supported="the 2.5 to 97.5 % range over halves lies above 1 / M; permutation p <= .05 (models exchanged within "
        "prompts) with twins in and with twins dropped, also after Holm; and the nearest other model is of the same "
        "recipe more often than with recipes permuted (p <= .05)",
        rejected="p > .05, and the range over halves lies below what 95 % of panels exceed whose models differ by a "
        "tenth of what prompts make within a model (the smallest effect that counts)",
        controls=("twins", "seeds of one recipe"),
        nulls=("models exchanged within each prompt", "recipes permuted over models"),
        published="asked for by the reviewer",
    ),
    Claim(
        id="T1",
        seed_doc=4,
        statement="At panel scale families dissolve; few pairs of models are robust.",
        statistic="adjusted Rand index (ARI) of declared families and the fingerprint groups, cut at as many groups as "
        "there are families; twins removed; interval: percentile and basic prompt bootstrap, the wider of both ends",
        supported="ARI below .5 (upper bound) with 12 or more models; same-family pairs no closer than others "
        "(permutation p > .05); at most a quarter of the models in a robust pair by either null; fingerprints identify "
        "their models. Robust: distance below the 5 % point of the smallest under the null, and together in >= 95 % of "
        "prompt resamples at the least k above M / 3",
        rejected="ARI above .5 (lower bound); or ARI below .5 and more than half of the models in robust pairs by the "
        "null along principal axes",
        controls=("families permuted", "few robust pairs", "reproducible fingerprints"),
        nulls=(
            "scores along principal axes permuted independently: holds its level and finds few pairs, so it decides "
            "that there are many",
            "columns permuted independently: where features are correlated it makes robust pairs out of none (in 12 % "
            "and 72 % of panels where a common factor carries .3 and .7 of each feature), so it decides that there are "
            "few",
        ),
        published="fragmentation .65, ARI .11, 2 robust pairs of 17 models",
    ),
    Claim(
        id="T2",
        seed_doc=4,
        statement="Findings on small panels do not survive scale-up.",
        statistic="of the claims supported on random panels of six models, the share not supported on the full panel",
        supported="lower bound above .5 (claims resampled), and above what a simulated true effect loses (upper bound)",
        rejected="upper bound below .5",
        controls=("simulated true effect",),
        nulls=("the S test on two groups 8 within-group SDs apart, sub-sampled in the same way",),
        published="6 of 6",
    ),
    Claim(
        id="N1",
        seed_doc=4,
        statement="Normalisation of states changes what can be told apart (CLIPPED_MAD against RAW).",
        statistic="ICC(C,1) of models over prompts of ln ratio_norm at l*, CLIPPED_MAD less RAW, paired by prompt; "
        "jackknife interval over prompts",
        supported="interval excludes 0",
        rejected="interval inside +-.05",
        controls=("number of dimensions kept",),
        nulls=("no difference",),
        published="-",
    ),
)
