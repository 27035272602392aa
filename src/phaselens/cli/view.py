"""`phaselens view`: stored runs in the browser, or chosen ones in a file."""

import json
from pathlib import Path
from typing import Annotated

import typer

from phaselens.cli.run import Device, Dtype
from phaselens.cli.terminal import numbers, say
from phaselens.cli.watch import AddressAsJson, Host, Port, Token, require_server
from phaselens.errors import InputError


def view(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="What run, observe or measure wrote.")],
    port: Port = 8766,
    host: Host = "127.0.0.1",
    token: Token = None,
    model: Annotated[
        str | None, typer.Option(help="Model of these runs: a click on a cell then reads its lens there.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Write runs to this one HTML file instead of serving.")] = None,
    runs: Annotated[str, typer.Option(help="Which runs to export, by their numbers: 0,7,12.")] = "",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: AddressAsJson = False,
) -> None:
    """Walk through stored runs: a table of all, then token by token and layer by layer, on this machine."""
    from phaselens.view.one_run import Lens, Reader
    from phaselens.view.page_file import keep
    from phaselens.view.run_table import Runs
    from phaselens.view.stored_traces import shelf

    if bool(runs) != (export is not None):
        raise InputError("--export PAGE.html and --runs 0,7,12 go together.")
    if export is None:
        require_server("phaselens view")
    found = Runs(shelf(folders))
    lens = None
    if model is not None:
        from phaselens.cli.models import open_model
        from phaselens.models.load import require_tokenizer

        opened = open_model(model, device=device, dtype=dtype)
        require_tokenizer(opened)
        lens = Lens(opened)
    reader = Reader(found, lens)
    if export is not None:
        say(str(keep(reader, numbers(runs, int, "--runs"), export)))
        return
    from phaselens.view.app import make_app
    from phaselens.web.server import Server

    with Server(host, port, token) as server:
        facts = {"url": server.url, "port": server.port, "runs": len(found)}
        say(json.dumps(facts) if as_json else f"{len(found):,} runs at {server.url} (Ctrl-C ends it)")
        server.run(make_app(reader, server.door))
