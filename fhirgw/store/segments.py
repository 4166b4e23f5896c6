"""What a full export may take from the files of the one before, and what of it it has to make anew.

Whether a person's resource is in a file is decided by its row (which changes with a version of it, and in no other way)
and by the rules about the person: their relationships, directives, delegations, their being opted out. So what is
*stale* is what has been written since the base's snapshot, and everything of persons whose rules are not what they
were. Too much may be stale: that costs time. Too little would leak, or lose data; hence:

- Rules are not followed through logs: a digest of what of them is in force is made for each person, when an export is
  planned and again when it has ended, and kept. Two exports compare theirs. So what begins or ends by its own date,
  what was made, ended, or came by a list, all counts alike, whoever wrote it and however.
- A file of the base was read between its two digests. A rule that changed and changed back between them changes no
  digest; but on the way there or back somebody was to see less of the person, which is noted for withdrawal
  (fhirgw.store.withdrawal), or a resource that makes rules was written. Such persons, and those whose two digests
  differ, have none: all of theirs is stale next time.
- Writes are found by transaction, not by clock: what was not to be seen in the base's snapshot. The time, less MARGIN
  for a clock that is wrong, only lets an index lead there.
- A base is of one *view*: the permit as it is, what was asked for, the code's version, how rows are indexed, and which
  PostgreSQL counted the transactions. Another caller's, or another policy's, is never looked at.

What depends on other rows than its own is left to be made anew each time: see `fhirgw.jobs.segments`.

Long, because half of it is SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import NamedTuple

import orjson

from fhirgw.access.label import TELLING
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.store import withdrawal
from fhirgw.store.database import Connection
from fhirgw.store.export import Stretch
from fhirgw.store.export_job import REVOKED, Job
from fhirgw.store.hidden import RULING
from fhirgw.store.schema import RENDERED

KEPT = timedelta(hours=50)
"""How long a base is kept that nothing begins from: two nights, and a late one."""

CARRIED = timedelta(days=7)
"""How old a line may be before all is made anew, though nothing says it has changed."""

SOON = timedelta(minutes=10)
"""How long whoever ends an export has to say that it is ready: who died before never will."""

MARGIN = timedelta(minutes=1)
"""How wrong the clock of a machine may be that stamps what it writes."""

PLACE = """
SELECT (SELECT system_identifier::text FROM pg_control_system())
    || (SELECT coalesce(string_agg(i::text, ''), '') FROM fhirgw.indexed i)"""
"""Which PostgreSQL counted the transactions, and how rows are indexed: there is nobody else's data in it."""

FIND = """
UPDATE fhirgw.export_base SET used = clock_timestamp() WHERE job = (
    SELECT job FROM fhirgw.export_base WHERE view = $1 AND ready AND made > clock_timestamp() - $2::interval
    ORDER BY time DESC LIMIT 1)
RETURNING job"""

STRETCHES = "SELECT number, type, low, high, rows, bytes FROM fhirgw.export_segment WHERE base = $1 ORDER BY number"

BEGIN = """
INSERT INTO fhirgw.export_base (job, view, permit, snapshot, time, made)
SELECT $1, $2, $3::jsonb, $4, $5, coalesce((SELECT made FROM fhirgw.export_base WHERE job = $6), clock_timestamp())"""

IN_FORCE = "starts <= statement_timestamp() AND ends > statement_timestamp()"

TIES = f"""
SELECT person, ROW('tie', party, kind)::text AS rule FROM fhirgw.relationship
WHERE party = ANY ((SELECT parties FROM asked)::text[]) AND {IN_FORCE}"""

DIRECTIVES = f"""
SELECT person, ROW('directive', effect, party, purpose, kinds, classes, weight)::text FROM fhirgw.directive
WHERE {IN_FORCE}"""

NUMBERS = f"""
SELECT i.patient, ROW('number', bool_or(o.nhs_number IS NOT NULL))::text
FROM fhirgw.identifier i LEFT JOIN fhirgw.opt_out o ON o.nhs_number = i.value
WHERE i.system = '{NHS_NUMBER}' GROUP BY i.patient"""

RULES = {
    Purpose.OPERATIONS: (),
    Purpose.DIRECT_CARE: (TIES, DIRECTIVES),
    Purpose.PLANNING: (DIRECTIVES, NUMBERS),
    Purpose.RESEARCH: (DIRECTIVES, NUMBERS),
}
"""By purpose, all that `fhirgw.store.visibility` asks about a person (and no purpose besides)."""

DIGESTS = """
WITH asked AS (SELECT $1::text[] AS parties)
SELECT person, sha256(convert_to(string_agg(rule, E'\\n' ORDER BY rule COLLATE "C"), 'UTF8')) AS digest
FROM ({rules}) AS every (person, rule) GROUP BY person"""

DIFFERENT = """
SELECT array(
    SELECT coalesce(one.person, other.person) FROM ({new}) AS one
    FULL JOIN (SELECT person, digest FROM fhirgw.export_rule WHERE base = {old}) AS other ON one.person = other.person
    WHERE one.digest IS DISTINCT FROM other.digest OR (other.person IS NOT NULL AND other.digest IS NULL))"""

