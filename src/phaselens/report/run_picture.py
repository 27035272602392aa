"""One run as a picture: instability and entropy, layer by step, with the emitted tokens written along the steps."""

import math
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from phaselens.report import png, svg
from phaselens.report.captions import written
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Figure, Said, Section
from phaselens.report.study_files import Folder
from phaselens.report.written_values import defined, is_number, number, token, visible

ACROSS, ROWS_DRAWN = 72, 4
LEFT, RIGHT = 60.0, 916.0
LEVELS = 8


@dataclass(frozen=True)
class Quantity:
    """One of the two heat maps: its key in the file, its heading, its unit, its colours."""

    key: str
    title: str
    unit: str
    anchors: tuple[str, ...]


QUANTITIES = (
    Quantity("instability", "instability ct along tokens", "rad", png.CIVIDIS),
    Quantity("entropy", "lens entropy", "nats", png.MAKO),
)


@dataclass(frozen=True)
class Run:
    """One run of `results/trajectory.json`, checked: matrices are layers x steps, tokens are one per step."""

    title: dict[str, str]
    prompt: str | None
    layers: list[str]
    steps: list[int]
    tokens: list[str]
    values: dict[str, list[list[object]]]


def read_runs(content: object) -> tuple[list[Run], list[str]]:
    """Turn the parsed file (one object, or a list of them) into runs, and a sentence for each that does not fit."""
    runs, faults = [], []
    for entry in content if isinstance(content, list) else [content]:
        fault = _fault(entry)
        if fault or not isinstance(entry, dict):
            faults.append(f"results/trajectory.json holds a run that cannot be drawn: {fault}.")
            continue
        known = ("model", "run", "prompt_id", "category", "arm", "lens")
        runs.append(
            Run(
                title={key: str(entry[key]) for key in known if entry.get(key) not in (None, "")},
                prompt=entry.get("prompt"),
                layers=[str(layer) for layer in entry["layers"]],
                steps=list(entry["steps"]),
                tokens=[str(t) for t in entry["tokens"]],
                values={q.key: entry[q.key] for q in QUANTITIES},
            )
        )
    return runs, faults


def _fault(entry: object) -> str | None:
    wanted = ("layers", "steps", "tokens", *(q.key for q in QUANTITIES))
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), list) for key in wanted):
        return f"it needs the lists {', '.join(wanted)}"
    layers, steps = len(entry["layers"]), len(entry["steps"])
    if not layers or not steps:
        return "it has no layers or no steps"
    if not all(isinstance(step, int) for step in entry["steps"]):
        return "its steps are not whole numbers"
    if len(entry["tokens"]) != steps:
        return f"it has {len(entry['tokens'])} tokens for {steps} steps"
    for quantity in QUANTITIES:
        rows = entry[quantity.key]
        if len(rows) != layers or any(not isinstance(row, list) or len(row) != steps for row in rows):
            return f"{quantity.key} is not {layers} layers x {steps} steps"
    return None


def ends(run: Run, key: str) -> tuple[float, float] | None:
    """Give the least and greatest defined value of a quantity, or None if there is none."""
    known = [v for row in run.values[key] for v in row if is_number(v)]
    return (min(known), max(known)) if known else None


def shade(value: object, low: float, high: float) -> int | None:
    """Give the shade 0..LEVELS-1 of a value between the two ends; None for what is no number."""
    return min(LEVELS - 1, int((value - low) / ((high - low) or 1.0) * LEVELS)) if is_number(value) else None


def picture(name: str, run: Run) -> Markup:
    """Draw the run for a wide page: steps to the right, layers upwards, wrapped after 72 steps."""
    pitch = min(24.0, (RIGHT - LEFT) / min(ACROSS, len(run.steps)))
    cell = min(15.0, max(4.0, 190.0 / len(run.layers)))
    starts = list(range(0, len(run.steps), ACROSS))[:ROWS_DRAWN]
    room = 24 + 6.0 * min(14, max(len(token(t, 14)) for t in run.tokens))
    high = cell * len(run.layers)
    where, y = ("above", "below"), 62.0
    bars = (_colour_bar(name, run, q, LEFT + k * 440, 8, where[k]) for k, q in enumerate(QUANTITIES))
    marks = [_hatch(name), *bars]
    for start in starts:
        steps = range(start, min(start + ACROSS, len(run.steps)))
        marks.append(_map(name, run, quantity=QUANTITIES[0], steps=steps, y=y, pitch=pitch, cell=cell, numbered=True))
        marks.append(_tokens(run, steps, y + high, pitch, room))
        marks.append(_map(name, run, QUANTITIES[1], steps, y=y + high + room, pitch=pitch, cell=cell, numbered=False))
        y += 2 * high + room + 44
    return svg.frame(name, _title(run), _describe(run), 920, y - 20, *marks)


