"""A loader for tests alone: resources into the store, indexed, one version each, without a system of record."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from fhirgw.access.consent import delegations, directives
from fhirgw.access.label import also, labels, redacted
from fhirgw.access.relationship import ties
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.index import index
from fhirgw.fhir.issue import Resource
from fhirgw.store.database import SESSION

STAMP = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

COLUMNS = (
    *(
        "type",
        "id",
        "version",
        "updated",
        "patient",
        "origin",
        "controller",
        "tokens",
        "body",
        "labels",
        "also",
        "redacted",
    ),
    *(f"date{slot}_{end}" for slot in (1, 2, 3, 4) for end in ("low", "high")),
    "present",
)


KEPT = "patient, origin, controller, body, labels, also, redacted, tokens, present, transaction, " + ", ".join(
    f"date{slot}_{end}" for slot in (1, 2, 3, 4) for end in ("low", "high")
)
SIDES = {
    "search_string": ("type", "id", "param", "value"),
    "search_number": ("type", "id", "place", "low", "high", "system", "code", "unit", "tokens"),
    "search_span": ("type", "id", "param", "low", "high"),
}
RULES = {
    "relationship": "person, party, kind, starts, ends",
    "directive": "person, effect, party, purpose, kinds, classes, starts, ends, weight, decided",
    "delegation": "person, delegate, kind, kinds, starts, ends",
}
FOR_EVER = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))


async def connected(url: str, **options: Any) -> asyncpg.Connection:
    """A connection that may write: row-level security lets it."""
    return await asyncpg.connect(url, server_settings={"fhirgw.writing": "on"}, **options)


def reading(url: str, replan: bool = False) -> asyncpg.Pool:
    """Connections that read, as if each had declared a permit."""
    planning = {"plan_cache_mode": "force_custom_plan"} if replan else {}
    settings = SESSION | planning | {"fhirgw.permit": "test"}
    return asyncpg.create_pool(url, min_size=0, max_size=10, server_settings=settings)


def made(kind: str, id: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": id, **elements}


def stamped(resource: Resource, version: int = 1, updated: datetime = STAMP) -> Resource:
    """The resource with the meta that the store gives it."""
    instant = updated.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**resource, "meta": {**resource.get("meta", {}), "versionId": str(version), "lastUpdated": instant}}


async def put(url: str, *resources: Resource, updated: datetime = STAMP) -> None:
    """Stores the resources as they are, with meta; their ids are new."""
    await put_all(url, [(each, updated) for each in resources])


async def put_all(url: str, resources: Sequence[tuple[Resource, datetime]]) -> None:
    """`put`, each with when it was stored."""
    connection = await connected(url)
    try:
        await copy(connection, resources)
    finally:
        await connection.close()


async def copy(connection: asyncpg.Connection, resources: Sequence[tuple[Resource, datetime]]) -> None:
    """`put` on a connection of the caller's, each with when it was stored."""
    rows = [_row(stamped(each, 1, updated), updated) for each, updated in resources]
    await _insert(connection, "resource", COLUMNS, rows)
    await _beside(connection, [each for each, _ in resources])
    await _rule(connection, [each for each, _ in resources])


async def _beside(connection: asyncpg.Connection, resources: Sequence[Resource]) -> None:
    """What the resources are found by besides their rows."""
    rows: dict[str, list[Any]] = {table: [] for table in SIDES}
    for each in resources:
        found = index(each)
        for table, sides in zip(SIDES, (found.strings, found.numbers, found.spans), strict=True):
            rows[table] += [(each["resourceType"], each["id"], *side) for side in sides]
    for table, columns in SIDES.items():
        await _insert(connection, table, columns, rows[table])


async def _insert(connection: asyncpg.Connection, table: str, columns: Iterable[str], rows: Sequence[Any]) -> None:
    """Not by COPY, which row-level security refuses."""
    names = list(columns)
    places = ", ".join(f"${at}" for at in range(1, len(names) + 1))
    await connection.executemany(f"INSERT INTO fhirgw.{table} ({', '.join(names)}) VALUES ({places})", rows)


async def _rule(connection: asyncpg.Connection, resources: Sequence[Resource]) -> None:
    """What rests on the resources: relationships, directives, delegations."""
    for table, made in (("relationship", ties), ("directive", directives), ("delegation", delegations)):
        names = [*RULES[table].split(", "), "type", "id"]
        rows = [
            [_value(name, getattr(rule, name)) for name in names[:-2]] + [each["resourceType"], each["id"]]
            for each in resources
            for rule in made(each)
        ]
        await _insert(connection, table, names, rows)


def _value(name: str, value: Any) -> Any:
    if value is None and name in ("starts", "ends"):
        return FOR_EVER[name == "ends"]
    return list(value) if isinstance(value, tuple) else value


async def supersede(url: str, old: Resource, new: Resource | None, version: int, updated: datetime) -> None:
    """Makes `new` the version that replaces `old` (version - 1), or deletes `old` where there is no new one."""
    connection = await connected(url)
    key = (old["resourceType"], old["id"])
    try:
        async with connection.transaction():
            await connection.execute(
                f"INSERT INTO fhirgw.history (type, id, version, updated, beside, {KEPT})"
                f" SELECT type, id, version, updated, fhirgw.beside(type, id), {KEPT} FROM fhirgw.resource"
                " WHERE type = $1 AND id = $2",
                *key,
            )
            for table in ("resource", *SIDES, *RULES):
                await connection.execute(f"DELETE FROM fhirgw.{table} WHERE type = $1 AND id = $2", *key)
            if new is not None:
                row = _row(stamped(new, version, updated), updated)
                await _insert(connection, "resource", COLUMNS, [row])
                await _beside(connection, [new])
                await _rule(connection, [new])
            else:
                await connection.execute(
                    f"INSERT INTO fhirgw.history (type, id, version, updated, deleted, {KEPT})"
                    f" SELECT type, id, $3, $4, true, {KEPT} FROM fhirgw.history"
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
        *("test", "Z99", found.tokens, encode(resource).decode(), labels(resource), also(resource)),
        *(encode(without).decode() if (without := redacted(resource)) else None, *ends, found.present),
    )
