"""The claims about what changing a running model does: signatures, causal regions, and control of the dynamics."""

from phaselens.claims.record import Claim

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="P1",
        seed_doc=3,
        statement="Perturbation signatures differ between architectures and reproduce.",
        statistic="rank correlation of a model's signature (log gain and log KL over relative depth and strength, "
        "matched noise) on one half of prompts and draws with its own on the other half, less that with models of "
        "other families",
        supported="interval over prompts inside halves above 0, and the same under distances of signatures; at least "
        "16 prompts; p <= .05 after Holm within the family",
        rejected="interval below 0",
        controls=("identity null", "unmatched noise", "distance version"),
        nulls=("noise of strength 0 through the same hooks: bit-identical logits",),
        published="three signatures",
    ),
    Claim(
        id="F5",
        seed_doc=0,
        statement="Perturbing a high-capacity region changes behaviour more.",
        statistic="fall of the task score when the probe's subspace is taken out, less that of random subspaces of "
        "equal removed variance, in high-capacity layers less in the others behind the first block; mean over models",
        supported="lower bound over items above 0, and the fall in the high-capacity region, and that less the fall "
        "elsewhere, lie above the 95 % band of the random subspaces (rank p <= .025); no model says the opposite; p "
        "<= .05 after Holm within the family",
        rejected="upper bound below 0; or the effect is below the median of the random subspaces",
        controls=(
            "random subspace of equal variance",
            "random subspaces between layers",
            "identity null",
            "each model",
        ),
        nulls=("random subspaces of equal rank and of equal removed variance",),
        published="-",
    ),
    Claim(
        id="X1",
        seed_doc=4,
        statement="Hidden-state intervention changes dynamic stability.",
        statistic="absolute change of a run's mean ct by a step along the direction to the low-instability centroid, "
        "less that by random directions of equal norm, in SDs of ct over prompts; mean over models",
        supported="lower bound over prompts above 0, and larger than by as good as all random directions (rank p <= "
        ".05); no model says the opposite; p <= .05 after Holm within the family",
        rejected="interval inside +-.1; or below the median of the random directions",
        controls=("identity null", "random directions", "each model"),
        nulls=("random directions of equal norm",),
        published="-",
    ),
    Claim(
        id="X2",
        seed_doc=4,
        statement="Changing the dynamics does not by itself repair the answer.",
        statistic="share of right answers with the monitor and its action, less that without, paired by question",
        supported="90 % interval inside +-.05 (TOST) in every model, n >= 700 paired questions, X1 supported; the "
        "random trigger does no other; the action came before the answer was settled in more than 5 % of the questions "
        "(lower bound), and the change there is not above 0; p of the two one-sided tests, the largest of all "
        "models, <= .05 after Holm",
        rejected="95 % interval above .05, and above what the random trigger gives; or above .05 where the action came "
        "in time",
        controls=("random trigger", "answers in time"),
        nulls=("the same action at random steps, at the same rate",),
        published="dynamic is not semantic",
    ),
    Claim(
        id="X4",
        seed_doc=4,
        statement="Control of the dynamics is necessary for repair.",
        statistic="answers that the guard prompt repairs less those that it loses, where mean ct does not fall, as a "
        "share of all questions, less the same of another run without any intervention; mean over models",
        supported="-",
        rejected="lower bound above 0; it is also above 0 by itself, and the guard prompt repairs on the whole",
        controls=("guard prompt",),
        nulls=("another seed without intervention",),
        published="-",
    ),
    Claim(
        id="S6",
        seed_doc=2,
        statement="Damping turbulence by sampling control lowers self-correction.",
        statistic="share of right answers of turbulent questions under low temperature less that under normal "
        "temperature, paired; turbulence from a run of its own; mean over models",
        supported="upper bound below 0, also less calm questions that are as hard, and also of questions that were "
        "right in a run of their own; no model says the opposite",
        rejected="lower bound above 0; or calm questions that are as hard fall as much; or easy ones do not fall",
        controls=("calm runs", "easy turbulent questions", "each model"),
        nulls=("the same for calm questions that are as hard",),
        published="-",
    ),
)
