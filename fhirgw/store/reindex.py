"""Rows whose index is laid out as an older version of the code had it, indexed again from their bodies.

And what decides who sees them, as that version read it: their labels, and the ties, directives and delegations that
rest on them. A Consent that is read more strictly since would else be shared as before until it is written again. Of
whom that is, finished exports are looked through again.

In bounded batches, each in a transaction of its own with how far it has got: an interrupted run goes on where it
stopped, and writers wait for a batch at most. Bodies, versions and history stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fhirgw.fhir.canonical import decode
from fhirgw.fhir.index import VERSION
from fhirgw.fhir.issue import FhirError
from fhirgw.store import load, rules
from fhirgw.store.database import Connection, Engine, direct
from fhirgw.store.hidden import RULING
from fhirgw.store.incoming import made_of
from fhirgw.store.load import DATES, Incoming

BATCH = 1000

STATE = "SELECT version, type, id FROM fhirgw.indexed"
DONE = "UPDATE fhirgw.indexed SET version = $1, type = '', id = ''"
REACHED = "UPDATE fhirgw.indexed SET type = $1, id = $2"
ROWS = """
SELECT type, id, version, updated, origin, controller, body FROM fhirgw.resource
WHERE (type, id) > ($1, $2) ORDER BY type, id LIMIT $3 FOR UPDATE
"""
AGAIN = ("tokens", "present", "labels", "also", "redacted", *DATES)
PLACES = ", ".join(f"{name} = ${at}" for at, name in enumerate(AGAIN, 3))
UPDATE = f"UPDATE fhirgw.resource SET {PLACES} WHERE type = $1 AND id = $2"
GONE = "DELETE FROM fhirgw.{table} WHERE (type, id) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
SIDES: dict[str, tuple[str, Callable[[Incoming], Sequence[Any]]]] = {
    "search_string": ("param, value", lambda made: list(zip(made.params, made.strings, strict=True))),
    "search_number": ("place, low, high, system, code, unit, tokens", lambda made: made.numbers),
    "search_span": ("param, low, high", lambda made: made.spans),
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
    made = [each for row in rows if (each := _made(row)) is not None]
    await connection.executemany(UPDATE, list(map(_columns, made)))
    types, ids = [each.type for each in made], [each.id for each in made]
    for table, (columns, sides) in SIDES.items():
        await connection.execute(GONE.format(table=table), types, ids)
        places = ", ".join(f"${at}" for at in range(1, columns.count(",") + 4))
        insert = f"INSERT INTO fhirgw.{table} (type, id, {columns}) VALUES ({places})"
        await connection.executemany(insert, [(each.type, each.id, *side) for each in made for side in sides(each)])
    if ruling := [each for each in made if each.type in RULING]:
        lists = load.columns(ruling)
        await rules.write(connection, renewed=True, any_made=True, source=load.handed(1), lists=lists)


def _made(row: Any) -> Incoming | None:
    told = row["version"], row["updated"], row["origin"], row["controller"]
    try:
        return made_of(decode(row["body"]), "update", *told)
    except (FhirError, AttributeError, TypeError, KeyError):
        return None


def _columns(made: Incoming) -> tuple[Any, ...]:
    return made.type, made.id, made.tokens, made.present, made.labels, made.also, made.redacted, *made.dates
