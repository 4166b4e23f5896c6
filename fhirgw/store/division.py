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
SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint AS bytes,
    coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint AS rows
FROM unnest($1::text[]) AS t (kind) JOIN pg_class c ON c.oid = to_regclass('fhirgw.resource_' || lower(kind))
    OR kind = ANY (fhirgw.visit_types()) AND c.oid = to_regclass('fhirgw.visit')"""

CHANGED = """
SELECT count(*) FROM (
    SELECT FROM fhirgw.resource WHERE type = $1 AND updated > $2
    UNION ALL SELECT FROM fhirgw.visit WHERE $1 = ANY (fhirgw.visit_types()) AND patient IS NOT NULL AND updated > $2
    LIMIT $3) AS changed"""
"""How many, for dividing them alone; as many as there are rows, where there are more."""

SAMPLED = 60
"""Pages of the table that are looked at for each bound: some 400 rows."""

PAGE = 8192

SAMPLE = """
SELECT id FROM fhirgw.resource TABLESAMPLE SYSTEM ({share}) WHERE type = $1
UNION ALL SELECT fhirgw.visit_id(patient, key) FROM fhirgw.visit TABLESAMPLE SYSTEM ({share})
WHERE $1 = ANY (fhirgw.visit_types()) AND patient IS NOT NULL
ORDER BY id"""
"""Ids alone, to divide a table by: they go into the ledger, and no further."""


async def stretches(
    connection: Connection,
    permit: Permit,
    kind: str,
    selection: Selection,
    types: Sequence[str] = (),
    people: int | None = None,
    joined: int = 0,
) -> list[tuple[Stretch, int]]:
    """The parts a type is exported in, each with about how many resources it has: 0 where that is not to be known.

    The connection is in the snapshot's transaction. `types`: of all of them together, divided by the ids of the
    Patients they are about. `people`: how many persons it is of, None for everybody; of so many of those as have
    `joined`, not of what changed alone. There are as many parts as what is asked for is large: a few people's records,
    and what changed since a moment, are mostly one: indexes lead to them.
    """
    size, rows = await connection.fetchrow(SIZE, list(types or (kind,)))
    share, new = 1.0, 0.0
    if people is not None:
        _, persons = await connection.fetchrow(SIZE, ["Patient"])
        share, new = (min(1.0, people / persons), joined / persons) if persons else (share, new)
    if selection.since and not types and rows:
        changed = await connection.fetchval(CHANGED, kind, selection.since, rows)
        share = min(share, changed / rows + new)
    known = rows if permit.purpose == Purpose.OPERATIONS and not selection.since and people is None else 0
    number = -(-int(size * share) // selection.part)
    if number <= 1:
        return [(Stretch(kind), known)]
    pages = max(1.0, (await connection.fetchrow(SIZE, [kind]))["bytes"] / PAGE)
    sample = min(100.0, 100 * SAMPLED * number / pages)
    ids = [row["id"] for row in await connection.fetch(SAMPLE.format(share=f"{sample:.6f}"), kind)]
    return [(each, known // number) for each in divided(kind, ids, number)]


def divided(kind: str, ids: Sequence[str], number: int) -> list[Stretch]:
    """So many stretches of a type, or fewer where there are not as many ids, with the same share of the ids each."""
    bounds = sorted({ids[len(ids) * at // number] for at in range(1, number)} if ids else set())
    return [Stretch(kind, low, high) for low, high in zip([None, *bounds], [*bounds, None], strict=True)]
