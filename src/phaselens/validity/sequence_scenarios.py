"""The scenarios of G7, G8, A4 and C1: independent marks, chains of known transitions, series of known reopening."""

from collections.abc import Callable
from functools import partial

from phaselens.claims import claims_by_id, judge_all
from phaselens.experiments import Panel
from phaselens.experiments.cycles import cycles_evidence
from phaselens.experiments.motifs import motifs_evidence
from phaselens.experiments.states import states_evidence
from phaselens.validity import simulated_cycles, simulated_states
from phaselens.validity.scenario import Judge, Kind, Ruling, Scenario

M6 = "M = 6, 16 runs of 8 prompts, 48 steps, 3 layers with states"
M4 = "M = 4, 16 runs of 8 prompts, 48 steps, 3 layers with states"
SERIES = "M = 6, 40 runs of 8 prompts, 72 steps"


def _judge(claim: str, evidence: Callable[[Panel], dict]) -> Judge:
    """The judge of one claim alone: its evidence as the experiment gives it, and no other claim for Holm."""

    def judge(panel: Panel) -> dict[str, Ruling]:
        (verdict,) = judge_all(claims_by_id([claim]), evidence(panel))
        return {claim: Ruling(verdict.verdict, verdict.decided_by)}

    return judge


JUDGES = {
    "G7": _judge("G7", states_evidence),
    "G8": _judge("G8", states_evidence),
    "A4": _judge("A4", motifs_evidence),
    "C1": _judge("C1", cycles_evidence),
}


def _one(claim: str, name: str, kind: Kind, planted: str, size: str, make: Callable, **more) -> Scenario:
    return Scenario(f"{claim} {name}", kind, (claim,), planted, size, make, JUDGES[claim], **more)


SEQUENCES: tuple[Scenario, ...] = (
    _one(
        "G7", "null, marks as often", "null",
        "T, S and C independent of one another, as often in every model; how often varies between runs", M6,
        partial(simulated_states.without_taxonomy, alike=True),
    ),
    _one(
        "G7", "null, marks by model", "null",
        "T, S and C independent of one another, in every model as often as it may be", M6,
        partial(simulated_states.without_taxonomy, alike=False),
    ),
    _one(
        "G7", "effect", "effect",
        "the states rank alike in every model, though the marks occur as often as they may; twins independent", M6,
        simulated_states.with_taxonomy, headline=True,
    ),
    _one(
        "G7", "before training", "artefact",
        "the states rank alike in every model, and so they do in the untrained twins", M6,
        partial(simulated_states.with_taxonomy, before=1.0), control="untrained twin",
    ),
    _one(
        "G7", "partly before training", "artefact",
        "the states rank alike in every model, and in four of five cells of the untrained twins", M6,
        partial(simulated_states.with_taxonomy, before=0.8), control="untrained twin",
    ),
    _one(
        "G7", "effect, 12 models", "effect", "as the effect, twice as many models", M6.replace("M = 6", "M = 12"),
        partial(simulated_states.with_taxonomy, m=12),
    ),
    _one(
        "G8", "null", "null", "D is followed by D as often as any state is", M6,
        partial(simulated_states.with_stay, stay=None),
    ),
    _one(
        "G8", "null, runs differ", "null",
        "the same, and the share of D varies between runs by a factor of 2 either way", M6,
        partial(simulated_states.with_stay, stay=None, prompt_sd=0.7),
    ),
    _one(
        "G8", "effect", "effect", "D is followed by D with probability .03, its share is .11", f"-.08, {M6}",
        partial(simulated_states.with_stay, stay=0.03), headline=True,
    ),
    _one(
        "G8", "word starts", "artefact",
        "D stands at a quarter of the starts of words of one, two or three tokens, and nowhere else", M6,
        simulated_states.at_word_starts, control="word place",
    ),
    _one(
        "G8", "effect, small", "effect", "D is followed by D with probability .08, its share is .11", f"-.03, {M6}",
        partial(simulated_states.with_stay, stay=0.08),
    ),
    _one(
        "G8", "D lasts", "artefact", "D is followed by D with probability .4", f"+.3, {M6}",
        partial(simulated_states.with_stay, stay=0.4),
    ),
    _one(
        "A4", "null", "null", "nothing links the layers", M4, partial(simulated_states.with_grammar, linked=0.0)
    ),
    _one(
        "A4", "depth profile", "artefact",
        "explore is frequent at the first layers, decide at the last ones, and nothing links the layers", M4,
        partial(simulated_states.with_grammar, linked=0.0, by_layer=simulated_states.DEEPER),
    ),
    _one(
        "A4", "effect", "effect", "a fifth of the cells explore, process and decide in this order along depth",
        f"a fifth, {M4}", partial(simulated_states.with_grammar, linked=0.2), headline=True,
    ),
    _one(
        "A4", "effect, depth profile", "effect",
        "a third of the cells in this order, the others with explore first and decide last", f"a third, {M4}",
        partial(simulated_states.with_grammar, linked=1 / 3, by_layer=simulated_states.DEEPER),
    ),
    _one(
        "A4", "before training", "artefact", "a fifth of the cells in this order, in the untrained twins as well", M4,
        partial(simulated_states.with_grammar, linked=0.2, before=True), control="untrained twin",
    ),
    _one(
        "A4", "no tuned lens", "artefact", "a fifth of the cells in this order; no tuned lens was recorded", M4,
        partial(simulated_states.with_grammar, linked=0.2, tuned=False), control="tuned lens",
    ),
    _one(
        "C1", "null, .9", "null", "a map of AR(1) series of correlation .9, with a level of its own in each run",
        SERIES, partial(simulated_cycles.of_surrogates, phi=0.9),
    ),
    _one(
        "C1", "null, .95", "null", "the same with correlation .95", SERIES,
        partial(simulated_cycles.of_surrogates, phi=0.95),
    ),
    _one(
        "C1", "effect", "effect", "a fifth of the runs swing: 7 steps low, 4 high, and again",
        f"reopened after 5 steps, {SERIES}", partial(simulated_cycles.of_waves, low=7, high=4), headline=True,
    ),
    _one(
        "C1", "null, saturated", "null", "AR(1) series of correlation .5, one level for all: all is open again at 16",
        SERIES, partial(simulated_cycles.of_surrogates, phi=0.5, run_sd=0.0),
    ),
    _one(
        "C1", "effect, saturated", "effect", "two runs of five swing: 4 steps low, 12 high; all is open again at "
        "16, also by chance", f"reopened after 2 steps, {SERIES}",
        partial(simulated_cycles.of_waves, low=4, high=12, share=0.4),
    ),
    _one(
        "C1", "low inside words", "artefact", "entropy depends on the place in the word and on nothing else", SERIES,
        simulated_cycles.of_words,
    ),
    _one("C1", "loops", "artefact", "a third of the runs stay low to their end", SERIES, simulated_cycles.of_loops),
)  # fmt: skip
