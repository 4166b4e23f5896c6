"""One resource: now, then, gone, and never there."""

from datetime import UTC, datetime

import orjson
import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.issue import FhirError
from fhirgw.store.database import Readers
from fhirgw.store.resources import Stored, past, read, vread
from tests.put import STAMP, put, stamped, supersede

EVERYTHING = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
FIRST = {"resourceType": "Patient", "id": "p1", "gender": "female"}
SECOND = {"resourceType": "Patient", "id": "p1", "gender": "unknown"}
LATER = datetime(2026, 2, 1, tzinfo=UTC)
LATEST = datetime(2026, 3, 1, tzinfo=UTC)


def body(resource: dict[str, object], version: int, updated: datetime) -> str:
    return encode(stamped(resource, version, updated)).decode()


async def test_a_body_is_served_as_it_was_stored(database: str, pool: Readers) -> None:
    exact = decode(
        b'{"resourceType":"Observation","id":"o1","valueQuantity":{"value":1.10},"note":[{"text":"caf\\u00e9"}]}'
    )
    await put(database, exact)
    async with pool.acquire() as connection:
        found = await read(connection, EVERYTHING, "Observation", "o1")
    assert found == Stored(encode(stamped(exact)).decode(), 1, STAMP)
    assert '"value":1.10' in found.body


async def test_every_version_stays(database: str, pool: Readers) -> None:
    await put(database, FIRST)
    await supersede(database, FIRST, SECOND, 2, LATER)
    one = Stored(body(FIRST, 1, STAMP), 1, STAMP, person="p1")
    two = Stored(body(SECOND, 2, LATER), 2, LATER, person="p1")
    async with pool.acquire() as connection:
        assert await read(connection, EVERYTHING, "Patient", "p1") == two
        assert await vread(connection, EVERYTHING, "Patient", "p1", 1) == one
        assert await vread(connection, EVERYTHING, "Patient", "p1", 2) == two
        assert await past(connection, EVERYTHING, "Patient", "p1") == [two, one]
        assert await past(connection, EVERYTHING, "Patient", "p1", count=1) == [two]
        assert await past(connection, EVERYTHING, "Patient", "p1", before=2) == [one]


async def test_what_was_deleted_is_gone_and_its_past_is_not(database: str, pool: Readers) -> None:
    await put(database, FIRST)
    await supersede(database, FIRST, None, 2, LATER)
    async with pool.acquire() as connection:
        for interaction in (
            read(connection, EVERYTHING, "Patient", "p1"),
            vread(connection, EVERYTHING, "Patient", "p1", 2),
        ):
            with pytest.raises(FhirError, match="has been deleted") as refused:
                await interaction
            assert refused.value.status == 410
        assert (await vread(connection, EVERYTHING, "Patient", "p1", 1)).body == body(FIRST, 1, STAMP)
        assert [each.deleted for each in await past(connection, EVERYTHING, "Patient", "p1")] == [True, False]


@pytest.mark.parametrize("state", ["there", "deleted", "never there"])
async def test_what_may_not_be_seen_answers_as_what_never_was(database: str, pool: Readers, state: str) -> None:
    """A permit for another patient gets the same words for all three."""
    if state != "never there":
        await put(database, FIRST)
    if state == "deleted":
        await supersede(database, FIRST, None, 2, LATER)
    other = Permit("Z99", "person", (Scope.parse("patient/*.rs"),), patient="p2")
    async with pool.acquire() as connection:
        for interaction in (read(connection, other, "Patient", "p1"), vread(connection, other, "Patient", "p1", 1)):
            with pytest.raises(FhirError) as refused:
                await interaction
            assert refused.value.status == 404
            assert orjson.dumps(refused.value.outcome()["issue"]) == (
                b'[{"severity":"error","code":"not-found","diagnostics":"There is no such Patient"}]'
            )
        assert await past(connection, other, "Patient", "p1") == []


async def test_a_version_that_never_was_is_absent(database: str, pool: Readers) -> None:
    await put(database, FIRST)
    async with pool.acquire() as connection:
        with pytest.raises(FhirError, match="There is no such Patient"):
            await vread(connection, EVERYTHING, "Patient", "p1", 2)


async def test_a_type_outside_every_scope_is_refused(database: str, pool: Readers) -> None:
    await put(database, FIRST)
    permit = Permit("Z99", "direct-care", (Scope.parse("system/Patient.s"), Scope.parse("system/Task.rs")))
    async with pool.acquire() as connection:
        for interaction in (
            read(connection, permit, "Patient", "p1"),
            vread(connection, permit, "Patient", "p1", 1),
            past(connection, permit, "Patient", "p1"),
        ):
            with pytest.raises(FhirError, match="allows read on Patient") as refused:
                await interaction
            assert refused.value.status == 403
