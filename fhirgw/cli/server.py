"""uvicorn with our signals: what serves, once there is a socket to listen on."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from fhirgw.api.issuers import Issuers
from fhirgw.api.jwks import KeySets
from fhirgw.api.keys import Keyring
from fhirgw.app import create_app
from fhirgw.cli.protocol import Protocol
from fhirgw.cli.running import listen, unlisten
from fhirgw.jobs.place import places
from fhirgw.settings import Settings

GRACE = 10
"""Seconds that requests under way are given to end."""


def check(given: Settings) -> None:
    """Raises FhirError for what would keep the app from starting, and is known before: keys, issuers, object store."""
    Keyring(given.key_folder)
    Issuers.read(given.issuers, KeySets(given.loopback_jwks))
    places(given.export_folder, given.export_store)


async def served(given: Settings, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serves until a signal asks to stop, then lets requests end. `ready` is called when the first can be answered."""
    app = create_app(given)
    config = uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE,
        server_header=False,
    )
    server = _Server(config, ready)

    def stop(_: int) -> None:
        server.should_exit = True
        if (streams := getattr(app.state, "alerts", None)) is not None:
            streams.ending = True  # nobody waits for those, which would never end

    listen(stop)
    await server.serve(sockets=[listening])


def shared(given: Settings, port: socket.socket, workers: int) -> None:
    """Serves with so many processes on one port until a signal asks to stop; one that dies is started again.

    Each reads the settings of the environment, and is what `served` would be. This one only watches: it blocks.
    """
    # Set once the port is ours: who asks for it without is told that it is taken.
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    os.environ["FHIRGW_PROCESSES"] = str(given.processes * workers)  # they share the applications' rates
    config = uvicorn.Config(
        "fhirgw.app:from_environment",
        factory=True,
        http=Protocol,
        workers=workers,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE,
        server_header=False,
    )
    unlisten()  # the supervisor has handlers of its own
    Multiprocess(config, sockets=[_Own(port.family, address=port.getsockname())]).run()


class _Own(socket.socket):
    """A socket that each process it is handed to has one of its own of, so that the kernel divides callers among them.

    Of one that they share, whoever wakes first takes all that wait, and keeps them as long as those go on.
    https://man7.org/linux/man-pages/man7/socket.7.html, SO_REUSEPORT
    """

    def __init__(self, family: int, address: Any) -> None:
        super().__init__(family)
        self.address = address

    def __reduce__(self) -> tuple[Any, ...]:
        return _own, (self.family, self.address)


def _own(family: int, address: Any) -> socket.socket:
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(address)
    return made


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
