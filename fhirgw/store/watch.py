"""Looks at the visits, the care providers and the alerts whose moment has come, and at no others.

Each look is a transaction: it locks what is due (what another process has locked is that one's, or is being written and
will be due then), raises, moves and ends alerts as Tasks through the store's usual writing (fhirgw.store.write), and
says when to look again. Killed in the middle nothing of it is there, and all of it is still due. One cause has one
alert: its Task's id is made of the cause, and the table has each once.

Locks are taken in one order: visit or care provider, alert, Task. Long, because a quarter of it is SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fhirgw.access.alerted import ORIGIN
from fhirgw.fhir.canonical import decode
from fhirgw.fhir.issue import Resource
from fhirgw.store import write
from fhirgw.store.database import Connection
from fhirgw.store.incoming import made_of
from fhirgw.store.load import Incoming
from fhirgw.visits.alert import Span, spans, upcoming
from fhirgw.visits.alert_task import OPEN, Cause, climbed, climbs, ended, moved, raised
from fhirgw.visits.batch import key, placed
from fhirgw.visits.merge import facts
from fhirgw.visits.rules import Rules

AT_ONCE = 100
"""Looked at in one transaction."""
MILLISECOND = timedelta(milliseconds=1)

DUE = """
SELECT key::text, provider, controller, patient, parts FROM fhirgw.visit
WHERE due <= $1 AND patient IS NOT NULL ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED
"""
LOOKED = """
UPDATE fhirgw.visit v SET due = g.due, alerted = g.alerted
FROM unnest($1::uuid[], $2::timestamptz[], $3::boolean[]) AS g (key, due, alerted) WHERE v.key = g.key
"""
SILENT = """
SELECT provider, controller, heard FROM fhirgw.visit_provider
WHERE due <= $1 ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED
"""
EXPECTED = """
SELECT start FROM fhirgw.visit
WHERE provider = $1 AND start >= $2 AND began IS NULL AND outcome IS NULL ORDER BY start LIMIT 1
"""
LISTENED = "UPDATE fhirgw.visit_provider SET due = $2, alerted = $3 WHERE provider = $1"
STANDING = """
SELECT id, key::text, kind, again, provider, controller, patient, since, ended IS NULL AS open FROM fhirgw.visit_alert
WHERE key = ANY ($1::uuid[]) ORDER BY key, kind, again FOR UPDATE
"""
CLIMBING = """
SELECT id, provider, controller, rung, raised FROM fhirgw.visit_alert
WHERE climbs <= $1 ORDER BY climbs LIMIT $2 FOR UPDATE SKIP LOCKED
"""
# Whoever took the visit out of the record, and however: deleted it, or sent it on.
FORSAKEN = """
SELECT a.id, v.patient FROM fhirgw.visit_alert a LEFT JOIN fhirgw.visit v USING (key)
WHERE a.ended IS NULL AND a.patient IS NOT NULL AND v.patient IS DISTINCT FROM a.patient
ORDER BY a.id LIMIT $1 FOR UPDATE OF a SKIP LOCKED
"""
TASKS = "SELECT id, version, updated, body, controller FROM fhirgw.resource WHERE type = 'Task' AND id = ANY ($1)"
THERE = "SELECT id FROM fhirgw.resource WHERE type = 'Task' AND id = ANY ($1)"
RAISED = """
INSERT INTO fhirgw.visit_alert (id, key, kind, again, provider, controller, patient, since, raised, climbs)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[],
    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[])
