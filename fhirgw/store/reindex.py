"""Rows whose index is laid out as an older version of the code had it, indexed again from their bodies.

In bounded batches, each in a transaction of its own with how far it has got: an interrupted run goes on where it
stopped, and writers wait for a batch at most. Bodies, versions and history stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fhirgw.fhir.canonical import decode
from fhirgw.fhir.index import VERSION, Index, index
from fhirgw.fhir.issue import FhirError
from fhirgw.store.database import Connection, Engine, direct

BATCH = 1000

STATE = "SELECT version, type, id FROM fhirgw.indexed"
DONE = "UPDATE fhirgw.indexed SET version = $1, type = '', id = ''"
REACHED = "UPDATE fhirgw.indexed SET type = $1, id = $2"
ROWS = """
SELECT type, id, version, body FROM fhirgw.resource WHERE (type, id) > ($1, $2) ORDER BY type, id LIMIT $3 FOR UPDATE
"""
DATES = ", ".join(
    f"date{slot}_{end} = ${3 + 2 * slot + at}" for slot in (1, 2, 3, 4) for at, end in enumerate(("low", "high"))
)
UPDATE = f"UPDATE fhirgw.resource SET tokens = $3, present = $4, {DATES} WHERE type = $1 AND id = $2"
GONE = "DELETE FROM fhirgw.{table} WHERE (type, id) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
SIDES: dict[str, tuple[str, Callable[[Index], Sequence[Any]]]] = {
    "search_string": ("param, value", lambda found: [each for each in found.strings if each[1]]),
    "search_number": ("place, low, high, system, code, unit, tokens", lambda found: found.numbers),
    "search_span": ("param, low, high", lambda found: found.spans),
}


async def reindex(engine: Engine, batch: int = BATCH) -> int:
    """Indexes again what an older version indexed; says how many rows. Does nothing where all are of this version."""
    done = 0
    async with direct(engine) as connection:
        while True:
            async with connection.transaction():
                state = await connection.fetchrow(f"{STATE} FOR UPDATE")
                if state is None or state["version"] == VERSION:
                    return done
                rows = await connection.fetch(ROWS, state["type"], state["id"], batch)
                await _again(connection, rows)
                done += len(rows)
                if len(rows) < batch:
                    await connection.execute(DONE, VERSION)
                else:
                    await connection.execute(REACHED, rows[-1]["type"], rows[-1]["id"])


async def stale(engine: Engine) -> bool:
    """Whether there are rows that an older version indexed: searches would not find them."""
    async with direct(engine) as connection:
        version = await connection.fetchval("SELECT version FROM fhirgw.indexed")
        return version is not None and version < VERSION


async def _again(connection: Connection, rows: Sequence[Any]) -> None:
    """The rows of a batch. What this version cannot read stays as it is: it can be read by id."""
    made = [(row["type"], row["id"], found) for row in rows if (found := _index(row["body"])) is not None]
    updates = [(type, id, found.tokens, found.present, *_dates(found)) for type, id, found in made]
    await connection.executemany(UPDATE, updates)
    types, ids = [each[0] for each in made], [each[1] for each in made]
    for table, (columns, sides) in SIDES.items():
        await connection.execute(GONE.format(table=table), types, ids)
        places = ", ".join(f"${at}" for at in range(1, columns.count(",") + 4))
        insert = f"INSERT INTO fhirgw.{table} (type, id, {columns}) VALUES ({places})"
        await connection.executemany(insert, [(type, id, *each) for type, id, found in made for each in sides(found)])


def _index(body: str) -> Index | None:
    try:
        return index(decode(body))
    except FhirError:
        return None


def _dates(found: Index) -> list[Any]:
    return [end for span in found.dates for end in (span or (None, None))]
