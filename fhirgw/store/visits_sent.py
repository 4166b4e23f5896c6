"""Visits as their care provider sent them: one, to tell what is known of it; a week's, to count how well they came.

A care provider is told its own words alone, under the predicate: of a person whose package has ended, or who does not
want it, no more than that the visit is kept. What is counted by week is a number, and in no answer otherwise: to the
council, of visits that its permit shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Text, Uuid, and_, bindparam, func, or_, select, text
from sqlalchemy.dialects.postgresql import TIMESTAMP

from fhirgw.access.permit import Permit
from fhirgw.fhir.canonical import decode
from fhirgw.store import submissions
from fhirgw.store.database import Connection, once
from fhirgw.store.package_lines import components, lines, performing
from fhirgw.store.schema import visit
from fhirgw.store.visibility import shape, values, visible
from fhirgw.visits.batch import key, placed
from fhirgw.visits.certify import Arrived
from fhirgw.visits.merge import facts
from fhirgw.visits.quality import TOLD, Sent
from fhirgw.visits.rules import Rules

AHEAD = timedelta(days=1)
"""How far the database's clock may be ahead of ours, and more."""
WRONG = "entered-in-error"

_SAID = """LEFT JOIN LATERAL (
    SELECT array_agg(s.parts ORDER BY s.source_version, s.changed, s.digest) AS events,
        array_agg(s.received ORDER BY s.source_version, s.changed, s.digest) AS received
    FROM fhirgw.visit_said s WHERE s.key = v.key AND v.version > 1) s ON true"""
OF_WEEK = f"""
SELECT v.patient IS NOT NULL AS allocated, v.parts, v.updated, s.events, s.received
FROM week v {_SAID}
"""
ARRIVED = f"""
SELECT v.visit, v.patient IS NOT NULL AS allocated, v.parts, v.updated, s.events, s.received
FROM fhirgw.visit v {_SAID}
WHERE v.provider = $1 AND v.start = ANY ($2) AND v.updated >= $3 ORDER BY v.start, v.visit
"""
# One by one along the index: there are few care providers, and many visits.
PROVIDERS = """
WITH RECURSIVE known (provider) AS (
    SELECT min(provider) FROM fhirgw.visit WHERE provider > $1
    UNION ALL
    SELECT (SELECT min(v.provider) FROM fhirgw.visit v WHERE v.provider > k.provider) FROM known k
    WHERE k.provider IS NOT NULL),
refused (provider) AS (
    SELECT DISTINCT provider FROM fhirgw.submission WHERE provider > $1 AND received >= $2 AND received < $3)
SELECT provider FROM known WHERE provider IS NOT NULL UNION SELECT provider FROM refused ORDER BY provider LIMIT $4
"""


class Kept(NamedTuple):
    """A visit that is kept: `said` how often something new was, `id` where it is in somebody's record.

    `facts` is what its care provider said; None where it may not see it (any more). `moved`: since when it is in that
    record, where it was in another at first, or in none.
    """

    said: int
    updated: datetime
    changed: datetime | None
    patient: str | None
    id: str | None
    facts: Mapping[str, Any] | None
    moved: datetime | None


async def kept(connection: Connection, permit: Permit, name: str) -> Kept | None:
    """A visit of the permit's own organisation, by the id it gave it; None for one that it has not sent."""
    permit = _unconditional(permit)
    made = once(("visit sent", shape(permit)), lambda: _kept(permit))
    at = key(permit.organisation, name)
    row = await connection.fetchrow(
        made.sql, *made.arguments(values(permit) | {"key": at, "provider": permit.organisation})
    )
    if row is None:
        return None
    changed = None if row["changed"] is None or row["changed"].year == 1 else row["changed"]
    facts = known(row["parts"]) if row["shown"] and permit.covering("r", "Encounter") else None
    id = placed(at, row["patient"]) if row["patient"] else None
    # It was not sent at the moment it found its person by itself.
    still = row["received"] is not None and row["moved"] == row["updated"]
    received = row["received"] if still else row["updated"]
    return Kept(row["version"], received, changed, row["patient"], id, facts, row["moved"] if id else None)


async def lineless(
    connection: Connection, permit: Permit, directory: Permit, rules: Rules, patient: str, order: str
) -> bool:
    """Whether the permit's organisation delivers no line of the person's package that a visit calls this.

    Of who may not search all of their ServiceRequests nothing is known, and that is no.
    """
    permit = _unconditional(permit)
    if not permit.covering("s", "ServiceRequest"):
        return False
    own = await performing(connection, directory, permit.organisation)
    services = components(rules.commissioned)
    found = await lines(connection, permit, services, [patient], own) if own else []
    return all(order not in each.names for each in found)


