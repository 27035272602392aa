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
        supported="interval over prompts inside halves above 0, and the same under distances of signatures",
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
        "equal removed variance, in high-capacity layers less in the others",
        supported="lower bound over items above 0, and in the high-capacity region the effect lies outside the 95 % "
        "band of random subspaces",
        rejected="upper bound below 0",
        controls=("random subspace of equal variance", "identity null"),
        nulls=("random subspaces of equal rank and of equal removed variance",),
        published="-",
    ),
    Claim(
        id="X1",
        seed_doc=4,
        statement="Hidden-state intervention changes dynamic stability.",
        statistic="absolute change of a run's mean ct by a step along the direction to the low-instability centroid, "
        "less that by random directions of equal norm, in SDs of ct over prompts",
        supported="lower bound over prompts above 0",
        rejected="interval inside +-.1",
        controls=("identity null",),
        nulls=("random directions of equal norm",),
        published="-",
    ),
    Claim(
        id="X2",
        seed_doc=4,
        statement="Changing the dynamics does not by itself repair the answer.",
        statistic="share of right answers with the monitor and its action, less that without, paired by question",
        supported="90 % interval inside +-.05 (TOST), n >= 700 paired questions, X1 supported; the random trigger does "
        "no other",
        rejected="95 % interval above .05, and above what the random trigger gives",
        controls=("random trigger",),
        nulls=("the same action at random steps, at the same rate",),
        published="dynamic is not semantic",
    ),
    Claim(
        id="X4",
        seed_doc=4,
        statement="Control of the dynamics is necessary for repair.",
        statistic="share of questions that the guard prompt repairs without a fall of mean ct, less the share that "
        "another run without any intervention repairs so",
        supported="-",
        rejected="lower bound above 0",
        controls=("guard prompt",),
        nulls=("another seed without intervention",),
        published="-",
    ),
    Claim(
        id="S6",
        seed_doc=2,
        statement="Damping turbulence by sampling control lowers self-correction.",
        statistic="share of right answers of turbulent questions under low temperature less that under normal "
        "temperature, paired; turbulence from a run of its own",
        supported="upper bound below 0, and calm questions do not fall as much",
        rejected="lower bound above 0",
        controls=("calm runs",),
        nulls=("the same for calm questions",),
        published="-",
    ),
)
