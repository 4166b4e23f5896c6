"""Which rows a Permit may see: the one SQL condition inside every query that reads resources.

Search, include, chain, count, read, history, `$everything` and export all put it before their LIMIT, so a total, a
page size or a time says nothing about what is hidden. Default deny: no scope, no row.

Values travel as bind parameters named `permit_*`, so that permits of one shape share one statement: see `values`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Text, and_, bindparam, false, literal, or_, true

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.store.schema import resource


def visible(
    permit: Permit, verb: str = "r", resource_type: str | None = None, table: FromClause = resource
) -> ColumnElement[bool]:
    """The condition on `table` (columns type and patient) for rows the permit may read (`r`) or search (`s`).

    With a resource_type the caller's query is known to be about that type alone, and the condition is the simpler.
    """
    allowed = [scope for scope in permit.scopes if verb in scope.verbs and _concerns(scope, resource_type)]
    if any(scope.context == "system" and scope.type in ("*", resource_type) for scope in allowed):
        return true()
    return or_(false(), *(_granted(permit, scope, resource_type, table) for scope in dict.fromkeys(allowed)))


def shape(permit: Permit) -> Hashable:
    """What `visible` depends on besides `values`: two permits of one shape give the same SQL."""
    return permit.scopes


def values(permit: Permit) -> dict[str, Any]:
    """The bind parameters of `visible`, by name."""
    return {"permit_patient": permit.patient}


def _concerns(scope: Scope, resource_type: str | None) -> bool:
    return resource_type is None or scope.type in ("*", resource_type)


def _granted(permit: Permit, scope: Scope, resource_type: str | None, table: FromClause) -> ColumnElement[bool]:
    """The rows one scope shows.

    A user scope shows nothing yet: what a practitioner may see rests on relationships (their cases, their team).
    """
    conditions: list[ColumnElement[bool]] = []
    if resource_type is None and scope.type != "*":
        conditions.append(table.c.type == literal(scope.type, Text))
    if scope.context == "patient":
        conditions.append(table.c.patient == bindparam("permit_patient", permit.patient, Text))
    elif scope.context == "user":
        conditions.append(false())
    return and_(true(), *conditions)
