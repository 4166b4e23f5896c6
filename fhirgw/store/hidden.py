"""What a permit showed at a moment and does not show any more: whoever took a copy then is to remove it.

What was shown then is asked of the one predicate, with the rules as they were: in a transaction that is rolled back,
what rests on the resources that have changed since (relationships, directives, delegations) is made again of the
versions that were current then. So nobody is told of what was hidden from them before as well. The rules alone are
taken back, not the permit: what the application may ask for is a matter of now. That somebody has opted out of planning
and research is not told: nobody knows since when.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Select, Text, any_, bindparam, exists, literal, not_, or_, select, union
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.label import TELLING
from fhirgw.access.permit import Permit
from fhirgw.access.relationship import RULES
from fhirgw.fhir.index import Index
from fhirgw.store import cohort, load, rules, visibility
from fhirgw.store.database import Connection, declared, statement
from fhirgw.store.export import Selection, about
from fhirgw.store.incoming import made_of
from fhirgw.store.schema import PAST, RENDERED, among, both, held, same, versions
from fhirgw.store.visibility import visible

RULING = ("Patient", "Consent", *RULES)
"""Types that decide who sees a record."""

BATCH = 1000
"""Resources whose rules are made again at once."""

KNOWN = "SELECT greatest($2::timestamptz, min(created)) FROM fhirgw.registration WHERE organisation = $1"
"""Since when an organisation may have a copy of anything: not before it had its first application here. To whoever asks
since an earlier moment nobody is hidden who was so by then.
"""

CHANGED = """
SELECT r.type, r.id, b.body, b.patient FROM (
    SELECT type, id FROM fhirgw.resource WHERE type = $1 AND updated > $2
    UNION SELECT type, id FROM fhirgw.history WHERE type = $1 AND deleted AND updated > $2
) r LEFT JOIN LATERAL (
    SELECT body, patient, deleted FROM fhirgw.history h
    WHERE h.type = r.type AND h.id = r.id AND h.updated <= $2 ORDER BY version DESC LIMIT 1
) b ON NOT b.deleted"""
"""What has changed since, and what it was before, if it was there."""

CONCERNED = """
SELECT type FROM fhirgw.resource WHERE patient = ANY ($1)
UNION SELECT type FROM fhirgw.resource WHERE updated > $2 AND version > 1
UNION SELECT type FROM fhirgw.history WHERE deleted AND updated > $2
UNION SELECT unnest($3::text[])"""
"""The types of which something may have become hidden: those persons', and those of what has changed itself."""

UNDONE = """
DELETE FROM fhirgw.{table} t USING unnest($1::text[], $2::text[]) AS g (type, id)
WHERE t.type = g.type AND t.id = g.id RETURNING t.person"""

TURNED = """
SELECT person FROM fhirgw.relationship WHERE starts > $1 AND starts <= now() OR ends > $1 AND ends <= now()
UNION SELECT person FROM fhirgw.delegation WHERE starts > $1 AND starts <= now() OR ends > $1 AND ends <= now()
UNION SELECT person FROM fhirgw.directive WHERE starts > $1 AND starts <= now() OR ends > $1 AND ends <= now()"""
"""Whose rules have begun or ended by their own dates."""


