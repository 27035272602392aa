"""What `--plan` prints: of a study, and of the commands on one model."""

from typing import Annotated, Any

import typer

from phaselens.cli.terminal import number, print_json, print_table, say

PROMPT = 16  # tokens, where prompts are not counted
Plan = Annotated[bool, typer.Option("--plan", help="Say what it takes (tokens, bytes, memory, minutes) and stop.")]


def print_plan(found: dict[str, Any], as_json: bool) -> None:
    """The plan as one JSON document, or as tables of models and stages."""
    from phaselens.studies.cost_estimate import short

    if as_json:
        print_json(found)
        return
    columns: tuple[str, ...] = tuple(
        "model | parameters | active | layers | vocabulary | peak GB | weights, least that fits".split(" | ")
    )
    facts = ("name", "parameters", "active", "n_layers", "vocab_size")
    print_table(columns, [(*(m[f] for f in facts), f"{m['peak'] / 1e9:.2f}", _fitting(m)) for m in found["models"]])
    columns = ("model", "stage", "tokens", "lenses", "bytes", "minutes")
    rows = [(*(row[c] for c in columns[:-1]), number(row["minutes"])) for row in found["stages"]]
    print_table(columns, rows)
    say(short(found))


def _fitting(model: dict[str, Any]) -> str:
    places = {name: (model["fits"][name] or ["more than 8 GPUs of 80 GB"])[0] for name in model["weights"]}
    return "; ".join(f"{name} {size / 1e9:.2f} GB: {places[name]}" for name, size in model["weights"].items())


def plan_one(
    model: str, runs: int, new: int, lenses: int, *, per_layer: float = 0.0, passes: float = 1.0, dtype: str = "float32"
) -> dict[str, Any]:
    """The plan of a command on one model: so many runs of `new` tokens, seen `passes` times under so many lenses.

    `per_layer` passes are added for each layer: of interventions, which go on from where they change something.
    """
    from phaselens.studies.cost_estimate import planned, shape_of
    from phaselens.studies.declaration_parts import Source

    shape = shape_of(Source(source=model))
    every = passes + per_layer * shape.n_layers
    return planned([(shape, runs * new, runs * PROMPT)], lenses, dtype, 32, new + PROMPT, passes=every)
