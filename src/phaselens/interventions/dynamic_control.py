"""Control of the dynamics while a model answers: watch ct at one layer, act when it rises, and see what that changes.

A run that triggers is stopped, goes back to its last calm step, and goes on with another seed, another temperature, or
a step toward the low-instability centroid. Arms differ in nothing else, and every arm answers the same questions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from phaselens.batteries import Prompt, by_turns, grade, natural_battery, natural_questions, settled
from phaselens.capture import Sampling
from phaselens.capture.intervene import At, Steer
from phaselens.errors import InputError, unknown_name
from phaselens.interventions.outcome_records import ARMS, Control
from phaselens.interventions.signature import identity_gap
from phaselens.models import Model, require_tokenizer
from phaselens.observing.recording import live, observe
from phaselens.organisms import world_battery
from phaselens.trace import Trace
from phaselens.trace.transcripts import Transcript, Transcripts

ACTIONS = ("seed", "temperature", "steer")
COLUMN = "instability"


@dataclass(frozen=True)
class ControlPlan:
    """What is done: the action, the sampling of all arms, and how calm is told from turbulent.

    A run triggers at the first step whose ct at the layer is above the `quantile` of calibration runs, and goes back to
    the last step below their median, once. `temperature` is that of the action of this name, `strength` the length of
    the steering step over the RMS of the layer; whole runs are steered along the calm direction and along `directions`
    random ones of equal norm, on the first `steered` questions.
    """

    action: str = "seed"
    sampling: Sampling = Sampling(temperature=0.7)
    max_new_tokens: int = 16
    layer: int | None = None
    quantile: float = 0.95
    temperature: float = 0.3
    strength: float = 0.3
    directions: int = 24
    steered: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise unknown_name("action", self.action, ACTIONS)
        if not 0.5 <= self.quantile < 1 or self.max_new_tokens < 4:
            raise InputError("wanted: a quantile from .5 to below 1, and 4 new tokens or more (ct needs 3 states).")


@dataclass(frozen=True, eq=False)
class Calm:
    """What calibration runs say: threshold and median of ct, and the direction [d] from turbulent to calm states."""

    layer: int
    threshold: float
    median: float
    direction: Tensor
    rms: float


@dataclass(frozen=True)
class Question:
    """One question with a known answer; `unit` is what is resampled, `guarded` its text behind a guard prompt.

    `lenient` lets an answer count that is right but for its wording.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    unit: str
    guarded: str = ""
    lenient: bool = False


# Items that an answer does not end: lists and brackets go on behind it.
WHOLE = {"Count": "Count\n- 2, 4, 6, 8, 10, 12\n", "Brackets": "Brackets\n- ( [ ] )\n"}


