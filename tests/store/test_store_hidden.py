"""What a copy that was taken at a moment is to lose, because its permit does not show it any more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fhirgw.access.permit import COUNCIL, Permit
from fhirgw.access.scope import Scope
from fhirgw.store.database import direct
from fhirgw.store.export import Selection
from fhirgw.store.hidden import hidden
from tests.put import connected, put, supersede

BEFORE, SINCE, AFTER = (datetime(2026, 3, day, tzinfo=UTC) for day in (1, 10, 20))
SCOPES = (Scope.parse("system/*.rs"),)
SHARED = Permit("Z99", "direct-care", SCOPES)
OWN = Permit("Z99", "direct-care", SCOPES, parties=(COUNCIL,))
PROVIDER = Permit("P01", "direct-care", SCOPES, parties=("Organization/provider",), controls=False)
KINDS = ("Consent", "EpisodeOfCare", "Flag", "Group", "Patient")


def made(kind: str, id: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": id, **elements}


def of(person: str) -> dict[str, str]:
    return {"reference": f"Patient/{person}"}


def dissent(person: str, status: str = "active", **elements: Any) -> dict[str, Any]:
    act = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    rule = {"coding": [{"system": act, "code": "OPTOUT"}]}
    return made("Consent", f"no-{person}", status=status, patient=of(person), policyRule=rule, **elements)


def care(person: str, status: str = "active", **period: str) -> dict[str, Any]:
    provider = {"reference": "Organization/provider"}
    period = {"start": "2026-01-01", **period}
    return made(
        "EpisodeOfCare",
        f"care-{person}",
        status=status,
        patient=of(person),
        managingOrganization=provider,
        period=period,
    )


def flag(person: str, *labels: str) -> dict[str, Any]:
    system = "https://fhirgw.uk/fhir/CodeSystem/record-class"
    meta = {"meta": {"security": [{"system": system, "code": each} for each in labels]}} if labels else {}
    return made("Flag", f"flag-{person}", status="active", subject=of(person), **meta)


PEOPLE = ("open", "before", "newly", "again", "withdrawn", "ended", "labelled", "born")


@pytest.fixture
async def world(database: str) -> str:
    """What was there before, and what has become of it since."""
    old = [made("Patient", each) for each in PEOPLE if each != "born"]
    old += [flag(each) for each in PEOPLE if each != "born"]
    old += [care("ended"), care("open"), care("again"), care("newly")]
    old += [dissent("before"), dissent("again"), dissent("withdrawn", "inactive")]
    await put(database, made("Organization", "provider"), *old, updated=BEFORE)
    await put(database, dissent("newly"), made("Patient", "born"), dissent("born"), updated=AFTER)
    await supersede(database, dissent("again"), dissent("again", dateTime="2026-03-15"), 2, AFTER)
    await supersede(database, dissent("withdrawn", "inactive"), dissent("withdrawn"), 2, AFTER)
    await supersede(database, care("ended"), care("ended", "cancelled"), 2, AFTER)
    await supersede(database, flag("labelled"), flag("labelled", "safeguarding"), 2, AFTER)
    return database


async def told(engine: AsyncEngine, permit: Permit, since: datetime = SINCE, **asked: Any) -> set[str]:
    async with direct(engine) as connection:
        found = await hidden(connection, permit, KINDS, Selection(since=since, **asked))
    assert all(ids == sorted(ids) for ids in found.values())
    return {f"{kind}/{id}" for kind, ids in found.items() for id in ids}


async def test_what_was_shown_and_is_not_any_more(world: str, engine: AsyncEngine) -> None:
    """And nothing of who dissented before, does so again, or was not there."""
    assert await told(engine, SHARED) == {
        *("Patient/newly", "Flag/flag-newly", "EpisodeOfCare/care-newly"),
        *("Patient/withdrawn", "Flag/flag-withdrawn", "Consent/no-withdrawn"),
        "Flag/flag-labelled",
    }
    assert await told(engine, SHARED, patients=("newly",)) == {
        *("Patient/newly", "Flag/flag-newly", "EpisodeOfCare/care-newly")
    }
    assert await told(engine, SHARED, AFTER) == set()


async def test_the_council_that_keeps_them_loses_what_is_labelled_alone(world: str, engine: AsyncEngine) -> None:
    assert await told(engine, OWN) == {"Flag/flag-labelled"}


async def test_a_provider_is_told_of_its_own_people_alone(world: str, engine: AsyncEngine) -> None:
    of_ended = {"Patient/ended", "Flag/flag-ended", "EpisodeOfCare/care-ended"}
    of_newly = {"Patient/newly", "Flag/flag-newly", "EpisodeOfCare/care-newly"}
    assert await told(engine, PROVIDER) == of_ended | of_newly


async def test_what_ends_by_its_own_date(database: str, engine: AsyncEngine) -> None:
    await put(
        database, made("Organization", "provider"), made("Patient", "p"), care("p", end="2026-03-12"), updated=BEFORE
    )
    await put(database, made("Patient", "q"), care("q", end="2026-03-02"), updated=BEFORE)
    assert await told(engine, PROVIDER) == {"Patient/p", "EpisodeOfCare/care-p"}


async def test_nothing_is_written(world: str, engine: AsyncEngine) -> None:
    tables = ("relationship", "directive", "delegation", "narrowed")
    connection = await connected(world)
    try:
        before = [await connection.fetch(f"SELECT * FROM fhirgw.{each} ORDER BY 1, 2, 3") for each in tables]
        assert await told(engine, SHARED)
        assert before == [await connection.fetch(f"SELECT * FROM fhirgw.{each} ORDER BY 1, 2, 3") for each in tables]
    finally:
        await connection.close()
