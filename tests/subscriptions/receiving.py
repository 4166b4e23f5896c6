"""Somebody who subscribes: an HTTP server of this machine that keeps what it is sent, and verifies it by itself.

Nothing of the gateway's is imported here: a signature is checked as RFC 7515 says, with `cryptography` alone.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

Answer = Callable[["Notification"], tuple[int, dict[str, str]]]


def taken(_: Notification) -> tuple[int, dict[str, str]]:
    return 200, {}


@dataclass(frozen=True)
class Notification:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def bundle(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def status(self) -> dict[str, Any]:
        """The parameters of its first entry by name; notification-events as a list of dictionaries."""
        told: dict[str, Any] = {"events": []}
        for each in self.bundle["entry"][0]["resource"]["parameter"]:
            if each["name"] == "notification-event":
                told["events"].append({part["name"]: _value(part) for part in each["part"]})
            else:
                told[each["name"]] = _value(each)
        return told

    @property
    def kind(self) -> str:
        return str(self.status["type"])

    @property
    def numbers(self) -> list[int]:
        return [int(each["event-number"]) for each in self.status["events"]]

    @property
    def foci(self) -> list[str | None]:
        """The focus of each event without the base, None where it names none."""
        found = [each.get("focus", {}).get("reference") for each in self.status["events"]]
        return [each and "/".join(each.split("/")[-2:]) for each in found]


def _value(part: dict[str, Any]) -> Any:
    (value,) = (value for name, value in part.items() if name.startswith("value"))
    return value


@dataclass
class Receiver:
    """`url` is its address; `answer` says what it answers, and may hang; `got` is what it was sent, in order."""

    url: str = ""
    answer: Answer = taken
    got: list[Notification] = field(default_factory=list)

    def events(self, path: str = "/hook") -> list[Notification]:
        return [each for each in self.got if each.kind == "event-notification" and each.path == path]


@contextmanager
def receiving() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            notification = Notification(self.path, headers, body)
            made.got.append(notification)
            status, more = made.answer(notification)
            self.send_response(status)
            for name, value in {**more, "content-length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Whoever hangs is hung up on."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def verified(notification: Notification, keys: dict[str, Any], body: bytes | None = None) -> dict[str, Any]:
    """The header of its signature. Raises InvalidSignature for one that is not of the keys and the body."""
    first, middle, last = notification.headers["x-jws-signature"].split(".")
    assert middle == ""
    header: dict[str, Any] = json.loads(_decoded(first))
    assert header["alg"] == "RS256"
    (key,) = (each for each in keys["keys"] if each["kid"] == header["kid"])
    assert not {"d", "p", "q"} & key.keys()
    numbers = RSAPublicNumbers(*(int.from_bytes(_decoded(key[name]), "big") for name in "en"))
    payload = base64.urlsafe_b64encode(notification.body if body is None else body).rstrip(b"=")
    numbers.public_key().verify(_decoded(last), first.encode() + b"." + payload, PKCS1v15(), SHA256())
    return header


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
