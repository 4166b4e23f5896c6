"""On what basis a purpose sees a person's record at all: a condition for each purpose, and nothing without one.

The table of the security rules, row by row: direct care rests on a legitimate relationship, the person's own access on
being the person or acting for them, planning and research on an agreement and the national data opt-out, an emergency
on its grant, safeguarding on its case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Text,
    all_,
    and_,
    any_,
    bindparam,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, TIMESTAMP

from fhirgw.access.alerted import ORIGIN
from fhirgw.access.label import SAFEGUARDING
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.access.relationship import KINDS, NARROWED, opens
from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.store.schema import break_glass, delegation, identifier, opt_out, relationship, resource, visit_alert

NOBODYS = ("HealthcareService", "Location", "Organization", "Practitioner", "PractitionerRole", "Questionnaire")
"""Reference data: it is about nobody, and whoever's scopes cover it may see it."""

LISTS = ("Group",)
"""Lists of people: in nobody's record, and not everybody's to see."""

COUNCIL = "council"
"""The tie of a person to their council: what an application of the council rests on, and no practitioner."""

ALERTS = "Task"
"""What alerts of homecare are."""
CARE_PROVIDER = "care-provider"
VISIT = "visit"
"""A column that homecare visits alone have, stored or rendered: the care provider's own id of one."""

IDS = ARRAY(Text)
Condition = ColumnElement[bool]


def moment() -> ColumnElement[Any]:
    """When to judge at."""
    asked = bindparam("permit_moment", type_=TIMESTAMP(timezone=True), required=False)
    return func.coalesce(asked, func.statement_timestamp())


def current(table: FromClause) -> Condition:
    """A rule that holds now: from its start to just before its end."""
    return and_(table.c.starts <= moment(), table.c.ends > moment())


def parties() -> ColumnElement[Any]:
    """Whoever asks, as records name them."""
    return bindparam("permit_parties", type_=IDS, required=False)


def text(name: str) -> ColumnElement[str]:
    """A parameter of the permit."""
    return bindparam(f"permit_{name}", type_=Text, required=False)


def kind_of(resource_type: str | None, table: FromClause) -> ColumnElement[str]:
    """A row's type: known when the statement is built, or its column where the query is of all types."""
    if resource_type is not None:
        return literal(resource_type, Text, literal_execute=True)
    column: ColumnElement[str] = table.c.type
    return column


def founded(permit: Permit, resource_type: str | None, table: FromClause) -> Condition:
    """The condition for rows that the permit's purpose has a basis for."""
    if resource_type in LISTS:
        return _listed(permit, table)
    found = BASES[Purpose(permit.purpose)](permit, resource_type, table)
    if resource_type is None:
        return or_(table.c.type.in_(NOBODYS), and_(table.c.type.in_(LISTS), _listed(permit, table)), found)
    return found


def _listed(permit: Permit, table: FromClause) -> Condition:
    """A list is its controller's, and for direct care also theirs whom its managingEntity names.

    Which of its members they see is another matter (fhirgw.store.membership).
    """
    own: Condition = table.c.controller == text("organisation")
    if permit.purpose == Purpose.DIRECT_CARE:
        return or_(own, table.c.tokens.overlap(bindparam("permit_lists", type_=ARRAY(BigInteger), required=False)))
    return own if permit.purpose in (Purpose.PLANNING, Purpose.RESEARCH) else false()


def kinds_for(resource_type: str | None, table: FromClause, without: tuple[str, ...] = ()) -> Condition:
    """The kinds of tie that open a type: known when the statement is built, or one by one where it is of all types."""
    if VISIT in table.c:
        return _kinds_for_visits(table, without)
    if resource_type is not None:
        named = [each for each in opens(resource_type) if each not in without]
        found: Condition = relationship.c.kind == any_(literal(named, IDS))
        if resource_type in NARROWED:
            return and_(found, _narrowed(resource_type, table))
        return or_(found, _alerts(table)) if resource_type == ALERTS else found
    every = [
        relationship.c.kind == kind
        if types is None
        else and_(relationship.c.kind == kind, table.c.type == any_(literal(list(types), IDS)))
        for kind, types in KINDS.items()
        if kind not in without
    ]
    parts = (or_(table.c.type != literal(each, Text), _narrowed(each, table)) for each in NARROWED)
    return or_(
        and_(or_(*every), *parts), and_(table.c.type == literal(ALERTS, Text, literal_execute=True), _alerts(table))
    )


def _narrowed(resource_type: str, table: FromClause) -> Condition:
    """That a kind of tie shows all of a type, or the row is of the part that it shows."""
    return or_(
        relationship.c.kind != all_(literal(list(NARROWED[resource_type].kinds), IDS)), part(resource_type, table)
    )


def part(resource_type: str, table: FromClause) -> Condition:
    """The rows of a type that a kind of tie shows which opens a part of it alone."""
    narrowed = NARROWED[resource_type]
    has: Condition = table.c.tokens.overlap(literal([narrowed.token], ARRAY(BigInteger)))
    return has if narrowed.shown else ~has


