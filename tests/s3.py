"""An object store over real HTTP: moto's S3, behind a gate that believes no request whose signature is wrong.

The signatures are judged by botocore, which is Amazon's own, and the lifetime of signed addresses by the clock, as S3
does: moto would take anybody's word. The gate also refuses, dawdles and breaks off where a test says so.
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree

import httpx
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

KEY, SECRET, REGION = "AKIAFHIRGWTESTKEY000", "a secret that is nobody's", "eu-west-2"
BUCKET, PREFIX = "exports", "council/bulk"
INSIDE = "HTTP_X_TEST_ITSELF"
ITSELF = {
    "x-test-itself": "yes",
    "authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request",
}
"""Sent by the test itself, which may look at everything; moto wants to see a name."""

Environ = dict[str, Any]
Answered = Iterable[bytes]


@dataclass(frozen=True)
class Asked:
    """A request as it came to the gate."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)

    @property
    def upload(self) -> bool:
        return self.method in ("PUT", "POST") and self.query != "delete"

    @property
    def fetch(self) -> bool:
        """Of an object: a gateway lists now and then what is there of what was cancelled."""
        return self.method == "GET" and "list-type" not in self.query

    @property
    def removal(self) -> bool:
        return self.method == "DELETE" or self.query == "delete"


@dataclass
class S3:
    """`refuse`: what it answers a request instead, as a status and S3's code; `pause`: seconds before it answers."""

    root: str
    asked: list[Asked] = field(default_factory=list)
    refuse: Callable[[Asked], tuple[int, str] | None] = lambda asked: None
    pause: Callable[[Asked], float] = lambda asked: 0

    url = f"s3://{BUCKET}/{PREFIX}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know to write here."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.root,
            "AWS_ALLOW_HTTP": "true",
        }

    def names(self, job: str = "") -> set[str]:
        """The objects that are there, below a job's prefix."""
        prefix = f"{PREFIX}/{job}/" if job else f"{PREFIX}/"
        listed = ElementTree.fromstring(self._inside("GET", f"?list-type=2&prefix={prefix}"))
        return {(each.text or "").removeprefix(prefix) for each in listed.iter() if each.tag.endswith("}Key")}

    def read(self, path: str) -> bytes:
        """An object, as it is kept."""
        return self._inside("GET", f"/{PREFIX}/{path}")

    def files(self, job: str) -> dict[str, bytes]:
        """The objects of a job."""
        return {name: self.read(f"{job}/{name}") for name in self.names(job)}

    def headers(self, path: str) -> Mapping[str, str]:
        """What an object is served with."""
        return httpx.head(f"{self.root}/{BUCKET}/{PREFIX}/{path}", headers=ITSELF).headers

    def lose(self, path: str) -> None:
        """An object is gone, and nobody knows why."""
        self._inside("DELETE", f"/{PREFIX}/{path}")

    def unfinished(self) -> int:
        """Uploads that were begun and neither ended nor given up."""
        return self._inside("GET", "?uploads").count(b"<UploadId>")

    def calm(self) -> None:
        """Nothing is refused, nothing waits, nothing was asked."""
        self.refuse, self.pause = lambda asked: None, lambda asked: 0
        self.asked.clear()

    def _inside(self, method: str, path: str) -> bytes:
        with httpx.stream(method, f"{self.root}/{BUCKET}{path}", headers=ITSELF) as answer:
            data = b"".join(answer.iter_raw())
        assert answer.status_code in (200, 204), (answer.status_code, path)
        return data


@contextmanager
def serving_s3() -> Iterator[S3]:
    """A store with one bucket, on a free port of 127.0.0.1."""
    inner = DomainDispatcherApplication(create_backend_app)
    store = S3("")

    def gate(environ: Environ, start: Callable[..., Any]) -> Answered:
        if INSIDE in environ:
            return inner(environ, start)
        asked = _asked(environ)
        store.asked.append(asked)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        time.sleep(store.pause(asked))
        if refusal := store.refuse(asked) or _unsigned(environ, asked, body, store.root):
            status, code = refusal
            start(f"{status} Refused", [("Content-Type", "application/xml"), ("Connection", "close")])
            return [f"<Error><Code>{code}</Code><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>".encode()]
        return inner(environ, start)

    server: BaseWSGIServer = make_server("127.0.0.1", 0, gate, threaded=True, request_handler=_Silent)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    store.root = f"http://127.0.0.1:{server.port}"
    try:
        store._inside("PUT", "")
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Silent(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *told: Any) -> None:
        pass


def _asked(environ: Environ) -> Asked:
    path, _, query = environ["REQUEST_URI"].partition("?")
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    return Asked(environ["REQUEST_METHOD"], path, query, headers)


def _unsigned(environ: Environ, asked: Asked, body: bytes, root: str) -> tuple[int, str] | None:
    """What S3 says to a request that is not as somebody with the key has signed it."""
    given, query = asked.headers.get("authorization"), dict(parse_qsl(asked.query, keep_blank_values=True))
    if given and "X-Amz-Signature" in query:
        return 400, "InvalidArgument"  # only one way to say who one is
    if "X-Amz-Signature" in query:
        return _wrong_address(asked, query, root)
    signed = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})", given or ""
    )
    if not signed or signed[1].split("/")[0] != KEY:
        return 403, "AccessDenied"
    digest = asked.headers.get("x-amz-content-sha256", "")
    if digest != "UNSIGNED-PAYLOAD" and digest != hashlib.sha256(body).hexdigest():
        return 400, "XAmzContentSHA256Mismatch"
    headers = {name: asked.headers[name] for name in signed[2].split(";")}
    request = AWSRequest(asked.method, f"{root}{asked.path}?{asked.query}".rstrip("?"), headers)
    request.context["timestamp"] = asked.headers["x-amz-date"]
    right = _signature(S3SigV4Auth(Credentials(KEY, SECRET), "s3", REGION), request)
    return None if hmac.compare_digest(right, signed[3]) else (403, "SignatureDoesNotMatch")


def _wrong_address(asked: Asked, query: dict[str, str], root: str) -> tuple[int, str] | None:
    since = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if datetime.now(UTC) > since + timedelta(seconds=int(query["X-Amz-Expires"])):
        return 403, "AccessDenied"
    left = urlencode({name: value for name, value in query.items() if name != "X-Amz-Signature"})
    request = AWSRequest(asked.method, f"{root}{asked.path}?{left}", {"host": asked.headers["host"]})
    request.context["timestamp"] = query["X-Amz-Date"]
    auth = S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", REGION, expires=int(query["X-Amz-Expires"]))
    right = _signature(auth, request)
    return None if hmac.compare_digest(right, query["X-Amz-Signature"]) else (403, "SignatureDoesNotMatch")


def _signature(auth: S3SigV4Auth, request: AWSRequest) -> str:
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))
