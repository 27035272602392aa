"""What the page of stored runs asks for."""

from collections.abc import Callable
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from phaselens.errors import InputError
from phaselens.view.one_run import Reader
from phaselens.view.page_file import about
from phaselens.web.door import Door, application, guarded
from phaselens.web.pages import whole


def make_app(reader: Reader, door: Door | None = None) -> Starlette:
    """The application of some folders."""
    door, runs = door or Door(), reader.runs

    def answers(path: str, make: Callable[[dict[str, str]], Any]) -> Route:
        async def handler(request: Request) -> JSONResponse:
            return JSONResponse(await anyio.to_thread.run_sync(make, dict(request.query_params)))

        return Route(path, guarded(handler, door))

    def whole_number(asked: dict[str, str], name: str) -> int:
        if not asked.get(name, "").isdecimal():
            raise InputError(f"{name} is a whole number from 0; got {asked.get(name, 'nothing')[:80]!r}.")
        return int(asked[name])

    def run(asked: dict[str, str]) -> Any:
        return reader.run(whole_number(asked, "run"), [n for n in asked.get("cells", "").split(",") if n])

    def cell(asked: dict[str, str]) -> Any:
        return reader.cell(*(whole_number(asked, name) for name in ("run", "step", "layer")))

    routes = [
        answers("/api/about", lambda _: about(runs)),
        answers("/api/runs", runs.page),
        answers("/api/run", run),
        answers("/api/cell", cell),
        answers("/api/many", runs.many),
    ]
    return application(whole("view"), door, routes)