def world_questions(n: int, seed: int = 0) -> tuple[list[Question], list[str]]:
    """Graded questions about the organisms' world, and calibration texts. Raises InputError for too many.

    The guard is what helps in that world: a solved item of the same kind, from the calibration split, before the asked
    one, as in the documents that the organisms know.
    """
    battery = world_battery(seed)
    if not 1 <= n <= len(battery.questions):
        raise InputError(f"{n} questions were asked for; there are {len(battery.questions)}.")
    solved = dict(WHOLE)
    for q in sorted(battery.calibration, key=lambda q: not q.after):  # an item that is whole, where there is one
        head, _, item = q.text.partition("\n")
        solved.setdefault(head, f"{head}\n{item} {q.answer}{q.after}\n")
    asked = [
        Question(q.id, q.text, tuple(a for a in (q.answer, *q.aliases) if a), q.unit, _guarded(q.text, solved))
        for q in battery.questions[:n]
    ]
    return asked, [q.text for q in battery.calibration[: max(24, n // 4)]]


def _guarded(text: str, solved: Mapping[str, str]) -> str:
    """The solved item of this kind and then the asked one; the text itself where none of its kind is at hand."""
    head, _, item = text.partition("\n")
    return solved[head] + item if head in solved else text


GUARD = "Complete each sentence with the one right word or number. Be careful.\n"


def natural_asked(n: int) -> tuple[list[Question], list[str]]:
    """Short factual questions in English in their first wording, and calibration texts. Raises InputError for too many.

    The guard is an instruction. There are 100, too few for X2.
    """
    known = natural_questions()
    if not 1 <= n <= len(known):
        raise InputError(f"{n} questions were asked for; for models of natural text there are {len(known)}.")
    asked = [Question(q.id, q.completion, q.answers, q.id, GUARD + q.completion, True) for q in known[:n]]
    return asked, [p.text for p in natural_battery().calibration]


def own_asked(prompts: Sequence[Prompt], calibration: Sequence[str], n: int) -> tuple[list[Question], list[str]]:
    """Prompts of a battery that have an answer, `n` in rounds over its categories. Raises InputError where none has."""
    asked = [
        Question(p.id, p.text, tuple(a for a in (p.answer, *p.aliases) if a), p.unit, GUARD + p.text, True)
        for p in by_turns([p for p in prompts if p.answer], "category")
    ]
    if not asked:
        raise InputError("no prompt of the battery has an answer, so no arm can be graded.")
    return asked[:n], list(calibration)


def calibrate(model: Model, texts: Sequence[str], plan: ControlPlan) -> Calm:
    """Threshold, median and calm direction of a layer, from runs on calibration texts.

    The direction is the mean state of steps whose ct is below the median less that of steps above the threshold.
    Raises InputError for a layer that does not exist, or where no step is above the threshold.
    """
    layer = round(0.75 * model.n_layers) if plan.layer is None else plan.layer
    if not 1 <= layer <= model.n_layers:
        raise InputError(f"layer {layer} cannot be watched: {model.name} has 1 to {model.n_layers}.")
    said, _ = _said(model, texts, plan, plan.seed + 1, layer)
    trace = observe(model, said, lens=None, observables=[COLUMN], layers=[layer], keep_hidden=True)
    ct = trace.numpy("layers")[COLUMN].astype(float)
    states = np.concatenate([trace.hidden[f"run{t.run}"][:, 0] for t in said])
    known = ct[np.isfinite(ct)]
    median, threshold = (float(np.quantile(known, q)) for q in (0.5, plan.quantile))
    low, high = states[ct < median], states[ct > threshold]
    if not len(low) or not len(high):
        raise InputError("no calibration step is above the threshold: give more calibration texts.")
    direction = torch.from_numpy(low.mean(axis=0) - high.mean(axis=0))
    size = float(direction.square().mean().sqrt())
    return Calm(layer, threshold, median, direction / max(size, 1e-12), float(np.sqrt(np.mean(states**2))))


def control(
    model: Model,
    questions: Sequence[Question],
    calibration: Sequence[str],
    plan: ControlPlan = ControlPlan(),  # noqa: B008  frozen
    *,
    progress: Callable[[str], None] | None = None,
) -> Control:
    """Answer every question in every arm: none, again (another seed), cool, guard, monitor, both, random.

    Without guarded texts the arms guard and both are left out. The random arm acts as often and at the same steps as
    the monitor, on runs drawn anew. Raises InputError for no questions, ModelRefused where strength 0 is not an exact
    nothing.
    """
    if not questions:
        raise InputError("no questions were given; wanted at least one with a known answer.")
    calm = calibrate(model, calibration, plan)
    made = Control(
        model.name,
        model.family,
        tuple(q.id for q in questions),
        np.array([q.unit for q in questions]),
        identity_gap(model),
        layer=calm.layer,
        threshold=calm.threshold,
        median=calm.median,
        action=plan.action,
    )
    plain, guarded = [q.text for q in questions], [q.guarded for q in questions]
    watched: dict[int, tuple[int, int]] = {}
    for arm in ARMS:
        if arm in ("guard", "both") and not all(guarded):
            continue
        if progress is not None:
            progress(arm)
        texts = guarded if arm in ("guard", "both") else plain
        seed = plan.seed + (100 if arm == "again" else 0)
        triggers: dict[int, tuple[int, int]] | None = None
        if arm in ("monitor", "both"):
            triggers = {}
        own = plan
        if arm == "cool":
            own = replace(plan, sampling=replace(plan.sampling, temperature=plan.temperature))
        watching = calm if triggers is not None else None
        said, _ = _said(model, texts, own, seed, calm.layer, calm=watching, triggers=triggers)
        if arm == "monitor":
            watched = dict(triggers or {})
        if arm == "random":
            triggers = _moved_about(watched, said, plan)
        acted = triggers or {}
        made.in_time[arm] = _in_time(model, said, questions, acted)
        said, made.tokens[arm] = _resumed(model, said, acted, plan, calm)
        made.right[arm] = _graded(model, said, questions)
        made.ct[arm] = _run_mean(model, said, calm.layer, COLUMN)
        made.triggered[arm] = np.array([i in acted for i in range(len(questions))])
        if arm == "again":
            made.turbulence = _run_mean(model, said, calm.layer, "turbulence")
    made.steered, made.random_steered = _steered(model, plain[: plan.steered], plan, calm)
    return made


def _said(
    model: Model,
    texts: Sequence[str],
    plan: ControlPlan,
    seed: int,
    layer: int,
    calm: Calm | None = None,
    triggers: dict[int, tuple[int, int]] | None = None,
    interventions: Sequence[At] = (),
) -> tuple[Transcripts, Trace]:
    """Runs on these texts and their ct; a run that triggers is stopped there, with (step, last calm step) noted."""
    calmed: dict[int, int] = {}

    def watch(step: int, rows: object) -> list[int]:
        table, stop = rows["layers"], []  # type: ignore[index]
        for run, ct in zip(table["run"].tolist(), table[COLUMN].tolist(), strict=True):
            if ct < calm.median:
                calmed[run] = step
            elif ct > calm.threshold:
                triggers[run] = (step, calmed.get(run, 0))
                stop.append(run)
        return stop

    return live(
        model,
        list(texts),
        max_new_tokens=plan.max_new_tokens,
        sampling=plan.sampling,
        seed=seed,
        lens=None,
        observables=[COLUMN],
        layers=[layer],
        on_step=None if calm is None else watch,
        interventions=interventions,
    )


def _moved_about(
    watched: dict[int, tuple[int, int]], said: Transcripts, plan: ControlPlan
) -> dict[int, tuple[int, int]]:
    """The monitor's triggers on runs drawn at random, each with the (step, calm step) of another that is as long."""
    free = np.random.default_rng([plan.seed, 51]).permutation(len(said)).tolist()
    moved: dict[int, tuple[int, int]] = {}
    for step, calm in sorted(watched.values(), reverse=True):  # the latest first: few runs are long enough for it
        run = next((r for r in free if said[r].n_generated > step), None)
        if run is not None:
            free.remove(run)
            moved[run] = (step, calm)
    return moved


def _resumed(
    model: Model, said: Transcripts, triggers: dict[int, tuple[int, int]], plan: ControlPlan, calm: Calm
) -> tuple[Transcripts, np.ndarray]:
    """Runs that triggered, gone on with from their last calm step; tokens count what was thrown away."""
    runs, tokens = list(said.runs), np.array([t.n_generated for t in said])
    sampling = replace(plan.sampling, temperature=plan.temperature) if plan.action == "temperature" else plan.sampling
    along = Steer(calm.direction, plan.strength * calm.rms)
    steer = [At("resid_post", (calm.layer,), None, along)] if plan.action == "steer" else []
    by_calm: dict[int, list[int]] = {}
    for i, (_, last) in triggers.items():
        by_calm.setdefault(last, []).append(i)
    for last, members in by_calm.items():
        kept = [runs[i].completion_ids[:last] for i in members]
        starts = [(*runs[i].prompt_ids, *head) for i, head in zip(members, kept, strict=True)]
        more, _ = live(
            model,
            starts,
            max_new_tokens=plan.max_new_tokens - last,
            sampling=sampling,
            seed=plan.seed + 7,
            lens=None,
            observables=[COLUMN],
            layers=[calm.layer],
            interventions=steer,
        )
        for i, head, new in zip(members, kept, more, strict=True):
            tokens[i] = triggers[i][0] + 1 + new.n_generated
            runs[i] = replace(runs[i], completion_ids=(*head, *new.completion_ids))
    return replace(said, runs=tuple(runs)), tokens


def _graded(model: Model, said: Transcripts, questions: Sequence[Question]) -> np.ndarray:
    decode = require_tokenizer(model).decode
    pairs: list[tuple[Transcript, Question]] = list(zip(said, questions, strict=True))
    return np.array([grade(decode(list(t.completion_ids)), q.answers, lenient=q.lenient).right for t, q in pairs])


def _in_time(
    model: Model, said: Transcripts, questions: Sequence[Question], acted: Mapping[int, tuple[int, int]]
) -> np.ndarray:
    """Whether a run is gone on with from a step at which its answer is still open (bool [question])."""
    decode, out = require_tokenizer(model).decode, np.zeros(len(questions), bool)
    for i, (_, last) in acted.items():
        head = decode(list(said[i].completion_ids[:last]))
        out[i] = not settled(head, questions[i].answers, lenient=questions[i].lenient)
    return out


def _run_mean(model: Model, said: Transcripts, layer: int, column: str) -> np.ndarray:
    """Mean of a column over the steps of every run at the layer, NaN where it is defined nowhere."""
    at = layer if column == COLUMN else min(layer, model.n_layers - 1)
    lens, layers = (None, [at]) if column == COLUMN else ("final_norm", sorted({at, at + 1, model.n_layers}))
    return _means(observe(model, said, lens=lens, observables=[column], layers=layers), at, column, len(said))


def _means(trace: Trace, layer: int, column: str, n: int) -> np.ndarray:
    """Mean of a column of a trace over the steps of each of `n` runs, NaN where it is defined nowhere."""
    table = trace.numpy("layers")
    run, values = table["run"], table[column].astype(float)
    seen = np.isfinite(values) & (table["layer"] == layer)
    sums = np.bincount(run[seen], values[seen], minlength=n)
    counts = np.bincount(run[seen], minlength=n)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _steered(model: Model, texts: Sequence[str], plan: ControlPlan, calm: Calm) -> tuple[np.ndarray, np.ndarray]:
    """Mean ct of whole runs steered one layer below the watched one: toward calm, and along random directions."""
    at = max(calm.layer - 1, 1)
    draw = torch.Generator().manual_seed(plan.seed)
    random = torch.randn(plan.directions, len(calm.direction), generator=draw)
    found = []
    for direction in (calm.direction, *(v / v.square().mean().sqrt() for v in random)):
        what = [At("resid_post", (at,), None, Steer(direction, plan.strength * calm.rms))]
        said, trace = _said(model, texts, plan, plan.seed, calm.layer, interventions=what)
        found.append(_means(trace, calm.layer, COLUMN, len(said)))
    return found[0], np.stack(found[1:])
