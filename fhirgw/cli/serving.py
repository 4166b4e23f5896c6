"""Serving over HTTP, until somebody says stop."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
import uvicorn

from fhirgw.app import create_app
from fhirgw.cli.console import Console
from fhirgw.cli.running import CommandError, listen, opened, run, settings
from fhirgw.settings import Settings

Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")]
GRACE = 10
"""Seconds that requests under way are given to end."""


def serve(host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Serve FHIR until stopped."""
    console, given = Console(), settings()

    async def work() -> None:
        async with opened(given):
            with bound(host, port) as listening:
                console.note(f"Serving {address(listening)}/fhir; stop with Ctrl-C")
                await served(given, listening)

    run(work())


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """The port, taken before any work is done that would be lost without it. Raises CommandError."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
        except OSError as error:
            message = f"{host}:{port} cannot be had ({error.strerror}). Choose another port with --port."
            raise CommandError(message, 6) from None
        yield made


def address(listening: socket.socket) -> str:
    """The socket's address, to open in a browser."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def served(given: Settings, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serves until a signal asks to stop, then lets requests end. `ready` is called when the first can be answered."""
    config = uvicorn.Config(
        create_app(given), log_config=None, access_log=False, timeout_graceful_shutdown=GRACE, server_header=False
    )
    server = _Server(config, ready)
    listen(lambda number: setattr(server, "should_exit", True))
    await server.serve(sockets=[listening])


class _Server(uvicorn.Server):
    """uvicorn, but signals are ours: it would end the process before the database could be stopped."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says when it is done."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the handlers alone."""
        yield
