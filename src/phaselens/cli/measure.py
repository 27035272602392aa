"""`phaselens measure`: hidden states that others saved, measured without a model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from phaselens.cli.run import AsJson
from phaselens.cli.terminal import names, numbers, print_json, say
from phaselens.errors import InputError


def measure(
    states: Annotated[
        Path, typer.Argument(metavar="FILE", help=".npy, .npz or .safetensors: [layer, step, d] per run.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables of the trace.")],
    unembedding: Annotated[
        str | None, typer.Option(help="File with `weight` [vocab, d] (and bias, gain, shift), or a model.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="Norm before the unembedding: rms or layer; default: none.")] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Order of the axes, e.g. 'run step layer d'; default: by names and shapes, else 'layer step d'."
        ),
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Numbers of the layers, e.g. 0,4,8; default 0, 1, 2 ...")] = None,
    n_layers: Annotated[int | None, typer.Option(help="Blocks of the model; default: the last layer given.")] = None,
    observables: Annotated[str | None, typer.Option(help="Names, separated by commas; default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure hidden states that another tool saved: the trace that `observe` writes, without running the model."""
    from phaselens.observing.saved_states import SUFFIXES, Unembedding, measure_states, read_states
    from phaselens.studies.store.folder import held
    from phaselens.trace.store import write_trace

    head: Any = None
    if unembedding is not None and Path(unembedding).suffix not in SUFFIXES:
        from phaselens.cli.models import open_model

        model = open_model(unembedding)
        head, n_layers = model.readout, n_layers or model.n_layers
    elif unembedding is not None:
        found = read_states(unembedding)
        weight = found.get("weight", next(iter(found.values())) if len(found) == 1 else None)
        if weight is None:
            raise InputError(f"{unembedding} holds {', '.join(found)}; wanted one array, or one called weight.")
        head = Unembedding(weight, found.get("bias"), norm, found.get("gain"), found.get("shift"))
    chosen = numbers(layers, int, "--layers") or None
    trace = measure_states(
        states, unembedding=head, axes=axes, layers=chosen, n_layers=n_layers, observables=names(observables)
    )
    with held(out):
        files = write_trace(trace, out, "trace")
    found = {"runs": trace.runs.num_rows, "steps": trace.steps.num_rows, "rows": trace.layers.num_rows}
    if as_json:
        print_json({"out": str(out), **found, "files": [str(f) for f in files.values()]})
        return
    say(", ".join(f"{n:,} {what}" for what, n in found.items()))
    for path in files.values():
        say(f"  {path}")