def _title(run: Run) -> str:
    return f"One run of {run.title.get('model', 'a model')}, layer by step"


def _describe(run: Run) -> str:
    said = []
    for quantity in QUANTITIES:
        both = ends(run, quantity.key)
        said.append(f"{quantity.title} from {number(both[0])} to {number(both[1])} {quantity.unit}" if both else "")
    return f"{len(run.layers)} layers by {len(run.steps)} steps; " + "; ".join(filter(None, said)) + "."


def _hatch(name: str) -> Markup:
    stripe = svg.element("path", d="M0 6L6 0", class_="hatch")
    pattern = svg.element("pattern", stripe, id=f"{name}-hatch", width=6, height=6, patternUnits="userSpaceOnUse")
    return svg.element("defs", pattern)


def _image(name: str, x: float, y: float, width: float, height: float, uri: str) -> Markup:
    """Lay the picture over a hatched ground, which shows where a value is undefined."""
    box = {"x": float(x), "y": float(y), "width": float(width), "height": float(height)}
    ground = svg.rect(x, y, width, height, "undefined", style=f"fill:url(#{name}-hatch)")
    return svg.group(ground, svg.element("image", **box, preserveAspectRatio="none", href=uri, class_="pixels"))


def _colour_bar(name: str, run: Run, quantity: Quantity, x: float, y: float, where: str, width: float = 150) -> Markup:
    both = ends(run, quantity.key)
    words = svg.text(f"{where}: {quantity.title} ({quantity.unit})", x, y + 6, "heading")
    if both is None:
        return svg.group(words, svg.text("undefined everywhere in this run", x, y + 24, "note"))
    ramp = png.heat_map([[k / 63 for k in range(64)]], 0.0, 1.0, quantity.anchors, cell=2)
    low, high = number(both[0], 3), number(both[1], 3)
    offset = 6.5 * len(low) + 5
    return svg.group(
        words,
        svg.text(low, x, y + 24, "tick said"),
        _image(name, x + offset, y + 15, width, 10, ramp),
        svg.text(high, x + offset + width + 5, y + 24, "tick said"),
    )


def _map(
    name: str, run: Run, quantity: Quantity, steps: range, y: float, pitch: float, cell: float, *, numbered: bool
) -> Markup:
    layers, both = len(run.layers), ends(run, quantity.key)
    width, height = pitch * len(steps), cell * layers
    rows = [[run.values[quantity.key][k][s] for s in steps] for k in reversed(range(layers))]
    marks = [_image(name, LEFT, y, width, height, png.heat_map(rows, *(both or (0.0, 1.0)), quantity.anchors))]
    stride = max(1, math.ceil(12 / cell))
    for k in range(0, layers, stride):
        marks.append(svg.text(run.layers[k], LEFT - 6, y + height - (k + 0.5) * cell + 4, "tick", "end"))
    middle = y + height / 2
    turned = f"rotate(-90 16 {svg.place(middle)})"
    marks.append(svg.text("layer", 16, middle, "axis-name", "middle", transform=turned))
    if numbered:
        for s in steps:
            if run.steps[s] % 8 == 0:
                marks.append(svg.text(run.steps[s], LEFT + (s - steps.start + 0.5) * pitch, y - 5, "tick", "middle"))
        marks.append(svg.text("step", LEFT - 6, y - 5, "axis-name", "end"))
    return svg.group(*marks)


def _tokens(run: Run, steps: range, y: float, pitch: float, room: float) -> Markup:
    marks = []
    for s in steps:
        x = LEFT + (s - steps.start + 0.5) * pitch + 3.5
        tip = svg.tip(f"step {run.steps[s]}: {token(run.tokens[s], 80)}")
        words = Markup("").join((tip, Markup.escape(token(run.tokens[s], 14))))
        turned = f"rotate(-90 {svg.place(x)} {svg.place(y + room - 8)})"
        marks.append(svg.text(words, x, y + room - 8, "token", transform=turned))
    return svg.group(*marks)


