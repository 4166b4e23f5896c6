"""Everything a gateway's database holds, but for when it was written: what two walks to one end must agree on."""

import re
from collections import Counter
from typing import Any

from tests.put import connected

STAMP = re.compile(r'"lastUpdated":"[^"]*"')
TABLES = {
    "resource": "type, id, version, patient, origin, controller, tokens, date1_low, date1_high, date2_low, date2_high, "
    "date3_low, date3_high, date4_low, date4_high, body, present",
    "history": "type, id, version, deleted, patient, origin, controller, body",
    "search_string": "type, id, param, value",
    "search_number": "type, id, place, low, high, system, code, unit, tokens",
    "search_span": "type, id, param, low, high",
    "change": "type, id, version, kind, origin",
    "lineage": "system, mapping, key, type, id, digest",
    "identifier": "system, value, patient, origin, sure",
    "watermark": "system, mapping, rows",
}
"""By table, all columns but moments, running numbers and numbers of runs and transactions."""

State = dict[str, Counter[tuple[Any, ...]]]


async def state(url: str) -> State:
    """Every row of every table, counted: one that is there twice differs from one that is there once."""
    connection = await connected(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return {
                table: Counter(map(_timeless, await connection.fetch(f"SELECT {columns} FROM fhirgw.{table}")))
                for table, columns in TABLES.items()
            }
    finally:
        await connection.close()


def differing(one: State, other: State) -> dict[str, tuple[int, int]]:
    """By table that differs: how many rows only the one has, and only the other."""
    return {
        table: ((one[table] - other[table]).total(), (other[table] - one[table]).total())
        for table in TABLES
        if one[table] != other[table]
    }


def _timeless(row: Any) -> tuple[Any, ...]:
    cells = (tuple(each) if isinstance(each, list) else each for each in row)
    return tuple(STAMP.sub("", each) if isinstance(each, str) else each for each in cells)
