"""Rows that an older version of the code indexed are found as new ones are, once the database has been migrated."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.index import VERSION
from fhirgw.fhir.query import Query
from fhirgw.store.database import Readers
from fhirgw.store.migrate import NotMigrated, check, migrate
from fhirgw.store.reindex import reindex
from fhirgw.store.search import search
from tests.put import connected, put

EVERYTHING = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
QUANTITY = {"value": 5.4, "system": "http://unitsofmeasure.org", "code": "kg"}
OBSERVATIONS = [{"resourceType": "Observation", "id": f"o{at}", "valueQuantity": QUANTITY} for at in range(5)]
ENCOUNTER = {"resourceType": "Encounter", "id": "e", "location": [{"period": {"start": "2026-01"}}]}
ASKED = (
    ("Observation", ("value-quantity", "5.4")),
    ("Observation", ("value-quantity:missing", "false")),
    ("Encounter", ("location-period", "ge2026")),
)


async def found(pool: Readers) -> list[int | None]:
    async with pool.acquire() as connection:
        return [(await search(connection, EVERYTHING, Query.parse(kind, [pair]))).total for kind, pair in ASKED]


async def test_what_an_older_version_indexed_is_indexed_again(
    database: str, engine: AsyncEngine, pool: Readers
) -> None:
    await put(database, *OBSERVATIONS, ENCOUNTER)
    assert await found(pool) == [5, 5, 1]
    writer = await connected(database)
    try:
        await writer.execute("DELETE FROM fhirgw.search_number; DELETE FROM fhirgw.search_span")
        await writer.execute("UPDATE fhirgw.resource SET present = 0; UPDATE fhirgw.indexed SET version = 1")
        assert await found(pool) == [0, 0, 0]
        with pytest.raises(NotMigrated, match="run `fhirgw migrate`"):
            await check(engine)
        assert await reindex(engine, batch=2) == 6
        assert await found(pool) == [5, 5, 1]
        assert await writer.fetchval("SELECT version FROM fhirgw.indexed") == VERSION
        assert await reindex(engine) == 0
        await check(engine)
        await writer.execute("UPDATE fhirgw.resource SET present = 0; UPDATE fhirgw.indexed SET version = 1")
        await migrate(engine)
        assert await found(pool) == [5, 5, 1]
    finally:
        await writer.close()


async def test_an_interrupted_run_goes_on_where_it_stopped(database: str, engine: AsyncEngine) -> None:
    await put(database, *OBSERVATIONS)
    writer = await connected(database)
    try:
        await writer.execute("UPDATE fhirgw.indexed SET version = 1, type = 'Observation', id = 'o2'")
        assert await reindex(engine, batch=2) == 2
    finally:
        await writer.close()


async def test_a_body_that_cannot_be_read_any_more_stops_nothing(database: str, engine: AsyncEngine) -> None:
    await put(database, *OBSERVATIONS)
    writer = await connected(database)
    try:
        await writer.execute(
            """UPDATE fhirgw.resource SET body = '{"resourceType":"Observation","code":1}' WHERE id = 'o1'"""
        )
        await writer.execute("UPDATE fhirgw.indexed SET version = 1")
        assert await reindex(engine) == 5
    finally:
        await writer.close()


SEALED = {"security": [{"system": "https://fhirgw.uk/fhir/CodeSystem/record-class", "code": "sealed"}]}
COUNCIL = {"reference": "Organization/c"}
DENY = {"type": "deny"}
PERSON = {"reference": "Patient/p"}
WRITTEN = (
    {"resourceType": "Patient", "id": "p", "managingOrganization": COUNCIL},
    {"resourceType": "Patient", "id": "q", "managingOrganization": COUNCIL, "meta": SEALED},
    {"resourceType": "Consent", "id": "c", "status": "active", "patient": PERSON, "provision": DENY},
    {"resourceType": "Observation", "id": "o", "subject": PERSON, "meta": SEALED},
)
RULES = """
SELECT 'tie', person, party, kind, type, id FROM fhirgw.relationship
UNION ALL SELECT effect, person, party, purpose, type, id FROM fhirgw.directive
UNION ALL SELECT 'labels', patient, body, NULL, type, labels::text FROM fhirgw.resource ORDER BY 1, 2, 5, 6"""


async def test_who_sees_what_is_read_again_as_this_version_reads_it(database: str, engine: AsyncEngine) -> None:
    """An older version found no dissent in the Consent, another council, and no class; and its rules are not left."""
    await put(database, *WRITTEN)
    writer = await connected(database)
    try:
        rules = [tuple(row) for row in await writer.fetch(RULES)]
        assert [row[0] for row in rules] == ["deny", *["labels"] * 4, "seal", "tie", "tie"]
        await writer.execute(
            "DELETE FROM fhirgw.directive; UPDATE fhirgw.relationship SET party = 'Organization/d' WHERE person = 'p';"
            " UPDATE fhirgw.resource SET labels = 0; UPDATE fhirgw.indexed SET version = 3"
        )
        await writer.execute(  # what rests on no resource stays
            "INSERT INTO fhirgw.directive (person, effect, weight, decided, type, id)"
            " VALUES ('r', 'deny', 1, 'unread', 'unread', 'x')"
        )
        assert await reindex(engine, batch=2) == 4
        again = [tuple(row) for row in await writer.fetch(RULES)]
        assert [row for row in again if row[4] != "unread"] == rules
        assert len(again) == len(rules) + 1
        looked = await writer.fetchval("SELECT array_agg(DISTINCT person ORDER BY person) FROM fhirgw.narrowed")
        assert looked == ["p", "q"]
    finally:
        await writer.close()
