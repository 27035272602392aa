"""One run of a trace as a widget for Jupyter and marimo: text and heat map on one cursor, as `view` draws them."""

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from phaselens.errors import InputError, unknown_name
from phaselens.scripts import script, source
from phaselens.trace.notebook import heat_html

if TYPE_CHECKING:
    from phaselens.trace.trace import Trace

SCRIPTS = ("colours.js", "pictures.js", "parts.js", "widget.js")
KEYS = ("run", "step", "layer")


def payload(trace: "Trace", run: int, observable: str) -> dict[str, object]:
    """One run as plain values: tokens with their words, and every measure by [step][layer], None where undefined.

    Raises UnknownNameError for a column that `layers` lacks, InputError for a run that is not there.
    """
    columns = [c for c in trace.columns("layers") if c.name not in KEYS]
    if observable not in {c.name for c in columns}:
        raise unknown_name("column of the table layers", observable, [c.name for c in columns])
    steps, layers = (trace.table(t).filter(trace.table(t).column("run").to_numpy() == run) for t in ("steps", "layers"))
    if not steps.num_rows:
        raise InputError(f"the trace has no run {run}; it has {trace.runs.column('run').to_pylist()[:20]}.")
    known = "text" in steps.column_names
    return {
        "step": steps.column("step").to_pylist(),
        "token": steps.column("token").to_pylist(),
        "pieces": steps.column("text").to_pylist() if known else [None] * steps.num_rows,
        "layers": np.unique(layers.column("layer").to_numpy()).tolist(),
        "cells": {c.name: _grid(layers.column(c.name).to_numpy(), steps.num_rows) for c in columns},
        "columns": [{"name": c.name, "unit": c.unit, "description": c.description} for c in columns],
        "shown": observable,
    }


def _grid(values: np.ndarray, n: int) -> list[list[float | None]]:
    rows = values.astype(float).reshape(n, -1).tolist()
    return [[float(f"{v:.6g}") if math.isfinite(v) else None for v in row] for row in rows]


@dataclass(frozen=True)
class Still:
    """The static picture of one run, as a notebook shows it."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


@cache
def _kind() -> type | None:
    """The class of the widget, made when it is first used; None without anywidget."""
    try:
        import anywidget
        import traitlets
    except ImportError:
        return None

    class RunWidget(anywidget.AnyWidget):
        _esm = script(*SCRIPTS)
        _css = source("widget.css")
        data = traitlets.Dict().tag(sync=True)

    return RunWidget


def widget(trace: "Trace", run: int, observable: str) -> object:
    """The widget of one run; without anywidget its static picture, which says so. Errors as of `payload`."""
    held, kind = payload(trace, run, observable), _kind()
    if kind is not None:
        return kind(data=held)
    said = "A static picture: with <code>pip install 'phaselens[notebook]'</code> it follows a cursor."
    return Still(f"{heat_html(trace, observable, run)}<p>{said}</p>")
