"""A gateway that serves over real HTTP while a test runs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI

from fhirgw.app import create_app
from fhirgw.settings import Settings


@dataclass(frozen=True)
class Gateway:
    """`http` is a client with the server's root as its base."""

    app: FastAPI
    http: httpx.Client
    root: str

    @property
    def base(self) -> str:
        return f"{self.root}/fhir"


@contextmanager
def serving(settings: Settings) -> Iterator[Gateway]:
    """The app of these settings, on a free port of 127.0.0.1, in a thread of its own."""
    app = create_app(settings)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        root = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=root, timeout=30) as http:
            yield Gateway(app, http, root)
    finally:
        server.should_exit = True
        thread.join()