def tall_picture(name: str, run: Run, cell: float = 15.0) -> Markup:
    """Draw the run for a narrow page: steps downwards with their tokens, layers to the right, one map beside the
    other.
    """
    steps = range(min(len(run.steps), ACROSS * ROWS_DRAWN))
    layers, left, gap = len(run.layers), 112.0, 12.0
    pitch = min(16.0, (360 - left - gap) / 2 / layers)
    width, top = pitch * layers, 102.0
    marks: list[object] = [_hatch(name)]
    for k, quantity in enumerate(QUANTITIES):
        x = left + k * (width + gap)
        both = ends(run, quantity.key) or (0.0, 1.0)
        rows = [[run.values[quantity.key][layer][s] for layer in range(layers)] for s in steps]
        marks.append(_image(name, x, top, width, cell * len(steps), png.heat_map(rows, *both, quantity.anchors)))
        marks.append(_colour_bar(name, run, quantity, 0, 8 + 34 * k, ("left", "right")[k], width=120))
        stride = max(1, math.ceil(14 / pitch))
        for layer in range(0, layers, stride):
            marks.append(svg.text(run.layers[layer], x + (layer + 0.5) * pitch, top - 4, "tick", "middle"))
        marks.append(svg.text(f"{quantity.key}, layer", x + width / 2, top - 17, "axis-name", "middle"))
    for s in steps:
        y = top + (s + 0.5) * cell + 4
        if run.steps[s] % 4 == 0:
            marks.append(svg.text(run.steps[s], 18, y, "tick", "end"))
        marks.append(svg.text(token(run.tokens[s], 12), left - 6, y, "token", "end"))
    marks.append(svg.text("step, token", 0, top - 17, "axis-name"))
    return svg.frame(name, _title(run), _describe(run), 360, top + cell * len(steps) + 8, *marks)


def strip(run: Run) -> list[tuple[str, int | None, str]]:
    """Give the run's text as tokens: what to write, the shade of its entropy at the last layer recorded, its
    tooltip.
    """
    last = run.values["entropy"][-1]
    known = [entropy for entropy in last if is_number(entropy)] or [0.0]
    return [
        (
            token(written, 80),
            shade(entropy, min(known), max(known)),
            f"step {step}, entropy {number(entropy)} nats" if is_number(entropy) else f"step {step}, entropy undefined",
        )
        for written, entropy, step in zip(run.tokens, last, run.steps, strict=True)
    ]


def drawn(run: Run) -> int:
    """Give how many of the run's steps the picture shows."""
    return min(len(run.steps), ACROSS * ROWS_DRAWN)


def caption(which: Run) -> Markup:
    """Caption of the picture of one run."""
    words = {key: "" if key in ("model", "arm") else key.replace("_id", "") + " " for key in which.title}
    name = ", ".join(f"{words[key]}{visible(content)}" for key, content in which.title.items())
    shown, steps = drawn(which), len(which.steps)
    rest = f"The first {number(shown)} of {number(steps)} steps are drawn." if shown < steps else ""
    return written("run", name=name or "One run", steps=number(steps), shown=rest)


@dataclass(frozen=True)
class Strip:
    """The text of a run, token by token, below its picture."""

    kind: ClassVar[str] = "strip"
    prompt: str
    tokens: list[tuple[str, int | None, str]]
    first: bool


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    gone = folder.lack("results/trajectory.json")
    if "trajectory" not in folder.results:
        return [Said(gone)] if gone else []
    found, faults = read_runs(folder.results["trajectory"])
    out: list[Block | None] = [Said(faults)] if faults else []
    for k, one in enumerate(found):
        forms = picture(f"run{k}-wide", one), tall_picture(f"run{k}-narrow", one)
        out.append(Figure(f"run{k}", *forms, caption(one)))
        out.append(Strip(visible(str(one.prompt)) if defined(one.prompt) else "", strip(one), k == 0))
    return out


SECTION = Section(
    "trajectory", "One run", "One run, layer by step", (), _blocks, ("instability", "entropy"), always=True
)
