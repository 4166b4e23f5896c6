"""Answers packed by gzip for who takes it, and pages of other origins that are let in."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from fhirgw.api.packed import SHORTEST, Packed, takes_gzip
from fhirgw.settings import Settings
from tests.gateway import Gateway, serving

APP = "https://app.example"
GZIP = {"accept-encoding": "br;q=1, gzip;q=0.8"}
PLAIN = {"accept-encoding": "identity"}


@pytest.fixture(scope="module")
def open_to_app(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data: Path = tmp_path_factory.mktemp("data")
    told = Settings(
        database_url=module_database, data=data, controller="Z99", cors_origins=f"{APP}, http://localhost:3000"
    )
    with serving(told) as gateway:
        yield gateway


def raw(client: httpx.Client, path: str, headers: dict[str, str], method: str = "GET") -> tuple[httpx.Response, bytes]:
    """The answer and the bytes of its body as they came."""
    with client.stream(method, path, headers=headers) as answer:
        return answer, b"".join(answer.iter_raw())


@pytest.mark.parametrize("path", ["/fhir/Patient?_count=50", "/fhir/metadata", "/fhir/Patient/p1/$everything"])
def test_a_long_answer_is_packed_for_who_takes_it(gateway: Gateway, path: str) -> None:
    whole, body = raw(gateway.http, path, PLAIN)
    packed, bytes_ = raw(gateway.http, path, GZIP)
    assert "content-encoding" not in whole.headers
    assert (packed.status_code, packed.headers["content-encoding"]) == (200, "gzip")
    assert "Accept-Encoding" in packed.headers["vary"]
    assert gzip.decompress(bytes_) == body
    assert len(bytes_) < len(body) / 2
    assert packed.headers.get("content-length", str(len(bytes_))) == str(len(bytes_))
    assert packed.headers.get("etag") == whole.headers.get("etag")


def test_a_short_answer_is_not(gateway: Gateway) -> None:
    answer, body = raw(gateway.http, "/fhir/Patient/p1", GZIP)
    assert len(body) < SHORTEST
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == str(len(body))


def test_head_tells_of_the_same_answer(gateway: Gateway) -> None:
    got, _ = raw(gateway.http, "/fhir/Patient?_count=20", GZIP)
    told, body = raw(gateway.http, "/fhir/Patient?_count=20", GZIP, "HEAD")
    assert body == b""
    assert {name: told.headers[name] for name in ("content-encoding", "content-type")} == {
        name: got.headers[name] for name in ("content-encoding", "content-type")
    }


def test_what_is_not_modified_has_no_body_to_pack(gateway: Gateway) -> None:
    tag = gateway.http.get("/fhir/metadata").headers["etag"]
    answer, body = raw(gateway.http, "/fhir/metadata", {**GZIP, "if-none-match": tag})
    assert (answer.status_code, body, answer.headers.get("content-encoding")) == (304, b"", None)


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.00", False),
        ("identity", False),
        ("", False),
        ("br, zstd", False),
    ],
)
def test_who_takes_gzip(accepted: str, takes: bool) -> None:
    assert takes_gzip(accepted) is takes


@pytest.mark.parametrize("size", [1023, 1024, 600_000])
@pytest.mark.parametrize("parts", [1, 2, 5])
async def test_whatever_way_the_body_comes(size: int, parts: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    step = -(-size // parts)
    pieces = [body[at : at + step] for at in range(0, size, step)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        for at, piece in enumerate(pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": at < len(pieces) - 1})

    sent: list[Any] = []

    async def keep(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"accept-encoding", b"gzip")]}
    await Packed(app)(scope, None, keep)  # type: ignore[arg-type]
    head, *rest = sent
    packed = (b"content-encoding", b"gzip") in head["headers"]
    got = b"".join(each["body"] for each in rest)
    assert (gzip.decompress(got) if packed else got) == body
    assert packed is (parts > 1 or size >= SHORTEST)
    assert [each.get("more_body", False) for each in rest] == [True] * (len(rest) - 1) + [False]


def test_no_page_is_let_in_unless_its_origin_is_named(gateway: Gateway, open_to_app: Gateway) -> None:
    asked = {"origin": APP}
    closed = gateway.http.get("/fhir/Patient/p1", headers=asked)
    let_in = open_to_app.http.get("/fhir/Patient/p1", headers={**asked, "x-request-id": "mine"})
    other = open_to_app.http.get("/fhir/Patient/p1", headers={"origin": "https://evil.example"})
    assert [each.headers.get("access-control-allow-origin") for each in (closed, let_in, other)] == [None, APP, None]
    readable = {each.strip().lower() for each in let_in.headers["access-control-expose-headers"].split(",")}
    assert {"etag", "location", "content-location", "last-modified", "x-request-id", "retry-after"} <= readable
    assert {"x-request-id", "etag", "last-modified", "ratelimit"} <= {*let_in.headers} & readable
    assert "access-control-allow-credentials" not in let_in.headers
    assert "origin" in let_in.headers["vary"].lower()


def test_a_browser_asks_first(gateway: Gateway, open_to_app: Gateway) -> None:
    wanted = "authorization,content-type,if-match,prefer,x-request-id,x-break-glass"
    asked = {"origin": APP, "access-control-request-method": "PUT", "access-control-request-headers": wanted}
    with open_to_app.stranger() as browser:
        told = browser.options("/fhir/Patient/p1", headers=asked)
        assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, APP)
        assert "PUT" in told.headers["access-control-allow-methods"]
        evil = browser.options("/fhir/Patient/p1", headers={**asked, "origin": "https://evil.example"})
        assert (evil.status_code, evil.headers.get("access-control-allow-origin")) == (400, None)
        refused = browser.get("/fhir/Patient/p1", headers={"origin": APP})  # no token: a page can read why
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, APP)
    with gateway.stranger() as browser:
        assert browser.options("/fhir/Patient/p1", headers=asked).status_code == 401


@pytest.mark.parametrize("text", ["https://app.example/", "app.example", "null", "https://a.example,ftp://b"])
def test_an_origin_is_no_address(text: str) -> None:
    with pytest.raises(ValidationError, match="an origin is a scheme, a host and a port"):
        Settings(cors_origins=text)
    assert Settings(cors_origins="https://a.example, http://[::1]:80,*").origins[0] == "https://a.example"
