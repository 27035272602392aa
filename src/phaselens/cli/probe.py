"""`phaselens probe`: what can be read from which layer of one model, and what that is worth."""

from pathlib import Path
from typing import Annotated, Any

import typer

from phaselens.batteries.file_rows import read_table
from phaselens.cli.models import ModelName, Overrides, Revision, Trust, open_model
from phaselens.cli.plans import Plan, plan_one, print_plan
from phaselens.cli.run import AsJson, Device, Dtype, Prove
from phaselens.cli.terminal import bounded, names, note, number, numbers, print_json, print_table, say
from phaselens.errors import InputError


def probe(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="Folder for results, frozen probes and report.")],
    data: Annotated[
        Path | None, typer.Option(help="JSONL, CSV, TSV or CoNLL-U: text (or token_ids) and a label per row.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Name of the task; for organism:NAME without --data: tasks of its world, by commas."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Column of the text; default: text, statement, sentence or prompt.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Column of the label (a list: one per word); default: label, in CoNLL-U upos.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Column of what stays together in splits; default: equal texts.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--type", help="Column of the word type or template, for control tasks.")
    ] = None,
    span: Annotated[
        str | None, typer.Option(help="START:END, two columns of characters (end exclusive); default: last token.")
    ] = None,
    fold: Annotated[str | None, typer.Option(help="Column of your own folds, instead of drawn ones.")] = None,
    bins: Annotated[
        int | None, typer.Option(help="Labels are numbers: cut them into so many classes of equal size.")
    ] = None,
    pool: Annotated[str, typer.Option(help="mean over the tokens of the span, or last.")] = "mean",
    layers: Annotated[
        str | None, typer.Option(help="Layers, by commas; default: all. The last is always read.")
    ] = None,
    l2: Annotated[
        str, typer.Option(help="Penalties to choose from inside each train fold, by commas.")
    ] = "1000,100,10,1",
    folds: Annotated[int, typer.Option(help="Folds, groups kept whole.")] = 5,
    draws: Annotated[int, typer.Option(help="Draws of each control.")] = 20,
    permutations: Annotated[int, typer.Option(help="Permutations of the test of the best layer; 0: none.")] = 200,
    examples: Annotated[int, typer.Option(help="Most examples per task of the world, or of one word a group.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    overrides: Overrides = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
    prove: Prove = False,
    plan: Plan = False,
    as_json: AsJson = False,
) -> None:
    """Fit linear probes on every layer, with baselines and the control table, and write them down."""
    from phaselens.readings import Columns
    from phaselens.workflows.probe_workflow import Request, probe_into

    ends = None if span is None else tuple(span.split(":"))
    if ends is not None and (len(ends) != 2 or not all(ends)):
        raise InputError(f"--span is {span!r}; wanted two column names, START:END.")
    request = Request(
        data,
        tasks=names(task) or (),
        columns=Columns(label, group, kind, ends, fold, text),
        pool=pool,
        layers=tuple(numbers(layers, int, "--layers")),
        l2=tuple(numbers(l2, float, "--l2")),
        folds=folds,
        draws=draws,
        permutations=permutations,
        most=examples,
        seed=seed,
        bins=bins,
    )
    request.check(model)
    if plan:  # no text is generated: every example is read once, by the model and by its untrained twin
        n = examples if data is None else len(read_table(data).rows)
        print_plan(plan_one(model, n, 1, 0, passes=2.0, dtype=dtype), as_json)
        return
    settings: dict = {"overrides": overrides, "revision": revision, "trust_remote_code": trust_remote_code}
    opened = open_model(model, device=device, dtype=dtype, **settings)
    found = probe_into(opened, request, out, note)
    if as_json:
        print_json(found)
        return
    _print(found)


def _print(found: dict[str, Any]) -> None:
    columns = ("task", "examples", "classes", "capacity at peak", "peak depth", "p", "l = 0", "left out")
    rows = []
    for t in found["tasks"]:
        at = next(row for row in t["layers"] if row["layer"] == t["peak_layer"])
        found_at = bounded(at, "capacity", "lo", "hi"), bounded(t, "peak_depth", "peak_lo", "peak_hi")
        first = t["layers"][0]["capacity"]
        head = (t["task"], t["n_labelled"], len(t["classes"]))
        rows.append((*head, *found_at, number(t["p"]), number(first), t["n_flagged"]))
    print_table(columns, rows, f"{found['model']}: capacity of linear probes, 95 % intervals over groups")
    for t in found["tasks"]:
        for said in t["notes"]:
            say(f"  {t['task']}: {said}")
    say(f"report: {found['report']}   ({found['seconds']:.0f} s, {found['skipped']} tasks were there)")
