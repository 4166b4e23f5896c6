"""Which rows a Permit may see: the one SQL condition inside every query that reads resources.

Search, include, chain, count, read, history, `$everything` and export all put it before their LIMIT, so a total, a
page size or a time says nothing about what is hidden. Default deny: no scope, no basis, no row.

It is one conjunction: what the scopes cover; what the classes of the row allow; on what basis this purpose sees this
person at all (fhirgw.store.basis); and that no directive says otherwise (fhirgw.store.directives).

Values travel as bind parameters named `permit_*`, so that permits of one shape share one statement: see `values`.

Long, because that conjunction, and what of a row it shows, are to be read in one place.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import lru_cache, partial
from itertools import count
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    ColumnElement,
    FromClause,
    SmallInteger,
    Text,
    and_,
    any_,
    bindparam,
    case,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.label import EVERY, RESTRICTED, SEALED, TELLING, UNSEARCHABLE, opened
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.access.scope import Scope
from fhirgw.fhir.tokens import plain_reference
from fhirgw.store import basis, directives, membership
from fhirgw.store.basis import FEWER, LISTS, NOBODYS, PROVIDED
from fhirgw.store.criterion import terms
from fhirgw.store.schema import PAST, RENDERED_AS, history, resource, same, versions

SHAPES = 10_000
"""Shapes told apart; of one that comes again after so many the statements are made again."""

_shapes: dict[Hashable, int] = {}
_numbers = count()


def visible(
    permit: Permit,
    verb: str = "r",
    resource_type: str | None = None,
    table: FromClause = resource,
    *,
    bulk: bool = False,
) -> ColumnElement[bool]:
    """The condition on `table` (resource, history) for rows the permit may read (`r`) or search (`s`).

    With a resource_type the caller's query is known to be about that type alone, and the condition is the simpler.
    `bulk`: all of a table will be read; the same condition, spelt so that it costs a row least.
    """
    kind = RENDERED_AS.get(table, resource_type)  # type: ignore[call-overload]
    return and_(true(), *_conditions(permit, verb, kind, table, bulk))


def as_well(permit: Permit, verb: str, besides: str, resource_type: str) -> ColumnElement[bool]:
    """Of rows visible for the verb `besides`, the condition for those that are so for another: by the scopes alone."""
    concerned = [scope for scope in permit.scopes if _concerns(scope, resource_type) and besides in scope.verbs]
    if all(verb in scope.verbs for scope in concerned):
        return true()
    return covered(permit, verb, resource_type, resource)


def body(permit: Permit, resource_type: str | None = None, table: FromClause = resource) -> ColumnElement[str]:
    """What a row is served as: its body, or where something of it is withheld from the permit, the redacted one."""
    whole: ColumnElement[str] = table.c.body
    redacts = not _sees_whereabouts(permit) and resource_type in (None, "Patient")
    lists = permit.purpose != Purpose.OPERATIONS and resource_type in (None, *LISTS)
    if not redacts and not lists:
        return whole
    shown = func.coalesce(table.c.redacted, whole) if redacts else whole
    if lists:
        listed = membership.listing(whole, table, partial(visible, permit, "r"))
        shown = case((table.c.type.in_(LISTS), listed), else_=shown) if resource_type is None else listed
    return shown.label("body")


def whole(permit: Permit, table: FromClause = resource, resource_type: str | None = None) -> ColumnElement[bool]:
    """The condition for rows of which nothing is withheld: what is asked by something withheld finds these alone."""
    if resource_type in LISTS and permit.purpose != Purpose.OPERATIONS:
        listed = membership.listing(table.c.body, table, partial(visible, permit, "r"))
        return listed == table.c.body
    return true() if _sees_whereabouts(permit) else table.c.redacted.is_(None)


def names(permit: Permit, table: FromClause, sought: ColumnElement[Any] | None = None) -> ColumnElement[bool]:
    """That a list names somebody whom the permit shows: one of the tokens `sought`, if they are given."""
    return membership.named(table.c.body, table, partial(visible, permit, "r"), sought)


def first_named(permit: Permit, table: FromClause, last: bool) -> ColumnElement[Any]:
    """What a list is sorted by where that is whom it names: the least, or the last, whom the permit shows."""
    return membership.first(table.c.body, table, partial(visible, permit, "r"), last)


def withheld(resource_type: str, parameter: str) -> bool:
    """Whether a search parameter looks into what may be withheld: ask `whole` too where it is used."""
    return resource_type == "Patient" and parameter in UNSEARCHABLE


@lru_cache(maxsize=4096)
def shape(permit: Permit) -> Hashable:
    """What `visible` depends on besides `values`: two permits of one shape give the same SQL.

    A number in place of all that: it stands in the key of every statement, and scopes are long to hash.
    """
    asking = bool(permit.delegate), permit.in_person, permit.owns, permit.keeps
    told = permit.purpose, permit.scopes, permit.clearance, *asking
    if len(_shapes) >= SHAPES:
        _shapes.clear()
    return _shapes.setdefault(told, next(_numbers))


def values(permit: Permit) -> dict[str, Any]:
    """The bind parameters of `visible`, by name."""
    return _values(permit).copy()


@lru_cache(maxsize=4096)
def _values(permit: Permit) -> dict[str, Any]:
    return {
        "permit_patient": permit.patient,
        "permit_organisation": permit.organisation,
        "permit_parties": list(permit.parties),
        "permit_lists": _named(permit.parties, "managing-entity"),
        "permit_provided": [token for each in PROVIDED for token in _named(permit.parties, each)],
        "permit_origin": quote(permit.organisation, safe="/:") or None,
        "permit_delegate": permit.delegate,
        "permit_purpose": permit.purpose,
        "permit_practitioner": permit.practitioner,
        "permit_grant": permit.grant,
        "permit_case": permit.case,
        "permit_moment": permit.moment,
    }


@lru_cache(maxsize=1024)
def _named(parties: tuple[str, ...], parameter: str) -> list[int]:
    """The tokens of what names one of the parties, as a reference by this search parameter."""
    return [plain_reference(parameter, each) for each in parties if "|" not in each]


def _conditions(
    permit: Permit, verb: str, resource_type: str | None, table: FromClause, bulk: bool
) -> Iterator[ColumnElement[bool]]:
    yield covered(permit, verb, resource_type, table)
    if permit.purpose == Purpose.OPERATIONS:
        return
    classed = _classed(permit, resource_type, table)
    if classed is not None:
        yield classed
    if table in PAST:
        yield from _past(permit, resource_type, table)
    if resource_type in NOBODYS:
        return
    yield basis.founded(permit, resource_type, table)
    yield from directives.allowed(permit, resource_type, table, bulk=bulk)


def _classed(permit: Permit, resource_type: str | None, table: FromClause) -> ColumnElement[bool] | None:
    """That a row is of no class that is hidden from the permit; None where none is."""
    if resource_type is not None:
        hidden = EVERY & ~_opened(permit, resource_type)
        return _none(table, hidden) if hidden else None
    hidden, of_others = EVERY & ~opened(permit, ""), EVERY & ~_opened(permit, TELLING[0])
    if hidden == of_others:
        return _none(table, hidden) if hidden else None
    return or_(_none(table, of_others), and_(table.c.type.not_in((*NOBODYS, *TELLING)), _none(table, hidden)))


def _opened(permit: Permit, resource_type: str) -> int:
    """Reference data is nobody's own."""
    return opened(permit, TELLING[0] if resource_type in NOBODYS else resource_type)


