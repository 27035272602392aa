"""From a loaded model and what is asked to a record: the same for a study and for `phaselens perturb`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from phaselens.batteries import by_turns
from phaselens.capture import Sampling, generate
from phaselens.errors import InputError
from phaselens.interventions.causal_regions import causal_effects, world_items
from phaselens.interventions.dynamic_control import ControlPlan, Question, control
from phaselens.interventions.growth import growth
from phaselens.interventions.records import Causal, Control, Growth, Signature
from phaselens.interventions.request import Asked
from phaselens.interventions.signature import SignaturePlan, identity_gap, signature
from phaselens.models import Model
from phaselens.models.sites import site_layers
from phaselens.trace.transcripts import Transcripts

Say = Callable[[str], None]
ELSEWHERE, NEW = 12, 16


@dataclass(frozen=True)
class Questions:
    """What the control arms are asked, and the texts that set the threshold of ct."""

    asked: Sequence[Question]
    calibration: Sequence[str]


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


def signature_of(
    model: Model,
    name: str,
    said: Transcripts,
    asked: Asked,
    seed: int,
    *,
    layers: Sequence[int] = (),
    say: Say = lambda line: None,
) -> Signature:
    """The signature of a model on what it said, under the name that tables give it."""
    plan = SignaturePlan(asked.strengths, asked.draws, seed, layers=tuple(layers), site=asked.site)
    made = signature(model, said, plan, progress=lambda i, n: say(f"{name}: prompt {i} of {n}"))
    made.model = name
    return made


def growth_of(
    model: Model, name: str, said: Transcripts, asked: Asked, seed: int, *, say: Say = lambda line: None
) -> Growth:
    """Growth of infinitesimal changes in what a model said."""
    k = asked.tangents
    made = growth(model, said, k=k, draws=k, seed=seed, progress=lambda i, n: say(f"{name}: growth, prompt {i} of {n}"))
    made.model = name
    return made


def causal_of(
    model: Model, name: str, said: Transcripts, asked: Asked, seed: int, *, say: Say = lambda line: None
) -> Causal:
    """Causal regions of grammatical number, and what they do to the first of what the model said."""
    elsewhere = replace(
        said, runs=tuple(replace(t, completion_ids=t.completion_ids[:NEW]) for t in said.runs[:ELSEWHERE])
    )
    made = causal_effects(
        model, world_items(model), n_random=asked.subspaces, seed=seed, elsewhere=elsewhere,
        progress=lambda i, n: say(f"{name}: causal regions, layer {i} of {n}"),
    )  # fmt: skip
    made.model = name
    return made


def control_of(
    model: Model, name: str, questions: Questions, asked: Asked, seed: int, *, say: Say = lambda line: None
) -> Control:
    """All arms of the control of the dynamics on the questions."""
    plan = ControlPlan(
        asked.action, max_new_tokens=asked.answer_tokens, directions=asked.directions, steered=asked.steered, seed=seed
    )
    made = control(model, questions.asked, questions.calibration, plan, progress=lambda arm: say(f"{name}: arm {arm}"))
    made.model = name
    return made


def said_by(model: Model, prompts: Sequence[object], tokens: int, temperature: float, seed: int) -> Transcripts:
    """What a model says to prompts, sampled."""
    sampling = Sampling(temperature=temperature)
    return generate(model, list(prompts), max_new_tokens=tokens, sampling=sampling, seed=seed)  # type: ignore[arg-type]
