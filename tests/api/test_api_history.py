"""What changed: of an instance, of a type, of everything. https://hl7.org/fhir/R4/http.html#history"""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from tests.api.test_api_fhir import link, outcome
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.put import made, put_all, supersede

START = datetime(2026, 3, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return START + timedelta(days=number)


PEOPLE = [made("Patient", f"p{n}", gender="male") for n in range(4)]
CHANGED = made("Patient", "p1", gender="female")
DRAFT, NOTE = made("Observation", "ob", status="final", subject={"reference": "Patient/p1"}), made("Organization", "o")
EVERY = [
    *(("DELETE", "Organization/o", 9), ("PUT", "Patient/p1", 8), ("POST", "Organization/o", 5)),
    *(("POST", "Observation/ob", 4), ("POST", "Patient/p3", 3), ("POST", "Patient/p2", 2)),
    *(("POST", "Patient/p1", 1), ("POST", "Patient/p0", 0)),
]
"""What happened, and on which day, the newest first."""


@pytest.fixture(scope="module")
async def database_url(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put_all(url, [(each, day(at)) for at, each in enumerate([*PEOPLE, DRAFT, NOTE])])
        await supersede(url, PEOPLE[1], CHANGED, 2, day(8))
        await supersede(url, NOTE, None, 2, day(9))
        yield url


@pytest.fixture(scope="module")
def past(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data: Path = tmp_path_factory.mktemp("data")
    with serving(Settings(database_url=database_url, data=data, log="json", controller="Z99")) as gateway:
        yield gateway


def told(answer: httpx.Response) -> list[tuple[str, str, int]]:
    """Each entry as (method, Type/id, day)."""
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["resourceType"], found["type"]) == ("Bundle", "history")
    return [_entry(each) for each in found.get("entry", ())]


def _entry(each: dict[str, Any]) -> tuple[str, str, int]:
    kind, id = each["fullUrl"].split("/")[-2:]
    method = each["request"]["method"]
    assert each["request"]["url"] == (kind if method == "POST" else f"{kind}/{id}")
    assert each["response"]["status"] == {"POST": "201", "PUT": "200", "DELETE": "204"}[method]
    assert ("resource" in each) is (method != "DELETE")
    when = datetime.fromisoformat(each["response"]["lastModified"])
    if "resource" in each:
        assert each["resource"]["meta"]["versionId"] == each["response"]["etag"].strip('W/"')
    return method, f"{kind}/{id}", (when - START).days


OF_PATIENTS = [each for each in EVERY if each[1].startswith("Patient")]


def spelt(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/_history", EVERY),
        ("/Patient/_history", OF_PATIENTS),
        ("/Organization/o/_history", [EVERY[0], EVERY[2]]),
        ("/Device/_history", []),
        (f"/_history?_since={spelt(day(5))}", EVERY[:3]),
        (f"/Patient/_history?_since={spelt(day(2))}", OF_PATIENTS[:3]),
        (f"/Patient/p1/_history?_since={spelt(day(2))}", OF_PATIENTS[:1]),
        (f"/Patient/p2/_history?_since={spelt(day(5))}", []),
        ("/Patient/_history?_at=2026-03-03", OF_PATIENTS[2:]),
        ("/Patient/p1/_history?_at=2026-03-04", OF_PATIENTS[3:4]),
        ("/Patient/p1/_history?_at=2026-03-09", OF_PATIENTS[0:1]),
        ("/Patient/p1/_history?_at=2026-03", [OF_PATIENTS[0], OF_PATIENTS[3]]),
        ("/Organization/_history?_at=2026-03-08", EVERY[2:3]),
        ("/Organization/_history?_at=2026-04-01", []),
        ("/Patient/p1/_history?_at=2026-02", []),
    ],
)
def test_what_happened_the_newest_first(past: Gateway, path: str, expected: list[tuple[str, str, int]]) -> None:
    answer = past.http.get(f"/fhir{path}")
    assert told(answer) == expected
    assert answer.json()["total"] == len(expected)
    for alone in ("_summary=count", "_count=0"):
        counted = past.http.get(f"/fhir{path}{'&' if '?' in path else '?'}{alone}").json()
        assert (counted["total"], "entry" in counted) == (len(expected), False)


@pytest.mark.parametrize("path", ["/_history", "/Patient/_history", "/Patient/p1/_history"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_next_links_lead_through_it_whatever_happens_meanwhile(past: Gateway, path: str, count: int) -> None:
    whole = told(past.http.get(f"/fhir{path}"))
    address: str | None = f"{past.base}{path}?_count={count}"
    seen: list[tuple[str, str, int]] = []
    while address:
        page = past.http.get(address)
        assert len(told(page)) <= count
        assert past.http.get(link(page.json(), "self") or "").json() == page.json()
        seen += told(page)
        address = link(page.json(), "next")
    assert seen == whole


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/Patient/nobody/_history", 404, "There is no such Patient"),
        ("/Patient/nobody/_history?_count=0", 404, "There is no such Patient"),
        ("/Patient/nobody/_history?_since=2030-01-01", 404, "There is no such Patient"),
        ("/Patent/_history", 404, "did you mean Patient?"),
        ("/_history?_since=soon", 400, "Not a date"),
        ("/_history?_count=-1", 400, "_count is malformed"),
        ("/_history?_type=Patient", 400, "A history takes _since, _at, _count"),
        ("/_history?_cursor=AAAA", 400, "_cursor is not one of this request"),
        ("/Patient/_history?_at=2026-02-30", 400, "Not a date"),
    ],
)
def test_what_cannot_be_answered_is_refused(past: Gateway, path: str, status: int, words: str) -> None:
    answer = past.http.get(f"/fhir{path}")
    assert answer.status_code == status
    assert words in outcome(answer)[0]["diagnostics"]


def test_a_cursor_is_for_whoever_got_it_and_what_they_asked(past: Gateway) -> None:
    following = link(past.http.get("/fhir/Patient/_history?_count=1").json(), "next") or ""
    cursor = following.partition("_cursor=")[2]
    assert past.http.get(following).status_code == 200
    assert past.http.get(f"/fhir/_history?_cursor={cursor}").status_code == 400
    with past.client(Registration("other", "Z98", "system/*.rs", rate=1_000_000)) as other:
        assert other.get(following).status_code == 400


def test_a_history_is_of_what_the_scopes_cover(past: Gateway) -> None:
    with past.client(Registration("narrow", "Z99", "system/Organization.rs", rate=1_000_000)) as narrow:
        assert told(narrow.get("/fhir/_history")) == [EVERY[0], EVERY[2]]
        assert narrow.get("/fhir/Patient/_history").status_code == 403
        assert narrow.get("/fhir/Patient/p1/_history").status_code == 403
    with past.client(Registration("reader", "Z99", "system/Patient.r", rate=1_000_000)) as reader:
        assert told(reader.get("/fhir/Patient/p1/_history")) == [OF_PATIENTS[0], OF_PATIENTS[3]]
        assert reader.get("/fhir/Patient/_history").status_code == 403
        assert reader.get("/fhir/_history").status_code == 403


def test_a_part_of_each_version(past: Gateway) -> None:
    found = past.http.get("/fhir/Patient/p1/_history?_elements=gender").json()["entry"]
    assert [each["resource"]["gender"] for each in found] == ["female", "male"]
    assert all(each["resource"]["meta"]["tag"][-1]["code"] == "SUBSETTED" for each in found)
