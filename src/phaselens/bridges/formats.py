"""What a row of each tool says: prompt, completion, grade and log-probabilities, before anything becomes tokens."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phaselens.batteries import Turns, answered, as_turns
from phaselens.batteries.file_rows import word
from phaselens.errors import PromptError

Values = Mapping[str, Any]
FORM = (
    'Each line is like {"prompt": "...", "completion": "..."}, {"messages": [...]} or {"prompt_ids": [5, 9], '
    '"completion_ids": [7]}; "id", "category", "answer", "correct", "unit" may stand beside them.'
)
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Said:
    """One run of another tool. The prompt is a text, the turns of a conversation, or ids (then both are).

    `logprobs` (nats) are those that the tool gives for its own tokens, None where it gives none.
    """

    prompt: str | None
    completion: str | None
    turns: Turns = ()
    ids: tuple[Any, Any] | None = None
    logprobs: tuple[float | None, ...] | None = None
    correct: bool | None = None
    answer: str | None = None
    id: str | None = None
    category: str = ""
    tag: str = ""
    unit: str = ""


def plain(row: Values) -> list[Said]:
    """Rows of prompt and completion, by our names for them: text, token ids, or messages."""
    prompt = _text(row, ("prompt", "text"))
    completion = _text(row, ("completion", "response", "output", "generation"))
    given = [key for key in ("prompt_ids", "completion_ids") if key in row]
    if len(given) == 1:
        raise PromptError(f"{given[0]!r} without the other; give both 'prompt_ids' and 'completion_ids'. {FORM}")
    turns: Turns = ()
    if "messages" in row:
        turns = as_turns(row["messages"])
        if completion is None:
            turns, completion = answered(turns)
    elif not given and (prompt is None or completion is None):
        raise PromptError(f"no {'prompt' if prompt is None else 'completion'} among {sorted(row)}. {FORM}")
    ids = (row["prompt_ids"], row["completion_ids"]) if given else None
    return [Said(prompt, completion, turns, ids, numbers(row.get("logprobs")), **beside(row))]


def beside(row: Values) -> dict[str, Any]:
    """Id, category, answer, tag, unit and grade of a row that uses our names."""
    name = row.get("custom_id", row.get("id", row.get("prompt_id")))
    texts = {key: word(row[key], key) for key in ("category", "tag", "unit") if key in row}
    answer = None if "answer" not in row else word(row["answer"], "answer")
    named = None if name is None else word(name, "id")
    grade = row.get("correct")
    if grade is not None and right(grade) is None:
        raise PromptError(f"'correct' is {grade!r:.40}; wanted true, false, or null where it is not known.")
    return {**texts, "answer": answer, "id": named, "correct": right(grade)}


def right(grade: Any) -> bool | None:
    """A grade as right or wrong: truth values, 0 and 1, C and I; None for none and for what lies between."""
    if isinstance(grade, float) and math.isnan(grade):
        return None
    known = {"c": True, "i": False, "true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
    if isinstance(grade, str):
        return known.get(grade.strip().lower())
    return bool(grade) if not isinstance(grade, list | dict) and grade in (0, 1) else None


def lm_eval(row: Values) -> list[Said]:
    """A row of `--log_samples` of lm-evaluation-harness: one run per response, with the first of its metrics as grade.

    Of a choice (`loglikelihood`) the likeliest continuation is what the model said; blanks that end its context begin
    the continuation, as in the harness.
    """
    requests = [tuple(request.values()) for request in row["arguments"].values()]
    metrics = row.get("metrics") or [k for k in ("exact_match", "acc", "pass@1", "em") if k in row]
    grade = right(row.get(metrics[0])) if metrics else None
    target = row.get("target")
    shared: dict[str, Any] = {"id": word(row["doc_id"], "doc_id"), "correct": grade}
    if not isinstance(requests[0][0], str) or len(requests[0]) < 2:
        raise PromptError("a request without a continuation (loglikelihood_rolling): there is no completion in it.")
    if isinstance(requests[0][1], str):
        scores = [float(response[0][0]) for response in row["resps"]]
        context, said = requests[scores.index(max(scores))][:2]
        blank = len(context) - len(context.rstrip())
        return [Said(context[: len(context) - blank], context[len(context) - blank :] + said, **shared)]
    answer = target if isinstance(target, str) and target.strip() else None
    return [Said(requests[0][0], text, answer=answer, **shared) for text in row["resps"][0]]


def sharegpt(row: Values) -> list[Said]:
    """A conversation of ShareGPT: `conversations` of `from` and `value`; the last turn is the completion."""
    given = row["conversations"]
    if not isinstance(given, list) or not all(isinstance(turn, Mapping) for turn in given):
        raise PromptError("conversations are no list of turns.")
    if given and "role" in given[0]:
        return plain({**row, "messages": given})
    unknown = [turn.get("from") for turn in given if turn.get("from") not in SHAREGPT]
    if unknown:
        raise PromptError(f"a turn is from {unknown[0]!r}; wanted one of {', '.join(SHAREGPT)}.")
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    turns = as_turns(system + [{"role": SHAREGPT[turn["from"]], "content": turn.get("value")} for turn in given])
    before, completion = answered(turns)
    return [Said(None, completion, before, **beside(row))]


def vllm(row: Values) -> list[Said]:
    """A `RequestOutput` of vLLM: exact ids of the prompt and of every output, and their log-probabilities."""
    return [
        Said(
            row.get("prompt"),
            one.get("text"),
            (),
            (row["prompt_token_ids"], one["token_ids"]),
            _ranked(one),
            **beside({"id": row["request_id"], **row} if "request_id" in row else row),
        )
        for one in row["outputs"]
    ]


def _ranked(output: Values) -> tuple[float | None, ...] | None:
    """Of vLLM's likeliest tokens at each place the one that was chosen."""
    if not output.get("logprobs"):
        return None
    places = [{str(k): v for k, v in place.items()} for place in output["logprobs"]]
    found = [place.get(str(i)) for i, place in zip(output["token_ids"], places, strict=False)]
    return numbers([one.get("logprob") if isinstance(one, Mapping) else one for one in found])


