"""Depth profiles of real models beside the organisms, for README and docs/real.md: SVG, light and dark.

`python docs/pictures.py REAL_STUDY ORGANISMS_STUDY [--facts STUDY...]` reads `results/` and the traces of finished
studies (`phaselens run real --out ...`, `phaselens run organisms --out ...`) and writes docs/pictures/real-depth-*.svg;
with `--facts` also real-answers-*.svg (examples/facts.toml). Where the models of the studies can be loaded from where
their declaration says, position 0 is read too. Bands are 95 % intervals over prompts; grey is the range of organisms.
"""

import argparse
import re
import tomllib
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import phaselens
from phaselens.errors import PhaselensError
from phaselens.experiments.base import ModelData, Panel
from phaselens.readings.examples import Places
from phaselens.readings.place_states import capture_states
from phaselens.studies.panel_columns import panel_of
from phaselens.studies.store.panel_record import read_record
from phaselens.trace.transcripts import read_jsonl

matplotlib.use("svg")
import matplotlib.pyplot as plt

OUT = Path(__file__).parent / "pictures"
THEMES = {
    "light": {
        "ink": "#1f2328",
        "faint": "#59636e",
        "grid": "#d1d9e0",
        "back": "#ffffff",
        "range": "#8c959f",
        "other": "#8250df",
        "models": ("#0969da", "#bc4c00", "#1a7f37"),
    },
    "dark": {
        "ink": "#e6edf3",
        "faint": "#9198a1",
        "grid": "#3d444d",
        "back": "#0d1117",
        "range": "#6e7681",
        "other": "#bc8cff",
        "models": ("#58a6ff", "#f0883e", "#56d364"),
    },
}
PANELS = (
    ("kl_to_final", "lens KL from the output (nats)", True),
    ("entropy", "entropy of the lens (nats)", False),
    ("agrees", "lens has the output's first token (share)", False),
    ("committed", "tokens that change no more (share)", False),
    ("coherence", "cosine of neighbouring layers (coherence)", False),
    ("step_length", "step length along tokens", False),
    ("log_rms", "log-RMS (dashed: massive dims out)", False),
    ("sink", "log-RMS, position 0 less others", False),
)
LEAST = 2e-2  # a KL below this is not drawn: at L it is 0
READ, FROM = 24, 4  # texts for position 0, and the first position that is "elsewhere"
LONG = re.compile(r"(\d\.\d\d)\d+")  # hundredths of a point are enough
Curve = dict[str, np.ndarray]


def short(name: str) -> str:
    """The last part of a model's name."""
    return name.rpartition("/")[2].rpartition(":")[2]


def curves_of(folder: Path) -> dict[str, dict[str, Curve]]:
    """By model and observable: relative depth, value and interval."""
    rows: dict[str, dict[str, list]] = {}
    for row in pq.read_table(folder / "results" / "depth.parquet").to_pylist():
        if not row["twin"]:
            rows.setdefault(short(row["model"]), {}).setdefault(row["observable"], []).append(row)
    out = {name: {o: _columns(found) for o, found in of.items()} for name, of in rows.items()}
    panel = panel_of(folder, read_record(folder), seed=0, n_boot=500)
    for model in panel.trained:
        if "commit_depth" in model.steps:
            out[short(model.info.name)]["committed"] = committed(panel, model)
    sinks(folder, out)
    return out


def _columns(rows: list[dict]) -> Curve:
    return {
        k: np.array([np.nan if r[k] is None else r[k] for r in rows], float) for k in ("depth", "value", "lo", "hi")
    }


def committed(panel: Panel, model: ModelData) -> Curve:
    """Share of tokens whose first choice changes no more from this layer on, with its interval over prompts."""
    depth = np.arange(model.info.n_layers + 1) / model.info.n_layers
    values = model.per_step("commit_depth")[model.measured]
    unit = panel.unit_index(model)[model.measured]
    n, seen = len(panel.units), np.isfinite(values)
    counts = np.bincount(unit, seen.sum(1), minlength=n)
    sums = np.array([np.bincount(unit, (seen & (values <= d + 1e-9)).sum(1), minlength=n) for d in depth])
    draws = (panel.weights @ sums.T) / (panel.weights @ counts)[:, None]
    lo, hi = np.quantile(draws, [0.025, 0.975], axis=0)
    return {"depth": depth, "value": sums.sum(1) / counts.sum(), "lo": lo, "hi": hi}


