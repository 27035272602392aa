"""Claims about whether the dynamics say anything about the answer, and about what comes later in the run."""

from phaselens.claims.record import Claim

RULE = "p <= .05 after Holm within the family"
AUROC = "AUROC for a wrong answer, mean over models, orientation fixed on calibration runs, prompts resampled"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="S1",
        seed_doc=2,
        statement="The commitment trap raises the risk of error.",
        statistic="risk difference from no trap to full trap (rank of high commitment x short steps x little sync at "
        "l*), least squares with mean entropy, mean log-probability and a constant per model; prompts resampled; "
        ">= 1,000 runs",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(),
        nulls=("entropy and log-probability as covariates",),
        published="asserted without a figure",
    ),
    Claim(
        id="S2",
        seed_doc=2,
        statement="Turbulence that resolves goes with better answers.",
        statistic="share of right answers of the upper third of resolved turbulence (early peak less late level) minus "
        "that of the lower third, within prompt, model and arm; prompts resampled",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(),
        nulls=("no difference within a prompt",),
        published="asserted without a figure",
    ),
    Claim(
        id="S3",
        seed_doc=2,
        statement="Stability and correctness are decoupled.",
        statistic="Spearman's correlation of mean instability at l* with correctness within each model, random-effects "
        "mean over models (DerSimonian-Laird); prompts resampled; >= 300 prompts",
        supported=f"interval inside +-.2, {RULE}",
        rejected="interval outside +-.2",
        controls=(),
        nulls=("correlation at the margin",),
        published="asserted without a figure",
    ),
    Claim(
        id="S5",
        seed_doc=2,
        statement="Coherence or curvature warns earlier than output-level metrics.",
        statistic=f"AUROC averaged over steps 1-16 of running means: better of coherence and turning_angle at l* less "
        f"the better of surprisal and entropy, each chosen on calibration runs; {AUROC}",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(),
        nulls=("equal AUROC",),
        published="asserted without a figure",
    ),
    Claim(
        id="S7",
        seed_doc=2,
        statement="Turbulence rises with multi-hop load.",
        statistic="slope of mean turbulence at l* over 1, 2, 3 steps of derivation, prompt length taken out, mean over "
        "models; prompts resampled",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(),
        nulls=("no slope",),
        published="asserted without a figure",
    ),
    Claim(
        id="X3",
        seed_doc=4,
        statement="An early dynamic layer signature predicts the later regime.",
        statistic="label: max/mean of instability over values 9-72 at l* above the model's median; AUROC of held-out "
        "logistic predictions from instability, step length and turning angle of values 1-8 at l* and L beside prompt "
        "length, entropy and surprisal of the same prefix, less those of the latter alone; prompts resampled",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(),
        nulls=("equal AUROC",),
        published="asserted without a figure",
    ),
    Claim(
        id="A5",
        seed_doc=0,
        statement="Departures from the grammar go with errors.",
        statistic="gain of the grammar violation (nats per step of the states at l* under the chain of right runs, "
        f"prompts held out) over the best baseline of mean log-probability, entropy, length and CoE-R; {AUROC}",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(),
        nulls=("equal AUROC",),
        published="asserted without a figure",
    ),
    Claim(
        id="R5",
        seed_doc=4,
        statement="Late instability predicts collapse before it is visible.",
        statistic="AUROC of low instability at l* over the last 8 steps before t - 8, t the start of the loop "
        "(t >= 32; runs without one take the same t by turns), less the better of repetition and entropy there; "
        "prompts resampled; >= 10 collapses; early end of text is apart",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(),
        nulls=("equal AUROC",),
        published="8 of 8",
    ),
    Claim(
        id="R8",
        seed_doc=4,
        statement="The adaptive regime goes with better reasoning.",
        statistic="Spearman's correlation over models of closeness of the median ratio_norm to the band 2.27-2.92 with "
        "the share of right answers in the category science or reasoning; models resampled",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(),
        nulls=("correlation 0",),
        published="Qwen",
    ),
)
