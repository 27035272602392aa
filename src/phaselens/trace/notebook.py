"""A trace as one sees it in a notebook: a line, a heat map of its first run as HTML, and plots through matplotlib."""

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from phaselens.errors import InputError, missing_extra, unknown_name
from phaselens.signs import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from phaselens.trace.trace import Trace

STEPS = 48  # of the heat map
CELL = "padding:0;width:1.4em;height:1.1em;background:{}"


def grid_of(trace: "Trace", name: str, run: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Values [layer, step] of one run, its layers and steps, and its tokens as text (ids where that is not known).

    Raises UnknownNameError for a column that `layers` lacks, InputError for a run that is not there.
    """
    known = [c.name for c in trace.columns("layers") if c.name not in ("run", "step", "layer")]
    if name not in known:
        raise unknown_name("column of the table layers", name, known)
    rows = trace.numpy("layers", ["run", "step", "layer", name])
    here = rows["run"] == run
    if not here.any():
        raise InputError(f"the trace has no run {run}; it has {trace.runs.column('run').to_pylist()[:20]}.")
    layers, steps = np.unique(rows["layer"][here]), np.unique(rows["step"][here])
    values = np.full((len(layers), len(steps)), np.nan)
    values[np.searchsorted(layers, rows["layer"][here]), np.searchsorted(steps, rows["step"][here])] = rows[name][here]
    table = trace.steps
    said = table.filter(np.asarray(table.column("run").to_numpy() == run))
    texts = said.column("text").to_pylist() if "text" in table.column_names else [None] * said.num_rows
    ids = said.column("token").to_pylist()
    return values, layers, steps, [visible(t) if t is not None else str(i) for t, i in zip(texts, ids, strict=True)]


def heat_html(trace: "Trace", name: str = "instability", run: int | None = None) -> str:
    """One run (None: the first) as an HTML table, layers from bottom to top, tokens below; every text escaped."""
    columns = [c.name for c in trace.columns("layers")]
    name = name if name in columns else next((c for c in columns if c not in ("run", "step", "layer")), "")
    head = f"<p><code>{escape(repr(trace))}</code></p>"
    if not name or not trace.runs.num_rows:
        return head
    values, layers, _, tokens = grid_of(trace, name, int(trace.runs.column("run")[0].as_py()) if run is None else run)
    values, tokens = values[:, :STEPS], tokens[:STEPS]
    low, high = (float(f(values)) if np.isfinite(values).any() else 0.0 for f in (np.nanmin, np.nanmax))
    lines = [
        "<tr><th>" + str(layers[i]) + "</th>" + "".join(_cell(v, low, high) for v in values[i]) + "</tr>"
        for i in reversed(range(len(layers)))
    ]
    words = "".join(f'<td title="{escape(t)}"><small>{escape(t[:6])}</small></td>' for t in tokens)
    caption = f"<caption>{escape(name)}: {low:.3g} to {high:.3g}</caption>"
    return f"{head}<table>{caption}{''.join(lines)}<tr><th></th>{words}</tr></table>"


def _cell(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return f'<td style="{CELL.format("none")}"></td>'
    share = (value - low) / (high - low) if high > low else 0.0
    return f'<td title="{value:.4g}" style="{CELL.format(f"rgba(31,90,160,{0.06 + 0.94 * share:.3f})")}"></td>'


def axes(given: "Axes | None") -> "Axes":
    """The matplotlib axes to draw in: those given, or fresh ones. Raises MissingExtra without matplotlib."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise missing_extra("a plot", "matplotlib", "plot") from error
    return plt.subplots(layout="constrained")[1] if given is None else given


def plot(trace: "Trace", name: str, run: int, ax: "Axes | None") -> "Axes":
    """Layers by steps of one run as an image."""
    values, layers, steps, tokens = grid_of(trace, name, run)
    ax = axes(ax)
    image = ax.imshow(values, origin="lower", aspect="auto", interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label=_label(trace, name))
    ax.set_yticks(range(len(layers)), layers)
    ax.set_xticks(range(len(steps)), [t.replace("$", r"\$") for t in tokens], rotation=90, fontsize=7)
    ax.set(xlabel="token", ylabel="layer", title=f"run {run}")
    return ax


def plot_layers(trace: "Trace", name: str, ax: "Axes | None") -> "Axes":
    """The median over all runs and steps by layer, with quartiles as a band."""
    ax = axes(ax)
    runs = trace.numpy("runs", ["run"])["run"].tolist()
    found = [grid_of(trace, name, run) for run in runs]
    values = np.concatenate([values for values, *_ in found], axis=1)
    low, middle, high = np.nanquantile(values, (0.25, 0.5, 0.75), axis=1)
    ax.fill_between(found[0][1], low, high, alpha=0.25)
    ax.plot(found[0][1], middle)
    ax.set(xlabel="layer", ylabel=_label(trace, name), title=f"median and quartiles over {len(runs)} runs")
    return ax


def plot_runs(trace: "Trace", name: str, layer: int | None, ax: "Axes | None") -> "Axes":
    """One line per run over its steps, at one layer (None: round(0.75 L))."""
    ax = axes(ax)
    for run in trace.numpy("runs", ["run"])["run"].tolist():
        values, layers, steps, _ = grid_of(trace, name, run)
        at = round(0.75 * int(layers.max())) if layer is None else layer
        if at not in layers:
            raise InputError(f"the trace has no layer {at}; it has {layers.tolist()}.")
        ax.plot(steps, values[layers.tolist().index(at)], label=f"run {run}", linewidth=1)
    ax.set(xlabel="step", ylabel=_label(trace, name), title=f"layer {at}")
    return ax


def _label(trace: "Trace", name: str) -> str:
    unit = next(c.unit for c in trace.columns("layers") if c.name == name)
    return f"{name} ({unit})" if unit else name
