"""A gateway that serves over real HTTP while a test runs, and applications that have access tokens for it."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from fhirgw.api import keys
from fhirgw.app import create_app
from fhirgw.cli.apps import ensured, got
from fhirgw.cli.protocol import Protocol
from fhirgw.settings import Settings
from fhirgw.store.database import connect, direct
from fhirgw.store.registration import Registration
from fhirgw.store.server import database

ICS = Registration("ics", "Z99", "system/*.rs", rate=1_000_000)
"""What tests ask with unless they say otherwise: the council's own system, for direct care."""

TRUSTED = httpx.create_ssl_context()
"""Read once: to read whom the Internet trusts takes a fortieth of a second, and there are thousands of clients."""


@dataclass(frozen=True)
class Gateway:
    """`http` is a client with the server's root as its base, that sends an access token of ICS with every request."""

    app: FastAPI
    http: httpx.Client
    root: str
    settings: Settings

    def client(self, registered: Registration, purpose: str | None = None, scope: str = "") -> httpx.Client:
        """A client of another application, which is registered first."""
        token = _alone(_token(self.settings, registered, scope or registered.scopes, purpose))
        return httpx.Client(
            verify=TRUSTED, base_url=self.root, timeout=120, headers={"authorization": f"Bearer {token}"}
        )

    def stranger(self) -> httpx.Client:
        """A client without a token."""
        return httpx.Client(verify=TRUSTED, base_url=self.root, timeout=120)

    @property
    def base(self) -> str:
        return f"{self.root}/fhir"


@cache
def _key() -> tuple[str, str]:
    """The file of a key to sign with, and what is in it."""
    with TemporaryDirectory() as folder:
        made = keys.add(Path(folder) / "gateway")
        return made.name, made.read_text()


def lay_key(folder: Path) -> None:
    """Puts a key where a gateway looks for its own, unless it has one: to make one takes a twentieth of a second."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        name, text = _key()
        keys.keep(folder / name, text)


@contextmanager
def serving(settings: Settings) -> Iterator[Gateway]:
    """The app of these settings, on a free port of 127.0.0.1, in a thread of its own."""
    lay_key(settings.key_folder)
    app = create_app(settings)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, http=Protocol, log_config=None, access_log=False, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        root = f"http://127.0.0.1:{port}"
        authorization = {"authorization": f"Bearer {_alone(_token(settings, ICS, ICS.scopes, None))}"}
        with httpx.Client(verify=TRUSTED, base_url=root, timeout=120, headers=authorization) as http:
            yield Gateway(app, http, root, settings)
    finally:
        server.should_exit = True
        thread.join()


def served(url: str, data: Path, **configured: Any) -> AbstractContextManager[Gateway]:
    """The gateway of a council's tests, on a database, with its files in a folder."""
    return serving(Settings(**{"database_url": url, "data": data, "log": "json", "controller": "Z99", **configured}))


async def _token(settings: Settings, registered: Registration, scope: str, purpose: str | None) -> str:
    async with database(settings.database_url, settings.postgres) as url:
        engine = connect(url)
        try:
            async with direct(engine) as connection:
                await ensured(connection, settings, registered)
                answered = await got(connection, settings, registered.id, scope, purpose)
        finally:
            await engine.dispose()
    return str(answered["access_token"])


def _alone(work: Coroutine[Any, Any, str]) -> str:
    """The result of a coroutine, in a thread: the test may run in an event loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
