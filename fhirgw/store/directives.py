"""What persons and labels say about sharing, as a condition: dissent, consent, restricted whereabouts, sealed records.

Of the directives that match a row and whoever asks, the one with the greatest weight decides; of equals, the deny. So a
row may be seen unless there is a deny that no permit outweighs. What seals or restricts is outweighed by nothing: only
clearance lifts it. https://hl7.org/fhir/R4/consent.html

Few persons have a directive against anybody: each row looks for one, and the function `fhirgw.forbids` (alembic, 0032)
judges what it finds. Reading a whole table (`bulk`), nearly every row is decided by a look at the list of who is
forbidden, made once and kept as a hash: a tenth of what looking costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Integer,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.label import ENTRY, RESTRICTED, SEALED, TELLING, WHEREABOUTS
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.store.basis import kind_of, moment, parties, text
from fhirgw.store.schema import directive

HEEDED = (Purpose.DIRECT_CARE, Purpose.PLANNING, Purpose.RESEARCH)
"""Purposes that a person's dissent holds for. An emergency and safeguarding have a basis that overrides it; the person
does not dissent from themselves, only from those who would act for them."""


def allowed(
    permit: Permit, resource_type: str | None, table: FromClause, *, bulk: bool = False
) -> Iterator[ColumnElement[bool]]:
    """The conditions that no directive forbids the row; `bulk` spells them for reading all of a table."""
    unforbidden = _each_of(permit, resource_type, table, bulk)
    own = list(_effects(permit, resource_type))
    if own:
        yield unforbidden(table.c.patient, own)
    others = list(_lifted_by_clearance(permit))
    if others and (resource_type is None or resource_type in TELLING):
        yield unforbidden(table.c.also, others)


def _each_of(
    permit: Permit, resource_type: str | None, table: FromClause, bulk: bool
) -> Callable[[ColumnElement[Any], list[str]], ColumnElement[bool]]:
    if bulk and resource_type is not None:
        return partial(_unlisted, permit, resource_type, table)
    return partial(_unforbidden, permit, resource_type, table)


def _unforbidden(
    permit: Permit, resource_type: str | None, table: FromClause, whose: ColumnElement[Any], effects: list[str]
) -> ColumnElement[bool]:
    """That no directive of a person's, with one of the effects, forbids the row.

    Asked row by row, on the page alone: as a join, which PostgreSQL would make of a bare NOT EXISTS, it was planned in
    0.15 ms and run no faster.
    """
    against = directive.alias("against")
    forbids: ColumnElement[bool] = func.fhirgw.forbids(
        literal_column("against"),
        *_asked(permit, resource_type, table),
        *(_counted(effects), or_(_somewhere(resource_type, table), table.c.labels.op("&")(ENTRY) != 0)),
    )
    denying = against.c.effect != literal("permit", Text, literal_execute=True)  # by which an index finds it
    return or_(whose.is_(None), ~exists().where(against.c.person == whose, denying, forbids).correlate(table))


def _unlisted(
    permit: Permit, resource_type: str, table: FromClause, whose: ColumnElement[Any], effects: list[str]
) -> ColumnElement[bool]:
    """The same, of rows without a class by a list of all who are forbidden such: `fhirgw.forbidden`, alembic 0032."""
    kind, _, asking, purpose, named, now = _asked(permit, resource_type, table)
    plain = table.c.labels == 0
    if permit.keeps:
        plain, named = and_(plain, named), true()
    told = (kind, asking, purpose, named, now, _counted(effects), _somewhere(resource_type, table))
    listed = select(func.fhirgw.forbidden(*told).column_valued("forbidden"))
    each = _unforbidden(permit, resource_type, table, whose, effects)
    return or_(whose.is_(None), case((plain, whose.not_in(listed)), else_=each))


def _counted(effects: list[str]) -> ColumnElement[Any]:
    return literal(effects, ARRAY(Text), literal_execute=True)


def _asked(permit: Permit, resource_type: str | None, table: FromClause) -> tuple[ColumnElement[Any], ...]:
    """What a directive is held against: the kind of record, its classes, who asks, what for, and when."""
    # A dissent that names nobody is not about whoever acts for the person by the person's leave, nor about the council
    # that keeps the record.
    named: ColumnElement[bool] = literal(permit.delegate is not None, literal_execute=True)
    if permit.keeps:
        named = table.c.controller == text("organisation")
    classes = cast(table.c.labels, Integer)
    return kind_of(resource_type, table), classes, parties(), text("purpose"), named, moment()


def _somewhere(resource_type: str | None, table: FromClause) -> ColumnElement[bool]:
    """That a row's type tells where a person is, as what it says of getting in does whatever its type."""
    if resource_type:
        return literal(resource_type in WHEREABOUTS, literal_execute=True)
    found: ColumnElement[bool] = kind_of(resource_type, table).in_(WHEREABOUTS)
    return found


def _effects(permit: Permit, resource_type: str | None) -> Iterator[str]:
    """The effects that count against the permit for a type (None: for some type)."""
    for each in _lifted_by_clearance(permit):
        if each == "seal" or (resource_type != "Patient" and not permit.themselves):
            yield each
    if permit.purpose in HEEDED or permit.delegate:
        yield "deny"


def _lifted_by_clearance(permit: Permit) -> Iterator[str]:
    """What labels forbid whoever has no clearance, of whomever."""
    if not permit.clearance & SEALED:
        yield "seal"
    if not permit.clearance & RESTRICTED:
        yield "restrict"
