"""Merging what a system of record delivered: staged by COPY, then one statement a batch writes everything about it.

Current versions, superseded ones, what is searched by, the change log, identities and lineage change together, in the
caller's transaction: an unfinished table leaves nothing. Staging, because COPY FROM is refused on tables under
row-level security; data-modifying CTEs, because one round trip a batch is what lets mapping and merging overlap.
https://www.postgresql.org/docs/18/queries-with.html#QUERIES-WITH-MODIFYING

Long because a third of it is SQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

import orjson

from fhirgw.access.consent import Delegation, Directive
from fhirgw.access.label import SEALED
from fhirgw.access.relationship import Tie
from fhirgw.fhir.index import NamedSpan
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.numbers import Number
from fhirgw.store import rules
from fhirgw.store.database import Connection

DATES = tuple(f"date{slot}_{end}" for slot in (1, 2, 3, 4) for end in ("low", "high"))
COLUMNS = ("kind", "key", "digest", "type", "id", "version", "updated", "patient", "origin", "controller", "tokens")
GRACE = 1.0
"""Seconds a COPY has to fail by itself once its connection is gone."""
CELL, LIST = "\x02", "\x03"
RULES = ("ties", "directives", "delegations")
SIDES = ("present", "numbers", "spans")
STAGED = (
    *(*COLUMNS, *DATES, "body", "labels", "also", "redacted", "params", "strings", "systems", "identifiers"),
    *(*RULES, *SIDES),
)
TYPES = {
    "digest": "bytea",
    "version": "int",
    "updated": "timestamptz",
    "tokens": "bigint[]",
    "labels": "smallint",
    **dict.fromkeys(DATES, "timestamptz"),
    "present": "bigint",
    "numbers": "json",
    "spans": "json",
}
"""What a staged column is, where it is not text."""


class Incoming(NamedTuple):
    """A version to be written. `kind` is create or update; `dates` holds 8 instants, low and high by slot.

    `params` and `strings` are parallel (search_string), so are `systems` and `identifiers` (a Patient's). `labels`,
    `also` and `redacted` are what security labels come to; the rules are those that rest on the resource, about its
    `patient`. `present`, `numbers` and `spans` are as in fhirgw.fhir.index.Index.
    """

    kind: str
    key: str
    digest: bytes
    type: str
    id: str
    version: int
    updated: datetime
    patient: str | None
    origin: str
    controller: str
    tokens: list[int]
    dates: tuple[datetime | None, ...]
    body: str
    params: list[str]
    strings: list[str]
    systems: list[str]
    identifiers: list[str]
    labels: int = 0
    also: str | None = None
    redacted: str | None = None
    ties: Sequence[Tie] = ()
    directives: Sequence[Directive] = ()
    delegations: Sequence[Delegation] = ()
    present: int = 0
    numbers: Sequence[Number] = ()
    spans: Sequence[NamedSpan] = ()


def cells(each: Incoming) -> tuple[str, ...]:
    """A staged row as text, by STAGED. No value holds a control character that parts others; an empty one is NULL.

    By hand, because asyncpg's encoding of arrays looks at every element: half of the time of a bulk load.
    """
    return (
        *(each.kind, each.key, "\\x" + each.digest.hex(), each.type, each.id, str(each.version)),
        *(_spelt(each.updated), each.patient or "", each.origin, each.controller, f"{{{_listed(each.tokens)}}}"),
        *["" if moment is None else _spelt(moment) for moment in each.dates],
        *(
            each.body,
            str(each.labels),
            each.also or "",
            each.redacted or "",
            LIST.join(each.params),
            LIST.join(each.strings),
        ),
        *(LIST.join(each.systems), LIST.join(each.identifiers)),
        *(rules.lines(each.ties), rules.lines(each.directives), rules.lines(each.delegations)),
        *(str(each.present), _json(each.numbers), _json(each.spans)),
    )


class Staged(NamedTuple):
    """A version as COPY reads it (`line`), with what is asked of it before that.

    Made where the version is, in whatever process: one string goes from there to here, and not 40 values.
    """

    line: bytes
    kind: str
    type: str
    id: str
    patient: str | None
    tokens: list[int]
    labels: int
    ruling: bool
    redacts: bool


def staged(each: Incoming) -> Staged:
    """The version as it is staged: nothing in its line is quoted."""
    line = (CELL.join(cells(each)) + "\n").encode()
    ruling = bool(each.ties or each.directives or each.delegations)
    told = each.kind, each.type, each.id, each.patient, each.tokens, each.labels
    return Staged(line, *told, ruling, each.redacted is not None)


def _listed(tokens: list[int]) -> str:
    return orjson.dumps(tokens)[1:-1].decode()


def _json(rows: Sequence[Any]) -> str:
    """Rows as JSON, which escapes every control character; most resources have none, which is an empty cell."""
    return orjson.dumps(rows, default=str).decode() if rows else ""


@lru_cache(maxsize=1 << 15)
def _spelt(moment: datetime) -> str:
    """The instant as text. Cached: a day's ends come back in thousands of rows."""
    return moment.isoformat()


class Kept(NamedTuple):
    """What the store holds of a resource: its version, its body, the system that brought it, and whose it is."""

    version: int
    body: str
    origin: str
    controller: str


class Stale(FhirError):
    """Somebody else wrote a resource between reading it and merging the row that changes it."""

    def __init__(self, resource_type: str, missed: int) -> None:
        told = f"{missed} resources of type {resource_type} were changed by another while they were being written."
        super().__init__(Issue("conflict", f"{told} Nothing of their table was kept: run it again."))


STAGE = f"""
CREATE TEMP TABLE stage (
    {", ".join(f"{name} {TYPES.get(name, 'text')}" for name in STAGED)}
) WITH (toast_tuple_target = 8160) ON COMMIT DROP;
ALTER TABLE stage ALTER COLUMN body SET STORAGE EXTERNAL
"""
"""Bodies are staged as they are: compressing what is read back a moment later costs as much as storing it."""

_SAME = (*COLUMNS[5:], *DATES, "body", "labels", "also", "redacted", "present")
_KEPT = (
    *("patient", "origin", "controller", "body", "labels", "also", "redacted", "tokens"),
    *(*DATES, "present", "transaction"),
)
"""What history keeps of a version, besides its name, number and time."""

_KEPT_FROM = """EXISTS (
    SELECT FROM fhirgw.directive d WHERE d.person = removed.id AND removed.type = 'Patient' AND d.effect <> 'permit')"""
_SEALED = f"labels | CASE WHEN {_KEPT_FROM} THEN {SEALED} ELSE 0 END"
_BURIED = tuple(_SEALED if name == "labels" else name for name in _KEPT)
"""A tombstone: that of a person whom something kept from somebody is sealed, because what said so goes with them."""


def _lists(*names: str) -> str:
    """The rows of parallel lists that were staged as text."""
    split = ", ".join(rf"string_to_array({name}, E'\x03')" for name in names)
    return f"unnest({split})"


def columns(incoming: Sequence[Incoming]) -> list[str]:
    """Each column of STAGED as one text: asyncpg looks at every element of an array, a tenth of what a create costs."""
    return [CELL.join(column) for column in zip(*map(cells, incoming), strict=True)]


def handed(first: int) -> str:
    """A step that is what `stage` is, of `columns`: from parameter `first` on."""
    columns = ", ".join(f"nullif({name}, '')::{TYPES.get(name, 'text')} AS {name}" for name in STAGED)
    # Of one empty cell this makes no element, which is NULL beside others: so it is what it is among several.
    lists = ", ".join(rf"string_to_array(${first + at}, E'\x02')" for at in range(len(STAGED)))
    return f"stage AS MATERIALIZED (SELECT {columns} FROM unnest({lists}) AS handed ({', '.join(STAGED)}))"


TOLD = f"""
said AS (
    INSERT INTO fhirgw.search_string (type, id, param, value)
    SELECT type, id, param, value FROM stage, {_lists("params", "strings")} AS said (param, value)
), counted AS (
    INSERT INTO fhirgw.search_number (type, id, place, low, high, system, code, unit, tokens)
    SELECT type, id, n ->> 0, (n ->> 1)::float8, (n ->> 2)::float8, n ->> 3, n ->> 4, n ->> 5,
        translate(n ->> 6, '[]', '{{}}')::bigint[]
    FROM stage, json_array_elements(numbers) AS n
), spanned AS (
    INSERT INTO fhirgw.search_span (type, id, param, low, high)
    SELECT type, id, s ->> 0, (s ->> 1)::timestamptz, (s ->> 2)::timestamptz
    FROM stage, json_array_elements(spans) AS s
), known AS (
    INSERT INTO fhirgw.identifier (system, value, patient, origin, sure)
    SELECT known.system, known.value, id, origin, 'stated'
    FROM stage, {_lists("systems", "identifiers")} AS known (system, value)
    ON CONFLICT DO NOTHING
), logged AS (
    INSERT INTO fhirgw.change (type, id, version, kind, origin) SELECT type, id, version, kind, $1 FROM stage
)
"""
"""What every write says besides: what it is found by, who is who, and that it happened."""

TRACES = f"""{TOLD}, traced AS (
    INSERT INTO fhirgw.lineage (system, mapping, key, type, id, digest)
    SELECT $1, $2, key, type, id, digest FROM stage
    ON CONFLICT (system, mapping, key) DO UPDATE SET digest = excluded.digest, id = excluded.id, type = excluded.type
)
"""

CREATING = f"""created AS (
    INSERT INTO fhirgw.resource (type, id, {", ".join(_SAME)})
    SELECT type, id, {", ".join(_SAME)} FROM stage WHERE kind = 'create'
    RETURNING 1
)"""
CREATED = "SELECT count(*) FROM created"
CREATE = f"WITH {CREATING}, {TRACES} {CREATED}"

# The type stands in the statement, so that it is planned for one partition and not for all of them.
MERGING = f"""superseded AS (
    INSERT INTO fhirgw.history (type, id, version, updated, beside, {", ".join(_KEPT)})
    SELECT r.type, r.id, r.version, r.updated, fhirgw.beside(r.type, r.id), {", ".join(f"r.{name}" for name in _KEPT)}
    FROM fhirgw.resource r JOIN stage s USING (id) WHERE s.kind = 'update' AND r.type = '{{type}}'
), {CREATING}, updated AS (
    UPDATE fhirgw.resource r SET transaction = pg_current_xact_id(), {", ".join(f"{name} = s.{name}" for name in _SAME)}
    FROM stage s WHERE s.kind = 'update' AND r.type = '{{type}}' AND r.id = s.id AND r.version = s.version - 1
    RETURNING 1
), unsaid AS (
    DELETE FROM fhirgw.search_string t USING stage s WHERE s.kind = 'update' AND t.type = '{{type}}' AND t.id = s.id
), uncounted AS (
    DELETE FROM fhirgw.search_number t USING stage s WHERE s.kind = 'update' AND t.type = '{{type}}' AND t.id = s.id
), unspanned AS (
    DELETE FROM fhirgw.search_span t USING stage s WHERE s.kind = 'update' AND t.type = '{{type}}' AND t.id = s.id
), unknown AS (
    DELETE FROM fhirgw.identifier t USING stage s
    WHERE s.kind = 'update' AND s.type = 'Patient' AND t.patient = s.id
    AND NOT EXISTS (
        SELECT FROM {_lists("s.systems", "s.identifiers")} AS kept (system, value)
        WHERE kept.system = t.system AND kept.value = t.value
    )
)"""
MERGED = "SELECT (SELECT count(*) FROM created) + (SELECT count(*) FROM updated)"
MERGE = f"WITH {MERGING}, {TRACES} {MERGED}"

# What a system took from another's Patient (a number) goes with the row that brought it; the Patient stays. And where a
# Patient goes whom other systems know, their rows are marked (a digest no row has), to be taken anew at their next run.
REMOVED = f"""
removed AS (
    DELETE FROM fhirgw.resource r USING gone g WHERE r.type = '{{type}}' AND r.id = g.id AND {{whose}}
    RETURNING r.type, r.id, r.version, r.updated, {", ".join(f"r.{name}" for name in _KEPT)}
), kept AS (
    INSERT INTO fhirgw.history (type, id, version, updated, deleted, beside, {", ".join(_KEPT)})
    SELECT type, id, version, updated, false, fhirgw.beside(type, id), {", ".join(_KEPT)} FROM removed
    UNION ALL
    SELECT type, id, version + 1, $2::timestamptz, true, NULL, {", ".join(_BURIED)} FROM removed
), {rules.ended("removed", kept=rules.LABELS)}, unsaid AS (
    DELETE FROM fhirgw.search_string t USING removed r WHERE t.type = r.type AND t.id = r.id
), uncounted AS (
    DELETE FROM fhirgw.search_number t USING removed r WHERE t.type = r.type AND t.id = r.id
), unspanned AS (
    DELETE FROM fhirgw.search_span t USING removed r WHERE t.type = r.type AND t.id = r.id
), unknown AS (
    DELETE FROM fhirgw.identifier t USING removed r WHERE r.type = 'Patient' AND t.patient = r.id
), missed AS (
    UPDATE fhirgw.lineage l SET digest = '\\x00' FROM removed r
    WHERE r.type = 'Patient' AND l.type = 'Patient' AND l.id = r.id AND l.system <> $1 AND l.digest <> ''
), logged AS (
    INSERT INTO fhirgw.change (type, id, version, kind, origin)
    SELECT type, id, version + 1, 'delete', $1 FROM removed
)
SELECT count(*) FROM removed
"""

BROUGHT = "r.origin = $1"
"""A system removes what it brought itself."""

VANISH = """
WITH gone AS (
    SELECT l.key, l.id FROM fhirgw.lineage l
    WHERE l.system = $1 AND l.mapping = $3 AND l.digest <> '' AND NOT l.key = ANY ($4)
), marked AS (
    UPDATE fhirgw.lineage l SET digest = '' FROM gone g WHERE l.system = $1 AND l.mapping = $3 AND l.key = g.key
), """

LEAVE = """
WITH gone AS (SELECT unnest($3::text[]) AS id), """


async def stage(connection: Connection) -> None:
    """Makes the staging table, for this transaction.

    What the transaction adds to a GIN index is put aside and merged at its end (`fold`), in one go: row by row, or four
    megabytes at a time, that is the dearest part of a load. A commit that a crash undoes is done again by the next run,
    so none waits for the disk.
    """
    await connection.execute(STAGE)
    await connection.execute("SET LOCAL gin_pending_list_limit = '256MB'; SET LOCAL synchronous_commit = off")


async def fold(connection: Connection, resource_type: str) -> None:
    """Merges what was put aside into the token index of a type, so that no search has to read it."""
    await connection.execute(
        """
        SELECT gin_clean_pending_list(i.indexrelid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE a.amname = 'gin' AND i.indrelid = (
            SELECT tableoid FROM fhirgw.resource WHERE type = $1 LIMIT 1
        )
        """,
        resource_type,
    )


async def merge(connection: Connection, system: str, mapping: str, incoming: Sequence[Incoming]) -> None:
    """Writes versions of resources of one type, and all that follows; Stale where one was not the next version."""
    await merge_staged(connection, system, mapping, list(map(staged, incoming)))


async def merge_staged(connection: Connection, system: str, mapping: str, incoming: Sequence[Staged]) -> None:
    """The same of versions that are ready to be staged."""
    if not incoming:
        return
    await _copied(connection, b"".join([each.line for each in incoming]))
    news = all(each.kind == "create" for each in incoming)
    query = CREATE if news else MERGE.replace("{type}", incoming[0].type)
    written = await connection.fetchval(query, system, mapping)
    back = any(each.kind == "create" and each.type == "Patient" for each in incoming)
    await rules.write(connection, renewed=not news, any_made=any(each.ruling for each in incoming), back=back)
    await connection.execute("TRUNCATE stage")
    if written != len(incoming):
        raise Stale(incoming[0].type, len(incoming) - written)


async def _copied(connection: Connection, lines: bytes) -> None:
    """COPY into the staging table; fails when the connection does, which asyncpg's own COPY may wait out for ever.

    A server that dies while the socket is full leaves it waiting to be allowed to write.
    """
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def told(_: object) -> None:
        if not lost.done():
            lost.set_result(None)

    connection.add_termination_listener(told)
    copying = asyncio.create_task(
        connection.copy_to_table(
            "stage", source=BytesIO(lines), columns=STAGED, format="csv", delimiter="\x02", quote="\x01"
        )
    )
    try:
        await asyncio.wait({copying, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not copying.done():
            await asyncio.wait({copying}, timeout=GRACE)
        if not copying.done():
            raise ConnectionResetError("the database went away during COPY")
        await copying
    finally:
        if copying.cancel():
            copying.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # said above; heard here
        connection.remove_termination_listener(told)


async def vanish(
    connection: Connection, system: str, mapping: str, resource_type: str, seen: Sequence[str], moment: datetime
) -> int:
    """Deletes, with history, what rows that are no longer in the extract had become; says how many."""
    query = VANISH + REMOVED.format(type=resource_type, whose=BROUGHT)
    return int(await connection.fetchval(query, system, moment, mapping, list(seen)))


async def leave(connection: Connection, system: str, resource_type: str, ids: Sequence[str], moment: datetime) -> int:
    """Deletes, with history, what rows left behind that now belong to another person; says how many."""
    query = LEAVE + REMOVED.format(type=resource_type, whose=BROUGHT)
    return int(await connection.fetchval(query, system, moment, list(ids))) if ids else 0


async def current(connection: Connection, resource_type: str, ids: Sequence[str]) -> dict[str, Kept]:
    """The current versions of resources, by id."""
    query = "SELECT id, version, body, origin, controller FROM fhirgw.resource WHERE type = $1 AND id = ANY ($2)"
    rows: list[Any] = await connection.fetch(query, resource_type, list(ids))
    return {each[0]: Kept(*each[1:]) for each in map(tuple, rows)}


async def brought(connection: Connection, resource_type: str, ids: Sequence[str]) -> dict[str, str]:
    """Which system brought each of the resources that are there, by id."""
    query = "SELECT id, origin FROM fhirgw.resource WHERE type = $1 AND id = ANY ($2)"
    return dict(map(tuple, await connection.fetch(query, resource_type, list(ids))))


async def last_versions(connection: Connection, resource_type: str, ids: Sequence[str]) -> dict[str, int]:
    """The last version of resources that were deleted, by id."""
    query = "SELECT id, max(version) FROM fhirgw.history WHERE type = $1 AND id = ANY ($2) GROUP BY id"
    return dict(map(tuple, await connection.fetch(query, resource_type, list(ids))))


async def last_bodies(connection: Connection, resource_type: str, ids: Sequence[str]) -> dict[str, str]:
    """What resources said last that were deleted, by id."""
    query = """
        SELECT DISTINCT ON (id) id, body FROM fhirgw.history WHERE type = $1 AND id = ANY ($2) AND NOT deleted
        ORDER BY id, version DESC
    """
    return dict(map(tuple, await connection.fetch(query, resource_type, list(ids))))


SETTLED = ", ".join(
    f"fhirgw.{table}"
    for table in (
        *("resource", "search_string", "search_number", "search_span", "identifier", "lineage"),
        *rules.TABLES,
    )
)


async def settle(connection: Connection) -> None:
    """After a bulk load: the planner learns what is there."""
    await connection.execute(f"ANALYZE {SETTLED}")
