"""What came of the visits of a week, line by line: one statement that sums them set by set, and one that lists them.

Both are made of the same facts, so that a list is what its figures were counted of. Which visits there are is asked
under the permit, in the first of the common tables; the others read nothing else. They say in SQL what fhirgw.visits
says in Python (`outcome.came`, `merge.parts`), because a county-week is 119,000 visits: a test holds one against the
other.

Long, because half of it is that statement.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, Text, and_, any_, bindparam, cast, func, or_, select, text, union_all
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from fhirgw.access.permit import Permit
from fhirgw.store.database import Connection, once
from fhirgw.store.schema import visit
from fhirgw.store.visibility import shape, values, visible
from fhirgw.visits.ledger import COUNTED
from fhirgw.visits.line import Line
from fhirgw.visits.rules import Rules
from fhirgw.visits.stay import BACK, Stay
from fhirgw.visits.week import Week

MOMENT = TIMESTAMP(timezone=True)
TEXTS = ARRAY(Text)
WRONG = "entered-in-error"
NO_LINE = -1
PARAMETER = re.compile(r"(?<!:):([a-z_]+)")

SHOWN = ("key", "visit", "provider", "patient", "controller", "labels", "start", "finish", "began", "ended", "outcome")

FACTS = """
, line AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:line AS int[]), CAST(:line_patient AS text[]), CAST(:line_provider AS text[]),
        CAST(:line_carers AS int[]), CAST(:line_names AS text[]), CAST(:line_clock AS text[]),
        CAST(:line_sole AS bool[])) AS l (n, patient, provider, carers, names, clock, sole)),
tolerance AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:kind AS text[]), CAST(:late AS int[]), CAST(:early AS int[]), CAST(:missed AS int[]),
        CAST(:apart AS int[])) AS t (kind, late, early, missed, apart)),
stay AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:stay_patient AS text[]), CAST(:stay_from AS timestamptz[]),
        CAST(:stay_to AS timestamptz[])) AS s (patient, since, until)),
