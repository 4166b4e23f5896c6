"""A person's whole record, in pages, with the organisations and workers it names, and nobody else's."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError
from fhirgw.store.database import Readers
from fhirgw.store.everything import Asked, everything
from tests.conftest import NewDatabase
from tests.put import put_all, reading

EVERYTHING = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
MINE = {"reference": "Patient/p1"}


def made(kind: str, id: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": id, **elements}


RECORD = [
    made("Patient", "p1", managingOrganization={"reference": "Organization/council"}),
    *(made("Observation", f"o{n}", status="final", subject=MINE) for n in range(5)),
    made("Task", "t1", status="accepted", intent="plan", **{"for": MINE}, owner={"reference": "PractitionerRole/r1"}),
    made("RelatedPerson", "r1", patient=MINE),
]
SHARED = [
    made("Organization", "council"),
    made("PractitionerRole", "r1", practitioner={"reference": "Practitioner/w1/_history/3"}),
    made("Practitioner", "w1", name=[{"text": "A worker"}]),
]
OTHERS = [
    made("Patient", "p2", link=[{"other": {"reference": "Patient/p1"}, "type": "seealso"}]),
    made("Observation", "x1", status="final", subject={"reference": "Patient/p2"}),
    made("Organization", "elsewhere"),
]


def keys(*resources: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((each["resourceType"], each["id"]) for each in resources)


@pytest.fixture(scope="module")
async def stored(new_database: NewDatabase) -> AsyncIterator[Readers]:
    late = ("o4", "council", "t1")
    stamped = [(each, LATE if each["id"] in late else EARLY) for each in (*RECORD, *SHARED, *OTHERS)]
    async with new_database() as url, reading(url) as pool:
        await put_all(url, stamped)
        yield pool


async def collected(pool: Readers, asked: dict[str, Any], permit: Permit = EVERYTHING) -> list[list[tuple[str, str]]]:
    """All pages."""
    pages: list[list[tuple[str, str]]] = []
    cursor: str | None = None
    async with pool.acquire() as connection:
        while not pages or cursor:
            page, cursor = await everything(connection, permit, Asked("p1", **asked, cursor=cursor))
            pages.append([found[:2] for found in page])
    return pages


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 10, 11, 1000])
async def test_all_of_it_once_each_on_pages_of_any_length(stored: Readers, count: int) -> None:
    pages = await collected(stored, {"count": count})
    assert [key for page in pages for key in page] == keys(*RECORD) + keys(*SHARED)
    assert all(len(page) == count for page in pages[:-1])
    assert len(pages[-1]) <= count


async def test_some_types(stored: Readers) -> None:
    (page,) = await collected(stored, {"types": ("Task", "Organization", "Flag")})
    assert page == [("Task", "t1"), ("Organization", "council")]


async def test_what_changed_since(stored: Readers) -> None:
    (page,) = await collected(stored, {"since": LATE})
    assert page == [("Observation", "o4"), ("Task", "t1"), ("Organization", "council")]


async def test_only_what_may_be_seen(stored: Readers) -> None:
    permit = Permit("Z99", "person", (Scope.parse("patient/*.rs"), Scope.parse("system/Practitioner.r")), "p1")
    (page,) = await collected(stored, {}, permit)
    assert page == keys(*RECORD)  # the role is hidden, and so nothing leads to the worker
    with pytest.raises(FhirError, match="There is no such Patient"):
        await collected(stored, {}, Permit("Z99", "person", (Scope.parse("patient/*.rs"),), "p2"))


async def test_nobody_is_not_found(stored: Readers) -> None:
    async with stored.acquire() as connection:
        with pytest.raises(FhirError) as refused:
            await everything(connection, EVERYTHING, Asked("p3"))
    assert refused.value.status == 404


@pytest.mark.parametrize("cursor", ["", "AAAA", "é", "W10", "WzEsMiwzXQ", "W2ZhbHNlLCJcdTAwMDAiLCIiXQ", "%%%"])
async def test_a_cursor_that_is_none_is_refused(stored: Readers, cursor: str) -> None:
    async with stored.acquire() as connection:
        with pytest.raises(FhirError, match="_cursor is not one of this operation"):
            await everything(connection, EVERYTHING, Asked("p1", cursor=cursor))
