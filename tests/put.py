"""A loader for tests alone: resources into the store, indexed, one version each, without a system of record."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from fhirgw.fhir.canonical import encode
from fhirgw.fhir.index import index
from fhirgw.fhir.issue import Resource

STAMP = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

COLUMNS = (
    *("type", "id", "version", "updated", "patient", "origin", "controller", "tokens", "body"),
    *(f"date{slot}_{end}" for slot in (1, 2, 3, 4) for end in ("low", "high")),
)


def stamped(resource: Resource, version: int = 1, updated: datetime = STAMP) -> Resource:
    """The resource with the meta that the store gives it."""
    instant = updated.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**resource, "meta": {**resource.get("meta", {}), "versionId": str(version), "lastUpdated": instant}}


async def put(url: str, *resources: Resource, updated: datetime = STAMP) -> None:
    """Stores the resources as they are, with meta; their ids are new."""
    connection = await asyncpg.connect(url)
    try:
        await copy(connection, [(each, updated) for each in resources])
    finally:
        await connection.close()


async def copy(connection: asyncpg.Connection, resources: Sequence[tuple[Resource, datetime]]) -> None:
    """`put` on a connection of the caller's, each with when it was stored."""
    rows = [_row(stamped(each, 1, updated), updated) for each, updated in resources]
    strings = [(each["resourceType"], each["id"], *pair) for each, _ in resources for pair in index(each).strings]
    await connection.copy_records_to_table("resource", schema_name="fhirgw", columns=COLUMNS, records=rows)
    await connection.copy_records_to_table("search_string", schema_name="fhirgw", records=strings)


async def supersede(url: str, old: Resource, new: Resource | None, version: int, updated: datetime) -> None:
    """Makes `new` the version that replaces `old` (version - 1), or deletes `old` where there is no new one."""
    connection = await asyncpg.connect(url)
    key = (old["resourceType"], old["id"])
    try:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO fhirgw.history (type, id, version, updated, patient, origin, controller, body)"
                " SELECT type, id, version, updated, patient, origin, controller, body FROM fhirgw.resource"
                " WHERE type = $1 AND id = $2",
                *key,
            )
            await connection.execute("DELETE FROM fhirgw.search_string WHERE type = $1 AND id = $2", *key)
            await connection.execute("DELETE FROM fhirgw.resource WHERE type = $1 AND id = $2", *key)
            if new is not None:
                row = _row(stamped(new, version, updated), updated)
                await connection.copy_records_to_table("resource", schema_name="fhirgw", columns=COLUMNS, records=[row])
            else:
                await connection.execute(
                    "INSERT INTO fhirgw.history (type, id, version, updated, deleted, patient, origin, body)"
                    " SELECT type, id, $3, $4, true, patient, origin, body FROM fhirgw.history"
                    " WHERE type = $1 AND id = $2 AND version = $3 - 1",
                    *key,
                    version,
                    updated,
                )
    finally:
        await connection.close()


def _row(resource: Resource, updated: datetime) -> tuple[Any, ...]:
    found = index(resource)
    ends: Iterable[Any] = (end for span in found.dates for end in (span or (None, None)))
    return (
        *(resource["resourceType"], resource["id"], int(resource["meta"]["versionId"]), updated, found.patient),
        *("test", "Z99", found.tokens, encode(resource).decode(), *ends),
    )