"""
ENDED = "UPDATE fhirgw.visit_alert SET ended = $2, climbs = NULL WHERE id = ANY ($1)"
MOVED = "UPDATE fhirgw.visit_alert SET since = $2 WHERE id = $1"
CLIMBED = "UPDATE fhirgw.visit_alert SET rung = $2, climbs = $3 WHERE id = $1"


class Standing(NamedTuple):
    """An alert there is or was of a cause."""

    id: str
    key: str
    kind: str
    again: int
    provider: str
    controller: str
    patient: str | None
    since: datetime
    open: bool


class _Looked(NamedTuple):
    """What is so of one visit or care provider now: when each kind of alert is so; `told`: what was declared of it.

    `heard`: when a care provider was heard of.
    """

    cause: Cause
    spans: Mapping[str, Span]
    told: str = ""
    heard: datetime | None = None


async def look(connection: Connection, rules: Rules, now: datetime) -> int:
    """Looks at the visits that are due, some at a time; how many that were. Its own transaction."""
    async with connection.transaction():
        rows = await connection.fetch(DUE, now, AT_ONCE)
        looked = [_of_visit(row, rules) for row in rows]
        open_now = await _judge(connection, rules, looked, now)
        if rows:
            keys, nexts = [row["key"] for row in rows], [upcoming(each.spans, now) for each in looked]
            await connection.execute(LOOKED, keys, nexts, [True if each in open_now else None for each in keys])
    return len(rows)


async def listen(connection: Connection, rules: Rules, now: datetime) -> int:
    """Looks at the care providers of whom something should have been heard; how many that were."""
    async with connection.transaction():
        rows = await connection.fetch(SILENT, now, AT_ONCE)
        looked = [await _of_provider(connection, row, rules) for row in rows]
        open_now = await _judge(connection, rules, looked, now)
        for row, each in zip(rows, looked, strict=True):
            alerted = True if each.cause.key in open_now else None
            await connection.execute(LISTENED, row["provider"], upcoming(each.spans, now), alerted)
    return len(rows)


async def climb(connection: Connection, rules: Rules, now: datetime) -> int:
    """Takes the alerts that nobody has acknowledged in time to the next rung; how many were looked at."""
    async with connection.transaction():
        rows = await connection.fetch(CLIMBING, now, AT_ONCE)
        tasks = await _tasks(connection, [row["id"] for row in rows])
        written: list[Incoming] = []
        for row in rows:
            task, rung = tasks.get(row["id"]), row["rung"] + 1
            known = task is not None and task.body["code"]["coding"][0]["code"] in rules.alerts
            if task is None or not known or task.body["status"] != "requested" or rung >= len(rules.ladder):
                await connection.execute(CLIMBED, row["id"], row["rung"], None)
                continue
            whose = row["provider"], row["controller"]
            written.append(task.next(climbed(task.body, *whose, rung, rules, now), now))
            await connection.execute(CLIMBED, row["id"], rung, climbs(rules, rung, row["raised"]))
        await _write(connection, written)
    return len(rows)


async def forsake(connection: Connection, _: Rules, now: datetime) -> int:
    """Ends the alerts of visits that are in their record no more; how many those were."""
    async with connection.transaction():
        rows = await connection.fetch(FORSAKEN, AT_ONCE)
        whose = {row["id"]: row["patient"] for row in rows}
        tasks = await _tasks(connection, list(whose))
        await connection.execute(ENDED, list(whose), now)
        over = [
            task.next(ended(task.body, "moved" if whose[task.id] else "gone", now, None), now)
            for task in tasks.values()
            if task.body["status"] in OPEN
        ]
        await _write(connection, over)
    return len(rows)


def _of_visit(row: Mapping[str, Any], rules: Rules) -> _Looked:
    known = facts(decode(row["parts"]))
    outcome = rules.outcomes.get((known.get("outcome") or {}).get("code", ""))
    visit = placed(row["key"], row["patient"])
    cause = Cause(row["key"], "", 0, row["provider"], row["controller"], row["patient"], visit)
    return _Looked(cause, spans(known, rules), outcome.display if outcome else "")


async def _of_provider(connection: Connection, row: Mapping[str, Any], rules: Rules) -> _Looked:
    """A care provider is silent when minutes have passed since a visit was to begin, and nothing was sent since."""
    cause = Cause(key(row["provider"], SILENCE), "", 0, row["provider"], row["controller"])
    first = await connection.fetchval(EXPECTED, row["provider"], row["heard"])
    kinds = {name: alert for name, alert in rules.alerts.items() if alert.cause == "silent"} if first else {}
    found = {name: Span(first + timedelta(minutes=each.minutes or 0)) for name, each in kinds.items()}
    return _Looked(cause, found, heard=row["heard"])


SILENCE = "\x1fsilent"
"""Stands for the care provider itself where a visit's id would: no visit has such a one."""


