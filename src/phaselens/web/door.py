"""Who may ask, what a browser may do with the answer, and how a request that is not carried out is answered."""

import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phaselens.errors import PhaselensError
from phaselens.web.pages import Page

log = logging.getLogger("phaselens.web")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
BROKEN = "that failed; the log of the server says why."
Handler = Callable[[Request], Awaitable[Response]]


class Refusal(PhaselensError):
    """A request that is not carried out: HTTP status, and what the body says about it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def as_refusal(error: Exception) -> Refusal:
    """What a client is told of an error: a refusal as it is, of anything else only that it happened."""
    if isinstance(error, Refusal):
        return error
    log.error("a request failed", exc_info=error)
    return Refusal(500, BROKEN, kind="server_error")


def refused(error: Refusal) -> JSONResponse:
    """The answer to a request that is not carried out."""
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)


@dataclass(frozen=True)
class Door:
    """Who may ask: bearers of `token` (None: everybody who reaches the server), under one of the names `hosts`.

    On loopback the Host header is checked (`hosts` None: not), so that a page from elsewhere whose name was turned to
    this machine cannot ask.
    """

    token: str | None = None
    hosts: tuple[str, ...] | None = LOOPBACK

    def check(self, request: Request, *, needs_token: bool) -> None:
        """Raises Refusal (403, 401)."""
        host = request.headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.hosts is not None and name not in self.hosts:
            raise Refusal(403, f"this server is not called {name[:80]!r}.", code="wrong_host")
        if not needs_token or self.token is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            raise Refusal(
                401,
                "this server wants its token: `Authorization: Bearer TOKEN`.",
                kind="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


class _Shield:
    """Adds the headers that keep a browser from running or loading anything that is not ours.

    Takes at most `most` requests at a time, and answers those beyond as the API does (503).
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most, self._now = app, most, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        full = Refusal(
            503,
            f"{self._most} requests are in work already; try again in a moment.",
            kind="server_error",
            code="overloaded",
            headers={"Retry-After": "1", "Connection": "close"},
        )
        self._now += 1
        try:
            await (self._app if self._now <= self._most else refused(full))(scope, receive, shielded)
        finally:
            self._now -= 1


def application(
    page: Page, door: Door, routes: Sequence[Route], most: int = 64, close: Callable[[], None] | None = None
) -> Starlette:
    """A page at `/`, which needs no token since it holds no data, and routes behind the door; `close` at the end."""

    async def index(request: Request) -> Response:
        return Response(page.html, media_type="text/html", headers={"Content-Security-Policy": page.policy})

    @asynccontextmanager
    async def life(app: Starlette) -> Any:
        yield
        if close is not None:
            await anyio.to_thread.run_sync(close)

    app = Starlette(
        routes=[Route("/", guarded(index, door, needs_token=False)), *routes],
        lifespan=life,
        exception_handlers={404: _no_such, 405: _no_such},
    )
    app.add_middleware(_Shield, most=most)
    return app


def guarded(handler: Handler, door: Door, *, needs_token: bool = True) -> Handler:
    """The handler behind the door; what it refuses is answered in the form of the API."""

    async def behind(request: Request) -> Response:
        try:
            door.check(request, needs_token=needs_token)
            return await handler(request)
        except Refusal as error:
            return refused(error)
        except ClientDisconnect:
            return Response(status_code=499)
        except PhaselensError as error:
            return refused(Refusal(400, str(error)))
        except Exception as error:
            return refused(as_refusal(error))

    return behind


async def _no_such(request: Request, error: Any) -> Response:
    what = f"{request.method} {request.url.path[:200]}"
    return refused(Refusal(error.status_code, f"{what} does not exist here.", code="not_found"))
