"""Serving over HTTP, until somebody says stop."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from fhirgw.cli.console import Console
from fhirgw.cli.running import CommandError, opened, run, settings

Host = Annotated[str, typer.Option(help="The address to listen on.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Processes that serve together: one for each core.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")]


def serve(host: Host = "127.0.0.1", port: Port = 8080, workers: Workers = 1) -> None:
    """Serve FHIR until stopped."""
    from fhirgw.cli.server import check, served, shared  # here, because only who serves needs all of HTTP
    from fhirgw.jobs.cluster import reachable

    console, given = Console(), settings()
    check(given)

    async def work() -> None:
        async with opened(given):
            await reachable(given.executor)
            with bound(host, port) as listening:
                console.note(f"Serving {address(listening)}/fhir; stop with Ctrl-C")
                if workers > 1:
                    shared(given, listening, workers)
                else:
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