OF_NEW = "SELECT person, digest FROM fhirgw.export_rule WHERE base = $1"

WRITTEN = """
updated > $1 AND NOT pg_visible_in_snapshot(transaction, $2::text::pg_snapshot)"""

ENDED = """
superseded >= pg_snapshot_xmin($2::text::pg_snapshot)
AND NOT pg_visible_in_snapshot(superseded, $2::text::pg_snapshot)"""

STALE = "INSERT INTO fhirgw.export_stale (base, type, id)"
STALE_KIND = f"""
SELECT $3, '{{kind}}', id FROM (
    SELECT r.id FROM fhirgw.resource r WHERE r.type = '{{kind}}' AND {WRITTEN}
    UNION SELECT h.id FROM fhirgw.history h WHERE h.type = '{{kind}}' AND {ENDED}
    UNION SELECT r.id FROM fhirgw.resource r WHERE r.type = '{{kind}}' AND r.patient IS NOT NULL AND ({{whose}})
    {{visits}}
) AS every"""
STALE_VISITS = f"""
    UNION SELECT r.id FROM fhirgw.visit_{{kind}} r WHERE {WRITTEN}
    UNION SELECT h.id FROM fhirgw.past_{{kind}} h WHERE {ENDED}
    UNION SELECT r.id FROM fhirgw.visit_{{kind}} r WHERE {{whose}}"""
"""Ids alone, of what is to be read again under the predicate: no answer has them."""

RULED = f"""
SELECT array(
    SELECT r.patient FROM fhirgw.resource r WHERE r.type = ANY ($3) AND r.patient IS NOT NULL AND {WRITTEN}
    UNION SELECT h.patient FROM fhirgw.history h WHERE h.type = ANY ($3) AND h.patient IS NOT NULL AND {ENDED})"""
"""Whose rules may have been made and ended while an export ran: for the digests, no answer has them."""

UNKNOWN = """
INSERT INTO fhirgw.export_rule (base, person) SELECT $1, unnest($2::text[])
ON CONFLICT (base, person) DO UPDATE SET digest = NULL"""

KEEP = """
INSERT INTO fhirgw.export_segment (base, number, type, low, high, key, rows, bytes, sha256)
SELECT job, number, type, low, high, key, rows, bytes, sha256 FROM fhirgw.export_part
WHERE job = $1 AND kind = 'output' AND state = 'done' AND NOT type = ANY ($2)
ON CONFLICT (base, number) DO NOTHING"""

READY = """
WITH now AS (UPDATE fhirgw.export_base SET ready = true, used = clock_timestamp() WHERE job = $1 RETURNING view, time),
    read AS (DELETE FROM fhirgw.export_stale WHERE base = $1)
DELETE FROM fhirgw.export_base b USING now WHERE b.view = now.view AND b.ready AND b.job <> $1 AND b.time <= now.time"""

SEGMENT = """
SELECT s.key, s.rows, s.bytes, s.sha256, array(
    SELECT t.id FROM fhirgw.export_stale t WHERE t.base = $1 AND t.type = $4
    AND ($5::text IS NULL OR t.id >= $5) AND ($6::text IS NULL OR t.id < $6) ORDER BY t.id) AS stale
FROM fhirgw.export_segment s WHERE s.base = $2 AND s.number = $3
    AND EXISTS (SELECT FROM fhirgw.export_base WHERE job = $1)"""

UNTOUCHED = """
SELECT p.number, p.type, s.key FROM fhirgw.export_part p
JOIN fhirgw.export_segment s ON s.base = p.base AND s.number = p.segment
WHERE p.job = $1 AND NOT EXISTS (
    SELECT FROM fhirgw.export_stale t WHERE t.base = $1 AND t.type = p.type
    AND (p.low IS NULL OR t.id >= p.low) AND (p.high IS NULL OR t.id < p.high))"""

TAKE = """
UPDATE fhirgw.export_part p
SET state = 'done', rows = s.rows, reused = s.rows, bytes = s.bytes, sha256 = s.sha256, key = g.key
FROM unnest($2::int[], $3::text[]) AS g (number, key), fhirgw.export_segment s
WHERE p.job = $1 AND p.number = g.number AND s.base = p.base AND s.number = p.segment"""

FORGET = f"""
DELETE FROM fhirgw.export_base b WHERE used < clock_timestamp() - $1::interval OR {REVOKED}
    OR (NOT ready AND NOT EXISTS (
        SELECT FROM fhirgw.export_job j WHERE j.id = b.job AND (
            j.state IN ('running', 'failed')
            OR (j.state = 'done' AND j.finished > clock_timestamp() - $2::interval))))"""


class Segment(NamedTuple):
    """A file of a base: its key, resources, bytes and SHA-256 (unpacked), and the ids of what is stale in it."""

    key: str
    rows: int
    bytes: int
    sha256: str
    stale: list[str]


