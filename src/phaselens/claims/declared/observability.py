"""Claims about what the states know of the next token beyond what the output says."""

from phaselens.claims.record import ELSEWHERE, Claim

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="O1",
        seed_doc=ELSEWHERE,
        statement="A linear probe of the states knows more of the next token's loss than the output says.",
        statistic="rank correlation of a ridge probe's score with the loss of the next token, on documents held out, "
        "beyond max-softmax, norm, entropy, tokens above 1 % and margin (products of their ranks up to the third "
        "order, powers up to the fifth); layer and penalty chosen on other documents; mean over models, documents "
        "resampled",
        supported="interval above 0, p <= .05 after Holm within the family; every control survived",
        rejected="upper bound below .05 (the smallest effect that counts), or untrained twins have all but .05 of it",
        controls=("shuffled loss", "untrained twin", "each model"),
        nulls=("probes of losses exchanged among the tokens that were fitted",),
        published="raw / given confidence / and entropy: gpt2 .514 / .288 / .211 (arXiv 2604.24801)",
    ),
    Claim(
        id="O2",
        seed_doc=ELSEWHERE,
        statement="Contextual curvature goes with next-token entropy at middle layers.",
        statistic="rank correlation of turning_angle (mean over l/L in 1/3 to 2/3) with the entropy of the output at "
        "the same step, within runs and beyond the token read and the step; mean over models, prompts resampled",
        supported="interval above 0, p <= .05 after Holm within the family; every control survived",
        rejected="upper bound below .05 (the smallest effect that counts), or untrained twins have all but .05 of it",
        controls=("untrained twin", "each model"),
        nulls=("correlation 0",),
        published="about r = .15 (arXiv 2604.23985)",
    ),
)
