"""`phaselens organisms`: the bundled, trained panel."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from phaselens.cli.bench import checkout
from phaselens.cli.run import AsJson, check_device
from phaselens.cli.terminal import number, print_json, print_table, quiet_models, say

app = typer.Typer(help="The bundled panel: small trained models of a known world.", no_args_is_help=True)


@app.command("list")
def list_organisms(as_json: AsJson = False) -> None:
    """Print the bundled organisms with what was measured after their training."""
    from phaselens.organisms import list_models

    rows = list_models()
    if as_json:
        print_json(rows)
        return
    columns = ("name", "family", "corpus", "vocabulary", "parameters", "step", "tokens")
    print_table(
        (*columns, "loss", "true entropy", "excess", "held-out sums", "misses"),
        [
            (
                *(r[c] for c in columns),
                number(r["loss"]),
                number(r["true_entropy"]),
                number(r["excess_nats"]["overall"]),
                number(r["sums"]["held_out"]),
                "; ".join(r["misses"]) or "none",
            )
            for r in rows
        ],
        "losses in nats per token on held-out documents of the curated corpus; a miss is a gate not passed",
    )


@app.command("train")
def train_organisms(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all of the panel where none is named.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to fill with one folder per organism.")] = Path("organisms"),
    device: Annotated[str, typer.Option(help="Where to train, e.g. cpu or cuda.")] = "cpu",
    seed: Annotated[int | None, typer.Option(help="Another seed than the panel's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Another number of steps than the panel's.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is finished, go on from the last checkpoint.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train organisms from scratch on text of the seeded generator, and measure them, by scripts of the checkout."""
    root = checkout("the recipes of the organisms", "phaselens organisms train")
    check_device(device)
    given = {"--out": out, "--device": device, "--seed": seed, "--steps": steps}
    options = [str(part) for option, value in given.items() if value is not None for part in (option, value)]
    command = [sys.executable, "-m", "tools.organisms.train", *(names or ()), *options, *(["--resume"] * resume)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=env)
    if done.returncode:
        raise typer.Exit(done.returncode)
    folders = done.stdout.splitlines()
    print_json(folders) if as_json else say(*folders)


@app.command("samples")
def show_samples(
    name: Annotated[str, typer.Argument(help="Name of a bundled organism.")],
    prompt: Annotated[list[str] | None, typer.Option(help="Prompt to continue; default: one per category.")] = None,
    new_tokens: Annotated[int, typer.Option(help="Tokens to add at most.")] = 72,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Print text that a bundled organism writes."""
    from phaselens.organisms import samples

    quiet_models()
    rows = samples(name, prompts=prompt, new_tokens=new_tokens, temperature=temperature, seed=seed)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say(*f"{row['prompt']}[{row['continuation']}]".split("\n"), "")


@app.command("battery")
def show_battery(seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0, as_json: AsJson = False) -> None:
    """Print what the battery of the world holds: how many of each part, by kind, and an example."""
    from phaselens.organisms import world_battery

    found = world_battery(seed)
    counts, examples = found.counts(), found.examples()
    if as_json:
        print_json({part: {"counts": counts[part], "example": examples[part]} for part in counts})
        return
    rows = []
    for part, by in counts.items():
        kinds = ", ".join(f"{name} {n:,}" for name, n in by.items() if name != "all")
        rows.append((part, by["all"], kinds, examples[part]["text"].replace("\n", " | ")))
    print_table(("part", "all", "by kind", "example"), rows, "the battery of the organisms' world")
