"""Where the server listens: loopback, or another address for those who have the token."""

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from phaselens.errors import InputError, missing_extra
from phaselens.web.door import LOOPBACK, Door

LEAST_TOKEN = 16
LOOPBACK_NAMES = ("localhost",)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES


def door_of(host: str, token: str | None) -> Door:
    """Who may ask. Raises InputError for an address beyond loopback without a token, or a token that is too short."""
    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise InputError(f"a token holds at least {LEAST_TOKEN} plain characters, e.g. that of `openssl rand -hex 16`.")
    if is_loopback(host):
        return Door(token, tuple(dict.fromkeys((*LOOPBACK, f"[{host}]" if ":" in host else host))))
    if token is None:
        raise InputError(
            f"{host} is reached from other machines, so a token is needed: --token TOKEN, or the environment variable "
            "PHASELENS_WATCH_TOKEN. Without one, stay on 127.0.0.1."
        )
    return Door(token, None)


class Server:
    """A socket that listens already, so that its address is known before the first request; closed after `with`.

    Raises InputError where the address cannot be listened on, or needs a token.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, token: str | None = None) -> None:
        self.door = door_of(host, token)
        try:
            self.socket = _listening(host, port)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"cannot listen on {host} port {port}: {error}. Give another --port, or 0 for any."
            ) from error
        self.host, self.port = host, self.socket.getsockname()[1]

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    def uvicorn(
        self,
        app: Any,
        before_end: Callable[[], None] | None = None,
        *,
        connections: int = 64,
        header_seconds: float = 10.0,
    ) -> Any:
        """The uvicorn server of an application, not yet running; `before_end` ends what open streams wait for.

        Raises MissingExtra where uvicorn is not installed.
        """
        try:
            import uvicorn
        except ModuleNotFoundError as error:
            raise missing_extra("the server", "uvicorn", "watch") from error
        from phaselens.web.connections import patient

        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                ws="none",
                lifespan="on",
                http=patient(connections, header_seconds),
                timeout_keep_alive=5,
                timeout_graceful_shutdown=5,
            )
        )
        leave = server.shutdown

        async def shutdown(sockets: list[socket.socket] | None = None) -> None:
            if before_end is not None:
                before_end()
            await leave(sockets)

        server.shutdown = shutdown
        return server

    def run(self, app: Any, before_end: Callable[[], None] | None = None, **limits: Any) -> None:
        """Serve until interrupted; `limits` are those of `uvicorn`."""
        self.uvicorn(app, before_end, **limits).run(sockets=[self.socket])


def _listening(host: str, port: int) -> socket.socket:
    family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    made = socket.socket(family, kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except OSError:
        made.close()
        raise
    return made