def response(row: Values) -> list[Said]:
    """A response of the OpenAI API (also vLLM's and llama.cpp's servers), with the request that it answers.

    The request stands beside it as `request` (or `body`), or its `prompt` or `messages` do; a response alone does not
    say what was asked.
    """
    whole = row["response"] if "response" in row else row
    body = whole.get("body", whole)
    asked = next((row[key] for key in ("request", "body") if isinstance(row.get(key), Mapping)), row)
    asked = asked.get("body", asked) if isinstance(asked.get("body", asked), Mapping) else asked
    prompt, messages = asked.get("prompt"), asked.get("messages")
    if prompt is None and messages is None:
        raise PromptError('a response without its request; put {"request": {...}} or {"messages": [...]} beside it.')
    out = []
    for choice in body["choices"]:
        text = choice["text"] if "text" in choice else (choice.get("message") or {}).get("content")
        ids = choice.get("token_ids"), choice.get("prompt_token_ids", body.get("prompt_token_ids"))
        exact = (ids[1], ids[0]) if all(ids) else None
        turns = () if messages is None else as_turns(messages)
        logs = choice.get("logprobs") or {}
        given = logs.get("token_logprobs") or [one["logprob"] for one in logs.get("content") or ()]
        asked_text = prompt if isinstance(prompt, str) else None
        out.append(Said(asked_text, text, turns, exact, numbers(given), **beside(row)))
    return out


def numbers(given: Sequence[Any] | None) -> tuple[float | None, ...] | None:
    """Log-probabilities of tokens; those that are none or not finite (-inf, the API's -9999) are None."""
    if not given:
        return None
    known = (float(x) if isinstance(x, int | float) else math.nan for x in given)
    return tuple(x if math.isfinite(x) and x > -9999 else None for x in known)


def _text(row: Values, keys: Sequence[str]) -> str | None:
    for key in keys:
        if key in row:
            if not isinstance(row[key], str):
                raise PromptError(f"{key!r} is a {type(row[key]).__name__}, wanted text. {FORM}")
            return row[key]
    return None


# (name, fields that only this format has, its reader), tried in this order; rows of our own names are the rest.
FORMATS: tuple[tuple[str, frozenset[str], Callable[[Values], list[Said]]], ...] = (
    ("lm-eval samples", frozenset({"doc_id", "arguments", "resps"}), lm_eval),
    ("vLLM outputs", frozenset({"prompt_token_ids", "outputs"}), vllm),
    ("API responses", frozenset({"choices"}), response),
    ("ShareGPT", frozenset({"conversations"}), sharegpt),
    ("rows", frozenset(), plain),
)


def format_of(row: Values) -> tuple[str, Callable[[Values], list[Said]]]:
    """The format of a row, told by the fields that it has."""
    if isinstance(row.get("response"), Mapping):
        return "API responses", response
    return next((name, read) for name, fields, read in FORMATS if fields <= row.keys())
