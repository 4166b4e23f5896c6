"""A world of the oracle's in a real database, and what the gateway's own predicate says of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy import Select, Text, literal, select

from fhirgw.access.label import CLASSES
from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.store import visibility
from fhirgw.store.database import SESSION, once
from fhirgw.store.schema import resource
from fhirgw.store.visibility import body, visible
from tests.access_policy.oracle import Caller, Grant, Key, World
from tests.put import STAMP, connected, copy

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
LASTS = timedelta(minutes=20)


async def fill(url: str, world: World, updated: dict[Key, datetime] | None = None) -> None:
    """Stores the world in an empty database."""
    connection = await connected(url)
    try:
        await pour(connection, world, updated)
    finally:
        await connection.close()


async def pour(connection: asyncpg.Connection, world: World, updated: dict[Key, datetime] | None = None) -> None:
    """`fill`, on a connection that writes."""
    stamps = updated or {}
    await copy(connection, [(each, stamps.get(key, STAMP)) for key, each in world.resources.items()])
    await connection.executemany(
        "UPDATE fhirgw.resource SET controller = $1 WHERE type = $2 AND id = $3",
        [(code, *key) for key, code in world.controllers.items()],
    )
    await connection.executemany(
        "INSERT INTO fhirgw.identifier (system, value, patient, origin, sure) VALUES ($1, $2, $3, 'test', 'stated')",
        [
            (one["system"], one["value"], id)
            for (kind, id), each in world.resources.items()
            for one in (each.get("identifier", []) if kind == "Patient" else [])
        ],
    )
    await grant(connection, world.grants)
    await connection.executemany(
        "INSERT INTO fhirgw.opt_out (nhs_number) VALUES ($1)", [(each,) for each in world.opted_out]
    )


async def grant(connection: asyncpg.Connection, grants: dict[str, Grant]) -> None:
    """Breaks the glass, as the gateway notes it."""
    await connection.executemany(
        "INSERT INTO fhirgw.break_glass"
        " (id, person, practitioner, organisation, registration, reason, granted, expires)"
        " VALUES ($1, $2, $3, $4, 'ward', 'found unconscious at home', $5, $6)",
        [
            (id, each.person, each.practitioner, each.organisation, each.expires - LASTS, each.expires)
            for id, each in grants.items()
        ],
    )


async def emptied(connection: asyncpg.Connection) -> None:
    """Forgets the world."""
    tables = "resource, history, search_string, search_number, search_span, identifier, relationship, directive"
    tables += ", delegation, break_glass, opt_out"
    await connection.execute("; ".join(f"DELETE FROM fhirgw.{each}" for each in tables.split(", ")))


def permit(caller: Caller, now: datetime) -> Permit:
    """The caller as the gateway knows one."""
    known = {name: value for name, value in vars(caller).items() if name not in ("scopes", "parties", "clearance")}
    return Permit(
        **known,
        scopes=tuple(map(Scope.parse, caller.scopes)),
        parties=tuple(sorted(caller.parties)),
        clearance=sum(CLASSES[each] for each in caller.clearance),
        moment=now,
    )


def _select(asked: Permit, verb: str, kind: str | None, bulk: bool) -> Select[Any]:
    if kind is None:
        return select(resource.c.type, resource.c.id, body(asked)).where(visible(asked, verb, bulk=bulk))
    found = select(resource.c.type, resource.c.id, literal("", Text)).where(visible(asked, verb, kind, bulk=bulk))
    return found.where(resource.c.type == literal(kind, Text, literal_execute=True))


async def shown(
    connection: asyncpg.Connection,
    caller: Caller,
    now: datetime,
    verb: str = "r",
    kind: str | None = None,
    *,
    bulk: bool = False,
) -> dict[Key, str]:
    """What the predicate lets a caller see: across types as it is served; of one type no more than that it is there.

    Statements are shared as the gateway shares them: by the shape of the permit. `bulk`: as an export asks.
    """
    asked = permit(caller, now)
    shape = ("access policy", visibility.shape(asked), verb, kind, bulk)
    made = once(shape, lambda: _select(asked, verb, kind, bulk))
    rows: Sequence[Any] = await connection.fetch(made.sql, *made.arguments(visibility.values(asked)))
    return {(each[0], each[1]): each[2] for each in rows}


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that may read, and plans each statement once: there are many, each asked a few times."""
    settings = SESSION | {"fhirgw.permit": "test", "plan_cache_mode": "force_generic_plan"}
    connection = await asyncpg.connect(url, statement_cache_size=5000, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()
