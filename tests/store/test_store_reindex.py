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
