"""`phaselens perturb`: what small changes of the states of a model do, by layer and strength."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from phaselens.cli.models import Revision, Trust, open_model
from phaselens.cli.plans import Plan, plan_one, print_plan
from phaselens.cli.run import AsJson, Device, Dtype, Prove
from phaselens.cli.terminal import bounded, note, number, numbers, print_json, print_table, say
from phaselens.errors import InputError


def perturb(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="organism:NAME, folders, or Hub ids.")],
    out: Annotated[Path, typer.Option(help="Folder for signatures, results and the page.")],
    prompts: Annotated[Path | None, typer.Option(help="JSONL or CSV of prompts; default: the model's battery.")] = None,
    n_prompts: Annotated[int, typer.Option(help="How many of them.")] = 32,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens per prompt, all of whose states are moved.")] = 24,
    strengths: Annotated[str, typer.Option(help="Noise over the RMS of the layer, by commas.")] = "0,.01,.03,.1,.3,1",
    draws: Annotated[int, typer.Option(help="Draws of noise, an even number.")] = 16,
    layers: Annotated[str | None, typer.Option(help="Layers to perturb, by commas; default: 0 to L - 1.")] = None,
    temperature: Annotated[float, typer.Option(help="Of the continuation; 0 is greedy.")] = 0.7,
    site: Annotated[
        str, typer.Option(help="Where: resid_post (layer 0 is the embedding), embedding, attn_out or mlp_out.")
    ] = "resid_post",
    growth: Annotated[
        bool, typer.Option("--growth", help="Also follow infinitesimal changes along depth and along tokens.")
    ] = False,
    causal: Annotated[
        bool, typer.Option("--causal", help="Also take grammatical number out of the states, by layer: F5.")
    ] = False,
    control: Annotated[
        int, typer.Option(help="Also act on the dynamics of so many questions: X1, X2 (needs 700), X4, S6.")
    ] = 0,
    action: Annotated[str, typer.Option(help="What --control does: seed, temperature or steer.")] = "seed",
    bootstraps: Annotated[int, typer.Option(help="Resamples of the prompts.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    revision: Revision = None,
    trust_remote_code: Trust = False,
    prove: Prove = False,
    plan: Plan = False,
    as_json: AsJson = False,
) -> None:
    """Add noise at every layer and strength and follow it to the output; with two families, judge P1."""
    from phaselens.workflows.perturb_workflow import Request, perturb_into, sizes_of

    if len(set(models)) != len(models):
        raise InputError(f"a model is named twice: {', '.join(models)}. Name each once.")
    sizes = sizes_of(
        prompts=n_prompts,
        tokens=max_new_tokens,
        strengths=numbers(strengths, float, "--strengths"),
        draws=draws,
        site=site,
        action=action,
        **({"questions": control} if control else {}),
    )
    at = tuple(numbers(layers, int, "--layers"))
    request = Request(
        prompts, temperature, bootstraps, seed, at, asked=sizes, growth=growth, causal=causal, control=control != 0
    )
    request.check()
    if plan:  # at every layer each strength and draw goes on from that layer: half of the blocks in the mean
        rows = len(sizes.strengths) * draws / 2
        for name in models:
            print_plan(plan_one(name, n_prompts, max_new_tokens, 1, per_layer=rows, dtype=dtype), as_json)
        return
    settings: dict = {"device": device, "dtype": dtype, "revision": revision, "trust_remote_code": trust_remote_code}
    found = perturb_into([partial(open_model, name, **settings) for name in models], models, request, out, note)
    print_json(found) if as_json else _print(found)


def _print(found: dict[str, Any]) -> None:
    columns = ("model", "layer", "l/L", "gain", "word", "KL (nats)")
    rows = [
        (r["model"], r["layer"], number(r["depth"]), bounded(r, "gain", "lo", "hi"), r["word"])
        + (bounded(r, "kl", "kl_lo", "kl_hi"),)
        for r in found["signatures"]
        if r["condition"] == "matched" and r["strength"] == found["deciding"]
    ]
    at = found["models"][0]["site"]
    said = f"noise of {found['deciding']:g} x RMS at {at}, every generated step; 95 % intervals over prompts"
    print_table(columns, rows, said)
    for m in found["models"]:
        say(
            f"  {m['model']}: strength 0 moves logits by {m['identity']:g}; {m['passes']:,.0f} passes run, "
            f"{100 * m['passes_saved']:.0f} % saved by the shared prefix"
        )
    if "growth" in found:
        _print_growth(found["growth"])
    if "control" in found:
        _print_control(found["control"])
    for claim in found["claims"]:
        say(f"{claim['id']:3} {claim['verdict']:14} {claim['statement']}", f"    {'':14} {claim['why']}")
    say(f"report: {found['report']}   ({found['seconds']:.0f} s, {found['skipped']} models were there)")


def _print_growth(rows: list[dict[str, Any]]) -> None:
    table = [(r["model"], r["what"], bounded(r, "value", "lo", "hi"), r["unit"]) for r in rows]
    print_table(("model", "what", "value", "unit"), table, "infinitesimal changes; 95 % intervals over prompts")


def _print_control(rows: list[dict[str, Any]]) -> None:
    columns = ("model", "arm", "acted on", "in time", "right", "change", "change of ct (rad)", "extra tokens")
    table = [
        (r["model"], r["arm"], *(number(r[k]) for k in ("triggered", "in_time", "right")))
        + (bounded(r, "change_right", "right_lo", "right_hi"), bounded(r, "change_ct", "ct_lo", "ct_hi"))
        + (number(r["extra_tokens"]),)
        for r in rows
    ]
    print_table(
        columns, table, "arms against none, paired by question; shares, 95 % intervals over what is asked about"
    )
