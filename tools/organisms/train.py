"""Train organisms of the panel from scratch and measure them: what `phaselens organisms train` runs.

`python -m tools.organisms.train [NAME...] [--out DIR] [--device D] [--seed N] [--steps N] [--resume]`, in the folder of
the checkout. Prints the folders, one a line; how far it is goes to stderr.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.organisms.evaluate import evaluate
from tools.organisms.training import shown, train_cell

from phaselens.errors import InputError, PhaselensError
from phaselens.organisms.catalog import load_model
from phaselens.organisms.panel import Cell, cell_of, cells
from phaselens.organisms.tokens import load_tokenizer
from phaselens.organisms.world import build_world


def measure(folder: Path, *, device: str = "cpu") -> dict:
    """Measure a trained organism and write the figures into its `training.json`; returns them.

    The weights measured are those on disk: float16, computed with in float32.
    """
    file = folder / "training.json"
    record = json.loads(file.read_text())
    cell, world, started = cell_of(record["recipe"]), build_world(record["world_seed"]), time.time()
    model, tokenizer = load_model(folder, device), load_tokenizer(folder)
    figures = evaluate(model, tokenizer, world, shown(world, cell, tokenizer, record["step"]))
    record |= {"parameters": sum(p.numel() for p in model.parameters()), "figures": figures}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(file)
    return figures | {"seconds": time.time() - started}


def _finished(folder: Path, cell: Cell) -> bool:
    """Whether the folder holds this very cell, trained to its end."""
    file = folder / "training.json"
    return file.is_file() and cell_of(json.loads(file.read_text())["recipe"]) == cell


def train(
    names: Sequence[str] = (),
    *,
    out: Path,
    device: str = "cpu",
    seed: int | None = None,
    steps: int | None = None,
    resume: bool = False,
    progress: Callable[[str, int, int, float], None] | None = None,
) -> list[Path]:
    """Train the named organisms (all where none is named), one after the other, measure them, and return their folders,
    those of the checkpoints they keep among them.

    `seed` (of the initial weights; the data stay the same) and `steps` replace those of the table. With `resume`,
    finished organisms are kept and the last checkpoint of an unfinished one is continued.
    `progress(name, step, steps, loss)` is called after each step. Raises `UnknownNameError` for a name that is not in
    the table, `InputError` for steps below 1, `OutputError` where `out` cannot be written.
    """
    if steps is not None and steps < 1:
        raise InputError(f"got steps={steps}; wanted at least 1.")
    changes = {key: value for key, value in (("seed", seed), ("steps", steps)) if value is not None}
    if steps is not None:
        changes["kept"] = ()  # the table's steps are shares of its own length
    folders = []
    for cell in (Cell(**{**vars(cell), **changes}) for cell in cells(names)):
        folder = Path(out) / cell.name
        if not (resume and _finished(folder, cell)):
            told = (lambda *state, name=cell.name: progress(name, *state)) if progress else None
            folder = train_cell(cell, Path(out), device=device, resume=resume, progress=told)
        kept = [folder.with_name(f"{cell.name}-step{step}") for step in cell.kept]
        for made in (*kept, folder):
            if "figures" not in json.loads((made / "training.json").read_text()):
                measure(made, device=device)
        folders += [*kept, folder]
    return folders


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; wrong input gives one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(description="Train organisms of the panel from scratch and measure them.")
    parser.add_argument("names", nargs="*", help="Which; all of the panel where none is named.")
    parser.add_argument("--out", type=Path, default=Path("organisms"), help="Folder to fill.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, help="Another seed than the panel's.")
    parser.add_argument("--steps", type=int, help="Another number of steps than the panel's.")
    parser.add_argument("--resume", action="store_true", help="Keep what is finished, go on from the last checkpoint.")
    given = vars(parser.parse_args(arguments))
    every = 20 if sys.stderr.isatty() else 200

    def progress(name: str, step: int, total: int, loss: float) -> None:
        if step % every == 0 or step == total:
            print(f"{name}: step {step} of {total}, loss {loss:.3f}", file=sys.stderr, flush=True)

    try:
        folders = train(given.pop("names"), progress=progress, **given)
    except PhaselensError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*folders, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
