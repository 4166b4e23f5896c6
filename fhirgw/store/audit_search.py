"""Searches the audit: pages of AuditEvents as they were written, the newest first.

Who may read which is put into the query like everything else that is asked for: an auditor may read all, a person what
is about them. The audit has two indexes, by whose record it was and by when; the rest is looked for in the bodies, and
the time a statement is given is the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Select, Text, and_, any_, bindparam, cast, func, not_, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from fhirgw.access.audit_event import EVERYBODY, FRONT
from fhirgw.access.audit_query import Condition, by_id, recorded_in
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.database import Connection, once
from fhirgw.store.looked import FIRST, TIPPING_OFF
from fhirgw.store.schema import audited

INSTANT = TIMESTAMP(timezone=True)
ID_LENGTH = 36


class Found(NamedTuple):
    """A page: the AuditEvents' JSON, a cursor for those after it, and how many there are if that was asked for."""

    bodies: list[str]
    next: str | None
    total: int | None


def about(person: str) -> tuple[Condition, ...]:
    """What a person may read: what is about them, and copies of everybody's; not what they are not to be told."""
    return Condition("persons", (person, EVERYBODY)), Condition("purpose", TIPPING_OFF, negated=True)


async def found(
    connection: Connection,
    conditions: Sequence[Condition],
    alternatives: Sequence[Sequence[Condition]] = ((),),
    *,
    count: int = 50,
    cursor: str | None = None,
    total: bool = False,
) -> Found:
    """The AuditEvents that meet all the conditions and all those of one of the alternatives (none: no AuditEvent).

    Raises FhirError(invalid) for a cursor that is none.
    """
    groups = [list(conditions), *map(list, alternatives)]
    before = FIRST if cursor is None else await _before(connection, cursor)
    shape = tuple(tuple((each.part, each.negated, _width(each)) for each in group) for group in groups)
    values = {"before": before, "count": count + 1, **_values(groups)}
    bodies: list[str] = []
    following = None
    if count:
        page = once(("audit search", shape), lambda: _page(groups))
        rows = await connection.fetch(page.sql, *page.arguments(values))
        bodies = [row["body"] for row in rows[:count]]
        # An id, which whoever is shown the page has: a number in the chain would tell how much others are looked at.
        following = bodies[-1][len(FRONT) :][:ID_LENGTH] if len(rows) > count else None
    number = None
    if total:
        counted = once(("audit count", shape), lambda: _matching(select(func.count()).select_from(audited), groups))
        number = await connection.fetchval(counted.sql, *counted.arguments(values))
    return Found(bodies, following, number)


def _page(groups: Sequence[Sequence[Condition]]) -> Select[Any]:
    query = _matching(select(audited.c.body), groups)
    # Without the `+ 0` PostgreSQL may walk the whole audit backwards for a few rows that an index would find.
    indexed = any(each.part in ("persons", "spans") for each in groups[0])
    order = audited.c.sequence + 0 if indexed else audited.c.sequence
    before, count = (bindparam(name, type_=BigInteger, required=False) for name in ("before", "count"))
    return query.where(audited.c.sequence < before).order_by(order.desc()).limit(count)


def _matching(query: Select[Any], groups: Sequence[Sequence[Condition]]) -> Select[Any]:
    demanded, *others = [
        and_(True, *(_condition(each, f"v{at}_{place}") for place, each in enumerate(group)))
        for at, group in enumerate(groups)
    ]
    return query.where(demanded, or_(False, *others))


def _condition(condition: Condition, name: str) -> ColumnElement[bool]:
    match condition.part:
        case "spans":
            ways = (_during(f"{name}_{at}") for at in range(len(condition.values)))
            met: ColumnElement[bool] = or_(False, *ways)
        case "persons":
            met = audited.c.persons.overlap(_texts(name))
        case "id":
            met = func.substr(audited.c.body, len(FRONT) + 1, ID_LENGTH) == any_(_texts(name))
        case "body":
            document = cast(audited.c.body, JSONB)
            met = document.contains(any_(cast(_texts(name), ARRAY(JSONB))))
        case "detail":
            met = audited.c.body.op("~")(any_(_texts(name)))
        case column:
            met = audited.c[column] == any_(_texts(name))
    return not_(met) if condition.negated else met


def _during(name: str) -> ColumnElement[bool]:
    low, high = (bindparam(f"{name}_{bound}", type_=INSTANT, required=False) for bound in ("low", "high"))
    return and_(audited.c.recorded >= low, audited.c.recorded < high)


def _texts(name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=ARRAY(Text), required=False)


def _values(groups: Sequence[Sequence[Condition]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for at, group in enumerate(groups):
        for place, each in enumerate(group):
            if each.part == "spans":
                for number, (low, high) in enumerate(each.values):
                    found |= {f"v{at}_{place}_{number}_low": low, f"v{at}_{place}_{number}_high": high}
            else:
                found[f"v{at}_{place}"] = list(each.values)
    return found


def _width(condition: Condition) -> int:
    """How many parameters a condition has: the others have one, a list."""
    return len(condition.values) if condition.part == "spans" else 1


async def _before(connection: Connection, cursor: str) -> int:
    """The sequence of the AuditEvent that a page ended with. Raises FhirError(invalid) where there is none."""
    made = once("audit cursor", lambda: _matching(select(audited.c.sequence), [by_id(cursor), ()]))
    sequence: int | None = None
    if recorded_in(cursor) is not None:
        sequence = await connection.fetchval(made.sql, *made.arguments(_values([by_id(cursor)])))
    if sequence is None:
        raise FhirError(Issue("invalid", "_cursor is not one of this search: begin again without it"))
    return sequence
