"""May this caller see this of that person, by which rule, and what would change it: for the controller's auditors.

What is seen is what the one predicate says (fhirgw.store.visibility), row for row; the reasons come from the tables
that it asks (fhirgw.access.reason). Nothing of the records' contents is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import FromClause, Select, Text, false, func, literal, select

from fhirgw.access.consent import Delegation, Directive
from fhirgw.access.facts import Acting, Facts, Held, Reason, Row, Ruled
from fhirgw.access.label import SAFEGUARDING
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.access.reason import broken_glass, reasons
from fhirgw.access.relationship import Tie
from fhirgw.fhir.nhs import NHS_NUMBER, ODS_ORGANISATION
from fhirgw.store import basis, opt_out, visibility
from fhirgw.store.called import called
from fhirgw.store.database import Connection, statement
from fhirgw.store.schema import held, resource
from fhirgw.store.visibility import visible

FAULT = "No reason was found: the decision holds, the explanation is at fault. Please report it."


GLASS = "break-glass"
"""The role of a practitioner who may break the glass."""


@dataclass(frozen=True, slots=True)
class Explained:
    """For one type: how many resources the person's record holds, how many of them are seen, and why.

    `remedies` would change what stands in the way, if anything does.
    """

    type: str
    held: int
    seen: int
    reasons: tuple[Reason, ...]
    remedies: tuple[str, ...] = ()

    @property
    def decision(self) -> str:
        """`all`, `some` or `none` of what is held is seen."""
        return "all" if self.seen == self.held else "some" if self.seen else "none"


def together(found: Sequence[Explained]) -> list[list[Explained]]:
    """The types of which the same is decided for the same reasons, together: what is withheld first."""
    made: dict[tuple[object, ...], list[Explained]] = {}
    for each in found:
        made.setdefault((each.held > 0, each.decision, each.reasons, each.remedies), []).append(each)
    return sorted(made.values(), key=lambda group: ("none", "some", "all").index(group[0].decision))


async def explain(
    connection: Connection,
    overseer: Permit,
    asker: Permit,
    person: str,
    types: Sequence[str],
    days: float,
    roles: Collection[str] = (),
) -> list[Explained]:
    """What the asker, who has these roles, sees of a person's record, for the types given, else all there are in it.

    Nothing of whom there is no record.

    `overseer` sees all of it; `days` is how old a list of opt-outs may be. On a connection that declared a permit.
    """
    there = await _kinds(connection, overseer, person)
    if not there:
        return []
    kinds = types or there
    facts = await _facts(connection, overseer, asker, person, days)
    facts = replace(facts, may_break=_may_break(asker, roles), names=await _names(connection, overseer, asker, facts))
    found = []
    for kind in sorted(kinds):
        rows = await _rows(connection, overseer, asker, person, kind)
        found.append(_explained(kind, rows, asker, facts))
    return found


async def case_of(connection: Connection, overseer: Permit, person: str) -> str | None:
    """The Flag that is a person's safeguarding case, if they have one."""
    flags = select(resource.c.id).where(
        resource.c.type == literal("Flag", Text, literal_execute=True),
        resource.c.patient == person,
        resource.c.labels.op("&")(SAFEGUARDING) != 0,
        visible(overseer, "r", "Flag"),
    )
    found = await _fetch(connection, overseer, flags.order_by(resource.c.id).limit(1))
    return found[0][0] if found else None


def _explained(kind: str, rows: tuple[Row, ...], asker: Permit, facts: Facts) -> Explained:
    """The decision with its reasons; a list of opt-outs that is too old decides before the predicate is asked."""
    held = sum(row.held for row in rows)
    needs_list = asker.purpose in (Purpose.PLANNING, Purpose.RESEARCH) and not facts.list_fresh
    seen = 0 if needs_list else sum(row.seen for row in rows)
    why = reasons(asker, kind, rows, facts) if held else []  # nothing is kept from anybody where there is nothing
    if seen < held and all(each.allows for each in why):
        why = [Reason(False, FAULT), *why]
    found = [each.remedy for each in why if not each.allows] if seen < held else []
    remedies = dict.fromkeys(each for each in (*found, broken_glass(asker, kind, rows, facts)) if each)
    return Explained(kind, held, seen, tuple(why), tuple(remedies))


def _may_break(asker: Permit, roles: Collection[str]) -> bool:
    in_person = any(scope.context == "user" for scope in asker.scopes)
    return bool(GLASS in roles and asker.practitioner and in_person and asker.purpose == Purpose.DIRECT_CARE)


async def _names(connection: Connection, overseer: Permit, asker: Permit, facts: Facts) -> dict[str, str]:
    """What the parties that reasons may speak of are called, by how records name them."""
    own = f"{ODS_ORGANISATION}|{asker.organisation}"
    parties = {own, *(each.tie.party for each in facts.ties), *(each.rule.party for each in facts.rules)}
    return await called(connection, overseer, [each for each in parties if each])


async def _kinds(connection: Connection, overseer: Permit, person: str) -> set[str]:
    """The types of which there is anything in the person's record."""
    found: set[str] = set()
    for table in held(None):
        query = select(table.c.type).where(table.c.patient == person, visible(overseer, "r", None, table))
        found.update(row[0] for row in await _fetch(connection, overseer, query.distinct()))
    return found


