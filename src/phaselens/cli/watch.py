"""`phaselens watch`: a model in the browser, token by token, and an API for clients."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from phaselens.cli.models import ModelName, Overrides, Revision, Trust, open_model
from phaselens.cli.run import Device, Dtype
from phaselens.cli.terminal import json_text, note, say
from phaselens.errors import missing_extra

SMALL = 16  # up to this many layers the lens reads every one
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)]
Host = Annotated[str, typer.Option(help="Address to listen on; beyond loopback a token is needed.")]
Token = Annotated[
    str | None,
    typer.Option(envvar="PHASELENS_WATCH_TOKEN", help="Bearer token that clients must send.", show_envvar=True),
]
AddressAsJson = Annotated[bool, typer.Option("--json", help="Print the address as one line of JSON.")]


def require_server(command: str) -> None:
    """Raise MissingDependencyError where what serves pages is not installed."""
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise missing_extra(command, " and ".join(missing), "watch")


def watch(
    model: ModelName,
    port: Port = 8765,
    host: Host = "127.0.0.1",
    token: Token = None,
    study: Annotated[Path | None, typer.Option(help="Study folder whose runs can be replayed.")] = None,
    card: Annotated[Path | None, typer.Option(help="Threshold card of this model, for alarms.")] = None,
    lens_layers: Annotated[
        int | None,
        typer.Option(help="Layers read through the lens.", min=2, show_default="all up to 16 layers, else 4"),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens that a request may generate.", min=1)] = 1024,
    streams: Annotated[int, typer.Option(help="Most requests carried out at the same time.", min=1)] = 8,
    chat: Annotated[bool, typer.Option("--chat", help="Read a bare prompt as a user's turn, by the template.")] = False,
    system: Annotated[str | None, typer.Option(help="System turn of conversations that have none.")] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    overrides: Overrides = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
    as_json: AddressAsJson = False,
) -> None:
    """Watch a model while it generates: a page for the browser and an OpenAI-compatible API, on this machine."""
    require_server("phaselens watch")
    from phaselens.models import encoder
    from phaselens.models.load import require_tokenizer
    from phaselens.monitor import read_card
    from phaselens.watch import Desk, Limits, StoredRuns, Talk, View, make_app, thresholds_of
    from phaselens.web.server import Server

    settings: dict = {"overrides": overrides, "revision": revision, "trust_remote_code": trust_remote_code}
    with Server(host, port, token) as server:
        stored = None if study is None else StoredRuns.read(study)
        learned = None if card is None else read_card(card)
        opened = open_model(model, device=device, dtype=dtype, **settings)
        require_tokenizer(opened)
        if chat or system is not None:
            first = (("system", system),) if system else ()
            encoder(opened).chat((*first, ("user", "a")))  # says now what does not fit
        if learned is not None:
            learned.check(opened)
        layers = _lens(opened.n_layers, lens_layers)
        if not as_json:
            note(f"{opened.name}: learning what is usual from a few short runs")
        view = View.of(opened, thresholds_of(opened, model, layers, Talk(chat, system)), layers)
        limits = Limits(tokens=max_tokens, streams=streams)
        desk = Desk(opened, view, limits, learned)
        app = make_app(desk, server.door, stored, model, Talk(chat, system))
        found = {"url": server.url, "api": f"{server.url}v1", "model": opened.name, "port": server.port}
        say(json_text(found, None) if as_json else f"{opened.name} is watched at {server.url} (Ctrl-C ends it)")
        server.run(app, desk.cancel_all, **limits.waiting)


def _lens(n_layers: int, count: int | None) -> tuple[int, ...]:
    from phaselens.monitor.meters import default_lens_layers

    if count is None and n_layers <= SMALL or count is not None and count >= n_layers:
        return tuple(range(1, n_layers + 1))
    return tuple(default_lens_layers(n_layers, count or 4))
