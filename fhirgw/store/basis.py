"""On what basis a purpose sees a person's record at all: a condition for each purpose, and nothing without one.

The table of the security rules, row by row: direct care rests on a legitimate relationship, the person's own access on
being the person or acting for them, planning and research on an agreement and the national data opt-out, an emergency
on its grant, safeguarding on its case.

Long, because the rows of that table are to be read in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
from fhirgw.access.relationship import KINDS, NARROWED, OWN, opens
from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.store.schema import break_glass, delegation, identifier, opt_out, relationship, resource

NOBODYS = ("HealthcareService", "Location", "Organization", "Practitioner", "PractitionerRole", "Questionnaire")
"""Reference data: it is about nobody, and whoever's scopes cover it may see it."""

LISTS = ("Group",)
"""Lists of people: in nobody's record, and not everybody's to see."""

COUNCIL = "council"
"""The tie of a person to their council: what an application of the council rests on, and no practitioner."""

ALERTS = "Task"
"""What alerts of homecare are."""
CARE_PROVIDER = "care-provider"
PARTLY = (*OWN, ALERTS, *(each for each, part in NARROWED.items() if CARE_PROVIDER in part.kinds))
"""Types of which a care provider sees its own alone, or what it needs; and of whatever its visits are rendered as."""
FEWER = (*PARTLY, *(each for each in NARROWED if each not in PARTLY))
"""Types of which some tie opens a part alone."""
VISIT = "visit"
"""A column that homecare visits alone have, stored or rendered: the care provider's own id of one."""

PROVIDED = ("service-provider", "actor", "performer")
"""Search parameters by which what is said of visits (OWN) names whose it is: of an Encounter, an Appointment and a
MedicationAdministration. An Appointment that names no care provider is the council's business, as its assessments and
contacts are: when somebody is to be assessed, or a strategy meeting held, is none of the essentials of their care."""

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


def _whole(kinds: Iterable[str], without: tuple[str, ...] = ()) -> list[str]:
    """Of kinds of tie, those that open all there is of a person."""
    return [each for each in kinds if KINDS[each] is None and each not in without]


def _fewer(resource_type: str, table: FromClause) -> tuple[str, ...]:
    """The kinds of tie that open a part alone of what there is."""
    if VISIT in table.c or resource_type in PARTLY:
        return (CARE_PROVIDER,)
    return NARROWED[resource_type].kinds if resource_type in NARROWED else ()


def own(resource_type: str, table: FromClause) -> Condition:
    """The part: of visits a care provider's own, what it said of one, and the alerts of its visits; else NARROWED's.

    Other Tasks are the council's assessments, and other notes those of another who looks after the same person.
    """
    if VISIT in table.c:
        return maker(table) == text("organisation")
    if resource_type == ALERTS:
        raised = table.c.origin == literal(ORIGIN, Text, literal_execute=True)
        return and_(raised, func.fhirgw.own_alert(table.c.id, text("organisation")))
    if part := NARROWED.get(resource_type):
        has: Condition = table.c.tokens.overlap(literal([part.token], ARRAY(BigInteger), literal_execute=True))
        return has if part.shown else ~has
    if resource_type not in OWN:
        return false()
    named = bindparam("permit_provided", type_=ARRAY(BigInteger), required=False)
    return or_(func.split_part(table.c.origin, "|", 2) == text("origin"), table.c.tokens.overlap(named))


def maker(table: FromClause) -> ColumnElement[str]:
    """The ODS code of who made a visit: what it is rendered as names it as its origin."""
    found: ColumnElement[str] = table.c.provider if "provider" in table.c else table.c.origin
    return found


def _direct_care(permit: Permit, resource_type: str | None, table: FromClause) -> Condition:
    """By a tie; an application of the controller speaks for the council as a whole, a practitioner needs a case.

    Ties are a join, which PostgreSQL can begin with: a care provider has few people. A controller's own rows need none,
    so that what asks for the others is a function, for few or no rows.
    """
    if permit.owns and not permit.in_person:
        controlled = table.c.controller == text("organisation")
        others = _tied_to_any(table) if resource_type is None else _each_tied(resource_type, table)
        return or_(controlled, others)
    without = (COUNCIL,) if permit.in_person else ()
    if resource_type is None:
        return _tied_to_any(table, without)
    fewer = _fewer(resource_type, table)
    whole = [each for each in opens(resource_type) if each not in (*without, *fewer)]
    if not fewer:
        return _tied(table, _any_of(whole))
    # What opens a part only is judged row by row: with it in the join, PostgreSQL could not begin with the ties.
    partly = or_(own(resource_type, table), _ties(table, whole))
    return and_(_tied(table, _any_of([*whole, *fewer])), partly)


def _each_tied(resource_type: str, table: FromClause) -> Condition:
    fewer = _fewer(resource_type, table)
    whole = _ties(table, [each for each in opens(resource_type) if each not in fewer])
    return or_(whole, and_(own(resource_type, table), _ties(table, fewer))) if fewer else whole


def _ties(table: FromClause, kinds: Sequence[str]) -> Condition:
    """That one of these ties holds, asked of a row by itself."""
    found: Condition = func.fhirgw.tied(
        table.c.patient, parties(), literal(list(kinds), IDS, literal_execute=True), moment()
    )
    return found


def _any_of(kinds: list[str]) -> Condition:
    return relationship.c.kind == any_(literal(kinds, IDS, literal_execute=True))


def _tied(table: FromClause, kinds: Condition) -> Condition:
    joined = exists().where(
        relationship.c.person == table.c.patient,
        relationship.c.party == any_(parties()),
        kinds,
        current(relationship),
    )
    return joined.correlate(table)


def _tied_to_any(table: FromClause, without: tuple[str, ...] = ()) -> Condition:
    """Where rows are of all types: each kind of tie with the types that it opens."""
    every = [_any_of(_whole(KINDS, without))]
    for kind, types in KINDS.items():
        if types and kind not in without:
            opened = [each for each in types if each not in PARTLY]
            every.append(and_(relationship.c.kind == kind, table.c.type == any_(literal(opened, IDS))))
    for each in PARTLY:
        typed = table.c.type == literal(each, Text, literal_execute=True)
        every.append(and_(relationship.c.kind == CARE_PROVIDER, typed, own(each, table)))
    return _tied(table, and_(or_(*every), *(_but(each, table) for each in NARROWED if each not in PARTLY)))


def _but(resource_type: str, table: FromClause) -> Condition:
    """That a row is not of the type, or not of the part of it that this kind of tie does not open."""
    fewer = literal(list(NARROWED[resource_type].kinds), IDS, literal_execute=True)
    other = table.c.type != literal(resource_type, Text, literal_execute=True)
    return or_(other, relationship.c.kind != all_(fewer), own(resource_type, table))


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