async def hidden(
    connection: Connection, permit: Permit, kinds: Sequence[str], selection: Selection
) -> dict[str, list[str]]:
    """The ids by type, in order. The connection may write, and is in no transaction; nothing is written.

    Who does not meet a Group's searches any more, because they are hidden, is looked for among everybody.
    """
    assert selection.since is not None
    since = await connection.fetchval(KNOWN, permit.organisation, selection.since)
    selection = replace(selection, since=since)
    if selection.group is not None:
        async with declared(connection, permit):
            group = await cohort.find(connection, permit, selection.group, ())
        selection = selection if group.members is not None else replace(selection, group=None)
    before: dict[str, list[str]] = {}
    then = replace(permit, moment=since)
    async with _as_they_were(connection, since) as persons:
        concerned = {row["type"] for row in await connection.fetch(CONCERNED, persons, since, RENDERED)} | {*TELLING}
        for kind in concerned.intersection(kinds):
            made = statement(_shown(then, kind, selection))
            asked = visibility.values(then) | {"persons": persons}
            before[kind] = [row["id"] for row in await connection.fetch(made.sql, *made.arguments(asked))]
    found: dict[str, list[str]] = {kind: [] for kind in kinds}
    async with declared(connection, permit):
        for kind, ids in before.items():
            if not ids:
                continue
            made = statement(_still(permit, kind))
            asked = visibility.values(permit) | {"ids": ids}
            still = {row["id"] for row in await connection.fetch(made.sql, *made.arguments(asked))}
            found[kind] = [id for id in ids if id not in still]
    return found


@asynccontextmanager
async def _as_they_were(connection: Connection, since: datetime) -> AsyncIterator[list[str]]:
    """The rules as they were while the block runs, in a transaction that leaves no trace; and whose they are."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        persons = {row["person"] for row in await connection.fetch(TURNED, since)}
        for kind in RULING:
            rows = await connection.fetch(CHANGED, kind, since)
            for at in range(0, len(rows), BATCH):
                persons |= await _undone(connection, rows[at : at + BATCH], since)
        yield sorted(persons)
    finally:
        await transaction.rollback()


async def _undone(connection: Connection, rows: Sequence[Any], since: datetime) -> set[str]:
    """Makes the rules that rest on resources what they were; whose they are and were."""
    persons: set[str] = set()
    keys = [row["type"] for row in rows], [row["id"] for row in rows]
    for table in rules.TABLES:
        undone = await connection.fetch(UNDONE.format(table=table), *keys)
        persons |= {row["person"] for row in undone}
    there = [row for row in rows if row["body"] is not None]
    known = [Index(patient=row["patient"]) for row in there]
    made = [
        made_of(orjson.loads(row["body"]), "update", 1, since, "", None, found)
        for row, found in zip(there, known, strict=True)
    ]
    if ruling := [each for each in made if each.ties or each.directives or each.delegations]:
        lists = load.columns(ruling)
        await rules.write(connection, renewed=False, any_made=True, source=load.handed(1), lists=lists)
        persons |= {each.patient for each in ruling if each.patient}
    return persons


def _shown(permit: Permit, kind: str, selection: Selection) -> Select[Any]:
    """The ids of what the permit showed then, of those persons, and of what has changed itself.

    `history` by another name, because what is withheld of a resource now says nothing of what was shown of it then.
    """
    persons = bindparam("persons", type_=ARRAY(Text), required=False)
    found = []
    for real in both(kind):
        table = real.alias("before") if real in PAST else real
        shown = select(table.c.id).where(
            table.c.type == literal(kind, Text, literal_execute=True),
            table.c.updated <= selection.since,
            visible(permit, "r", kind, table),
            *about(selection, table),
        )
        if real not in PAST:
            shown = shown.where(or_(table.c.patient == any_(persons), table.c.also == any_(persons)))
        else:
            later = [each.alias(f"later_{each.name}") for each in versions(real)]
            for each in later:
                newer = (*same(each, table), each.c.version > table.c.version)
                shown = shown.where(~exists().where(*newer, each.c.updated <= selection.since).correlate(table))
            shown = shown.where(not_(table.c.deleted))
        found.append(shown)
    every = union(*found).subquery()
    return select(every.c.id).order_by(every.c.id)


def _still(permit: Permit, kind: str) -> Any:
    return union(
        *(
            select(table.c.id).where(
                table.c.type == literal(kind, Text, literal_execute=True),
                *among(table, bindparam("ids", type_=ARRAY(Text), required=False)),
                visible(permit, "r", kind, table),
            )
            for table in held(kind)
        )
    )
