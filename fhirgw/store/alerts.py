"""Alerts for who may see them: those that are open, what has changed since a moment, and one that is acknowledged.

They are Tasks like others, so each query has the one predicate in it. What changed is told by snapshots: of two, what
the later one sees and the earlier one does not, so nothing that commits late is ever left out.
https://www.postgresql.org/docs/18/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

from fhirgw.access.alerted import KIND, ORIGIN, is_alert
from fhirgw.access.permit import Permit
from fhirgw.fhir import tokens
from fhirgw.fhir.canonical import decode
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.store import visibility, write
from fhirgw.store.database import Connection, once
from fhirgw.store.incoming import made_of
from fhirgw.store.resources import absent
from fhirgw.store.schema import resource, visit, visit_alert
from fhirgw.store.visibility import visible
from fhirgw.visits.alert_task import OPEN, acknowledged

PAGE = 1000
"""Alerts read at a time."""
LATE = timedelta(minutes=15)
"""How long a transaction may take from the moment that it stamps to its commit: no session of ours is let wait longer
than ten minutes."""
TOKENS = ARRAY(BigInteger)
ALERTS = [tokens.system_only("code", KIND)]
INSTANT = TIMESTAMP(timezone=True)
MILLISECOND = timedelta(milliseconds=1)


class Alert(NamedTuple):
    """A Task as the permit sees it, and whose record it is in.

    `visit`: what its care provider calls the visit, and when it is planned, if the permit shows its Appointment.
    """

    id: str
    task: Resource
    patient: str | None
    updated: datetime
    visit: str | None
    start: datetime | None
    finish: datetime | None


class Wanted(NamedTuple):
    """Which alerts: of a kind, a status, a care provider (ODS code) or a person (Patient's id); None for any."""

    kind: str | None = None
    status: str | None = None
    provider: str | None = None
    person: str | None = None


Cursor = tuple[datetime, str]
"""Behind which alert a page goes on: when that was changed last, and its id."""


class Place(NamedTuple):
    """Up to where alerts have been told: what a transaction saw, and when."""

    snapshot: str
    moment: datetime


async def place(connection: Connection) -> Place:
    """Where this transaction stands."""
    return Place(*await connection.fetchrow("SELECT pg_current_snapshot()::text, clock_timestamp()"))


async def standing(
    connection: Connection, permit: Permit, wanted: Wanted, after: Cursor | None, count: int
) -> list[Alert]:
    """A page of the open alerts that the permit shows, the last changed first. Raises FhirError(forbidden)."""
    states = [each for each in OPEN if wanted.status in (None, each)]
    told = {"states": [tokens.code("status", each) for each in states], **wanted._asdict()}
    told["kind"] = [tokens.coding("code", KIND, wanted.kind)[0] if wanted.kind else tokens.system_only("code", KIND)]
    shaped = tuple(each is None for each in wanted[2:])
    return await _page(connection, permit, ("alerts", *shaped), partial(_standing, permit, wanted), told, after, count)


async def everything(connection: Connection, permit: Permit) -> AsyncIterator[Alert]:
    """All the open alerts that the permit shows, page by page."""
    async for each in _pages(lambda after: standing(connection, permit, Wanted(), after, PAGE)):
        yield each


async def changed(connection: Connection, permit: Permit, since: Place) -> AsyncIterator[Alert]:
    """The alerts that have changed since, and that the permit shows. Raises FhirError: forbidden, invalid."""
    told = {"snapshot": since.snapshot, "moment": since.moment - LATE, "kind": ALERTS}

    async def page(after: Cursor | None) -> list[Alert]:
        return await _page(connection, permit, ("alerts changed",), partial(_changed, permit), told, after, PAGE)

    try:
        async for each in _pages(page):
            yield each
    except asyncpg.DataError:
        raise FhirError(Issue("invalid", "Last-Event-ID is none of ours: connect without it")) from None


async def _pages(page: Callable[[Cursor | None], Awaitable[list[Alert]]]) -> AsyncIterator[Alert]:
    """None is left out, however many there are: within one snapshot."""
    after: Cursor | None = None
    while found := await page(after):
        for each in found:
            yield each
        if len(found) < PAGE:
            return
        after = found[-1].updated, found[-1].id


async def _page(
    connection: Connection,
    permit: Permit,
    named: tuple[Any, ...],
    build: Callable[[], Select[Any]],
    told: Mapping[str, Any],
    after: Cursor | None,
    count: int,
) -> list[Alert]:
    check(permit)
    planned = bool(permit.covering("r", "Appointment"))

    def whole() -> Select[Any]:
        return _planned(_after(build(), after), permit) if planned else _after(build(), after)

    made = once((*named, visibility.shape(permit), after is None, planned), whole)
    updated, id = after or (None, None)
    arguments = made.arguments({**visibility.values(permit), **told, "updated": updated, "id": id, "most": count})
    return [_read(row) for row in await connection.fetch(made.sql, *arguments)]


async def shown(connection: Connection, permit: Permit, ids: list[str]) -> set[str]:
    """Those of the alerts that the permit still shows."""
    check(permit)
    return set(await write.seen(connection, permit, "Task", ids))


def check(permit: Permit) -> None:
    """Raises FhirError(forbidden) for a token that may not look for Tasks."""
    permit.require("s", "Task")
    permit.require("r", "Task")


async def acknowledge(
    connection: Connection, permit: Permit, id: str, said: str | None, now: datetime
) -> tuple[Resource, str | None]:
    """The alert, taken in hand by whoever asks, and whose record it is in; one that is already is left as it is.

    Raises FhirError: forbidden, not-found, conflict for one that has ended.
    """
    check(permit)
    held = (await write.held(connection, permit, "u", "Task", [id])).get(id)
    task = decode(held.body) if held else {}
    if held is None or held.origin != ORIGIN or not held.readable or not is_alert(task):
        raise absent("alert")
    if task["status"] == "accepted":
        return task, held.person
    if task["status"] not in OPEN:
        raise FhirError(Issue("conflict", "This alert has ended: there is nothing left to acknowledge"))
    person = {"authorReference": {"reference": f"Practitioner/{permit.practitioner}"}}
    who = person if permit.practitioner else {"authorString": permit.registration}
    moment = max(now, held.updated + MILLISECOND)
    made = made_of(acknowledged(task, who, now, said), "update", held.version + 1, moment, held.origin, held.controller)
    await write.write(connection, ORIGIN, [made])
    return decode(made.body), held.person


def _standing(permit: Permit, wanted: Wanted) -> Select[Any]:
    found = _alerts(permit).where(resource.c.tokens.overlap(_given("states", TOKENS)))
    if wanted.provider:
        of = visit_alert.c.id == resource.c.id, visit_alert.c.provider == _given("provider", Text)
        found = found.where(exists().where(*of))
    return found.where(resource.c.patient == _given("person", Text)) if wanted.person else found


def _changed(permit: Permit) -> Select[Any]:
    snapshot = cast(_given("snapshot", Text), Text).op("::")(literal_column("pg_snapshot"))
    unseen = not_(func.pg_visible_in_snapshot(resource.c.transaction, snapshot))
    return _alerts(permit).where(resource.c.updated >= _given("moment", INSTANT), unseen)


def _alerts(permit: Permit) -> Select[Any]:
    return (
        select(resource.c.id, visibility.body(permit, "Task"), resource.c.patient, resource.c.updated)
        .where(
            resource.c.type == literal("Task", Text, literal_execute=True),
            resource.c.tokens.overlap(_given("kind", TOKENS)),
            resource.c.origin == literal(ORIGIN, Text, literal_execute=True),
            visible(permit, "s", "Task"),
        )
        .order_by(resource.c.updated.desc(), resource.c.id)
        .limit(_given("most", Integer))
    )


def _after(query: Select[Any], after: Cursor | None) -> Select[Any]:
    updated, id = _given("updated", INSTANT), _given("id", Text)
    behind = or_(resource.c.updated < updated, and_(resource.c.updated == updated, resource.c.id > id))
    return query.where(behind) if after else query


def _planned(query: Select[Any], permit: Permit) -> Select[Any]:
    """With what its care provider calls the visit, and when it is to be, of those whose Appointment is shown."""
    page = query.subquery("page")
    about = visit_alert.c.id == page.c.id
    mine = and_(visit.c.key == visit_alert.c.key, visit.c.patient == page.c.patient)
    told = page.outerjoin(visit_alert, about).outerjoin(visit, and_(mine, visible(permit, "r", "Appointment", visit)))
    columns = (*page.c, visit.c.visit, visit.c.start, visit.c.finish)
    return select(*columns).select_from(told).order_by(page.c.updated.desc(), page.c.id)


def _given(name: str, kind: Any) -> BindParameter[Any]:
    return bindparam(name, type_=kind, required=False)


def _read(row: Any) -> Alert:
    id, body, patient, updated, *planned = row
    return Alert(id, decode(body), patient, updated, *(planned or (None, None, None)))
