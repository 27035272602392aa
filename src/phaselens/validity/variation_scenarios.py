"""The scenarios of V1 to V3, R2, R3, S4 and S8: known shares, known orders, known interactions."""

from collections.abc import Callable, Mapping
from functools import partial

from phaselens.claims import claims_by_id, judge_all
from phaselens.experiments import Panel
from phaselens.experiments.conditions import conditions_evidence
from phaselens.experiments.model_order import order_evidence
from phaselens.experiments.variance import variance_evidence
from phaselens.validity import simulated_order, simulated_variance
from phaselens.validity.scenario import Judge, Kind, Ruling, Scenario

PUBLISHED = {"model": 0.07, "category": 0.17, "prompt": 0.06, "model_prompt": 0.04, "residual": 0.66}
M8 = "M = 8, 8 prompts of 6 categories, 3 seeds"
M8F = "M = 8, 8 facts of 6 categories, 3 seeds"


def _judge(claim: str, evidence: Callable[[Panel, tuple[str, ...]], Mapping]) -> Judge:
    """The judge of one claim alone: its evidence as the experiment gives it, and no other claim for Holm."""

    def judge(panel: Panel) -> dict[str, Ruling]:
        (verdict,) = judge_all(claims_by_id([claim]), evidence(panel, (claim,)))
        return {claim: Ruling(verdict.verdict, verdict.decided_by)}

    return judge


JUDGES = {
    **{c: _judge(c, variance_evidence) for c in ("V1", "V2", "V3")},
    **{c: _judge(c, order_evidence) for c in ("R2", "R3")},
    **{c: _judge(c, conditions_evidence) for c in ("S4", "S8")},
}


def _one(claim: str, name: str, kind: Kind, planted: str, size: str, make: Callable, **more) -> Scenario:
    return Scenario(f"{claim} {name}", kind, (claim,), planted, size, make, JUDGES[claim], **more)


def _shares(**terms: float) -> Callable:
    return partial(simulated_variance.with_shares, **terms)


