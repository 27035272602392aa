"""Claims on states, their chains and cycles."""

from phaselens.claims.record import Claim

SWEEP = (
    "under turbulence thresholds of the 60th to 90th percentile and rivalry thresholds of .3 to .7, and under the "
    "other choice of layers (l* or all), the estimate stays on its side of the null"
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="G7",
        seed_doc=3,
        statement="The five-state taxonomy is consistent across models.",
        statistic="Kendall's W of the five occupancies with models as judges (layers 1..L with a state, all measured "
        "runs; turbulent: above the 75th percentile of the trained models' calibration runs)",
        supported="W and the lower bound of its prompt-bootstrap interval above the 95 % point of W with the marks T, "
        f"S, C shuffled independently within every model (p <= .05, also after Holm); {SWEEP}; every control survived",
        rejected="the upper bound below the median of that null; or the untrained twins agree as well beyond theirs "
        "(the same rule, or more than half of the excess over the median, lower bound)",
        controls=("untrained twin",),
        nulls=("T, S and C shuffled independently over the cells of each model, 1,000 draws",),
        published="7 of 8 models",
    ),
    Claim(
        id="G8",
        seed_doc=3,
        statement="Full bifurcation is transient.",
        statistic="self-transition of D along generation at l* = round(.75 L), less its exact mean over all orders of "
        "each run's states; mean over models, each with at least 50 cells in D",
        supported="95 % prompt-bootstrap interval below 0 (p also after Holm), also with states exchanged only among "
        "steps at the same place in their word, no model's own interval above 0; "
        f"{SWEEP} (versions with fewer than 50 cells in D in a model decide nothing)",
        rejected="interval above .02 (the smallest effect that counts), no model's own interval below 0, and the same "
        "of the versions; or less than half of the excess is left (upper bound) at equal place in the word",
        controls=("word place",),
        nulls=("order of the states permuted within a run: its exact mean",),
        published="< .04",
    ),
    Claim(
        id="C1",
        seed_doc=4,
        statement="Low-entropy states reopen more than chance makes them.",
        statistic="reopenings of collapses per step in collapse, each followed up to 16 steps, entries that lie inside "
        "one word left out and counted apart; entries of all trained models together, at least 50",
        supported="above the 97.5 % point of both nulls (p <= .05, also after Holm), and the lower bound of its "
        "prompt-bootstrap interval above the medians of both",
        rejected="the upper bound below nine tenths of the medians of both nulls (the smallest effect that counts)",
        controls=(),
        nulls=(
            "Gaussian-copula AR(1) surrogate of each run, 200 draws",
            "low steps shuffled among steps at the same place in their word, 200 draws",
        ),
        published="84 % of 638",
    ),
    Claim(
        id="A4",
        seed_doc=0,
        statement="Explore -> process -> decide motifs are conserved.",
        statistic="p-values of all 18 bigrams and trigrams of the run-length-collapsed grammar along depth: share "
        "among words of its length, largest p over models and over both nulls, Holm over motifs; the claim's is the "
        "smallest of explore-process, process-decide and explore-process-decide",
        supported="<= .05, also after Holm within the family; every control survived",
        rejected="there is such a motif, and the untrained twins conserve every one of them as well",
        controls=("untrained twin", "tuned lens"),
        nulls=(
            "order of the layers permuted within a prompt",
            "prompts exchanged at each layer",
            "permutations: ten per bootstrap draw of the study (20,000 at 2,000 draws), fewer where 20 of "
            "them have reached the observed share (Besag and Clifford 1991)",
        ),
        published="7 motifs",
    ),
)
