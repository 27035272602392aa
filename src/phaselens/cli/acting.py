"""The part of `phaselens perturb` that acts on one organism: causal regions and control of the dynamics, judged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from phaselens.capture import Sampling, generate
from phaselens.claims import claims_by_id, judge_all, ledger_rows
from phaselens.engines.folder import pretty_json
from phaselens.errors import InputError
from phaselens.experiments import causal as of_causal
from phaselens.experiments import control as of_control
from phaselens.experiments.tables import arrow_table, json_value
from phaselens.interventions.causal import causal_effects, world_items
from phaselens.interventions.control import ControlPlan, control, world_questions
from phaselens.models import Model
from phaselens.organisms import world_battery
from phaselens.trace.store import atomic_write, write_table

RANDOM, ELSEWHERE, NEW = 20, 12, 16
GUARD = "Quiz\nQ: Which colour is the sky? A: blue.\n"


def causal_into(
    opening: Callable[[], Model], name: str, seed: int, out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Effects of taking grammatical number out, by layer, and F5; what is there is not done again.

    Raises InputError for a model that is no organism: its items are those of the organisms' world.
    """

    def make() -> dict[str, Any]:
        model = _organism(opening(), name)
        say(f"{name}: causal regions")
        texts = [p.text for p in world_battery().prompts[:: max(1, len(world_battery().prompts) // ELSEWHERE)]]
        said = generate(model, texts[:ELSEWHERE], max_new_tokens=NEW, sampling=Sampling(), seed=seed)
        made = causal_effects(model, world_items(model), n_random=RANDOM, seed=seed, elsewhere=said)
        stored = of_causal.StoredCausal(
            name, made.layers, made.n_layers, made.plain, made.capacity, made.margin, made.random, made.units,
            made.identity, made.elsewhere_plain, made.elsewhere,
        )  # fmt: skip
        rows = of_causal.rows_of(stored, of_causal.unit_weights(stored, seed, 1000))
        write_table(out / "results" / "causal.parquet", arrow_table(of_causal.ROWS, rows))
        return {"rows": rows, "claims": _judged({"F5": of_causal.evidence(stored, seed)})}

    return _once(out / "results" / "causal.json", make)


def control_into(
    opening: Callable[[], Model], name: str, n: int, action: str, seed: int, out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """All arms on `n` questions of the world, and X1, X2, X4 and S6; what is there is not done again.

    Raises InputError for a model that is no organism, or more questions than there are.
    """

    def make() -> dict[str, Any]:
        model = _organism(opening(), name)
        questions, texts = world_questions(n, seed)
        plan = ControlPlan(action=action, seed=seed)
        made = control(model, questions, texts, plan, guard=GUARD, progress=lambda arm: say(f"{name}: arm {arm}"))
        stored = of_control.StoredControl(
            name, np.asarray(made.units), made.identity, made.right, made.ct, made.tokens, made.triggered,
            made.steered, made.random_steered, made.turbulence,
        )  # fmt: skip
        rows = of_control.rows_of(stored, seed)
        write_table(out / "results" / "control.parquet", arrow_table(of_control.ROWS, rows))
        first = _judged({"X1": of_control.dynamic(stored, seed)})
        moved = first[0]["verdict"] == "supported"
        rest = {
            "X2": of_control.semantic(stored, seed, dynamic_supported=moved),
            "X4": of_control.necessary(stored, seed),
            "S6": of_control.damping(stored, seed),
        }
        return {"rows": rows, "claims": first + _judged(rest)}

    return _once(out / "results" / "control.json", make)


def _organism(model: Model, name: str) -> Model:
    if "organisms" not in model.source:
        raise InputError(
            f"{name} is no organism, and --causal and --control ask about the organisms' world. In Python, "
            "causal_effects and control take items and questions of your own (docs/interventions.md)."
        )
    return model


def _judged(evidence: dict[str, Any]) -> list[dict[str, Any]]:
    return [json_value(row) for row in ledger_rows(judge_all(claims_by_id(list(evidence)), evidence))]  # type: ignore[misc]


def _once(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not path.is_file():
        atomic_write(path, pretty_json(json_value(make())))
    return json.loads(path.read_text(encoding="utf-8"))
