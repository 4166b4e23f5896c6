"""Alerts for who may see them: those that are open, what has changed since a moment, and one that is acknowledged.

They are Tasks like others, so each query has the one predicate in it. What changed is told by snapshots: of two, what
the later one sees and the earlier one does not, so nothing that commits late is ever left out.
https://www.postgresql.org/docs/18/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import BigInteger, Select, Text, bindparam, cast, func, literal, literal_column, not_, select
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
from fhirgw.store.schema import resource
from fhirgw.store.visibility import visible
from fhirgw.visits.alert_task import OPEN, acknowledged

MOST = 1000
"""Alerts of one answer: a desk that has more has other worries. The newest are those that are told."""
LATE = timedelta(minutes=15)
"""How long a transaction may take from the moment that it stamps to its commit: no session of ours is let wait longer
than ten minutes."""
TOKENS = ARRAY(BigInteger)
ALERTS = [tokens.system_only("code", KIND)]
STATES = [tokens.code("status", each) for each in OPEN]
MILLISECOND = timedelta(milliseconds=1)


class Alert(NamedTuple):
    """A Task as the permit sees it, and whose record it is in."""

    id: str
    task: Resource
    patient: str | None


class Place(NamedTuple):
    """Up to where alerts have been told: what a transaction saw, and when."""

    snapshot: str
    moment: datetime


async def place(connection: Connection) -> Place:
    """Where this transaction stands."""
    return Place(*await connection.fetchrow("SELECT pg_current_snapshot()::text, clock_timestamp()"))


async def standing(connection: Connection, permit: Permit) -> list[Alert]:
    """The open alerts that the permit shows, the newest first. Raises FhirError(forbidden)."""
    check(permit)
    made = once(("alerts", visibility.shape(permit)), partial(_standing, permit))
    return _read(await connection.fetch(made.sql, *made.arguments(visibility.values(permit) | {"most": MOST})))


async def changed(connection: Connection, permit: Permit, since: Place) -> list[Alert]:
    """The alerts that have changed since, and that the permit shows. Raises FhirError: forbidden, invalid."""
    check(permit)
    made = once(("alerts changed", visibility.shape(permit)), partial(_changed, permit))
    asked = {"most": MOST, "snapshot": since.snapshot, "moment": since.moment - LATE}
    try:
        return _read(await connection.fetch(made.sql, *made.arguments(visibility.values(permit) | asked)))
    except asyncpg.DataError:
        raise FhirError(Issue("invalid", "Last-Event-ID is none of ours: connect without it")) from None


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


def _standing(permit: Permit) -> Select[Any]:
    return _alerts(permit).where(resource.c.tokens.overlap(literal(STATES, TOKENS, literal_execute=True)))


def _changed(permit: Permit) -> Select[Any]:
    snapshot = cast(bindparam("snapshot", type_=Text, required=False), Text).op("::")(literal_column("pg_snapshot"))
    moment = bindparam("moment", type_=TIMESTAMP(timezone=True), required=False)
    unseen = not_(func.pg_visible_in_snapshot(resource.c.transaction, snapshot))
    return _alerts(permit).where(resource.c.updated >= moment, unseen)


def _alerts(permit: Permit) -> Select[Any]:
    return (
        select(resource.c.id, visibility.body(permit, "Task"), resource.c.patient)
        .where(
            resource.c.type == literal("Task", Text, literal_execute=True),
            resource.c.tokens.overlap(literal(ALERTS, TOKENS, literal_execute=True)),
            resource.c.origin == literal(ORIGIN, Text, literal_execute=True),
            visible(permit, "s", "Task"),
        )
        .order_by(resource.c.updated.desc(), resource.c.id)
        .limit(bindparam("most", required=False))
    )


def _read(rows: list[Any]) -> list[Alert]:
    return [Alert(id, decode(body), patient) for id, body, patient in rows]
