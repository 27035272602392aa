"""Turns of a conversation, as users write them: a list of {"role": ..., "content": ...}."""

from collections.abc import Mapping
from typing import Any

from phaselens.errors import PromptError, require_text

Turns = tuple[tuple[str, str], ...]
FORM = 'Wanted [{"role": "user", "content": "..."}, ...].'


def as_turns(given: Any) -> Turns:
    """Turns as pairs (role, text); content in parts of type text is joined.

    Raises PromptError for anything else: no list, no turn, an unknown field that changes what is said (tools, images).
    """
    if isinstance(given, Mapping | str) or not isinstance(given, list | tuple) or not given:
        raise PromptError(f"messages are a {type(given).__name__}{'' if given else ' without a turn'}. {FORM}")
    return tuple(_turn(turn, f"turn {number}") for number, turn in enumerate(given, start=1))


def _turn(turn: Any, where: str) -> tuple[str, str]:
    if isinstance(turn, tuple) and len(turn) == 2:
        turn = dict(zip(("role", "content"), turn, strict=True))
    if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
        raise PromptError(f"{where} has no role. {FORM}")
    for name in ("tool_calls", "function_call"):
        if turn.get(name):
            raise PromptError(f"{where} has {name}; conversations with tools are not read: give the rendered text.")
    content = turn.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, where) for part in content)
    if not isinstance(content, str):
        raise PromptError(f"{where}: content is a {type(content).__name__}, wanted text. {FORM}")
    require_text(content, where)
    return turn["role"], content


def _part(part: Any, where: str) -> str:
    if isinstance(part, Mapping) and part.get("type") in ("text", "input_text") and isinstance(part.get("text"), str):
        return part["text"]
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise PromptError(f"{where} has a part of type {kind!r}; only text is read.")


def answered(turns: Turns) -> tuple[Turns, str]:
    """The turns before the last one, and its text, which must be the assistant's. Raises PromptError."""
    if len(turns) < 2 or turns[-1][0] != "assistant":
        raise PromptError("the last turn is the completion: it must be the assistant's, with a turn before it.")
    return turns[:-1], turns[-1][1]
