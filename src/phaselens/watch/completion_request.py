"""What a completion request asks for: the fields of the OpenAI API that are carried out, checked against the limits."""

from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phaselens.batteries import as_turns
from phaselens.capture import Sampling
from phaselens.errors import InputError, PromptError, TokenizerError
from phaselens.models import Model, encoder
from phaselens.signs import visible
from phaselens.watch.limits import Limits, too_long
from phaselens.web.door import Refusal

Ids = list[Annotated[int, Field(strict=True, ge=0)]]
MOST_STOPS = 4
MOST_SEED = 2**62
MOST_TOP = 20
IDLE = ("user", "metadata", "store", "safety_identifier", "prompt_cache_key")  # of the client's books, not of the text
OFF = {"suffix": None, "echo": False, "logprobs": None, "logit_bias": None}
ZERO = ("presence_penalty", "frequency_penalty")
HINTS = {
    "logprobs": " The surprisal of every token stands in `dynamics`.",
    "max_completion_tokens": " Here it is max_tokens.",
    "messages": " Chat goes to /v1/chat/completions.",
    "tools": " The model's text comes as it is.",
}


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    include_usage: bool = False
    include_obfuscation: bool = False


class _Body(BaseModel):
    """What both forms have; `dynamics_layers` is ours: whether steps carry their values by layer.

    Any other field is refused, but for those that only the client's own books are about (`IDLE`).
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str | None = None
    max_tokens: Annotated[int, Field(strict=True, ge=1)] | None = 16
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    n: Annotated[int, Field(strict=True, ge=1)] | None = 1
    seed: Annotated[int, Field(strict=True, ge=-MOST_SEED, le=MOST_SEED)] | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: _Options | None = None
    logit_bias: dict[str, float] | None = None
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    dynamics_layers: bool = False


class Body(_Body):
    """The fields of `POST /v1/completions`."""

    prompt: str | Ids | list[str] | list[Ids]
    best_of: int | None = None
    suffix: str | None = None
    echo: bool | None = False
    logprobs: int | None = None


class ChatBody(_Body):
    """The fields of `POST /v1/chat/completions`."""

    messages: list[Any]
    max_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(strict=True, ge=0, le=MOST_TOP)] | None = None


@dataclass(frozen=True)
class Talk:
    """How a server reads text: `chat`, a bare prompt is one user turn; `system`, the turn before those without one."""

    chat: bool = False
    system: str | None = None


@dataclass(frozen=True)
class Asked:
    """One request, ready to be carried out: a list of token ids for each choice, and the settings they share."""

    prompts: tuple[tuple[int, ...], ...]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stops: tuple[str, ...]
    stream: bool
    usage: bool
    layers: bool
    chat: bool = False
    eos: tuple[int, ...] | None = None
    top: int | None = None


def read_request(
    content: object, model: Model, names: tuple[str, ...], limits: Limits, talk: Talk = Talk(), form: type[_Body] = Body
) -> Asked:
    """Check the JSON body of a request. Raises Refusal (400, 404) saying which field is wrong and what was wanted."""
    try:
        body = form.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = str(first["loc"][0]) if first["loc"] else None
        raise Refusal(400, f"{where or 'the body'}: {first['msg']}.", param=where) from error
    if body.model is not None:
        require_here(body.model, names)
    _refuse_what_is_not_done(body)
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if len(stops) > MOST_STOPS or not all(stops):
        raise Refusal(400, f"stop takes up to {MOST_STOPS} texts, none empty.", param="stop")
    most = getattr(body, "max_completion_tokens", None) or body.max_tokens
    room = limits.tokens if model.context is None or not talks(body, talk) else max(1, model.context // 2)
    tokens = min(limits.tokens, room) if most is None else most
    if tokens > limits.tokens:
        raise too_long("max_tokens", tokens, limits.tokens, "max_tokens")
    given = [body.messages] if isinstance(body, ChatBody) else _prompts(cast(Body, body).prompt)
    copies = body.n or 1
    if len(given) * copies > limits.choices:
        raise Refusal(400, f"{len(given)} prompts x n = {copies}: at most {limits.choices} choices here.", param="n")
    return Asked(
        prompts=tuple(ids for one in given for ids in [_encode(one, model, limits, tokens, talk)] * copies),
        max_tokens=tokens,
        temperature=_temperature(body.temperature),
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stops=stops,
        stream=bool(body.stream),
        usage=body.stream_options is not None and body.stream_options.include_usage,
        layers=body.dynamics_layers,
        chat=isinstance(body, ChatBody),
        eos=(*model.eos_ids, *encoder(model).turn_ends) if talks(body, talk) else None,
        top=(body.top_logprobs or 0) if isinstance(body, ChatBody) and body.logprobs else None,
    )


def talks(body: _Body, talk: Talk) -> bool:
    """Whether a request is read as a conversation."""
    return talk.chat or isinstance(body, ChatBody)


def require_here(model: str, names: tuple[str, ...]) -> None:
    """Raises Refusal (404) for a model that goes by none of the names of the one here."""
    if model not in names:
        raise Refusal(
            404, f"no model {model!r:.200} here; this server watches {names[0]}.", param="model", code="model_not_found"
        )


def _temperature(given: float | None) -> float:
    try:
        return Sampling(1.0 if given is None else given).temperature
    except InputError as error:
        raise Refusal(400, str(error), param="temperature") from error


def _refuse_what_is_not_done(body: _Body) -> None:
    asked = [name for name, given in body.model_extra.items() if name not in IDLE and given is not None]
    off = OFF if isinstance(body, Body) else {"logit_bias": None}
    asked += [name for name, value in off.items() if getattr(body, name) not in (value, None)]
    asked += [name for name in ZERO if getattr(body, name)]
    if getattr(body, "best_of", None) not in (None, body.n or 1):
        asked.append("best_of")
    if asked:
        name = visible(asked[0], 80)
        said = f"{name} is not carried out by this server; leave it out.{HINTS.get(name, '')}"
        raise Refusal(400, said, param=name)


def _prompts(given: Any) -> list[Any]:
    """One entry per prompt: a text or a list of token ids."""
    if isinstance(given, str):
        return [given]
    if not given:
        raise Refusal(400, "prompt is empty; give a text or token ids.", param="prompt")
    return [given] if isinstance(given[0], int) else list(given)


def _encode(given: Any, model: Model, limits: Limits, tokens: int, talk: Talk) -> tuple[int, ...]:
    turns = isinstance(given, list) and not (given and isinstance(given[0], int))
    if isinstance(given, str) or turns:
        try:
            told = as_turns(given) if turns else (("user", given),)
            if (size := sum(len(text) for _, text in told)) > limits.prompt_chars:
                raise too_long("characters of the prompt", size, limits.prompt_chars, "prompt")
            if talk.system is not None and told[0][0] != "system":
                told = (("system", talk.system), *told)
            given = encoder(model).chat(told) if turns or talk.chat else encoder(model)(given)
        except (PromptError, TokenizerError) as error:
            raise Refusal(400, f"{error}", param="messages" if turns else "prompt") from error
    if not given:
        raise Refusal(400, "prompt is empty; give a text or token ids.", param="prompt")
    if max(given) >= model.vocab_size:
        raise Refusal(400, f"token ids lie below {model.vocab_size}; got {max(given)}.", param="prompt")
    if len(given) > limits.prompt_tokens:
        raise too_long("tokens of the prompt", len(given), limits.prompt_tokens, "prompt")
    if model.context is not None and len(given) + tokens > model.context:
        got = f"{len(given)} tokens of the prompt + max_tokens {tokens}"
        raise too_long("prompt and completion within the context of the model", got, model.context, "prompt")
    return tuple(given)
