"""`phaselens view`: stored runs in the browser, or chosen ones in a file."""

import importlib.util
import json
from pathlib import Path
from typing import Annotated

import typer

from phaselens.cli.run import Device, Dtype
from phaselens.cli.terminal import say


def view(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="What run, observe or measure wrote.")],
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8766,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback a token is needed.")] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(envvar="PHASELENS_WATCH_TOKEN", help="Token that the page must send.", show_envvar=True),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model of these runs: a click on a cell then reads its lens there.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Write runs to this one HTML file instead of serving.")] = None,
    runs: Annotated[str, typer.Option(help="Which runs to export, by their numbers: 0,7,12.")] = "",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as one line of JSON.")] = False,
) -> None:
    """Walk through stored runs: a table of all, then token by token and layer by layer, on this machine."""
    from phaselens.errors import InputError, missing_extra
    from phaselens.view.one_run import Lens, Reader
    from phaselens.view.page_file import keep
    from phaselens.view.run_table import Runs
    from phaselens.view.stored_traces import shelf

    if bool(runs) != (export is not None):
        raise InputError("--export PAGE.html and --runs 0,7,12 go together.")
    if export is None and (gone := [n for n in ("starlette", "uvicorn") if importlib.util.find_spec(n) is None]):
        raise missing_extra("phaselens view", " and ".join(gone), "watch")
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
        numbers = [part.strip() for part in runs.split(",")]
        if not all(n.isdecimal() for n in numbers):
            raise InputError(f"--runs takes whole numbers parted by commas; got {runs!r}.")
        say(keep(reader, [int(n) for n in numbers], export))
        return
    from phaselens.view.app import make_app
    from phaselens.web.server import Server

    with Server(host, port, token) as server:
        facts = {"url": server.url, "port": server.port, "runs": len(found)}
        say(json.dumps(facts) if as_json else f"{len(found):,} runs at {server.url} (Ctrl-C ends it)")
        server.run(make_app(reader, server.door))
