"""Whom a list of people (Group) names: a member whom the permit does not show is left out, wherever the list is read.

A list is served whole to whoever sees all its members; else without those that are hidden or not there, which are one,
and without what may tell of them in other words: its quantity, narrative and contained resources. It is not found by
what it is served without. https://hl7.org/fhir/R4/group.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Text,
    any_,
    exists,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.fhir.cohort import MEMBERS
from fhirgw.fhir.parameters import Parameter
from fhirgw.store.schema import resource

Shown = Callable[[str, FromClause], ColumnElement[bool]]
"""The condition for rows of a type, in a table, that may be seen: fhirgw.store.visibility has it."""


def is_membership(parameter: Parameter) -> bool:
    """Whether a search parameter looks at whom a list names."""
    return (parameter.type, parameter.name) == ("Group", "member")


def listing(body: ColumnElement[str], table: FromClause, shown: Shown) -> ColumnElement[str]:
    """A list as it is served: `body`, or what is left of it."""
    found = union_all(*(each.correlate(table) for each in _members(body, shown)))
    left: ColumnElement[str] = func.fhirgw.listing(body, func.array(found.scalar_subquery()), type_=Text)
    return left


def named(
    body: ColumnElement[str], table: FromClause, shown: Shown, sought: ColumnElement[Any] | None = None
) -> ColumnElement[bool]:
    """That a list names somebody who may be seen; with one of the tokens `sought` (`member|Patient/…`)."""
    found = union_all(*(each.correlate(table) for each in _members(body, shown))).subquery("members")
    one = exists().select_from(found).correlate(table)
    if sought is None:
        return one
    return one.where(func.fhirgw.token(literal("member|", Text) + found.c.member, type_=BigInteger) == any_(sought))


def first(body: ColumnElement[str], table: FromClause, shown: Shown, last: bool) -> ColumnElement[Any]:
    """Of whom a list names and who may be seen, the least or the `last` (`Patient/…`): what it is sorted by."""
    found = union_all(*(each.correlate(table) for each in _members(body, shown))).subquery("members")
    one = select((func.max if last else func.min)(found.c.member)).select_from(found).correlate(table)
    return one.scalar_subquery().collate("C")


def _members(body: ColumnElement[str], shown: Shown) -> list[Select[Any]]:
    """`Type/id` of the members of each type."""
    found = []
    for kind in MEMBERS:
        member = resource.alias(f"member_{kind.lower()}")
        ids = func.fhirgw.members(body, literal(kind, Text, literal_execute=True), type_=ARRAY(Text))
        found.append(
            select((literal(f"{kind}/", Text, literal_execute=True) + member.c.id).label("member")).where(
                member.c.type == literal(kind, Text, literal_execute=True),
                member.c.id == any_(ids),
                shown(kind, member),
            )
        )
    return found