def _kept(permit: Permit) -> Any:
    mine = (
        visit.c.key == bindparam("key", None, type_=Uuid(as_uuid=False)),
        visit.c.provider == bindparam("provider", None, type_=Text),
    )
    shown = or_(visit.c.patient.is_(None), visible(permit, "r", "Encounter", visit)).label("shown")
    told = (visit.c[name] for name in ("version", "updated", "changed", "patient", "parts", "moved", "received"))
    return select(*told, shown).where(*mine)


def known(said: str) -> dict[str, Any]:
    """The facts of a row's `parts`, entries in their lists."""
    return facts(decode(said))


async def of_week(
    connection: Connection, permit: Permit, provider: str, since: datetime, until: datetime
) -> list[Mapping[str, Any]]:
    """The visits of a care provider that were planned (or begun, or first told of) in a time, to be `read`.

    All of its own to the care provider; to others those that are in nobody's record, or that their permit shows.
    """
    permit = _unconditional(permit)
    made = once(("visits of a week", shape(permit)), lambda: text(OF_WEEK).columns().add_cte(_week(permit)))
    told = values(permit) | {"provider": provider, "since": since, "until": until}
    found: list[Mapping[str, Any]] = await connection.fetch(made.sql, *made.arguments(told))
    return found


def read(rows: Iterable[Mapping[str, Any]]) -> Iterator[Sent]:
    """What was sent. A week takes a while to be read: whoever serves others meanwhile does it in a thread."""
    for row in rows:
        whole = orjson.loads(row["parts"])
        events = [orjson.loads(each) for each in row["events"]] if row["events"] else [whole]
        moments = row["received"] or [row["updated"]]
        told_at = [at for at, each in zip(moments, events, strict=True) if any(_tells(name) for name in each)]
        yield Sent(known(row["parts"]), events, min(told_at, default=None), row["allocated"])


def _week(permit: Permit) -> Any:
    """Those visits, as the common table `week`."""
    first = func.coalesce(visit.c.began, visit.c.updated)
    since, until = (bindparam(each, type_=TIMESTAMP(timezone=True), required=False) for each in ("since", "until"))
    shown = or_(
        visit.c.patient.is_(None),
        visit.c.provider == bindparam("permit_organisation", type_=Text, required=False),
        visible(permit, "s", "Encounter", visit),
    )
    columns = (visit.c.key, visit.c.version, visit.c.patient, visit.c.parts, visit.c.updated)
    concerned = visit.c.outcome.is_distinct_from(WRONG), shown
    planned = or_(
        and_(visit.c.start >= since, visit.c.start < until),
        and_(visit.c.start.is_(None), first >= since, first < until),
    )
    mine = visit.c.provider == bindparam("provider", type_=Text, required=False)
    return select(*columns).where(mine, planned, *concerned).cte("week")


def _unconditional(permit: Permit) -> Permit:
    """The permit without its scopes with a condition: those look into resources as rendered, and this is none."""
    return replace(permit, scopes=tuple(each for each in permit.scopes if not each.constraint))


def _tells(name: str) -> bool:
    return name.partition("/")[0] in TOLD


async def rows_of_week(
    connection: Connection, provider: str, since: datetime, until: datetime
) -> tuple[int, int, Counter[str]]:
    """The rows that a care provider sent in a time, how many were refused, and for what reasons."""
    sent = refused = 0
    reasons: Counter[str] = Counter()
    for row in await connection.fetch(submissions.WEEK, provider, since, until):
        sent += row["stored"] + row["unchanged"] + row["superseded"] + row["refused"]
        refused += row["refused"]
        told = orjson.loads(row["receipts"]) if row["refused"] else []
        reasons.update(why["reason"] for each in told if each["status"] == "refused" for why in each["issues"])
    return sent, refused, reasons


async def providers(connection: Connection, after: str, since: datetime, until: datetime, count: int) -> list[str]:
    """The care providers who have ever sent visits that were taken, or any rows in a time, by code, behind one."""
    return [row["provider"] for row in await connection.fetch(PROVIDERS, after, since, until, count)]


async def arrived(connection: Connection, provider: str, starts: Sequence[datetime], since: datetime) -> list[Arrived]:
    """The visits of a care provider that are planned for these moments and were sent since: sample visits."""
    found: list[Arrived] = []
    for row in await connection.fetch(ARRIVED, provider, list(starts), since):
        events = [orjson.loads(each) for each in row["events"] or [row["parts"]]]
        sent = Sent(known(row["parts"]), events, None, row["allocated"])
        found.append(Arrived(row["visit"], sent, row["received"] or [row["updated"]]))
    return found


async def sent_since(connection: Connection, provider: str, since: datetime) -> tuple[set[str], bool]:
    """The reasons that rows were refused for since a moment, and whether any was sent again."""
    rows = await connection.fetch(submissions.WEEK, provider, since, datetime.now(UTC) + AHEAD)
    told = [each for row in rows if row["refused"] for each in orjson.loads(row["receipts"])]
    reasons = {why["reason"] for each in told if each["status"] == "refused" for why in each["issues"]}
    return reasons, any(row["unchanged"] for row in rows)
