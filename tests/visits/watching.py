"""A county that is watched over: what is sent when, and what the watch makes of it, by a clock that tests set."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from fhirgw.store import watch
from fhirgw.store.visits import Provider, take
from fhirgw.visits.batch import told_apart
from fhirgw.visits.reading import Reader, Sent
from tests.visits.test_visits_alert import RULES

READER = Reader(RULES)
KESTREL = Provider("K01", ("Organization/kestrel",), "Z99")


async def send(connection: asyncpg.Connection, now: datetime, *rows: Any, by: Provider = KESTREL) -> None:
    """Rows that are all sound, taken in as of now."""
    read = told_apart([READER.read(each, by.code, now) for each in rows])
    assert all(isinstance(each, Sent) for each in read), read
    async with connection.transaction():
        await take(connection, by, read, RULES, now)  # type: ignore[arg-type]


async def look(connection: asyncpg.Connection, now: datetime) -> int:
    """What one look of the watch does; how much was due."""
    found = 0
    for step in (watch.look, watch.forsake, watch.listen, watch.climb):
        while done := await step(connection, RULES, now):
            found += done
    return found


async def tasks(connection: asyncpg.Connection) -> list[Mapping[str, Any]]:
    """The alerts as they are stored."""
    rows = await connection.fetch(
        "SELECT body FROM fhirgw.resource WHERE type = 'Task' AND origin = 'gateway:alerts' ORDER BY updated, id"
    )
    return [orjson.loads(row["body"]) for row in rows]


async def told(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """By alert, its kind and its status, sorted."""
    return sorted((each["code"]["coding"][0]["code"], each["status"]) for each in await tasks(connection))