told AS MATERIALIZED (
    SELECT s.key, s.visit, coalesce(s.patient, '') AS patient, s.provider, s.start, s.finish, s.began, s.ended,
        s.outcome, s.parts -> 'carers' AS listed, CASE WHEN s.entered THEN s.parts END AS entered,
        coalesce(s.start, s.began, (s.parts #>> '{claimed,start}')::timestamptz) AS due,
        s.parts #>> '{line,order}' AS ordered, (s.parts #>> '{planned,carers}')::int AS wanted,
        s.parts #>> '{planned,type}' AS kind, (s.parts #>> '{claimed,minutes}')::int AS claimed
    FROM seen s),
placed AS (
    SELECT DISTINCT ON (t.key) t.key, l.n, l.carers
    FROM told t JOIN line l ON l.patient = t.patient AND l.provider = t.provider
    WHERE t.ordered IS NULL OR t.ordered = ANY (string_to_array(l.names, chr(31)))
    ORDER BY t.key, CASE WHEN NOT l.sole THEN (
        SELECT min(least(apart, 1440 - apart)) FROM (
            SELECT abs(each::int - extract(hour FROM local)::int * 60 - extract(minute FROM local)::int) AS apart
            FROM unnest(string_to_array(l.clock, ' ')) AS each, (SELECT t.due AT TIME ZONE 'Europe/London') AS o (local)
        ) AS o) END NULLS LAST, l.n),
fact AS MATERIALIZED (
    SELECT t.*, coalesce(p.n, CAST(:nothing AS int)) AS n,
        CASE WHEN p.n IS NULL AND t.patient <> '' THEN t.ordered END AS strange,
        coalesce(t.wanted, p.carers, 1) AS carers,
        o.late, o.early, o.apart,
        CASE WHEN t.outcome IN ('delivered', 'partially-delivered') THEN 'made'
            WHEN t.outcome = 'missed-by-provider' THEN 'missed'
            WHEN t.outcome = 'no-reply' THEN 'no-reply'
            WHEN t.outcome = 'refused-by-person' THEN 'refused'
            WHEN t.outcome IN ('hospital', 'respite', 'deceased') THEN 'away'
            WHEN t.outcome IS NOT NULL THEN 'cancelled'
            WHEN t.began IS NOT NULL THEN 'made'
            WHEN t.start IS NULL THEN 'unknown'
            WHEN EXISTS (SELECT FROM stay s WHERE s.patient = t.patient AND s.since <= t.start
                AND (s.until IS NULL OR t.start < s.until)) THEN 'away'
            WHEN t.start + o.missed * interval '1 minute' < CAST(:now AS timestamptz) THEN 'missed'
            ELSE 'pending' END AS came,
        trunc(extract(epoch FROM t.finish - t.start)::float8 / 60)::bigint AS planned_minutes,
        trunc(extract(epoch FROM t.ended - t.began)::float8 / 60)::bigint AS minutes,
        trunc(extract(epoch FROM t.began - t.start)::float8 / 60)::bigint AS behind
    FROM told t LEFT JOIN placed p USING (key)
    JOIN tolerance o ON o.kind = CASE WHEN t.kind = ANY (CAST(:kind AS text[])) THEN t.kind ELSE 'default' END),
attendance AS MATERIALIZED (
    SELECT key, patient, provider, n, strange, entry ->> 'carer' AS carer, (entry ->> 'start')::timestamptz AS came,
        (entry ->> 'end')::timestamptz AS went
    FROM (
        SELECT f.*, e AS entry FROM fact f, jsonb_path_query(f.listed, '$[*]') AS e
        WHERE f.entered IS NULL OR NOT f.entered ? ('carers/' || (e ->> 'carer'))
        UNION ALL
        SELECT f.*, e.value FROM fact f, jsonb_each(f.entered) AS e
        WHERE f.entered IS NOT NULL AND e.key LIKE 'carers/%') AS c
    WHERE entry ->> 'start' IS NOT NULL),
pair AS (
    SELECT key, count(*) AS came, sum(trunc(extract(epoch FROM went - came)::float8 / 60))::bigint AS minutes,
        min(came) AS first, (array_agg(came ORDER BY came))[2] AS second,
        (array_agg(went ORDER BY came))[1] AS gone
    FROM attendance GROUP BY key),
done AS (
    SELECT f.*, p.minutes AS carer_minutes, f.came = 'made' AS made, coalesce(p.came > 0 AND f.carers > 1, false) AND (
        CASE WHEN p.came < 2 THEN p.gone IS NOT NULL
                OR CAST(:now AS timestamptz) - p.first > f.apart * interval '1 minute'
        ELSE p.second - p.first > f.apart * interval '1 minute' OR coalesce(p.second >= p.gone, false) END) AS alone,
        f.behind BETWEEN -f.early AND f.late AS punctual
    FROM fact f LEFT JOIN pair p USING (key))
"""
"""`line`, `tolerance` and `stay` are what is known already, `seen` the visits."""

CANCELLED = {
    "cancelled-by-person-notice": "cancelled_notice",
    "cancelled-by-person-short-notice": "cancelled_short_notice",
    "cancelled-by-provider": "cancelled_by_provider",
}
"""The figures of visits that were cancelled, by how."""

SUMMED = (
    FACTS
    + """,
team AS (
    SELECT patient, provider, n, strange, count(*) AS carers, sum(times)::bigint AS attendances,
        (sum(times) FILTER (WHERE place <= CAST(:team AS int)))::bigint AS team_attendances
    FROM (SELECT patient, provider, n, strange, carer, count(*) AS times,
            row_number() OVER (PARTITION BY patient, provider, n, strange ORDER BY count(*) DESC) AS place
        FROM attendance GROUP BY patient, provider, n, strange, carer) AS t
    GROUP BY patient, provider, n, strange),
total AS (
    SELECT patient, provider, n, strange, count(*) FILTER (WHERE start IS NOT NULL) AS planned_visits,
        count(*) FILTER (WHERE made) AS delivered_visits, count(claimed) AS claimed_visits,
        coalesce(sum(planned_minutes), 0)::bigint AS planned_minutes,
        coalesce(sum(minutes) FILTER (WHERE made), 0)::bigint AS delivered_minutes,
        coalesce(sum(claimed), 0)::bigint AS claimed_minutes,
        coalesce(sum(planned_minutes * carers), 0)::bigint AS planned_carer_minutes,
        coalesce(sum(carer_minutes) FILTER (WHERE made), 0)::bigint AS delivered_carer_minutes,
        count(*) FILTER (WHERE came = 'missed') AS missed_visits,
        count(*) FILTER (WHERE came = 'no-reply') AS no_reply_visits,
        count(*) FILTER (WHERE came = 'refused') AS refused_visits,
        count(*) FILTER (WHERE came = 'cancelled') AS cancelled_visits,
        count(*) FILTER (WHERE came = 'away') AS away_visits,
        count(*) FILTER (WHERE came = 'pending') AS pending_visits,
        count(*) FILTER (WHERE made AND began IS NOT NULL AND ended IS NULL) AS unended_visits,
        count(*) FILTER (WHERE made AND behind IS NOT NULL) AS timed_visits,
        count(*) FILTER (WHERE made AND punctual) AS punctual_visits,
        count(*) FILTER (WHERE made AND carers > 1) AS double_visits,
        count(*) FILTER (WHERE made AND alone) AS single_handed_visits,
        sum(minutes) FILTER (WHERE came = 'no-reply') AS no_reply_minutes,
        sum(minutes) FILTER (WHERE came = 'refused') AS refused_minutes,
        """
    + ",\n        ".join(
        f"count(*) FILTER (WHERE outcome = '{code}') AS {name}_visits,"
        f" sum(planned_minutes) FILTER (WHERE outcome = '{code}') AS {name}_minutes"
        for code, name in CANCELLED.items()
    )
    + """
    FROM done GROUP BY patient, provider, n, strange)
SELECT total.*, coalesce(team.carers, 0) AS carers, coalesce(attendances, 0) AS attendances,
    coalesce(team_attendances, 0) AS team_attendances
FROM total LEFT JOIN team
    ON (team.patient, team.provider, team.n) = (total.patient, total.provider, total.n)
    AND team.strange IS NOT DISTINCT FROM total.strange
"""
)

LISTED = (
    FACTS
    + """
SELECT key::text, visit, patient, provider, n, ordered, start, finish, began, ended, outcome, came, carers,
    planned_minutes, CASE WHEN made THEN minutes END AS minutes, CASE WHEN made THEN carer_minutes END AS carer_minutes,
    claimed, made AND coalesce(punctual, false) AS punctual, made AND behind IS NOT NULL AS timed,
    made AND alone AS single_handed
FROM done ORDER BY due, key
"""
)


class Sought(NamedTuple):
    """Which visits: of a week, and of people, or (None) those in nobody's record; `provider`: an ODS code, or all."""

    week: Week
    people: Sequence[str] | None
    provider: str | None = None


class Sums(NamedTuple):
    """`n`: the place of the line, NO_LINE for none; `strange`: what visits of none call it, if they do."""

    patient: str
    provider: str
    n: int
    strange: str | None
    figures: dict[str, int]


async def sums(
    connection: Connection,
    permit: Permit,
    sought: Sought,
    lines: Sequence[tuple[Line, str]],
    stays: Sequence[tuple[str, Stay]],
    rules: Rules,
    now: datetime,
) -> list[Sums]:
    """By person, care provider and line: the figures of their visits.

    `lines`: each with the ODS code of its provider, in the order of their ids. `stays`: in hospital, by person.
    """
    rows = await _asked(connection, permit, sought, SUMMED, lines, stays, rules, now)
    return [
        Sums(
            row["patient"],
            row["provider"],
            row["n"],
            row["strange"],
            {name: int(row[name]) for name in COUNTED if row[name]},
        )
        for row in rows
    ]


async def listed(
    connection: Connection,
    permit: Permit,
    sought: Sought,
    lines: Sequence[tuple[Line, str]],
    stays: Sequence[tuple[str, Stay]],
    rules: Rules,
    now: datetime,
) -> list[Any]:
    """The visits themselves, in the order of time, each with the place of its line: what `sums` counts."""
    return await _asked(connection, permit, sought, LISTED, lines, stays, rules, now)


async def people_of_visits(
    connection: Connection, permit: Permit, week: Week, given: dict[str, Any], provider: str | None
) -> list[str]:
    """Who has visits in the week, after `given["after"]`: the first `given["count"]` by their ids, and maybe more."""
    shaped = ("visit people", shape(permit), provider is None, "since" in given)
    made = once(shaped, lambda: _people(permit, provider, "since" in given))
    told = values(permit) | given | _week(week) | {"provider": provider}
    return [row["patient"] for row in await connection.fetch(made.sql, *made.arguments(told))]


async def hospital(
    connection: Connection, permit: Permit, week: Week, people: Sequence[str]
) -> dict[str, list[tuple[datetime, datetime | None]]]:
    """By person, the visits in vain because they were in hospital: when, and when the next was made after it.

    Of all their care providers whose visits the permit shows, up to the end of the week, and for BACK before it.
    """
    made = once(("hospital", shape(permit)), lambda: _hospital(permit))
    told = values(permit) | {"people": list(people), "from": week.starts - BACK, "to": week.ends}
    found: dict[str, list[tuple[datetime, datetime | None]]] = {}
    for row in await connection.fetch(made.sql, *made.arguments(told)):
        found.setdefault(row["patient"], []).append((row["start"], row["returned"]))
    return found


async def _asked(
    connection: Connection,
    permit: Permit,
    sought: Sought,
    sql: str,
    lines: Sequence[tuple[Line, str]],
    stays: Sequence[tuple[str, Stay]],
    rules: Rules,
    now: datetime,
) -> list[Any]:
    shaped = ("visit facts", sql is SUMMED, shape(permit), sought.people is None, sought.provider is None)
    made = once(shaped, lambda: _written(sql).add_cte(_seen(permit, sought)))
    told = values(permit) | _week(sought.week) | _lines(lines) | _stays(stays) | _tolerances(rules)
    told |= {"people": list(sought.people or ()), "provider": sought.provider, "now": now, "nothing": NO_LINE}
    found: list[Any] = await connection.fetch(made.sql, *made.arguments(told | {"team": rules.team}))
    return found


def _written(sql: str) -> Any:
    """The statement, with its parameters."""
    named = sorted(set(PARAMETER.findall(sql)))
    return text(sql).bindparams(*(bindparam(each, required=False) for each in named)).columns()


def _seen(permit: Permit, sought: Sought) -> Any:
    """The visits that are asked for and that the permit shows, as the common table `seen`."""
    each = visit.alias("each")
    concerned = [
        each.c.patient.is_(None) if sought.people is None else each.c.patient == any_(asked("people", TEXTS)),
        or_(each.c.outcome.is_(None), each.c.outcome != WRONG),
    ]
    if sought.provider is not None:
        concerned.append(each.c.provider == asked("provider", Text))
    columns = (*(each.c[name] for name in SHOWN), cast(each.c.parts, JSONB).label("parts"), _entered(each))
    # What nobody's record holds is its sender's and its controller's: there is no person whom it could be kept from.
    shown = visible(permit, "s", "Encounter", each)
    if sought.people is None:
        shown = or_(shown, each.c.provider == asked("permit_organisation", Text))
    planned, others = (select(*columns).where(when, *concerned, shown) for when in (_planned(each), _others(each)))
    return union_all(planned, others).cte("seen").prefix_with("MATERIALIZED")


def _entered(each: Any) -> ColumnElement[bool]:
    """Whether carers of it may have been said entry by entry: of few visits, and the others are quicker."""
    found: ColumnElement[bool] = func.strpos(each.c.parts, '"carers/') > 0
    return found.label("entered")


def _planned(each: Any) -> ColumnElement[bool]:
    found: ColumnElement[bool] = and_(each.c.start >= _from(), each.c.start < _to())
    return found


def _others(each: Any) -> ColumnElement[bool]:
    """Those that were not planned, as far as we know: by when they began, or are claimed to have."""
    claimed = cast(cast(each.c.parts, JSONB)[("claimed", "start")].astext, MOMENT)
    began = and_(each.c.began >= _from(), each.c.began < _to())
    return and_(each.c.start.is_(None), or_(began, and_(each.c.began.is_(None), claimed >= _from(), claimed < _to())))


def _people(permit: Permit, provider: str | None, since: bool) -> Any:
    """Two lists, each by an index of its own: together they would be looked for in all the visits there are."""
    each = visit.alias("each")
    conditions = [each.c.patient > asked("after", Text), visible(permit, "s", "Encounter", each)]
    if provider is not None:
        conditions.append(each.c.provider == asked("provider", Text))
    if since:
        conditions.append(each.c.updated > asked("since", MOMENT))
    lists = (
        select(each.c.patient)
        .distinct()
        .where(when, *conditions)
        .order_by(each.c.patient)
        .limit(asked("count", Integer))
        .subquery()
        for when in (_planned(each), _others(each))
    )
    return union_all(*(select(one.c.patient) for one in lists))


def _hospital(permit: Permit) -> Any:
    vain, later = visit.alias("vain"), visit.alias("later")
    begins = later.c.start
    made = or_(later.c.outcome.is_(None), later.c.outcome.in_(("delivered", "partially-delivered")))
    returned = (
        select(begins)
        .where(
            later.c.patient == vain.c.patient,
            begins > vain.c.start,
            later.c.began.is_not(None),
            made,
            visible(permit, "s", "Encounter", later),
        )
        .order_by(begins)
        .limit(1)
        .correlate(vain)
        .scalar_subquery()
    )
    return select(vain.c.patient, vain.c.start, returned.label("returned")).where(
        vain.c.outcome == text("'hospital'"),
        vain.c.patient == any_(asked("people", TEXTS)),
        vain.c.start >= _from(),
        vain.c.start < _to(),
        visible(permit, "s", "Encounter", vain),
    )


def asked(name: str, kind: Any) -> ColumnElement[Any]:
    """A parameter that is given when the statement is run."""
    return bindparam(name, type_=kind, required=False)


def _from() -> ColumnElement[Any]:
    return asked("from", MOMENT)


def _to() -> ColumnElement[Any]:
    return asked("to", MOMENT)


def _week(week: Week) -> dict[str, Any]:
    return {"from": week.starts, "to": week.ends}


def _lines(lines: Sequence[tuple[Line, str]]) -> dict[str, Any]:
    alone = Counter((each.patient, provider) for each, provider in lines)
    return {
        "line": list(range(len(lines))),
        "line_patient": [each.patient for each, _ in lines],
        "line_provider": [provider for _, provider in lines],
        "line_carers": [each.carers for each, _ in lines],
        "line_names": [chr(31).join(each.names) for each, _ in lines],
        "line_sole": [alone[each.patient, provider] == 1 for each, provider in lines],
        "line_clock": [" ".join(str(at.hour * 60 + at.minute) for at in each.times) for each, _ in lines],
    }


def _stays(stays: Sequence[tuple[str, Stay]]) -> dict[str, Any]:
    return {
        "stay_patient": [person for person, _ in stays],
        "stay_from": [each.span.starts for _, each in stays],
        "stay_to": [each.span.ends for _, each in stays],
    }


def _tolerances(rules: Rules) -> dict[str, Any]:
    listed = rules.tolerances.values()
    columns = {name: [getattr(each, name) for each in listed] for name in ("late", "early", "missed", "apart")}
    return {"kind": list(rules.tolerances), **columns}
