"""The web application: the page, the completions API, and the stored runs."""

import json
from collections.abc import Awaitable, Callable

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from phaselens.models import encoder
from phaselens.watch.completion_request import Body, ChatBody, Talk, read_request, require_here
from phaselens.watch.desk import Desk
from phaselens.watch.replies import EventStream, whole
from phaselens.watch.stored_runs import StoredRuns
from phaselens.web.door import Door, Refusal, application, guarded
from phaselens.web.pages import whole as whole_page

Handler = Callable[[Request], Awaitable[Response]]


def make_app(
    desk: Desk,
    door: Door | None = None,
    stored: StoredRuns | None = None,
    source: str = "",
    talk: Talk = Talk(),  # noqa: B008  frozen
) -> Starlette:
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
        return JSONResponse({**_about(desk, talk), "study": stored is not None})

    def completions(form: type[Body | ChatBody]) -> Handler:
        async def answer(request: Request) -> Response:
            content = await _content(request, desk.limits.body, desk.limits.body_seconds)
            asked = await anyio.to_thread.run_sync(read_request, content, desk.model, names, desk.limits, talk, form)
            job = desk.take(asked)
            return EventStream(job, name, desk.limits) if asked.stream else await whole(job, request, name)

        return answer

    async def runs(request: Request) -> Response:
        return JSONResponse(await anyio.to_thread.run_sync(_study(stored).listed))

    async def run(request: Request) -> Response:
        unit, number = request.path_params["unit"], request.path_params["run"]
        return JSONResponse(await anyio.to_thread.run_sync(_study(stored).steps, unit, number, desk.model))

    routes = [
        Route("/v1/models", guarded(models, door)),
        Route("/v1/models/{id:path}", guarded(one_model, door)),
        Route("/v1/completions", guarded(completions(Body), door), methods=["POST"]),
        Route("/v1/chat/completions", guarded(completions(ChatBody), door), methods=["POST"]),
        Route("/api/about", guarded(about, door)),
        Route("/api/runs", guarded(runs, door)),
        Route("/api/runs/{unit:int}/{run:int}", guarded(run, door)),
    ]
    return application(whole_page("watch"), door, routes, desk.limits.connections, desk.close)


def _about(desk: Desk, talk: Talk) -> dict[str, object]:
    """What the page says of the model, of what it measures, and of what may be asked."""
    limits = {k: getattr(desk.limits, k) for k in ("prompt_chars", "prompt_tokens", "tokens", "choices", "streams")}
    return {
        "model": desk.model.name,
        "family": desk.model.family,
        "n_layers": desk.model.n_layers,
        "context": desk.model.context,
        "dynamics": desk.view.to_dict(),
        "limits": limits,
        "chat": talk.chat,
        "template": encoder(desk.model).template is not None,
        "system": talk.system,
    }


def _study(stored: StoredRuns | None) -> StoredRuns:
    if stored is None:
        raise Refusal(404, "no study here; start with --study DIR.", code="no_study")
    return stored


async def _content(request: Request, most: int, seconds: float) -> object:
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
