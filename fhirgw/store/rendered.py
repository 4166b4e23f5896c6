"""Searching what visits are rendered as, which no index of tokens has: what can be told before any is rendered.

A criterion that no visit's resource can meet (a code, of which they have none; a status they never have) leaves visits
out of the statement, so a search for what is stored costs what it did. One that bounds the search (whose record it is,
a visit or its identifier, a time) is answered by an index of the visits' own. Any other is judged visit by visit: while
there are few that is as quick, and beyond MANY such a search is refused as too-costly, with what would bound it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.fhir import tokens
from fhirgw.fhir.criterion import Dates, Every, Ids, Missing, Numbers, Some, Strings, Tokens
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.database import Connection
from fhirgw.store.schema import RENDERED
from fhirgw.visits.batch import key

MANY = 32 << 20
"""Bytes of the table of visits, some 30,000 of them: to render that many takes two seconds."""

SIZE = "SELECT pg_relation_size('fhirgw.visit')"
"""How large the table is: whether a search is refused depends on it, and no answer has it."""

ANY: tuple[str, ...] = ()
"""Values that are not in a list."""

COMMON: Mapping[str, tuple[str, ...]] = {"_profile": ANY, "identifier": ANY, "patient": ANY, "subject": ANY}
SAID: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Appointment": {
        **dict.fromkeys(("_profile", "identifier", "patient", "actor", "based-on", "date", "service-type"), ANY),
        "status": ("booked", "arrived", "fulfilled", "cancelled", "noshow", "entered-in-error"),
        "part-status": ("accepted",),
    },
    "Encounter": {
        **COMMON,
        **dict.fromkeys(("appointment", "based-on", "date", "participant", "practitioner", "class"), ANY),
        "service-provider": ANY,
        "status": ("in-progress", "finished", "entered-in-error"),
    },
    "MedicationAdministration": {
        **COMMON,
        **dict.fromkeys(("code", "context", "effective-time", "performer", "reason-not-given"), ANY),
        "status": ("completed", "not-done", "entered-in-error"),
    },
    "Observation": {
        **COMMON,
        **dict.fromkeys(("code", "combo-code", "date", "encounter", "focus", "performer"), ANY),
        **dict.fromkeys(("value-quantity", "combo-value-quantity"), ANY),
        **dict.fromkeys(("code-value-quantity", "combo-code-value-quantity"), ANY),
        "status": ("final", "entered-in-error"),
    },
    "Provenance": {
        **dict.fromkeys(("agent", "agent-type", "entity", "patient", "recorded", "target", "when"), ANY),
    },
    "Task": {
        **COMMON,
        **dict.fromkeys(("business-status", "code", "encounter", "focus", "owner"), ANY),
        "intent": ("order",),
        "status": ("requested", "completed", "failed", "rejected", "cancelled", "entered-in-error"),
    },
}
"""By type, the search parameters by which visits say anything; of those with a list of values, which."""

TEXTS = ("service-type", "reason-not-given")
"""Concepts of which visits have a text and no code."""

CODED = {"Observation": ("code", "combo-code"), "MedicationAdministration": ("code",)}
"""Concepts of which visits may have a code, which an index of visits has; of others they are texts, too."""

MAKER = "Organization/"
"""The agent of a Provenance whom a reference leads to."""

VISITS = ("target", "entity")
"""References of a Provenance, which of visits' lead to an Appointment or an Encounter, and to nothing else."""

LOGICAL = ("owner", "participant", "performer", "practitioner")
"""References that visits have by an identifier alone, and to no resource."""

TIMES = {"Appointment": "date", "Encounter": "date"}
"""The parameters that an index of visits answers."""


def may_match(resource_type: str, criteria: Sequence[Any]) -> bool:
    """Whether anything that visits are rendered as can meet the criteria."""
    return resource_type not in SAID or all(_may(resource_type, each) for each in criteria)


