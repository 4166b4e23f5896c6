"""When carers were at which visit, and who was at two at once: found as visits come, whichever batch each came in.

A row for each stay that has begun and ended, of an index by carer. A stay is looked for among those of the same carer
that began in the day before it ended: a visit is no longer than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from fhirgw.store.database import Connection
from fhirgw.visits.moment import instant

CELL = "\x03"
Stay = tuple[str, str, str]
"""Who, from when, and until when, as visits say it."""
MISTAKE = "entered-in-error"

# What is written in the same statement cannot be seen by it: stays of one batch are compared where it is read
# (fhirgw.visits.batch.at_once). What is only sent again is told of if it still stands. Visits are looked up one by one:
# planned while there were few, a join would read them all for each.
KEEP = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(
        string_to_array($1, E'\\x03')::uuid[], string_to_array($2, E'\\x03')::bigint[],
        string_to_array($3, E'\\x03')::timestamptz[], string_to_array($4, E'\\x03')::timestamptz[],
        string_to_array($5, E'\\x03')::bool[]
    ) AS g (key, carer, began, ended, fresh)),
gone AS (
    DELETE FROM fhirgw.visit_stay s USING unnest(
        string_to_array($6, E'\\x03')::uuid[], string_to_array($7, E'\\x03')::bigint[],
        string_to_array($8, E'\\x03')::timestamptz[]
    ) AS o (key, carer, began) WHERE s.carer = o.carer AND s.began = o.began AND s.key = o.key),
made AS (
    INSERT INTO fhirgw.visit_stay (carer, began, ended, key) SELECT carer, began, ended, key FROM given WHERE fresh)
SELECT DISTINCT ON (g.key) g.key::text, v.visit FROM given g
LEFT JOIN LATERAL (
    SELECT true AS still FROM fhirgw.visit_stay o
    WHERE NOT g.fresh AND o.carer = g.carer AND o.began = g.began AND o.ended = g.ended AND o.key = g.key
    ORDER BY o.began LIMIT 1) AS o ON true
CROSS JOIN LATERAL (
    SELECT s.key FROM fhirgw.visit_stay s
    WHERE s.carer = g.carer AND s.began < g.ended AND s.began > g.began - interval '25 hours' AND s.ended > g.began
        AND s.key <> g.key
    ORDER BY s.began LIMIT 20) AS s
CROSS JOIN LATERAL (SELECT v.visit FROM fhirgw.visit v WHERE v.key = s.key LIMIT 1) AS v
WHERE (g.fresh OR o.still) AND s.key NOT IN (SELECT unnest(string_to_array($9, E'\\x03')::uuid[]))
ORDER BY g.key, v.visit
"""

MEETING = """
SELECT DISTINCT v.visit FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) AS g (carer, began, ended)
CROSS JOIN LATERAL (
    SELECT s.key FROM fhirgw.visit_stay s
    WHERE s.carer = g.carer AND s.began < g.ended AND s.began > g.began - interval '25 hours' AND s.ended > g.began
        AND s.key <> $4::uuid
    ORDER BY s.began LIMIT 20) AS s
JOIN fhirgw.visit v ON v.key = s.key AND v.provider = $5
ORDER BY v.visit
"""


class Stays(NamedTuple):
    """The stays of a visit; if it is written (`fresh`), those that stood there `before` as well."""

    key: str
    provider: str
    now: Sequence[Stay]
    before: Sequence[Stay] = ()
    fresh: bool = False


def of(facts: Mapping[str, Any]) -> list[Stay]:
    """The stays that facts tell of: none of a visit that was a mistake."""
    if (facts.get("outcome") or {}).get("code") == MISTAKE:
        return []
    carers = [*(facts.get("carers") or ()), *filter(None, (facts.get("carer"),))]
    return [(each["carer"], each["start"], each["end"]) for each in carers if "start" in each and "end" in each]


async def kept(connection: Connection, visits: Sequence[Stays]) -> dict[str, str]:
    """Keeps the stays of visits that are written; by key, another visit that one of its carers was at meanwhile."""
    now = [(each, stay) for each in visits for stay in each.now]
    before = [(each, stay) for each in visits for stay in each.before]
    if not now and not before:
        return {}
    rows = await connection.fetch(
        KEEP,
        CELL.join([each.key for each, _ in now]),
        CELL.join([_digest(each.provider, stay[0]) for each, stay in now]),
        CELL.join([stay[1] for _, stay in now]),
        CELL.join([stay[2] for _, stay in now]),
        CELL.join(["t" if each.fresh else "f" for each, _ in now]),
        CELL.join([each.key for each, _ in before]),
        CELL.join([_digest(each.provider, stay[0]) for each, stay in before]),
        CELL.join([stay[1] for _, stay in before]),
        CELL.join([each.key for each in visits]),
    )
    return {row["key"]: row["visit"] for row in rows}


async def meeting(connection: Connection, provider: str, key: str, facts: Mapping[str, Any]) -> list[str]:
    """The care provider's other visits at which a carer of this one was meanwhile, as far as is known now."""
    if not (stays := of(facts)):
        return []
    digests = [int(_digest(provider, each[0])) for each in stays]
    moments = [[instant(each[at]) for each in stays] for at in (1, 2)]
    return [row["visit"] for row in await connection.fetch(MEETING, digests, *moments, key, provider)]


@lru_cache(maxsize=1 << 14)
def _digest(provider: str, carer: str) -> str:
    """A carer as the index knows them: eight bytes, whatever their care provider calls them."""
    digest = blake2b(f"{provider}\x1f{carer}".encode(), digest_size=8).digest()
    return str(int.from_bytes(digest, signed=True))
