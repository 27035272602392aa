"""Answers in the form of the OpenAI completions API, whole or as server-sent events, with a `dynamics` object."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from phaselens.watch.completion_request import Asked
from phaselens.watch.desk import Ended, Job, Piece
from phaselens.watch.limits import Limits
from phaselens.web.door import as_refusal, refused

log = logging.getLogger("phaselens.watch")
POLL = 0.25


def head(name: str, asked: Asked) -> dict[str, object]:
    """The fields that every answer begins with."""
    kind = f"chat.completion{'.chunk' if asked.stream else ''}" if asked.chat else "text_completion"
    made = f"{'chatcmpl' if asked.chat else 'cmpl'}-{uuid.uuid4().hex}"
    return {"id": made, "object": kind, "created": int(time.time()), "model": name}


def usage(job: Job, generated: int) -> dict[str, int]:
    """Tokens counted as the API does: each prompt once per choice."""
    prompt = sum(len(ids) for ids in job.asked.prompts)
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def choice(asked: Asked, index: int, text: str, reason: str | None, logprobs: list[Any]) -> dict[str, Any]:
    """One entry of `choices`."""
    found: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": reason}
    if not asked.chat:
        return found | {"text": text}
    if asked.top is not None:
        found["logprobs"] = {"content": logprobs, "refusal": None}
    said = {"role": "assistant", "content": text}
    return found | ({"delta": said} if asked.stream else {"message": said | {"refusal": None}})


async def whole(job: Job, request: Request, name: str) -> Response:
    """Wait for all choices and answer in one document; a client that goes away meanwhile ends the generation."""
    n = len(job.asked.prompts)
    texts, steps, ends = [""] * n, [list[Any]() for _ in range(n)], list[Any]([None] * n)
    logprobs: list[list[Any]] = [[] for _ in range(n)]
    gone = asyncio.create_task(_until_gone(job, request))
    try:
        async for event in job.told():
            texts[event.index] += event.text
            if isinstance(event, Piece):
                steps[event.index].append(event.step)
                logprobs[event.index].append(event.logprob)
            else:
                ends[event.index] = event
    except Exception as error:
        return refused(as_refusal(error))
    finally:
        job.cancel()
        gone.cancel()
    ended = [end or Ended(i, "", "stop", len(steps[i])) for i, end in enumerate(ends)]
    return JSONResponse(
        {
            **head(name, job.asked),
            "choices": [choice(job.asked, i, texts[i], end.reason, logprobs[i]) for i, end in enumerate(ended)],
            "usage": usage(job, sum(end.n_tokens for end in ended)),
            "dynamics": [{"index": i, "steps": steps[i]} for i in range(n)],
        }
    )


async def _until_gone(job: Job, request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(POLL)
    job.cancel()


class EventStream(Response):
    """Server-sent events of a job: a chunk per token, `[DONE]` at the end.

    A client that goes away, or leaves what it is sent unread for `stall_seconds`, ends the generation.
    """

    media_type = "text/event-stream"

    def __init__(self, job: Job, name: str, limits: Limits) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._job, self._name, self._limits = job, name, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the client has gone."""
        try:
            async with anyio.create_task_group() as group:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                group.start_soon(watch)
                await self._send_all(send)
                group.cancel_scope.cancel()
        finally:
            self._job.cancel()

    async def _send_all(self, send: Send) -> None:
        async def timely(message: dict[str, object]) -> None:
            with anyio.fail_after(self._limits.stall_seconds):
                await send(message)

        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await timely(start)
            async for line in self._lines():
                await timely({"type": "http.response.body", "body": line.encode(), "more_body": True})
            await timely({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log.warning("a client left its stream unread for %g s and was let go", self._limits.stall_seconds)

    async def _lines(self) -> AsyncIterator[str]:
        asked, generated = self._job.asked, 0
        first = head(self._name, asked)
        try:
            async for event in self._job.told():
                reason = event.reason if isinstance(event, Ended) else None
                told = [event.logprob] if isinstance(event, Piece) else []
                found: dict[str, Any] = {**first, "choices": [choice(asked, event.index, event.text, reason, told)]}
                if isinstance(event, Piece):
                    found["dynamics"] = {"index": event.index, **event.step}
                    generated += 1
                yield _event(found)
            if self._job.asked.usage:
                yield _event({**first, "choices": [], "usage": usage(self._job, generated)})
        except Exception as error:
            yield _event(as_refusal(error).body)
        yield "data: [DONE]\n\n"


def _event(content: dict[str, object]) -> str:
    """One event on one line; JSON escapes every line end inside."""
    return f"data: {json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(',', ':'))}\n\n"