def _may(resource_type: str, criterion: Any) -> bool:
    if isinstance(criterion, Every | Some):
        inner = [_may(resource_type, each) for each in criterion.criteria]
        return all(inner) if isinstance(criterion, Every) else any(inner)
    if isinstance(criterion, Ids) or getattr(criterion, "negated", False):
        return True
    if isinstance(criterion, Strings):
        return False
    name = criterion.parameter.name
    if (isinstance(criterion, Missing) and criterion.missing) or name == "_lastUpdated":
        return True
    if isinstance(criterion, Tokens):
        if (
            name in TEXTS
            or (name == "code" and resource_type == "Task")
            or (name in LOGICAL and criterion.asked is not None and "|" not in criterion.asked)
        ):
            return False
        if resource_type == "Provenance" and criterion.asked and len(criterion.any_of) == 1:
            if name in VISITS:
                return _visit(criterion) is not None
            if name == "agent":
                return "|" in criterion.asked or MAKER in criterion.asked
        listed = SAID[resource_type].get(name)
        return listed is not None and (not listed or not _listed(name, listed).isdisjoint(criterion.any_of))
    if isinstance(criterion, Numbers):
        return "valueQuantity" in criterion.places
    return name in SAID[resource_type]


@cache
def _listed(name: str, values: tuple[str, ...]) -> frozenset[int]:
    return frozenset(tokens.code(name, each) for each in values)


def costly(resource_type: str, criteria: Sequence[Any]) -> bool:
    """Whether visit after visit would be rendered to be judged: nothing that an index answers bounds the search."""
    if resource_type not in RENDERED or any(_bounds(resource_type, each) for each in criteria):
        return False
    return any(not isinstance(each, Dates | Ids) for each in criteria)


def _bounds(resource_type: str, criterion: Any) -> bool:
    if isinstance(criterion, Tokens):
        return not criterion.negated and (bool(criterion.person) or any(hints(criterion)))
    if isinstance(criterion, Dates):
        return criterion.parameter.name in ("_lastUpdated", TIMES.get(resource_type))
    return isinstance(criterion, Ids) or (
        isinstance(criterion, Every) and any(_bounds(resource_type, each) for each in criterion.criteria)
    )


def hints(criterion: Tokens) -> Iterator[tuple[str, Any, Any]]:
    """What of a visit's own row a criterion comes to, as (column, value, its type): what an index finds it by."""
    if criterion.negated:
        return
    if (visit := _visit(criterion)) is not None:
        yield "visit", visit, Text()
    if (found := _key(criterion)) is not None:
        yield "key", found, Uuid()
    if (line := _line(criterion)) is not None:
        yield "line", line, Text()
    if criterion.parameter.name in CODED.get(criterion.parameter.type, ()) and len(criterion.any_of) == 1:
        yield "coded", list(criterion.any_of), ARRAY(BigInteger)


def bound(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    """That a column is, or has, what a hint says."""
    found: ColumnElement[bool] = column.contains(value) if isinstance(column.type, ARRAY) else column == value
    return found


def implied(criterion: Tokens) -> bool:
    """Whether the column of whose record a row is in says all of it: then no visit is rendered for it."""
    return criterion.person is not None and criterion.parameter.name in ("patient", "subject", "actor")


def _visit(criterion: Tokens) -> str | None:
    """The visit whose Appointment or Encounter is referred to."""
    if criterion.asked is None or criterion.parameter.kind != "reference" or len(criterion.any_of) != 1:
        return None
    id = criterion.asked.rpartition("/")[2]
    name = criterion.parameter.name
    made = (tokens.plain_reference(name, f"{each}/{id}") for each in ("Appointment", "Encounter"))
    return id[:36] if criterion.any_of[0] in made else None


def _line(criterion: Tokens) -> str | None:
    """The line of a package that Appointments and Encounters are looked for by."""
    if criterion.asked is None or criterion.parameter.name != "based-on" or len(criterion.any_of) != 1:
        return None
    id = criterion.asked.rpartition("/")[2]
    return id if criterion.any_of[0] == tokens.plain_reference("based-on", f"ServiceRequest/{id}") else None


def _key(criterion: Tokens) -> UUID | None:
    """The visit that has the identifier: the system need not be named, for a visit has no other."""
    if criterion.asked is None or criterion.parameter.name != "identifier":
        return None
    if criterion.parameter.type not in ("Appointment", "Encounter"):
        return None
    provider, dot, visit = criterion.asked.rpartition("|")[2].partition(".")
    return UUID(key(provider, visit)) if dot else None


async def afford(connection: Connection, *matchings: Any) -> None:
    """Raises FhirError(too-costly) for a search that would render more visits than a request has time for."""
    for each in matchings:
        if each.costly and await connection.fetchval(SIZE) > MANY:
            told = "Homecare visits are looked for by whose they are, by when, by identifier or by visit"
            raise FhirError(Issue("too-costly", f"{told}: add patient, date, or the encounter to the {each.type}"))