async def _judge(connection: Connection, rules: Rules, looked: Sequence[_Looked], now: datetime) -> set[str]:
    """Raises, moves and ends the alerts of what was looked at; the keys of what has alerts that go on."""
    past: dict[str, list[Standing]] = {}
    for row in await connection.fetch(STANDING, [each.cause.key for each in looked]) if looked else ():
        past.setdefault(row["key"], []).append(Standing(*row))
    tasks = await _tasks(connection, [each.id for many in past.values() for each in many if each.open])
    written: list[Incoming] = []
    new: list[tuple[Cause, datetime]] = []
    over: list[str] = []
    for each in looked:
        before = past.get(each.cause.key, [])
        going = {one.kind: one for one in before if one.open}
        holding = {kind: span.since for kind, span in each.spans.items() if span.holds(now)}
        for kind, one in going.items():
            if one.patient != each.cause.patient or kind not in holding:
                over.append(one.id)
                written += _ended(tasks.get(one.id), one, each, now)
            elif one.since != holding[kind]:
                await connection.execute(MOVED, one.id, holding[kind])
                if (task := tasks.get(one.id)) is not None and task.body["status"] in OPEN:
                    written.append(task.next(moved(task.body, holding[kind], now), now))
        for kind in holding:
            if kind not in going or going[kind].patient != each.cause.patient:
                again = sum(one.kind == kind for one in before)
                new.append((each.cause._replace(kind=kind, again=again), holding[kind]))
    await connection.execute(ENDED, over, now)
    new = await _untold(connection, new)
    await _raise(connection, rules, new, now)
    written += [_first(raised(cause, since, now, rules), cause.controller, now) for cause, since in new]
    await _write(connection, written)
    return {each.cause.key for each in looked if any(span.holds(now) for span in each.spans.values())}


async def _untold(connection: Connection, new: Sequence[tuple[Cause, datetime]]) -> list[tuple[Cause, datetime]]:
    """The causes, each counted beyond the Tasks that there are of it: the table may know less than there was."""
    found = list(new)
    while (
        there := {row["id"] for row in await connection.fetch(THERE, [each.id for each, _ in found])} if found else ()
    ):
        found = [(each._replace(again=each.again + 1) if each.id in there else each, since) for each, since in found]
    return found


async def _raise(connection: Connection, rules: Rules, new: Iterable[tuple[Cause, datetime]], now: datetime) -> None:
    later = climbs(rules, 0, now)
    rows = [
        (each.id, each.key, each.kind, each.again, each.provider, each.controller, each.patient, since, now, later)
        for each, since in new
    ]
    if rows:
        await connection.execute(RAISED, *map(list, zip(*rows, strict=True)))


def _ended(task: Task | None, one: Standing, each: _Looked, now: datetime) -> list[Incoming]:
    """The Task of an alert that is over, if nobody has closed it."""
    if task is None or task.body["status"] not in OPEN:
        return []
    span = each.spans.get(one.kind)
    if one.patient != each.cause.patient:
        why, until = "moved", None
    elif each.heard is not None:
        why, until = "over", each.heard
    elif span is not None and span.until is not None and span.since <= now:
        why, until = "over", span.until
    else:
        why, until = "never", None
    return [task.next(ended(task.body, why, now, until, each.told), now)]


class Task(NamedTuple):
    """A Task as it is, locked."""

    id: str
    version: int
    updated: datetime
    body: Resource
    controller: str | None

    def next(self, body: Resource, now: datetime) -> Incoming:
        """Its next version."""
        moment = max(now, self.updated + MILLISECOND)
        return made_of(body, "update", self.version + 1, moment, ORIGIN, self.controller)


async def _tasks(connection: Connection, ids: Sequence[str]) -> dict[str, Task]:
    rows = await connection.fetch(f"{TASKS} ORDER BY id FOR UPDATE", ids) if ids else ()
    return {
        row["id"]: Task(row["id"], row["version"], row["updated"], decode(row["body"]), row["controller"])
        for row in rows
    }


def _first(body: Resource, controller: str, now: datetime) -> Incoming:
    return made_of(body, "create", 1, now, ORIGIN, controller)


async def _write(connection: Connection, written: Sequence[Incoming]) -> None:
    if written:
        await write.write(connection, ORIGIN, written)