async def _rows(connection: Connection, overseer: Permit, asker: Permit, person: str, kind: str) -> tuple[Row, ...]:
    """Of a type, how many resources of the person's are alike in what decides, and how many of them are seen.

    Both are counted by one statement, under the asker's values: an overseer's permit has none.
    """
    found: dict[tuple[Any, ...], tuple[int, int]] = {}
    for table in held(kind):
        for *alike, whole, seen in await _fetch(connection, asker, _counted(overseer, asker, person, kind, table)):
            before = found.get(tuple(alike), (0, 0))
            found[tuple(alike)] = before[0] + whole, before[1] + seen
    return tuple(Row(alike[0], *found[alike], *alike[1:]) for alike in sorted(found))


def _counted(overseer: Permit, asker: Permit, person: str, kind: str, table: FromClause) -> Select[Any]:
    """Statement for `_rows`: what decides of each row, and whether the predicate itself shows it."""
    deciding = (
        visibility.covered(asker, "r", kind, table),
        table.c.controller == basis.text("organisation"),
        basis.own(kind, table),
    )
    alike = (table.c.labels, *(func.coalesce(each, false()) for each in deciding))
    judged = (*alike, func.coalesce(visible(asker, "r", kind, table), false()))
    columns = [each.label(f"alike{at}") for at, each in enumerate(judged)]
    typed = table.c.type == literal(kind, Text, literal_execute=True)
    query = select(*columns).where(typed, table.c.patient == person, visible(overseer, "r", kind, table))
    each = query.subquery()
    *groups, seen = each.c
    return select(*groups, func.count(), func.count().filter(seen)).group_by(*groups)


async def _fetch(connection: Connection, permit: Permit, query: Select[Any]) -> list[Any]:
    made = statement(query)
    found: list[Any] = await connection.fetch(made.sql, *made.arguments(visibility.values(permit)))
    return found


BOUNDS = (
    "CASE WHEN starts > '1000-01-01' THEN starts END AS starts, CASE WHEN ends < '9000-01-01' THEN ends END AS ends"
)
"""Nobody wants to be told of the beginning or the end of time."""

RESTS_ON = "type || '/' || id AS rests_on"
NOW = "coalesce($3, statement_timestamp())"

TIES = f"""
SELECT DISTINCT ON (kind, party) party, kind, {BOUNDS}, {RESTS_ON} FROM fhirgw.relationship r
WHERE person = $1 AND party = ANY ($2)
ORDER BY kind, party, (r.starts <= {NOW} AND r.ends > {NOW}) DESC, r.ends DESC, r.starts DESC, r.id
"""
"""Of each kind the one that holds, or else the latest: somebody may have had many packages of care."""

RULES = f"""
SELECT effect, party, purpose, kinds, classes, {BOUNDS}, weight, decided, {RESTS_ON}
FROM fhirgw.directive r WHERE person = $1 ORDER BY r.weight DESC, r.id
"""

DELEGATIONS = f"""
SELECT delegate, kind, kinds, {BOUNDS}, {RESTS_ON} FROM fhirgw.delegation r
WHERE person = $1 AND delegate = $2 ORDER BY r.ends DESC, r.id
"""

SINGLE = """
SELECT coalesce($4, statement_timestamp()) AS now,
    EXISTS (SELECT FROM fhirgw.identifier WHERE patient = $1 AND system = $2) AS numbered,
    EXISTS (SELECT FROM fhirgw.identifier i JOIN fhirgw.opt_out o ON o.nhs_number = i.value
            WHERE i.patient = $1 AND i.system = $2) AS opted_out,
    (SELECT expires FROM fhirgw.break_glass WHERE id = $3 AND person = $1 AND person = $5 AND practitioner = $6
        AND organisation = $7) AS granted_until
"""


async def _facts(connection: Connection, overseer: Permit, asker: Permit, person: str, days: float) -> Facts:
    moment: datetime | None = asker.moment
    ties = await connection.fetch(TIES, person, list(asker.parties), moment)
    rules = await connection.fetch(RULES, person)
    acting = await connection.fetch(DELEGATIONS, person, asker.delegate)
    granted = asker.patient, asker.practitioner, asker.organisation
    single = await connection.fetchrow(SINGLE, person, NHS_NUMBER, asker.grant, moment, *granted)
    listed = await opt_out.in_force(connection, days)
    return Facts(
        person=person,
        now=single["now"],
        ties=tuple(Held(Tie(person=person, **_without(row)), row["rests_on"]) for row in ties),
        rules=tuple(Ruled(Directive(person=person, **_without(row)), row["rests_on"]) for row in rules),
        delegations=tuple(Acting(Delegation(person=person, **_without(row)), row["rests_on"]) for row in acting),
        numbered=single["numbered"],
        opted_out=single["opted_out"],
        list_fresh=listed is not None and listed.fresh,
        list_made=listed and listed.produced,
        granted_until=single["granted_until"],
        case_open=await _case_open(connection, overseer, asker, person),
    )


async def _case_open(connection: Connection, overseer: Permit, asker: Permit, person: str) -> bool:
    """Whether the case that the asker names opens the record: that it is theirs, the person's, active, not over."""
    if asker.purpose != Purpose.SAFEGUARDING:
        return False
    flag = (resource.c.type == literal("Flag", Text, literal_execute=True), resource.c.id == asker.case)
    case = select(resource.c.id).where(*flag, resource.c.patient == person, visible(overseer, "r", "Flag"))
    return bool(await _fetch(connection, asker, case.where(basis.founded(asker, "Flag", resource))))


def _without(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in dict(row).items() if name != "rests_on"}
    return found | ({"kinds": tuple(found["kinds"])} if found.get("kinds") is not None else {})
