"""From a loaded model and what is asked to a record: the same for a study and for `phaselens perturb`."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from phaselens.batteries import by_turns
from phaselens.capture import Sampling, generate
from phaselens.errors import InputError
from phaselens.interventions.causal_regions import causal_effects, world_items
from phaselens.interventions.dynamic_control import ControlPlan, Question, control
from phaselens.interventions.growth import growth
from phaselens.interventions.outcome_records import Found
from phaselens.interventions.request import Asked
from phaselens.interventions.signature import SignaturePlan, identity_gap, signature
from phaselens.models import Model
from phaselens.models.sites import site_layers
from phaselens.trace.transcripts import Transcripts

Questions = tuple[Sequence[Question], Sequence[str]]
ELSEWHERE, NEW = 12, 16


def require_neutral(model: Model, site: str = "resid_post") -> None:
    """Raise ModelRefused where strength 0 through the hooks changes a bit, at every layer and at the site."""
    identity_gap(model)
    if site not in ("resid_post", "embedding") and site_layers(model, site):
        identity_gap(model, site=site)


def first_runs(said: Transcripts, n: int, tokens: int) -> Transcripts:
    """The first run about each of `n` units, in rounds of one of each category, each cut to its first `tokens`.

    Raises InputError for fewer than four units: a half needs two.
    """
    first = {t.unit or t.prompt_id: t for t in reversed(said.runs)}
    chosen = by_turns([t for t in said if first[t.unit or t.prompt_id] is t], "category")[:n]
    if len(chosen) < 4:
        raise InputError(f"a signature needs at least four prompts, two in each half; there are {len(chosen)}.")
    runs = tuple(replace(t, completion_ids=t.completion_ids[:tokens]) for t in chosen)
    return replace(said, runs=runs)


def record_of(
    kind: str,
    model: Model,
    name: str,
    asked: Asked,
    seed: int,
    *,
    said: Callable[[], Transcripts],
    questions: Callable[[], Questions],
    layers: Sequence[int] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Found:
    """The record of one kind, under the name that tables give the model.

    `said` gives what the model said, `questions` what the control arms are asked and the texts that set the threshold
    of ct; the regions of number are tried on the first of what it said.
    """
    made: Found
    if kind == "control":
        plan = ControlPlan(
            asked.action,
            max_new_tokens=asked.answer_tokens,
            directions=asked.directions,
            steered=asked.steered,
            seed=seed,
        )
        made = control(model, *questions(), plan, progress=lambda arm: say(f"{name}: arm {arm}"))
    elif kind == "causal":
        text = said()
        runs = tuple(replace(t, completion_ids=t.completion_ids[:NEW]) for t in text.runs[:ELSEWHERE])
        made = causal_effects(
            model,
            world_items(model),
            n_random=asked.subspaces,
            seed=seed,
            elsewhere=replace(text, runs=runs),
            progress=lambda i, n: say(f"{name}: causal regions, layer {i} of {n}"),
        )
    elif kind == "growth":
        first, k = first_runs(said(), asked.prompts, asked.tokens), asked.tangents
        made = growth(
            model, first, k=k, draws=k, seed=seed, progress=lambda i, n: say(f"{name}: growth, prompt {i} of {n}")
        )
    else:
        noise = SignaturePlan(asked.strengths, asked.draws, seed, layers=tuple(layers), site=asked.site)
        first = first_runs(said(), asked.prompts, asked.tokens)
        made = signature(model, first, noise, progress=lambda i, n: say(f"{name}: prompt {i} of {n}"))
    made.model = name
    return made


def said_by(model: Model, prompts: Sequence[object], tokens: int, temperature: float, seed: int) -> Transcripts:
    """What a model says to prompts, sampled."""
    sampling = Sampling(temperature=temperature)
    return generate(model, list(prompts), max_new_tokens=tokens, sampling=sampling, seed=seed)  # type: ignore[arg-type]