class Held(NamedTuple):
    """A stretch that a base has a file of: the number of its part, its resources and their bytes."""

    number: int
    type: str
    low: str | None
    high: str | None
    rows: int
    bytes: int


async def place(connection: Connection) -> str:
    """What else than permit and request a view is told by."""
    return str(await connection.fetchval(PLACE))


async def find(connection: Connection, view: str) -> tuple[str, list[Held]] | None:
    """The newest base of a view, and its stretches; None where there is none to begin from."""
    found = await connection.fetchval(FIND, view, CARRIED)
    if found is None:
        return None
    rows = await connection.fetch(STRETCHES, found)
    return found, [Held(*row) for row in rows]


async def begin(
    connection: Connection, job: Job, view: str, taken: tuple[str, datetime], base: str | None, types: Sequence[str]
) -> None:
    """Notes the rules in force for an export that is being planned, and what is stale of these types of its base.

    In the transaction of the plan, after its snapshot `taken`, so that nothing that it sees is missed.
    """
    permit = orjson.dumps(asdict(job.permit)).decode()
    await connection.execute(BEGIN, job.id, view, permit, *taken, base)
    if digests := _digests(job.permit):
        insert = f"INSERT INTO fhirgw.export_rule (base, person, digest) SELECT $2, * FROM ({digests}) AS made"
        await connection.execute(insert, list(job.permit.parties), job.id)
    if base is None:
        return
    persons = await connection.fetchval(DIFFERENT.format(new=OF_NEW, old="$2"), job.id, base)
    since = await _since(connection, base)
    if since is None:
        return
    if types:
        await connection.execute(STALE + " UNION ALL ".join(map(_stale, types)), *since, job.id, persons)


def _stale(kind: str) -> str:
    """The query of what is stale of a type; of all types in one statement, as a round trip costs more than most."""
    whose = "r.patient = ANY ($4)" + (" OR r.also = ANY ($4)" if kind in TELLING else "")
    visits = STALE_VISITS.format(kind=kind.lower(), whose=whose) if kind in RENDERED else ""
    return STALE_KIND.format(kind=kind, whose=whose, visits=visits)


async def untouched(connection: Connection, job: str) -> list[tuple[int, str, str]]:
    """The parts of an export in which nothing is stale: number, type, and the key of the segment."""
    return [tuple(row) for row in await connection.fetch(UNTOUCHED, job)]


async def take(connection: Connection, job: str, keys: dict[int, str]) -> None:
    """Parts are done: their files are their segments, by these keys."""
    await connection.execute(TAKE, job, list(keys), list(keys.values()))


async def segment(connection: Connection, job: str, base: str, number: int, of: Stretch) -> Segment | None:
    """A file to begin from, and what is stale in the stretch; None where one or the other is not known any more."""
    found = await connection.fetchrow(SEGMENT, job, base, number, of.type, of.low, of.high)
    return Segment(*found) if found else None


async def begun(connection: Connection, job: str) -> bool:
    """Whether an export may come to be a base."""
    return bool(await connection.fetchval("SELECT true FROM fhirgw.export_base WHERE job = $1", job))


async def settle(connection: Connection, job: Job, but: Sequence[str]) -> None:
    """Notes the files of an export all of whose parts are done, but of types `but`; and whose rules have no digest.

    The digests come first: who was noted for withdrawal before they were made is found by then.
    """
    async with connection.transaction():
        await connection.execute(KEEP, job.id, list(but))
        if not (digests := _digests(job.permit)):
            return
        different = DIFFERENT.format(new=digests, old="$2")
        persons = set(await connection.fetchval(different, list(job.permit.parties), job.id))
        persons |= set((await withdrawal.narrowed(connection, job.id))[0])
        if since := await _since(connection, job.id):
            persons |= set(await connection.fetchval(RULED, *since, list(RULING)))
        await connection.execute(UNKNOWN, job.id, sorted(persons))


async def ready(connection: Connection, job: str) -> None:
    """The export is what the next one of its view begins from, in place of those before."""
    await connection.execute(READY, job)


async def forget(connection: Connection) -> None:
    """Forgets bases that nothing begins from any more, and those of applications that have been stopped."""
    await connection.execute(FORGET, KEPT, SOON)


async def kept(connection: Connection) -> set[str]:
    """The bases there are."""
    return {row["job"] for row in await connection.fetch("SELECT job FROM fhirgw.export_base")}


async def _since(connection: Connection, base: str) -> tuple[datetime, str] | None:
    """After when a base does not have what was written, and its snapshot: values, for the planner to plan by.

    None where it is gone, and its segments with it.
    """
    found = await connection.fetchrow("SELECT time, snapshot FROM fhirgw.export_base WHERE job = $1", base)
    return (found["time"] - MARGIN, found["snapshot"]) if found else None


def _digests(permit: Permit) -> str:
    """The query of a digest for each person with any rule, of the permit's parties ($1). Empty: no rule counts."""
    rules = RULES[Purpose(permit.purpose)]
    return DIGESTS.format(rules=" UNION ALL ".join(rules)) if rules else ""