def sinks(folder: Path, out: dict[str, dict[str, Curve]]) -> None:
    """How much longer the state of position 0 is than others of the same texts, where a model can be loaded."""
    declared = tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))
    said = {short(unit.model): folder / unit.transcripts for unit in read_record(folder).units}
    for source in declared["models"]:
        name = source.get("name", source["source"])
        try:
            model = phaselens.load(source["source"])
        except (PhaselensError, OSError):
            print(f"{name} cannot be loaded: position 0 is not drawn")
            continue
        texts = [t.fed for t in read_jsonl(said[short(name)]).runs if len(t.fed) > FROM + 1][:READ]
        lo = np.array([p for ids in texts for p in (0, *range(FROM, len(ids)))])
        ids = tuple(tuple(ids) for ids in texts for _ in range(1 + len(ids) - FROM))
        norm = np.log(capture_states(model, Places(ids, lo, lo + 1), pool="last").norm)
        first = lo == 0
        gap = norm[:, first] - norm[:, ~first].mean(axis=1)[:, None]
        ends = np.quantile(gap, [0.025, 0.975], axis=1)
        depth = np.arange(model.n_layers + 1) / model.n_layers
        out[short(name)]["sink"] = {"depth": depth, "value": gap.mean(1), "lo": ends[0], "hi": ends[1]}


