"""The claims about what probes read: linear decodability, where along depth, in how many dimensions, and grouping."""

from phaselens.claims.record import Claim

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="F1",
        seed_doc=0,
        statement="Functional properties are linearly decodable from hidden states.",
        statistic="for each functional family (syntax-like, decision-like, stabilisation) the held-out capacity at the "
        "best layer, averaged over trained models; the weakest family decides (intersection-union)",
        supported="max-statistic permutation p <= .05 in every family, also after Holm; and capacity at the best layer "
        "above l = 0, above the untrained twin and above covariates (lower bounds above 0), selectivity above 0",
        rejected="p <= .05, and a baseline does as well: the upper bound of the difference of capacities is below .05",
        controls=("embedding (l = 0)", "untrained twin", "covariates", "control task"),
        nulls=("labels exchanged between groups, the largest capacity over layers",),
        published="decodable in every model",
    ),
    Claim(
        id="F2",
        seed_doc=0,
        statement="The high-capacity region differs in relative depth between architectures.",
        statistic="difference of peak depth of syntax-like capacity between two models of different families, the pair "
        "of least p",
        supported="its interval excludes +-(1/(2 L1) + 1/(2 L2)), which the grids of layers alone make; p <= .05 after "
        "Holm over pairs and within the seed's family; no pair of seed twins differs",
        rejected="-",
        controls=("seed twins",),
        nulls=("grid of layers",),
        published="region differs by architecture",
    ),
    Claim(
        id="F3",
        seed_doc=0,
        statement="The signal is distributed over dimensions, and is not in single ones.",
        statistic="held-out accuracy of a rank-8 subspace less that of the 8 best single features, at the peak layer "
        "of the first syntax-like task, averaged over trained models",
        supported="lower bound above 0, and above the same difference in 20 random rotations (lower bound above 0)",
        rejected="upper bound below 0; or below the random rotations (upper bound below 0)",
        controls=("random rotations",),
        nulls=("Haar rotations of the same states; a refit probe on rotated states is shown as sanity only",),
        published="rotation keeps a refit probe (algebra, no evidence)",
    ),
    Claim(
        id="F4",
        seed_doc=0,
        statement="The same grouping of models emerges from dynamics and from function.",
        statistic="correlation of the distances of dynamic fingerprints with those of capacity profiles (Mantel), and "
        "the adjusted Rand index of both groupings",
        supported="both permutation p <= .05 (the larger one decides, also after Holm), twins removed; >= 6 models",
        rejected="-",
        controls=("twins",),
        nulls=("models of one of the two permuted",),
        published="the GPT-2 pair",
    ),
)
