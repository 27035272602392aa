"""The web application: the page, the completions API, and the stored runs; who may ask, and what a browser may do."""

import hmac
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phaselens.errors import PhaselensError
from phaselens.watch.asked import read_request, require_here
from phaselens.watch.desk import Desk
from phaselens.watch.limits import Refusal
from phaselens.watch.replies import EventStream, as_refusal, refused, whole
from phaselens.watch.runs import StoredRuns

PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/colours.js": ("colours.js", "text/javascript"),
    "/pictures.js": ("pictures.js", "text/javascript"),
    "/page.js": ("page.js", "text/javascript"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
Handler = Callable[[Request], Awaitable[Response]]


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
                401, "this server wants its token: `Authorization: Bearer TOKEN`.", kind="authentication_error",
                code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip


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
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        full = Refusal(
            503, f"{self._most} requests are in work already; try again in a moment.", kind="server_error",
            code="overloaded", headers={"Retry-After": "1", "Connection": "close"},
        )  # fmt: skip
        self._now += 1
        try:
            await (self._app if self._now <= self._most else refused(full))(scope, receive, shielded)
        finally:
            self._now -= 1


def make_app(desk: Desk, door: Door | None = None, stored: StoredRuns | None = None, source: str = "") -> Starlette:
    """The application of one model. `source` is another name under which clients may ask for it."""
    door, name = door or Door(), desk.model.name
    names = tuple(dict.fromkeys(filter(None, (name, source))))

    owned = {"id": name, "object": "model", "created": 0, "owned_by": "phaselens"}

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [owned]})

    async def one_model(request: Request) -> Response:
        require_here(request.path_params["id"], names)
        return JSONResponse({**owned, "id": request.path_params["id"]})

    async def about(request: Request) -> Response:
        limits = {k: getattr(desk.limits, k) for k in ("prompt_chars", "prompt_tokens", "tokens", "choices", "streams")}
        facts = {
            "model": name, "family": desk.model.family, "n_layers": desk.model.n_layers, "context": desk.model.context,
            "dynamics": desk.view.to_dict(), "limits": limits, "study": stored is not None,
        }  # fmt: skip
        return JSONResponse(facts)

    async def completions(request: Request) -> Response:
        content = await _content(request, desk.limits.body, desk.limits.body_seconds)
        asked = await anyio.to_thread.run_sync(read_request, content, desk.model, names, desk.limits)
        job = desk.take(asked)
        return EventStream(job, name, desk.limits) if asked.stream else await whole(job, request, name)

    async def runs(request: Request) -> Response:
        return JSONResponse(await anyio.to_thread.run_sync(_study(stored).listed))

    async def run(request: Request) -> Response:
        unit, number = request.path_params["unit"], request.path_params["run"]
        return JSONResponse(await anyio.to_thread.run_sync(_study(stored).steps, unit, number, desk.model))

    routes = [Route(path, _guarded(_file(*file), door, needs_token=False)) for path, file in PAGE.items()]
    routes += [
        Route("/v1/models", _guarded(models, door)),
        Route("/v1/models/{id:path}", _guarded(one_model, door)),
        Route("/v1/completions", _guarded(completions, door), methods=["POST"]),
        Route("/api/about", _guarded(about, door)),
        Route("/api/runs", _guarded(runs, door)),
        Route("/api/runs/{unit:int}/{run:int}", _guarded(run, door)),
    ]

    @asynccontextmanager
    async def life(app: Starlette) -> Any:
        yield
        await anyio.to_thread.run_sync(desk.close)

    app = Starlette(routes=routes, lifespan=life, exception_handlers={404: _no_such, 405: _no_such})
    app.add_middleware(_Shield, most=desk.limits.connections)
    return app


def _guarded(handler: Handler, door: Door, *, needs_token: bool = True) -> Handler:
    """The handler behind the door; what it refuses is answered in the form of the API."""

    async def guarded(request: Request) -> Response:
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

    return guarded


def _file(name: str, kind: str) -> Handler:
    content = resources.files("phaselens.watch").joinpath("page", name).read_bytes()

    async def file(request: Request) -> Response:
        return Response(content, media_type=kind)

    return file


def _study(stored: StoredRuns | None) -> StoredRuns:
    if stored is None:
        raise Refusal(404, "no study here; start with --study DIR.", code="no_study")
    return stored


async def _no_such(request: Request, error: Any) -> Response:
    what = f"{request.method} {request.url.path[:200]}"
    return refused(Refusal(error.status_code, f"{what} does not exist here.", code="not_found"))


async def _content(request: Request, most: int, seconds: float) -> Any:
    """The JSON body. Raises Refusal: 415 for another content type, 413 beyond the limit, 408 too slow, 400 no JSON."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "the body is JSON; say `Content-Type: application/json`.")
    large = Refusal(413, f"the body of a request holds at most {most:,} bytes here.", code="body_too_large")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise large
    body = bytearray()
    try:
        with anyio.fail_after(seconds):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise large
    except TimeoutError as error:
        raise Refusal(408, f"the body did not arrive within {seconds:g} s.") from error
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "the body is no JSON document.") from error
