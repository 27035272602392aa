"""Claims about what varies: shares of variance, the order of models, and what either depends on."""

from phaselens.claims.record import Claim

BOTH = "y = ln mean ct and ln ratio_norm (64 values), layer l* = round(.75 L), the sampled arm, one value per run"
EVERY = "by both measures"
SOME = "by either measure"
DESIGN = (
    "balanced ANOVA over model x category x prompt(category) x seed, prompts that every model has; for these levels"
)
PUBLISHED = "model 7 %, category 17 %, rest 76 % (three-way)"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="V1",
        seed_doc=4,
        statement="Prompt category explains more variance than the model.",
        statistic=f"category share minus model share of {BOTH}; {DESIGN}; bootstrap-t over prompts within category, "
        ">= 8 prompts per category",
        supported=f"interval above 0 {EVERY}, p <= .05 after Holm within the family",
        rejected=f"interval below 0 {SOME}",
        controls=("token pseudo-replication", "interaction separated", "both measures"),
        nulls=("shares equal",),
        published=PUBLISHED,
    ),
    Claim(
        id="V2",
        seed_doc=4,
        statement="Most variance is residual.",
        statistic=f"residual share of {BOTH} (seeds within model x prompt; interactions are terms of their own); "
        f"{DESIGN}; bootstrap-t over prompts within category, >= 8 prompts per category",
        supported=f"lower bound above .5 {EVERY}, p <= .05 after Holm within the family",
        rejected=f"upper bound below .5 {SOME}, where no hundredth of the runs holds more than a fifth of the squared "
        "residuals (heavy tails hide a part of the residual)",
        controls=("token pseudo-replication", "interaction separated", "both measures"),
        nulls=("share of one half",),
        published=PUBLISHED,
    ),
    Claim(
        id="V3",
        seed_doc=4,
        statement="Scientific-reasoning prompts amplify differences between architectures.",
        statistic=f"between-model component of {BOTH} in the category reasoning or science, noise taken out ((model MS "
        "- prompt MS) / prompts), over the mean of the other categories; Fieller's interval with bootstrap quantiles",
        supported=f"interval above 1 {EVERY}, p <= .05 after Holm within the family; every control survived",
        rejected=f"interval below 1 {SOME}, or answer length explains it away: with the number of generated tokens "
        "taken out less than half of the excess is left and the interval holds 1",
        controls=("answer length", "both measures"),
        nulls=("components equal",),
        published="asserted without a figure",
    ),
    Claim(
        id="R2",
        seed_doc=4,
        statement="The order of models by ratio_norm is the same in every prompt category.",
        statistic="W_ceiling - W_obs: Kendall's W of the category means of ln ratio_norm against its mean over 1,000 "
        "category-shuffled splits of the same prompts; prompts resampled within category",
        supported="interval below .1 with W_ceiling >= .7, p of W_obs <= .05 after Holm within the family",
        rejected="interval above .1 with W_ceiling >= .7",
        controls=(),
        nulls=("model labels permuted within category",),
        published="same in six categories",
    ),
    Claim(
        id="R3",
        seed_doc=4,
        statement="Regimes are stable over temperature and token budget.",
        statistic="Spearman's correlation of the models' medians of ln ratio_norm between temperatures .1, .4, .7, 1 "
        "and between windows of 64 values that start at 0, 64, 128; prompts resampled",
        supported="every lower bound above .7, p <= .05 after Holm within the family",
        rejected="some upper bound below .7, where either order agrees with itself: split halves of the prompts >= .7",
        controls=(),
        nulls=("model labels permuted",),
        published="mean 2.384, SD .343",
    ),
    Claim(
        id="S4",
        seed_doc=2,
        statement="Measures are conditional on category, normalisation and layer band.",
        statistic="model x factor component of ln mean ct and ln ratio_norm on ranks: category (share, prompts "
        "nested), normalisation (unit states, others recorded, values clipped_mad), layer band (l/L = .25, .5, "
        ".75, 1); bootstrap-t over prompts",
        supported="every interval above 0 and p of the label shuffle <= .05 after Holm within the family",
        rejected="no region: absence of an interaction is not shown by an interval that holds 0",
        controls=(),
        nulls=("labels of the factor shuffled",),
        published="asserted without a figure",
    ),
    Claim(
        id="S8",
        seed_doc=2,
        statement="Some families stay balanced, others swing with load.",
        statistic="pseudo-F of family x load for ln mean ct; load = steps of derivation where prompts say them, else "
        "category; models permuted between families",
        supported="p <= .05 with seed twins in and dropped, also after Holm within the family",
        rejected="no region: a large p is no evidence of absence",
        controls=("seed twins",),
        nulls=("families permuted over models",),
        published="asserted without a figure",
    ),
)
