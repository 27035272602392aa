"""Claims about what sets the regime: training loss, architecture, size, training data."""

from phaselens.claims.record import Claim

RATIO = "log ratio_norm (model medians, 64 values, layer l* = round(.75 L))"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="R4",
        seed_doc=4,
        statement="ratio_norm tracks training loss beyond perplexity.",
        statistic=f"|r| of {RATIO} with training loss, less |r| with the loss on another corpus than the training one; "
        "checkpoints of one training are one cluster, clusters resampled",
        supported="interval above 0 with at least 20 models, p <= .05 after Holm within the family; the same with size "
        "(log parameters) taken out of all three; both losses measured on equal numbers of tokens (to 10 %), since the "
        "noisier one goes less with anything. Not applicable where models of one recipe, shape and tokenizer have no "
        "training_seed, or all are of one training",
        rejected="interval below 0 with at least 20 models, or size explains it away (with it taken out the interval "
        "lies below 0); any difference counts, so no smaller effect is denied",
        controls=("size",),
        nulls=("correlations equal",),
        published="r = .922 with loss, .716 with perplexity",
    ),
    Claim(
        id="R6",
        seed_doc=4,
        statement="Architecture, not size, sets the regime.",
        statistic=f"partial R^2 of family for {RATIO}, given log parameters, corpus and tokenizer (the last checkpoint "
        "of every training, seeds of one recipe as one), among models whose corpus and tokenizer another family shares",
        supported="p <= .05 (residuals exchanged within corpus and tokenizer), also after Holm within the family, and "
        "the upper bound of the semi-partial R^2 of log parameters < .25; at least 3 families with at least 3 models "
        "each. Not applicable where family cannot be told from corpus and tokenizer",
        rejected="size explains it away: the lower bound of that R^2 > .25 (the smallest effect that counts); a "
        "large p rejects nothing",
        controls=("size",),
        nulls=("residuals on size, corpus and tokenizer exchanged between families (Freedman and Lane 1983)",),
        published="asserted without a figure",
    ),
    Claim(
        id="R7",
        seed_doc=2,
        statement="The amount of training data does not set the regime.",
        statistic=f"R^2 of {RATIO} with log tokens seen, within trainings, all pooled (Fisher's z); checkpoints at "
        "matched steps, jackknife over trainings",
        supported="interval below .25, p <= .05 after Holm within the family; at least 3 trainings with at least 3 "
        "matched steps",
        rejected="interval above .25 (the smallest effect that counts)",
        controls=(),
        nulls=("R^2 of .25",),
        published="asserted without a figure",
    ),
)
