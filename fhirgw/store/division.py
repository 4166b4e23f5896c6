"""Where a type's resources are divided into parts: by how large its table is, at ids that divide a sample evenly.

The ids between two bounds may have been anything's when the snapshot was taken, so the first part has no lower bound
and the last no upper one: together they are all there is and was, whatever the sample missed.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.store.database import Connection
from fhirgw.store.export import Selection, Stretch

SIZE = """
SELECT pg_table_size(c.oid) AS bytes, greatest(c.reltuples, 0)::bigint AS rows FROM pg_class c
WHERE c.oid = to_regclass('fhirgw.resource_' || lower($1))"""

SAMPLED = 60
"""Pages of the table that are looked at for each bound: some 400 rows."""

PAGE = 8192

SAMPLE = "SELECT id FROM fhirgw.resource TABLESAMPLE SYSTEM ({share}) WHERE type = $1 ORDER BY id"
"""Ids alone, to divide a table by: they go into the ledger, and no further."""


async def stretches(
    connection: Connection, permit: Permit, kind: str, selection: Selection
) -> list[tuple[Stretch, int]]:
    """The parts a type is exported in, each with about how many resources it has: 0 where that is not to be known.

    The connection is in the snapshot's transaction. A few people's records, and what changed since a moment, are one
    part: indexes lead to them.
    """
    found = await connection.fetchrow(SIZE, kind)
    size, rows = (found["bytes"], found["rows"]) if found else (0, 0)
    known = rows if permit.purpose == Purpose.OPERATIONS and not selection.since else 0
    number = -(-size // selection.part)
    if number <= 1 or selection.patients or selection.since:
        return [(Stretch(kind), known)]
    share = min(100.0, 100 * SAMPLED * number / (size / PAGE))
    ids = [row["id"] for row in await connection.fetch(SAMPLE.format(share=f"{share:.6f}"), kind)]
    return [(each, known // number) for each in divided(kind, ids, number)]


def divided(kind: str, ids: Sequence[str], number: int) -> list[Stretch]:
    """So many stretches of a type, or fewer where there are not as many ids, with the same share of the ids each."""
    bounds = sorted({ids[len(ids) * at // number] for at in range(1, number)} if ids else set())
    return [Stretch(kind, low, high) for low, high in zip([None, *bounds], [*bounds, None], strict=True)]