def range_of(curves: list[Curve], grid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smallest, middle and largest of several models at equal relative depth."""
    there = np.array([np.interp(grid, *(c[k][np.isfinite(c["value"])] for k in ("depth", "value"))) for c in curves])
    known = grid >= max(c["depth"][np.isfinite(c["value"])].min() for c in curves)
    low, middle, high = (np.where(known, of(there, axis=0), np.nan) for of in (np.min, np.median, np.max))
    return low, middle, high


def drawable(values: np.ndarray, log: bool) -> np.ndarray:
    """The values, on a logarithmic axis without those that have no place on it."""
    return np.where(values > LEAST, values, np.nan) if log else values


def styled(theme: dict, panels: int, across: int, high: float) -> tuple:
    """A figure with so many panels, quiet axes."""
    figure, axes = plt.subplots(-(-panels // across), across, figsize=(11, high), squeeze=False)
    figure.patch.set_facecolor(theme["back"])
    for axis in axes.flat:
        axis.set_facecolor(theme["back"])
        axis.tick_params(colors=theme["faint"], labelsize=8, length=2)
        axis.grid(color=theme["grid"], linewidth=0.5)
        axis.set_axisbelow(True)
        for name, spine in axis.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(theme["grid"])
    return figure, axes


def titled(axis: Axes, theme: dict, title: str, under: str) -> None:
    """Say what stands on a panel."""
    axis.set_title(title, fontsize=8.5, color=theme["ink"], loc="left")
    axis.set_xlabel(under, fontsize=8, color=theme["faint"])


def draw_depth(real: dict[str, dict[str, Curve]], organisms: dict[str, dict[str, Curve]], mode: str) -> Path:
    """All panels in one theme."""
    theme, grid = THEMES[mode], np.linspace(0, 1, 41)
    figure, axes = styled(theme, len(PANELS), 4, 5.4)
    for axis, (observable, title, log) in zip(axes.flat, PANELS, strict=True):
        titled(axis, theme, title, "relative depth l/L")
        if log:
            axis.set_yscale("log")
        for beside, style in ((observable, "-"), (f"{observable}_core", "--")):
            known = [of[beside] for of in organisms.values() if beside in of]
            if known:
                low, middle, high = (drawable(v, log) for v in range_of(known, grid))
                label = f"{len(known)} organisms: range and median" if style == "-" else None
                if style == "-":
                    axis.fill_between(grid, low, high, color=theme["range"], alpha=0.25, linewidth=0)
                axis.plot(grid, middle, style, color=theme["range"], linewidth=1, label=label)
            for colour, (name, of) in zip(theme["models"], real.items(), strict=False):
                if beside in of:
                    c, label = of[beside], name if style == "-" else None
                    lo, value, hi = (drawable(c[k], log) for k in ("lo", "value", "hi"))
                    axis.fill_between(c["depth"], lo, hi, color=colour, alpha=0.2, linewidth=0)
                    axis.plot(c["depth"], value, style, color=colour, linewidth=1.4, label=label)
        if log:
            axis.set_ylim(bottom=LEAST)
    return finished(figure, axes, theme, f"real-depth-{mode}.svg")


def finished(figure: Figure, axes: np.ndarray, theme: dict, name: str) -> Path:
    """Legend below, small file."""
    lines, names = axes.flat[0].get_legend_handles_labels()
    shown = dict(zip(names, lines, strict=True))
    legend = figure.legend(shown.values(), shown.keys(), loc="lower center", ncols=7, fontsize=8.5, frameon=False)
    for text in legend.get_texts():
        text.set_color(theme["ink"])
    figure.tight_layout(rect=(0, 0.06, 1, 1), h_pad=1.2)
    path = OUT / name
    figure.savefig(path, facecolor=theme["back"], metadata={"Date": None})
    plt.close(figure)
    path.write_text(LONG.sub(r"\1", path.read_text(encoding="utf-8")), encoding="utf-8")
    return path


FOLLOWED = {
    "surprisal": "surprisal (output)",
    "entropy": "entropy (output)",
    "coherence": "coherence (states)",
    "instability": "instability (states)",
    "turbulence": "turbulence (lens)",
}
LINES = {"output": "-", "dynamics": "--"}
LEVELS = {"text: prompt": ":", "linear probe": "-."}


def draw_answers(folders: list[Path], mode: str) -> Path:
    """AUROC for a wrong answer by steps seen, a panel a model; text alone and the probe as levels."""
    theme = THEMES[mode]
    shown = []
    for folder in folders:
        early, scores = (
            pq.read_table(folder / "results" / f"{n}.parquet").to_pylist() for n in ("earliness", "correctness")
        )
        declared = tomllib.loads((folder / "study.toml").read_text(encoding="utf-8"))
        chat, last = declared["chat"], declared["max_new_tokens"]
        for name in dict.fromkeys(r["model"] for r in early if not r["twin"]):
            mine = [[r for r in rows if r["model"] == name and r.get("step", 0) <= last] for rows in (early, scores)]
            shown.append((f"{short(name)}{', chat' if chat else ''}", *mine))
    figure, axes = styled(theme, len(shown), len(shown), 3.4)
    first, second, third = theme["models"]
    colours = dict(zip(FOLLOWED, (first, third, second, theme["other"], theme["range"]), strict=True))
    for axis, (name, early, scores) in zip(axes.flat, shown, strict=True):
        titled(axis, theme, f"{name}: AUROC for a wrong answer", "tokens seen")
        for score, label in FOLLOWED.items():
            rows = [r for r in early if r["score"] == score]
            x, y, lo, hi = (
                np.array([np.nan if r[k] is None else r[k] for r in rows], float) for k in ("step", "auroc", "lo", "hi")
            )
            axis.fill_between(x, lo, hi, color=colours[score], alpha=0.15, linewidth=0)
            axis.plot(x, y, LINES[rows[0]["kind"]], color=colours[score], linewidth=1.4, label=label)
        for row in scores:
            if row["score"] in LEVELS:
                axis.axhline(
                    row["auroc"], color=theme["ink"], linewidth=0.9, linestyle=LEVELS[row["score"]], label=row["score"]
                )
        axis.axhline(0.5, color=theme["faint"], linewidth=0.6)
        axis.set_ylim(0.35, 0.95)
    return finished(figure, axes, theme, f"real-answers-{mode}.svg")


def main() -> None:
    """From folders to pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real", type=Path)
    parser.add_argument("organisms", type=Path)
    parser.add_argument("--facts", type=Path, nargs="+", default=[])
    given = parser.parse_args()
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "phaselens", "font.family": "sans-serif"}
    real, organisms = curves_of(given.real), curves_of(given.organisms)
    made = [draw_depth(real, organisms, mode) for mode in THEMES]
    made += [draw_answers(given.facts, mode) for mode in THEMES if given.facts]
    print("\n".join(f"{path}: {path.stat().st_size // 1000} kB" for path in made))


if __name__ == "__main__":
    main()
