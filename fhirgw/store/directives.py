"""What persons and labels say about sharing, as a condition: dissent, consent, restricted whereabouts, sealed records.

Of the directives that match a row and whoever asks, the one with the greatest weight decides; of equals, the deny. So a
row may be seen unless there is a deny that no permit outweighs. What seals or restricts is outweighed by nothing: only
clearance lifts it. https://hl7.org/fhir/R4/consent.html

Few persons have a directive against anybody: an anti-join looks for one, and the function `fhirgw.forbids` (alembic,
0003) judges what it finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Integer, Text, any_, cast, exists, func, literal, literal_column, or_
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.label import RESTRICTED, SEALED, TELLING, WHEREABOUTS
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.store.basis import kind_of, moment, parties, text
from fhirgw.store.schema import directive

HEEDED = (Purpose.DIRECT_CARE, Purpose.PLANNING, Purpose.RESEARCH)
"""Purposes that a person's dissent holds for. An emergency and safeguarding have a basis that overrides it; the person
does not dissent from themselves, only from those who would act for them."""


def allowed(permit: Permit, resource_type: str | None, table: FromClause) -> Iterator[ColumnElement[bool]]:
    """The conditions that no directive forbids the row."""
    own = list(_effects(permit, resource_type))
    if own:
        yield _unforbidden(permit, resource_type, table, table.c.patient, own)
    others = list(_lifted_by_clearance(permit))
    if others and (resource_type is None or resource_type in TELLING):
        yield _unforbidden(permit, resource_type, table, table.c.also, others)


def _unforbidden(
    permit: Permit, resource_type: str | None, table: FromClause, whose: ColumnElement[Any], effects: list[str]
) -> ColumnElement[bool]:
    """That no directive of a person's, with one of the effects, forbids the row."""
    against = directive.alias("against")
    kind = kind_of(resource_type, table)
    forbids: ColumnElement[bool] = func.fhirgw.forbids(
        literal_column("against"),
        kind,
        cast(table.c.labels, Integer),
        parties(),
        text("purpose"),
        # Whoever acts for the person does so by the person's leave: a dissent that names nobody is not about them.
        literal(permit.delegate is not None, literal_execute=True),
        moment(),
        literal(effects, ARRAY(Text), literal_execute=True),
        literal(resource_type in WHEREABOUTS, literal_execute=True) if resource_type else kind.in_(WHEREABOUTS),
    )
    # What the function says too, said to the planner: few are left to be joined, and fewer to be judged.
    aimed = or_(against.c.effect != "deny", against.c.party.is_(None), against.c.party == any_(parties()))
    found = exists().where(
        against.c.person == whose, against.c.effect != "permit", against.c.effect.in_(effects), aimed, forbids
    )
    return ~found.correlate(table)


def _effects(permit: Permit, resource_type: str | None) -> Iterator[str]:
    """The effects that count against the permit for a type (None: for some type)."""
    themselves = permit.purpose == Purpose.PERSON and permit.delegate is None
    somewhere = resource_type is None or resource_type in WHEREABOUTS
    for each in _lifted_by_clearance(permit):
        if each == "seal" or (somewhere and not themselves):
            yield each
    if permit.purpose in HEEDED or permit.delegate:
        yield "deny"


def _lifted_by_clearance(permit: Permit) -> Iterator[str]:
    """What labels forbid whoever has no clearance, of whomever."""
    if not permit.clearance & SEALED:
        yield "seal"
    if not permit.clearance & RESTRICTED:
        yield "restrict"
