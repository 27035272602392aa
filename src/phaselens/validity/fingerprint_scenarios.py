"""The scenarios of F0, T1, N1 and A1-A3: models, families, normalisations and minimal pairs with known differences."""

from collections.abc import Callable
from functools import partial

from phaselens.validity import simulated_ambiguity, simulated_fingerprints, simulated_normalisation
from phaselens.validity.scenario import Judge, Kind, Scenario, by_experiment

A_ALL = ("A1", "A2", "A3")
M7 = f"M = 7, {simulated_ambiguity.PAIRS} pairs"
NOUNS = f"M = 7, {simulated_ambiguity.NOUNS} nouns in {simulated_ambiguity.FRAMES} frames, ICC .3"
F12 = "four families of three models, 8 prompts"
_F0, _T1 = by_experiment("fingerprints"), by_experiment("topology")
_N1, _A = by_experiment("normalisation"), by_experiment("ambiguity")


def _one(
    judge: Judge, claims: tuple[str, ...], name: str, kind: Kind, planted: str, size: str, make: Callable, **more
) -> Scenario:
    label = claims[0] if len(claims) == 1 else "A"
    return Scenario(f"{label} {name}", kind, claims, planted, size, make, judge, **more)


PRINTS: tuple[Scenario, ...] = (
    _one(_F0, ("F0",), "null, load .3", "null", "models that do not differ, two of them declared twins", "M = 8",
         partial(simulated_fingerprints.alike, m=8, load=0.3)),
    _one(_F0, ("F0",), "null, load .7", "null", "the same, a common factor carries .7 of each feature", "M = 12",
         partial(simulated_fingerprints.alike, m=12, load=0.7)),
    _one(_F0, ("F0",), "effect, .7", "effect", "recipes that differ, a third of them with a second seed",
         "0.7 spreads, M = 9", partial(simulated_fingerprints.different, m=9, size=0.7), headline=True),
    _one(_F0, ("F0",), "effect, .1", "effect", "recipes that differ little, a third of them with a second seed",
         "0.1 spreads, M = 9", partial(simulated_fingerprints.different, m=9, size=0.1)),
    _one(_T1, ("T1",), "null, families .5", "null", "families carry half of the variance between models", F12,
         partial(simulated_fingerprints.of_families, families=4, each=3, share=0.5)),
    _one(_T1, ("T1",), "null, families .8", "null", "families carry .8 of the variance between models", F12,
         partial(simulated_fingerprints.of_families, families=4, each=3, share=0.8)),
    _one(_T1, ("T1",), "effect", "effect", "families carry nothing of the variance between models", F12,
         partial(simulated_fingerprints.of_families, families=4, each=3, share=0.0), headline=True),
    _one(_T1, ("T1",), "nothing to see", "artefact", "models that do not differ at all", F12,
         partial(simulated_fingerprints.noise_families, families=4, each=3), control="reproducible fingerprints"),
    _one(_T1, ("T1",), "copies", "artefact", "six pairs of undeclared copies, across families", "M = 12",
         partial(simulated_fingerprints.pairs_of_copies, pairs=6), control="few robust pairs"),
    _one(_N1, ("N1",), "null", "null", "both normalisations tell models apart alike", "M = 8, 8 prompts",
         partial(simulated_normalisation.study_of_methods, m=8, spreads=(1.0, 1.0))),
    _one(_N1, ("N1",), "effect", "effect", "one normalisation tells models apart, the other less", "spreads 1 and .4",
         partial(simulated_normalisation.study_of_methods, m=8, spreads=(1.0, 0.4)), headline=True),
    _one(_A, A_ALL, "null", "null", "nothing turns or commits later; instability .4 SD higher, the margin of A2", M7,
         partial(simulated_ambiguity.at_margin, m=7)),
    _one(_A, A_ALL, "effect", "effect", "more turning and later commitment, instability as before", f"0.6 SD, {M7}",
         partial(simulated_ambiguity.with_effect, m=7, size=0.6), headline=True),
    _one(_A, A_ALL, "null, nouns", "null",
         "nothing on the whole; what is ambiguous about a noun moves its pairs alike in all models, up or down", NOUNS,
         partial(simulated_ambiguity.at_margin, m=7, nouns=0.65)),
    _one(_A, A_ALL, "effect, nouns", "effect", "as above, with more turning and later commitment", f"0.6 SD, {NOUNS}",
         partial(simulated_ambiguity.with_effect, m=7, size=0.6, nouns=0.65)),
    _one(_A, ("A1", "A3"), "some models", "artefact", "an effect in three of seven models", f"0.6 SD, {M7}",
         partial(simulated_ambiguity.in_some, m=7, size=0.6)),
    _one(_A, ("A3",), "entropy", "artefact", "higher entropy, and commitment follows entropy", f"0.8 SD, {M7}",
         partial(simulated_ambiguity.of_entropy, m=7, size=0.8), control="entropy match"),
    _one(_A, ("A1", "A3"), "length", "artefact", "every eighth ambiguous prompt is longer, 6 SD there", M7,
         partial(simulated_ambiguity.of_length, m=7)),
)  # fmt: skip
