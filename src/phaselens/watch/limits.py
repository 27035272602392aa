"""What one client may ask for: the bounds of one server."""

from dataclasses import dataclass

from phaselens.errors import InputError
from phaselens.web.door import Refusal


@dataclass(frozen=True)
class Limits:
    """Bounds of one server.

    `body` bytes of a request, `prompt_chars` and `prompt_tokens` of one prompt, `tokens` generated per choice,
    `choices` (prompts times n) of a request, `streams` generated at the same time, `connections` in work, and as many
    waited for; `header_seconds` to send the head of a request, `body_seconds` its body, `stall_seconds` that a client
    may leave what is sent to it unread.

    Raises InputError for a bound below 1.
    """

    body: int = 1_000_000
    prompt_chars: int = 100_000
    prompt_tokens: int = 4_096
    tokens: int = 1_024
    choices: int = 4
    streams: int = 8
    connections: int = 64
    header_seconds: float = 10.0
    body_seconds: float = 10.0
    stall_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise InputError(f"the limit {name} is at least 1; got {value}.")

    @property
    def waiting(self) -> dict[str, float]:
        """What the server is told: how many connections, and how long it waits for a head."""
        return {"connections": self.connections, "header_seconds": self.header_seconds}


def too_long(what: str, got: int | str, most: int, param: str) -> Refusal:
    """A 400 for a prompt or a number of tokens beyond a limit."""
    return Refusal(400, f"{what}: got {got}, at most {most} here.", param=param, code="context_length_exceeded")
