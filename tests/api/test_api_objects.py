"""Files that are in an object store, as callers fetch them: through the gateway, or by an address of some minutes."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from isal import igzip
from pydantic import ValidationError
from starlette.requests import Request

from fhirgw.api.served_file import BLOCK
from fhirgw.api.served_object import object_answer
from fhirgw.fhir.canonical import encode
from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from tests.api.conftest import OTHERS, PERSON
from tests.gateway import Gateway, serving
from tests.put import connected, stamped
from tests.s3 import S3, serving_s3

PLAIN = {"accept-encoding": "identity"}
ASYNC = {"prefer": "respond-async", "accept": "application/fhir+json"}
LINES = {encode(stamped(each)) for each in (PERSON, *OTHERS)}
LIFETIME = 120


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with serving_s3() as found, pytest.MonkeyPatch.context() as environment:
        for name, value in found.environment.items():
            environment.setenv(name, value)
        yield found


@pytest.fixture
def s3(server: S3) -> Iterator[S3]:
    server.calm()
    yield server
    server.calm()


@contextmanager
def gateway_of(database: str, data: Path, s3: S3, **given: Any) -> Iterator[Gateway]:
    settings = Settings(database_url=database, data=data, log="json", controller="Z99", export_store=s3.url, **given)
    with serving(settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def passing(module_database: str, server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Passes files on; they are kept as they are."""
    with gateway_of(module_database, tmp_path_factory.mktemp("passing"), server) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def signing(module_database: str, server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Sends callers to the store; files are kept packed."""
    data = tmp_path_factory.mktemp("signing")
    with gateway_of(module_database, data, server, gzip_exports=True, signed_url_seconds=LIFETIME) as gateway:
        yield gateway


def exported(gateway: Gateway) -> dict[str, Any]:
    """The manifest of all Patients."""
    address = gateway.http.get("/fhir/$export?_type=Patient", headers=ASYNC).headers["content-location"]
    for _ in range(2400):
        answer = gateway.http.get(address)
        if answer.status_code == 200:
            return dict(answer.json())
        assert answer.status_code in (202, 429), answer.text
        time.sleep(0.05)
    pytest.fail("the export did not end")


@pytest.fixture(scope="module")
def passed(passing: Gateway) -> str:
    return str(exported(passing)["output"][0]["url"])


@pytest.fixture(scope="module")
def packed(signing: Gateway) -> str:
    return str(exported(signing)["output"][0]["url"])


def object_of(s3: S3, url: str) -> str:
    """The path of the one object of an export."""
    job = url.rsplit("/", 2)[1]
    (name,) = s3.names(job)
    return f"{job}/{name}"


# --- Passed on ----------------------------------------------------------------------------------------------------


def test_a_file_is_passed_on(passing: Gateway, passed: str, s3: S3) -> None:
    whole = passing.http.get(passed, headers=PLAIN)
    assert (whole.status_code, set(whole.content.splitlines())) == (200, LINES)
    assert whole.content == s3.read(object_of(s3, passed))
    assert whole.headers["etag"] == f'"{hashlib.sha256(whole.content).hexdigest()}"'
    assert (whole.headers["content-type"], whole.headers["accept-ranges"]) == ("application/fhir+ndjson", "bytes")
    assert int(whole.headers["content-length"]) == len(whole.content)
    unpacked = passing.http.get(passed, headers={"accept-encoding": "gzip"})
    assert (unpacked.headers["content-encoding"], unpacked.content) == ("gzip", whole.content)
    assert unpacked.headers["etag"] == whole.headers["etag"][:-1] + '-gzip"'


@pytest.mark.parametrize("form", ["passed", "packed"])
@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [("bytes=5-9", 5, 10), ("bytes=5-", 5, None), ("bytes=-7", -7, None), ("bytes=0-99999999", 0, None)],
)
def test_a_file_is_gone_on_with(
    form: str, asked: str, low: int, high: int | None, request: pytest.FixtureRequest, s3: S3
) -> None:
    gateway: Gateway = request.getfixturevalue({"passed": "passing", "packed": "signing"}[form])
    url = request.getfixturevalue(form)
    whole = gateway.http.get(url, headers=PLAIN)
    s3.asked.clear()
    piece = gateway.http.get(url, headers={**PLAIN, "range": asked, "if-range": whole.headers["etag"]})
    assert (piece.status_code, piece.content) == (206, whole.content[low:high])
    first = low % len(whole.content)
    last = first + len(piece.content) - 1
    assert piece.headers["content-range"] == f"bytes {first}-{last}/{len(whole.content)}"
    changed = gateway.http.get(url, headers={**PLAIN, "range": asked, "if-range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole.content)


def test_what_is_past_the_end_is_refused(passing: Gateway, passed: str) -> None:
    size = len(passing.http.get(passed, headers=PLAIN).content)
    past = passing.http.get(passed, headers={**PLAIN, "range": f"bytes={size}-"})
    assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{size}")
    assert past.headers["content-type"].startswith("application/fhir+json")
    assert past.json()["issue"][0]["diagnostics"].startswith(f"Range: the file has {size} bytes")


def test_who_asks_for_the_head_alone_has_nothing_fetched(passing: Gateway, passed: str, s3: S3) -> None:
    whole = passing.http.get(passed, headers=PLAIN)
    s3.asked.clear()
    head = passing.http.head(passed, headers=PLAIN)
    assert (head.status_code, head.content) == (200, b"")
    assert {name: head.headers[name] for name in ("etag", "content-length", "content-type")} == {
        name: whole.headers[name] for name in ("etag", "content-length", "content-type")
    }
    assert any(each.method == "HEAD" for each in s3.asked) and not any(each.fetch for each in s3.asked)


def test_a_store_that_is_away_is_told(passing: Gateway, passed: str, s3: S3) -> None:
    s3.refuse = lambda asked: (403, "AccessDenied")
    away = passing.http.get(passed)
    assert (away.status_code, away.json()["issue"][0]["code"]) == (503, "transient")
    assert away.json()["issue"][0]["diagnostics"] == (
        "The object store of exports refuses: its operators have to look at it"
    )
    s3.calm()
    assert passing.http.get(passed).status_code == 200


def test_a_file_that_is_lost_is_not_there(passing: Gateway, s3: S3) -> None:
    url = exported(passing)["output"][0]["url"]
    assert passing.http.get(url).status_code == 200
    s3.lose(object_of(s3, url))
    lost = passing.http.get(url)
    assert (lost.status_code, lost.json()["issue"][0]["diagnostics"]) == (404, "There is no such export")


def test_a_store_that_goes_away_in_the_midst_breaks_the_answer_off(passing: Gateway, passed: str, s3: S3) -> None:
    s3.refuse = lambda asked: (403, "AccessDenied") if asked.method == "GET" else None
    for encoding in ("identity", "gzip"):
        with pytest.raises(httpx.RemoteProtocolError):
            passing.http.get(passed, headers={"accept-encoding": encoding})
    s3.calm()
    assert passing.http.get(passed).status_code == 200


def test_deleted_its_objects_are_gone(passing: Gateway, s3: S3) -> None:
    url = exported(passing)["output"][0]["url"]
    path = object_of(s3, url)
    assert passing.http.delete(url.replace("export-file", "export-status").rpartition("/")[0]).status_code == 202
    assert s3.names(path.partition("/")[0]) == set()
    assert passing.http.get(url).status_code == 404


# --- By an address of the store's ---------------------------------------------------------------------------------


def test_a_caller_is_sent_to_the_store(signing: Gateway, packed: str, s3: S3) -> None:
    s3.asked.clear()
    answer = signing.http.get(packed, headers={"accept-encoding": "gzip"})
    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (307, b"", "no-store")
    assert not any(each.fetch for each in s3.asked)
    address = answer.headers["location"]
    assert address.startswith(f"{s3.root}/exports/council/bulk/")
    assert parse_qs(urlsplit(address).query)["X-Amz-Expires"] == [str(LIFETIME)]
    with httpx.stream("GET", address) as given:  # without a token
        data = b"".join(given.iter_raw())
    assert (given.status_code, given.headers["content-encoding"]) == (200, "gzip")
    assert given.headers["content-type"] == "application/fhir+ndjson"
    assert set(igzip.decompress(data).splitlines()) == LINES
    assert data == s3.read(object_of(s3, packed))


def test_a_common_client_follows_without_its_token(signing: Gateway, packed: str, s3: S3) -> None:
    s3.asked.clear()
    got = signing.http.get(packed, follow_redirects=True)
    assert (got.status_code, set(got.content.splitlines())) == (200, LINES)
    (fetched,) = [each for each in s3.asked if each.fetch]
    assert "authorization" not in fetched.headers


def test_who_sends_the_token_on_gets_nothing(signing: Gateway, packed: str) -> None:
    address = signing.http.get(packed).headers["location"]
    assert httpx.get(address, headers={"authorization": signing.http.headers["authorization"]}).status_code == 400


def test_an_address_is_for_one_file_to_read(signing: Gateway, packed: str, s3: S3) -> None:
    address = signing.http.get(packed).headers["location"]
    assert httpx.get(address).status_code == 200
    assert httpx.delete(address).status_code == 403
    assert httpx.put(address, content=b"mine").status_code == 403
    assert httpx.get(re.sub(r"Patient-\d+", "Patient-00099", address)).status_code == 403
    assert httpx.get(address.replace(f"Expires={LIFETIME}", "Expires=9999")).status_code == 403


@pytest.mark.parametrize("seconds", [301, -1])
def test_no_address_is_good_for_longer_than_five_minutes(seconds: int) -> None:
    with pytest.raises(ValidationError):
        Settings(signed_url_seconds=seconds)
    assert Settings(signed_url_seconds=300).signed_for.total_seconds() == 300


@pytest.mark.parametrize("store", ["/data/exports", "file:///data", "s3:bucket", "s3:///x", "https://a.example/b"])
def test_what_is_no_object_store_is_refused(store: str) -> None:
    with pytest.raises(ValidationError, match="it is no object store"):
        Settings(export_store=store)
    assert Settings(export_store="gs://bucket/prefix").export_store == "gs://bucket/prefix"
    assert Settings(export_store="").export_store is None


def test_what_the_store_would_answer_otherwise_the_gateway_does(signing: Gateway, packed: str, s3: S3) -> None:
    kept = s3.read(object_of(s3, packed))
    whole = igzip.decompress(kept)
    etag = hashlib.sha256(whole).hexdigest()
    plain = signing.http.get(packed, headers=PLAIN)  # who cannot unpack it
    assert (plain.status_code, plain.content, plain.headers["etag"]) == (200, whole, f'"{etag}"')
    head = signing.http.head(packed)
    assert (head.status_code, head.headers["content-encoding"]) == (200, "gzip")
    assert int(head.headers["content-length"]) == len(kept)
    going_on = {"accept-encoding": "gzip", "range": "bytes=10-19", "if-range": head.headers["etag"]}
    with signing.http.stream("GET", packed, headers=going_on) as piece:
        assert (piece.status_code, b"".join(piece.iter_raw())) == (206, kept[10:20])
    assert head.headers["etag"] == f'"{etag}-gzip"'


def test_the_manifest_names_the_gateway(signing: Gateway, passing: Gateway) -> None:
    for gateway in (signing, passing):
        manifest = exported(gateway)
        assert manifest["requiresAccessToken"] is True
        assert all(each["url"].startswith(f"{gateway.base}/$export-file/") for each in manifest["output"])


async def test_each_address_is_authorised_and_audited(signing: Gateway, packed: str, module_database: str) -> None:
    with signing.stranger() as nobody, signing.client(Registration("other", "Y88", "system/*.rs")) as others:
        stranger, other = nobody.get(packed), others.get(packed)
    assert (stranger.status_code, other.status_code) == (401, 404)
    assert "location" not in {*stranger.headers, *other.headers}
    connection = await connected(module_database)
    count = "SELECT count(*) FROM fhirgw.audited WHERE body LIKE '%export-file%'"
    before = await connection.fetchval(count)
    assert signing.http.get(packed).status_code == 307
    assert await connection.fetchval(count) == before + 1
    await connection.close()


# --- Piece by piece -----------------------------------------------------------------------------------------------


class InPieces:
    """A stored file that comes in pieces of a few bytes."""

    def __init__(self, kept: bytes) -> None:
        self.kept, self.read = kept, 0

    async def size(self) -> int:
        return len(self.kept)

    async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        for at in range(start, end, 1000):
            self.read += 1
            yield self.kept[at : min(at + 1000, end)]

    async def signed(self) -> str | None:
        return None


WHOLE = b"What was seen and said. " * 1_000_000
"""Packed, a thousandth of it."""


@pytest.mark.parametrize("asked", ["", "bytes=0-0", "bytes=12345678-12999999", "bytes=-5"])
async def test_what_is_unpacked_is_never_in_memory_as_a_whole(asked: str) -> None:
    stored = InPieces(igzip.compress(WHOLE))
    headers = [(b"range", asked.encode())] if asked else []
    request = Request({"type": "http", "method": "GET", "headers": headers})
    answer = await object_answer(request, stored, len(WHOLE), "0" * 64, True, "application/fhir+ndjson")
    parts = [part async for part in answer.body_iterator]
    low, high = {
        "": (0, None),
        "bytes=0-0": (0, 1),
        "bytes=12345678-12999999": (12345678, 13000000),
        "bytes=-5": (-5, None),
    }[asked]
    assert b"".join(parts) == WHOLE[low:high]
    assert max(map(len, parts)) <= BLOCK
    assert (stored.read < 3) == (asked == "bytes=0-0")
