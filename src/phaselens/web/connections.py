"""Connections that send no whole request: closed after a time, and never in the way of one that does."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def patient(connections: int, header_seconds: float) -> type[asyncio.Protocol]:
    """The HTTP protocol of one server: headers arrive within `header_seconds`, else the connection is closed.

    At most `connections` of them may be waited for: one more closes the one that is waited for longest, so that any
    number of half-sent requests keeps nobody out.
    """
    waited_for: dict[Any, asyncio.TimerHandle] = {}  # in the order of their coming

    class Patient(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(waited_for) >= connections:
                next(iter(waited_for)).transport.abort()
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._done()
            super().connection_lost(exc)

        def _wait(self) -> None:
            if self.conn.their_state is not h11.IDLE:
                self._done()
            elif self not in waited_for and not self.transport.is_closing():
                waited_for[self] = self.loop.call_later(header_seconds, self.transport.abort)

        def _done(self) -> None:
            if (timer := waited_for.pop(self, None)) is not None:
                timer.cancel()

    return Patient