def _none(table: FromClause, classes: int) -> ColumnElement[bool]:
    """That a row is of none of the classes. Spelt as the values left over, of which the planner knows how common."""
    left = [each for each in range(EVERY + 1) if not each & classes]
    found: ColumnElement[bool] = table.c.labels == any_(literal(left, ARRAY(SmallInteger), literal_execute=True))
    return found


def _past(permit: Permit, resource_type: str | None, table: FromClause) -> Iterator[ColumnElement[bool]]:
    """What is withheld of a resource now is withheld of each of its versions, and of a person's after they are gone.

    Who was deleted while something kept them from somebody left a sealed tombstone (fhirgw.store.load): what said so is
    gone with them.
    """
    for each in versions(table):
        later = each.alias("later")
        classed = _classed(permit, resource_type, later)
        more = [~classed] if classed is not None else []
        if not _sees_whereabouts(permit):
            more.append(and_(later.c.redacted.is_not(None), table.c.redacted.is_(None)))
        more.extend(_lost(permit, resource_type, later))
        if more:
            newer = and_(*same(later, table), later.c.version > table.c.version)
            yield ~exists().where(newer, or_(*more)).correlate(table)
    if not permit.clearance & SEALED:
        tombstone = history.alias("tombstone")
        of_person = and_(tombstone.c.type == literal("Patient", Text), tombstone.c.id == table.c.patient)
        yield ~exists().where(of_person, tombstone.c.deleted, ~_none(tombstone, SEALED)).correlate(table)


def _lost(permit: Permit, resource_type: str | None, later: FromClause) -> Iterator[ColumnElement[bool]]:
    """That a later version, which is no end of it, is not of the part that a tie opens: nor is an earlier one then."""
    if permit.purpose != Purpose.DIRECT_CARE or (resource_type or FEWER[0]) not in FEWER:
        return
    if "visit" in later.c:  # of whom a visit is does not change
        return
    lost = ~basis.founded(permit, resource_type, later)
    typed = later.c.type.in_(FEWER) if resource_type is None else true()
    yield and_(typed, not_(later.c.deleted) if "deleted" in later.c else true(), lost)


def _sees_whereabouts(permit: Permit) -> bool:
    """An address is not kept from whoever lives there."""
    return permit.themselves or permit.purpose == Purpose.OPERATIONS or bool(permit.clearance & RESTRICTED)


def covered(permit: Permit, verb: str, resource_type: str | None, table: FromClause) -> ColumnElement[bool]:
    """What the scopes show, each by itself."""
    allowed = [scope for scope in permit.scopes if verb in scope.verbs and _concerns(scope, resource_type)]
    return or_(false(), *(_granted(permit, scope, resource_type, table) for scope in dict.fromkeys(allowed)))


def _concerns(scope: Scope, resource_type: str | None) -> bool:
    return resource_type is None or scope.type in ("*", resource_type)


def _granted(permit: Permit, scope: Scope, resource_type: str | None, table: FromClause) -> ColumnElement[bool]:
    """The rows one scope shows: a type, in whose record, and what its constraint matches."""
    conditions: list[ColumnElement[bool]] = []
    if resource_type is None and scope.type != "*":
        conditions.append(table.c.type == literal(scope.type, Text))
    if scope.context == "patient":
        conditions.append(table.c.patient == bindparam("permit_patient", permit.patient, Text))
    if scope.constraint:
        conditions.extend(_constrained(permit, scope, table))
    return and_(true(), *conditions)


def _constrained(permit: Permit, scope: Scope, table: FromClause) -> Iterator[ColumnElement[bool]]:
    """A granular scope's query, as a search would understand it; its values are part of the statement."""
    if any(withheld(scope.type, name) for name, _ in scope.constraint):
        yield whole(permit, table)
    for term in terms(scope.type, scope.criteria()):
        yield term.build(table, [literal(value, kind) for value, kind in term.values])