def _alerts(table: FromClause) -> Condition:
    """Of Tasks, a care provider sees the alerts of its own visits: others are the council's assessments, or of another
    who looks after the same person.
    """
    raised = table.c.origin == literal(ORIGIN, Text, literal_execute=True)
    own = exists().where(visit_alert.c.id == table.c.id, visit_alert.c.provider == text("organisation"))
    return and_(relationship.c.kind == literal(CARE_PROVIDER, Text), raised, own.correlate(table))


def _kinds_for_visits(table: FromClause, without: tuple[str, ...]) -> Condition:
    """Of homecare visits: whoever sees everything of a person; and a care provider, those that it made."""
    whole = [kind for kind, types in KINDS.items() if types is None and kind not in without]
    made = and_(relationship.c.kind == literal(CARE_PROVIDER, Text), maker(table) == text("organisation"))
    return or_(relationship.c.kind == any_(literal(whole, IDS)), made)


def maker(table: FromClause) -> ColumnElement[str]:
    """The ODS code of who made a visit: what it is rendered as names it as its origin."""
    found: ColumnElement[str] = table.c.provider if "provider" in table.c else table.c.origin
    return found


def _direct_care(permit: Permit, resource_type: str | None, table: FromClause) -> Condition:
    """By a tie; an application of the controller speaks for the council as a whole, a practitioner needs a case.

    Ties are a join, which PostgreSQL can begin with: a care provider has few people. A controller's own rows need none,
    so that what asks for the others is a function, for few or no rows.
    """
    if permit.controls and not permit.in_person:
        own = table.c.controller == text("organisation")
        each = resource_type not in (None, ALERTS) and VISIT not in table.c
        return or_(own, _each_tied(str(resource_type), table) if each else _tied(table, resource_type))
    return _tied(table, resource_type, (COUNCIL,) if permit.in_person else ())


def _each_tied(resource_type: str, table: FromClause) -> Condition:
    fewer = NARROWED[resource_type].kinds if resource_type in NARROWED else ()
    whole = _tied_by([each for each in opens(resource_type) if each not in fewer], table)
    return or_(whole, and_(part(resource_type, table), _tied_by(fewer, table))) if fewer else whole


def _tied_by(kinds: Sequence[str], table: FromClause) -> Condition:
    listed = literal(list(kinds), IDS, literal_execute=True)
    found: Condition = func.fhirgw.tied(table.c.patient, parties(), listed, moment())
    return found


def _tied(table: FromClause, resource_type: str | None = None, without: tuple[str, ...] = ()) -> Condition:
    joined = exists().where(
        relationship.c.person == table.c.patient,
        relationship.c.party == any_(parties()),
        kinds_for(resource_type, table, without),
        current(relationship),
    )
    return joined.correlate(table)


def _person(permit: Permit, resource_type: str | None, table: FromClause) -> Condition:
    own = table.c.patient == text("patient")
    if permit.delegate is None:
        return own
    kinds = delegation.c.kinds
    covered = kind_of(resource_type, table)
    return and_(
        own,
        exists()
        .where(
            delegation.c.person == table.c.patient,
            delegation.c.delegate == text("delegate"),
            or_(kinds.is_(None), covered == any_(kinds)),
            current(delegation),
        )
        .correlate(table),
    )


def _agreed(permit: Permit, resource_type: str | None, table: FromClause) -> Condition:
    """Of the controller's people, those with an NHS number who have not opted out: the list knows nobody without."""
    numbered = and_(identifier.c.patient == table.c.patient, identifier.c.system == literal(NHS_NUMBER, Text))
    return and_(
        table.c.controller == text("organisation"),
        exists().where(numbered).correlate(table),
        ~exists().where(numbered, opt_out.c.nhs_number == identifier.c.value).correlate(table),
    )


def _emergency(permit: Permit, resource_type: str | None, table: FromClause) -> Condition:
    return and_(
        table.c.patient == text("patient"),
        exists()
        .where(
            break_glass.c.id == text("grant"),
            break_glass.c.person == table.c.patient,
            break_glass.c.practitioner == text("practitioner"),
            break_glass.c.organisation == text("organisation"),
            break_glass.c.expires > moment(),
        )
        .correlate(table),
    )


def _safeguarding(permit: Permit, resource_type: str | None, table: FromClause) -> Condition:
    """The record of the person whom the case is about, while it is open."""
    case = resource.alias("safeguarding_case")
    return (
        exists()
        .where(
            case.c.type == literal("Flag", Text, literal_execute=True),
            case.c.id == text("case"),
            case.c.patient == table.c.patient,
            case.c.labels.op("&")(SAFEGUARDING) != 0,
            case.c.controller == text("organisation"),
            cast(case.c.body, JSON)["status"].astext == "active",
            func.coalesce(case.c.date1_high > moment(), true()),
        )
        .correlate(table)
    )


BASES: dict[Purpose, Callable[[Permit, str | None, FromClause], Condition]] = {
    Purpose.DIRECT_CARE: _direct_care,
    Purpose.PERSON: _person,
    Purpose.PLANNING: _agreed,
    Purpose.RESEARCH: _agreed,
    Purpose.EMERGENCY: _emergency,
    Purpose.SAFEGUARDING: _safeguarding,
    Purpose.OPERATIONS: lambda permit, resource_type, table: true(),
}
