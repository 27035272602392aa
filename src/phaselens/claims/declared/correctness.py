"""Claims about whether the dynamics say anything about the answer, and about what comes later in the run."""

from phaselens.claims.record import ELSEWHERE, Claim

RULE = "p <= .05 after Holm within the family"
WITHIN = "within strata of model, category and arm"
MEAN = "mean over models; units resampled"
AUROC = f"AUROC for a wrong answer over pairs of runs {WITHIN}, orientation fixed on calibration runs, {MEAN}"
EACH = "each model"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="S1",
        seed_doc=2,
        statement="The commitment trap raises the risk of error.",
        statistic="risk difference from no trap to full trap (rank of high commitment x short steps x little sync at "
        "l*), least squares with mean entropy, mean log-probability and a constant for each stratum of model, category "
        f"and arm; {MEAN}; >= 1,000 runs",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(EACH,),
        nulls=("entropy and log-probability as covariates",),
        published="asserted without a figure",
    ),
    Claim(
        id="S2",
        seed_doc=2,
        statement="Turbulence that resolves goes with better answers.",
        statistic="share of right answers of the upper third of resolved turbulence (early peak less late level) minus "
        f"that of the lower third, within prompt, model and arm; {MEAN}; >= 1,000 runs",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=("length", EACH),
        nulls=("no difference within a prompt",),
        published="asserted without a figure",
    ),
    Claim(
        id="S3",
        seed_doc=2,
        statement="Stability and correctness are decoupled.",
        statistic="Spearman's correlation of mean instability at l* with correctness within category and arm, of each "
        "model; units resampled; >= 300 units; the random-effects mean with the spread between models stands beside",
        supported=f"interval inside +-.2 in every model, {RULE} (the largest p of the models)",
        rejected="interval outside +-.2 in one model (Bonferroni over models)",
        controls=(),
        nulls=("correlation at the margin",),
        published="asserted without a figure",
    ),
    Claim(
        id="S5",
        seed_doc=2,
        statement="Coherence or curvature warns earlier than output-level metrics.",
        statistic=f"AUROC averaged over steps 1-16 of running means: better of coherence and turning_angle at l* less "
        f"the better of surprisal and entropy, each chosen on calibration runs; {AUROC}; >= 1,000 runs",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=("length", "CoE-R", "linear probe", EACH),
        nulls=("equal AUROC",),
        published="asserted without a figure",
    ),
    Claim(
        id="S7",
        seed_doc=2,
        statement="Turbulence rises with multi-hop load.",
        statistic="slope of mean turbulence at l* over 1, 2, 3 steps of derivation, prompt length taken out, with a "
        f"constant for each stratum of model, category and arm; {MEAN}",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(EACH,),
        nulls=("no slope",),
        published="asserted without a figure",
    ),
    Claim(
        id="X3",
        seed_doc=4,
        statement="An early dynamic layer signature predicts the later regime.",
        statistic="label: max/mean of instability over values 9-72 at l* above the model's median; AUROC of held-out "
        "logistic predictions from instability, step length and turning angle of values 1-8 at l* and L beside prompt "
        f"length, entropy and surprisal of the same prefix, less those of the latter alone, over pairs {WITHIN}; "
        f"{MEAN}, both predictions fitted anew in each of 150 resamples, means over splits",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(EACH,),
        nulls=("equal AUROC",),
        published="asserted without a figure",
    ),
    Claim(
        id="A5",
        seed_doc=0,
        statement="Departures from the grammar go with errors.",
        statistic="gain of the grammar violation (nats per step of the states at l* under the chain of right runs, "
        f"units held out) over the best baseline of log-probability, entropy, length, CoE-R and linear probe; {AUROC}",
        supported=f"interval above 0, {RULE}",
        rejected="interval below 0",
        controls=(EACH,),
        nulls=("equal AUROC",),
        published="asserted without a figure",
    ),
    Claim(
        id="R5",
        seed_doc=4,
        statement="Late instability predicts collapse before it is visible.",
        statistic="AUROC of low instability at l* over the last 8 steps before t - 8, t the start of the loop "
        f"(t >= 32; runs without one take the same t by turns), less the better of repetition and entropy there; pairs "
        f"{WITHIN}; units resampled; >= 10 collapses; early end of text is apart",
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
        "the share of right answers in the category science or reasoning, siblings (one recipe, or declared twins) as "
        "one; Fisher's z; >= 8 models",
        supported=f"interval above 0, also given size and given loss, {RULE}",
        rejected="interval below 0",
        controls=("size", "loss"),
        nulls=("correlation 0",),
        published="Qwen",
    ),
    Claim(
        id="O3",
        seed_doc=ELSEWHERE,
        statement="Text alone does not explain what the states know about errors.",
        statistic="AUROC for a wrong answer of held-out logistic predictions from three scores of text (TF-IDF of the "
        "prompt, of prompt and answer; hashed n-grams of characters) and the linear probe of the states that the "
        f"answer begins with, less those of text alone, over pairs {WITHIN}; {MEAN}, fitted anew in each of 150 "
        "resamples; >= 1,000 runs",
        supported=f"interval above 0, {RULE}",
        rejected="interval below .02",
        controls=(EACH,),
        nulls=("equal AUROC",),
        published="four of six public corpora leak (PARALLAX, arXiv 2605.17028)",
    ),
)