VARIATION: tuple[Scenario, ...] = (
    _one("V1", "null, 12 / 12", "null", "model and category explain alike, with an interaction", M8,
         _shares(model=0.12, category=0.12, model_category=0.06, prompt=0.1, residual=0.6)),
    _one("V1", "null, 0 / 0", "null", "neither explains anything; prompts do", M8,
         _shares(prompt=0.3, model_prompt=0.1, residual=0.6)),
    _one("V1", "effect, 17 / 7", "effect", "the published shares", f"category 17 %, model 7 %, {M8}",
         _shares(**PUBLISHED), headline=True),
    _one("V1", "effect, 40 / 5", "effect", "category explains most", f"category 40 %, model 5 %, {M8}",
         _shares(model=0.05, category=0.4, prompt=0.05, residual=0.5)),
    _one("V1", "large prompts", "artefact", "categories alike, prompts differ much: few prompts pass for categories",
         f"prompt 60 %, {M8}", _shares(prompt=0.6, residual=0.4)),
    _one("V1", "null, four wordings", "null", "model and category explain alike; every fact in four wordings", M8F,
         _shares(model=0.12, category=0.12, prompt=0.25, model_prompt=0.15, residual=0.36, wordings=4)),
    _one("V2", "null, 50", "null", "the residual is one half", M8,
         _shares(model=0.1, category=0.1, model_category=0.1, prompt=0.1, model_prompt=0.1, residual=0.5)),
    _one("V2", "effect, 66", "effect", "the published shares, the rest parted", f"residual 66 %, {M8}",
         _shares(**PUBLISHED), headline=True),
    _one("V2", "effect, heavy tails", "effect", "the same, the residual is Student's t of 2.5 degrees of freedom",
         f"residual 66 %, {M8}", _shares(**PUBLISHED, freedom=2.5)),
    _one("V1", "effect, 16 prompts", "effect", "the published shares, twice the prompts",
         "category 17 %, model 7 %, M = 8, 16 prompts of 6 categories, 3 seeds", _shares(**PUBLISHED, prompts=16)),
    _one("V2", "rest without residual", "artefact", "three-way rest 76 %, most of it interactions and prompts",
         f"residual 36 %, {M8}",
         _shares(model=0.07, category=0.17, model_category=0.1, prompt=0.15, model_prompt=0.15, residual=0.36)),
    _one("V3", "null", "null", "models differ alike in all categories", M8,
         partial(simulated_variance.with_amplification, amplify=1.0)),
    _one("V3", "effect, 4", "effect", "models differ four times as much (in square) in science", f"ratio 4, {M8}",
         partial(simulated_variance.with_amplification, amplify=4.0), headline=True),
    _one("V3", "null, four wordings", "null", "models differ alike in all categories; every fact in four wordings", M8F,
         partial(simulated_variance.with_amplification, amplify=1.0, wordings=4)),
    _one("V3", "noisy science", "artefact", "models differ alike; science prompts and seeds are four times as noisy",
         f"noise x 4 in square, {M8}", partial(simulated_variance.with_amplification, amplify=1.0, noisy=4.0)),
    _one("V3", "answer length", "artefact", "models differ alike; some answer science at length, and length counts",
         f"length moves both measures, {M8}", simulated_variance.of_length, control="answer length"),
    _one("R2", "null", "null", "categories order the models in part: W about .1 below its ceiling", M8,
         _shares(model=0.5, model_category=0.08, prompt=0.1, residual=0.32)),
    _one("R2", "effect", "effect", "one order in all categories", f"model 50 %, {M8}",
         _shares(model=0.5, category=0.1, prompt=0.1, residual=0.3), headline=True),
    _one("R2", "effect, four wordings", "effect", "one order in all categories; every fact in four wordings", M8F,
         _shares(model=0.5, category=0.1, prompt=0.1, model_prompt=0.1, residual=0.2, wordings=4)),
    _one("R2", "models alike", "artefact", "models hardly differ: no order to compare", f"model 1 %, {M8}",
         _shares(model=0.01, category=0.2, prompt=0.2, residual=0.59)),
    _one("R3", "null", "null", "at temperature 1 the order correlates .69 with the others", "M = 8, 24 prompts",
         partial(simulated_order.of_conditions, moved=0.69)),
    _one("R3", "effect", "effect", "one order under every temperature and window", "M = 8, 1 SD apart, 24 prompts",
         simulated_order.of_conditions, headline=True),
    _one("R3", "models alike", "artefact", "models do not differ", "0 SD apart, M = 8, 24 prompts",
         partial(simulated_order.of_conditions, gap=0.0)),
    _one("S4", "null", "null", "layer bands order models differently, categories do not", "M = 6, 4 layers",
         partial(simulated_order.of_layers, category=0.0, band=0.1)),
    _one("S4", "effect", "effect", "categories and layer bands order models differently",
         "10 % each, M = 6, 4 layers", partial(simulated_order.of_layers, category=0.1, band=0.1), headline=True),
    _one("S4", "one factor", "artefact", "categories order models differently, layer bands do not", "M = 6, 4 layers",
         partial(simulated_order.of_layers, category=0.1, band=0.0)),
    _one("S8", "null", "null", "every model has its own slope; families share none", "4 families x 3 models",
         partial(simulated_variance.with_loads, slope=0.0)),
    _one("S8", "effect, small", "effect", "families' slopes lie up to 2 SD apart", "2 SD, 4 families x 3 models",
         partial(simulated_variance.with_loads, slope=0.6)),
    _one("S8", "effect, large", "effect", "families' slopes lie up to 6 SD apart", "6 SD, 4 families x 3 models",
         partial(simulated_variance.with_loads, slope=1.8), headline=True),
    _one("S8", "seed twins", "artefact", "no family effect; one recipe trained five more times, declared",
         "4 families x 3 models and 5 seeds", partial(simulated_variance.with_loads, slope=0.0, seeds=5),
         control="seed twins"),
)  # fmt: skip
