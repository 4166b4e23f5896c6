"""A road between a pull and the gateway it pulls from, on which things go wrong when a test says so.

It is a real HTTP server: what it does not spoil is the gateway's own answer, byte for byte.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

HOP = {"connection", "transfer-encoding", "keep-alive", "server", "date", "content-length"}
PIECE = 4096


@dataclass
class Seen:
    """A request as it came, and the status of what was answered."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0

    @property
    def file(self) -> bool:
        return "/$export-file/" in self.path


@dataclass
class Answer:
    """What is about to be answered. `cut`: close after so many bytes; `slow`: seconds between pieces of PIECE bytes."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: int | None = None
    slow: float = 0.0


Spoil = Callable[[Seen, Answer], None]


@dataclass
class Road:
    """`spoil` is called with each answer before it leaves; `dead` are tokens that the gateway shall refuse.

    `job`: the status of an export that has ended already, with which every kick-off is answered, and which stays.
    """

    root: str
    job: str | None = None
    spoil: Spoil = lambda seen, answer: None
    seen: list[Seen] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)

    @property
    def base(self) -> str:
        return f"{self.root}/fhir"

    def files(self, status: int | None = None) -> list[Seen]:
        return [each for each in self.seen if each.file and status in (None, each.status)]


@contextmanager
def road(gateway: str) -> Iterator[Road]:
    """A road to the gateway at that root, while the block runs."""
    made, http = Road(""), httpx.Client(timeout=120, verify=False)

    def asked(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """What the gateway answers, its bytes as they came."""
        with http.stream(method, gateway + path, headers=headers, content=body) as got:
            raw = b"".join(got.iter_raw())
        return Answer(got.status_code, {name: each for name, each in got.headers.items() if name not in HOP}, raw)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            came = Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
            body = self.rfile.read(int(came.headers.get("content-length", 0)))
            sent = dict(came.headers)
            if sent.get("authorization", "").removeprefix("Bearer ") in made.dead:
                sent["authorization"] += "x"  # as if it had expired: the gateway itself refuses it
            if made.job and ("/$export?" in self.path or self.command == "DELETE"):
                answer = Answer(202, {"content-location": made.root + made.job}, b"")
            else:
                answer = asked(self.command, self.path, sent, body)
            made.spoil(came, answer)
            came.status = answer.status
            made.seen.append(came)
            self._send(answer)

        do_POST = do_DELETE = do_GET

        def _send(self, answer: Answer) -> None:
            self.send_response_only(answer.status)
            for name, value in {**answer.headers, "content-length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            whole = answer.body if answer.cut is None else answer.body[: answer.cut]
            try:
                for at in range(0, len(whole), PIECE if answer.slow else max(1, len(whole))):
                    self.wfile.write(whole[at : at + PIECE] if answer.slow else whole)
                    time.sleep(answer.slow)
                self.wfile.flush()
            except OSError:
                answer.cut = 0  # whoever asked has died
            if answer.cut is not None:
                self.close_connection = True

        def log_message(self, *told: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Whoever asked has died; that is told where it is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.root = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        http.close()
