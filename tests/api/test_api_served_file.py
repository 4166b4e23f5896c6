"""Files of exports as they are sent: in pieces, packed or not, whatever a Range says, and when they have gone."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from fhirgw.api.served_file import file_answer
from fhirgw.fhir.issue import FhirError

TEXT = b"".join(b'{"resourceType":"Patient","id":"p%d"}\n' % n for n in range(200))
SIZE = len(TEXT)
DIGITS = "9" * 5000


class Answer:
    """What a caller gets: of an app that is asked without a network."""

    def __init__(self, path: Path, packed: bool, method: str = "GET", **headers: str) -> None:
        asked = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope: dict[str, Any] = {"type": "http", "method": method, "headers": asked, "path": "/", "query_string": b""}
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            await asyncio.Event().wait()

        response = file_answer(Request(scope), path, SIZE, "abc", packed, "application/fhir+ndjson")
        asyncio.run(response(scope, receive, send))
        self.status = sent[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        self.body = b"".join(each.get("body", b"") for each in sent[1:])


@pytest.fixture(params=[False, True], ids=["plain", "packed"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bool]:
    packed = bool(request.param)
    path = tmp_path / ("Patient.ndjson.gz" if packed else "Patient.ndjson")
    path.write_bytes(gzip.compress(TEXT) if packed else TEXT)
    return path, packed


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [("0-9", 0, 9), ("10-", 10, SIZE - 1), ("-7", SIZE - 7, SIZE - 1), ("5-999999", 5, SIZE - 1)],
)
def test_one_range_is_answered_with_just_that(kept: tuple[Path, bool], asked: str, low: int, high: int) -> None:
    answer = Answer(*kept, range=f"bytes={asked}")
    assert (answer.status, answer.body) == (206, TEXT[low : high + 1])
    assert answer.headers["content-range"] == f"bytes {low}-{high}/{SIZE}"
    assert answer.headers["content-length"] == str(high - low + 1)
    assert Answer(*kept, range=f"bytes={asked}", if_range='"abc"').status == 206
    changed = Answer(*kept, range=f"bytes={asked}", if_range='"other"')
    assert (changed.status, changed.body) == (200, TEXT)


@pytest.mark.parametrize("asked", [f"{DIGITS}-", f"0-{DIGITS}", f"-{DIGITS}", "9-5", "a-b", "-", "0-0,2-3", "٣-٤"])
def test_what_is_no_range_is_answered_with_the_whole(kept: tuple[Path, bool], asked: str) -> None:
    """As a server may, and as RFC 9110 has it of what is malformed; packed, what is sent can be unpacked."""
    answer = Answer(*kept, range=f"bytes={asked}")
    assert (answer.status, answer.body) == (200, TEXT)
    both = Answer(*kept, range=f"bytes={asked}", accept_encoding="gzip")
    unpacked = gzip.decompress(both.body) if both.headers.get("content-encoding") == "gzip" else both.body
    assert (both.status, unpacked) == (200, TEXT)


def test_what_begins_after_the_end_is_not_there(kept: tuple[Path, bool]) -> None:
    for asked in (f"{SIZE}-", "-0"):
        answer = Answer(*kept, range=f"bytes={asked}")
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{SIZE}")


def test_who_has_it_is_sent_nothing(kept: tuple[Path, bool]) -> None:
    for asked in ('"abc"', '"other", W/"abc"'):
        answer = Answer(*kept, if_none_match=asked)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", '"abc"')
    for asked in ('"other"', '"abc-gzip"', "abc"):
        answer = Answer(*kept, if_none_match=asked)
        assert (answer.status, answer.body, answer.headers["cache-control"]) == (200, TEXT, "private, no-cache")
    assert Answer(*kept, if_none_match='"abc-gzip"', accept_encoding="gzip").status == 304


def test_pieces_of_a_packed_file_make_the_packed_file(tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson.gz"
    path.write_bytes(gzip.compress(TEXT))
    first, rest = (Answer(path, True, range=f"bytes={each}", accept_encoding="gzip") for each in ("0-99", "100-"))
    assert {each.headers["etag"] for each in (first, rest)} == {'"abc-gzip"'}
    assert gzip.decompress(first.body + rest.body) == TEXT


def test_head_says_as_much_and_sends_nothing(kept: tuple[Path, bool]) -> None:
    plain, packed = Answer(*kept, method="HEAD"), Answer(*kept, method="HEAD", accept_encoding="gzip")
    assert (plain.status, plain.body, plain.headers["content-length"]) == (200, b"", str(SIZE))
    assert (packed.status, packed.body, packed.headers["content-encoding"]) == (200, b"", "gzip")


def test_a_file_that_is_replaced_meanwhile_is_sent_as_it_was_or_not_at_all(kept: tuple[Path, bool]) -> None:
    """Who takes somebody's lines out of it removes it between the question and the answer."""
    path, packed = kept
    scope: dict[str, Any] = {"type": "http", "method": "GET", "headers": [], "path": "/", "query_string": b""}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    response = file_answer(Request(scope), path, SIZE, "abc", packed, "application/fhir+ndjson")
    path.unlink()
    asyncio.run(response(scope, receive, send))
    assert b"".join(each.get("body", b"") for each in sent[1:]) == TEXT
    with pytest.raises(FhirError, match="not there any more") as refused:
        file_answer(Request(scope), path, SIZE, "abc", packed, "application/fhir+ndjson")
    assert refused.value.status == 404


def test_a_packed_file_that_is_shorter_than_it_was_ends(tmp_path: Path) -> None:
    path = tmp_path / "Patient.ndjson.gz"
    path.write_bytes(gzip.compress(TEXT[:100]))
    assert Answer(path, True, range=f"bytes={SIZE - 10}-").body == b""
