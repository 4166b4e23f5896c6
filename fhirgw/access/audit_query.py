"""A search of the audit, read: what of R4's parameters for AuditEvent the audit is found by, and in which of its parts.

An AuditEvent is in no index but those of whom it is about and when. Everything else is looked for in its body, which is
spelt as fhirgw.access.audit_event spells it. https://hl7.org/fhir/R4/auditevent.html#search

Long, because each parameter has a rule of its own here, where the search of resources has an index for all.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from fhirgw.access.audit_event import ACTION, REGISTRATION
from fhirgw.access.scope import Scope
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.capability import AUDITED
from fhirgw.fhir.criterion import Dates, criterion
from fhirgw.fhir.dates import BEGINNING, END
from fhirgw.fhir.escapes import alternatives, at_bar, unescape
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.fhir.parameters import HELD, parameters
from fhirgw.fhir.query import CONTROLS, Query
from fhirgw.fhir.values import ID, malformed, shown

OWN = ("_id", "date", "patient", "action", "outcome", "type", "subtype")
"""What a person finds their own by. Who asked and what was seen may be kept from them, and so is not looked for."""

EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
Pairs = Sequence[tuple[str, str]]
Span = tuple[datetime, datetime]


class Condition(NamedTuple):
    """`part` is a column of the audit, `spans` of `recorded`, or `body`: JSON that it holds, or `detail`: patterns.

    Any one of `values` is enough, or with `negated` none of them may be there.
    """

    part: str
    values: tuple[Any, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """`conditions` must all hold. `query` has the controls: how many, from where, whether with the total."""

    query: Query
    conditions: tuple[Condition, ...]
    warnings: tuple[Issue, ...] = ()

    @classmethod
    def parse(
        cls, pairs: Pairs, *, names: Sequence[str] = AUDITED, lenient: bool = False, base: str = ""
    ) -> AuditQuery:
        """Reads the pairs of a search, decoded. Raises FhirError (400) with every issue, unless lenient."""
        query = Query.parse("AuditEvent", pairs, lenient, base)
        found: list[Condition] = []
        issues: list[Issue] = []
        for name, value in query.applied:
            try:
                found += _asked(name, value, names, base)
            except FhirError as error:
                issues += error.issues
        if issues and not lenient:
            raise FhirError(*issues, status=400)
        told = tuple(Issue(each.code, each.diagnostics, severity="warning") for each in issues)
        return cls(query, tuple(found), (*query.warnings, *told))

    def of(self, person: str) -> AuditQuery:
        """What a person asks of their own: an AuditEvent may be about others too, by whom they do not find it."""
        own = [
            each._replace(values=tuple(id for id in each.values if id == person)) if each.part == "persons" else each
            for each in self.conditions
        ]
        return replace(self, conditions=tuple(own))


def by_id(id: str) -> tuple[Condition, ...]:
    """The one AuditEvent of an id."""
    return tuple(_ids((id,)))


def constrained(scope: Scope) -> tuple[Condition, ...] | None:
    """What a constrained scope limits a search to; None where it is by what the audit is not found by."""
    try:
        return tuple(each for name, value in scope.constraint for each in _asked(name, value, AUDITED, ""))
    except FhirError:
        return None


def recorded_in(id: str) -> Span | None:
    """The millisecond in which the AuditEvent of an id was recorded: the id says so. None for what is no id of one.

    https://www.rfc-editor.org/rfc/rfc9562#section-5.7
    """
    try:
        made = uuid.UUID(id)
    except ValueError:
        return None
    if made.version != 7 or str(made) != id or made.int >> 80 >= (END - EPOCH) // MILLISECOND:
        return None
    begins = EPOCH + (made.int >> 80) * MILLISECOND
    return begins, begins + MILLISECOND


def _asked(name: str, value: str, names: Sequence[str], base: str) -> Iterator[Condition]:
    """What one pair asks for. Raises FhirError naming the parameter, never its value."""
    if name in CONTROLS:
        _check_control(name, value)
        return
    bare, _, modifier = name.partition(":")
    if bare not in names or "." in name:
        told = f"The audit is not searched by {shown(name)}; it is by {', '.join(names)}"
        raise FhirError(Issue("not-supported", told))
    if modifier == "not" and bare in ("action", "outcome", "subtype", "type"):
        for each in _asked(bare, value, names, base):
            yield each._replace(negated=True)
        return
    if modifier and not (bare in ("agent", "entity", "patient") and (modifier in HELD or modifier == "identifier")):
        told = f"The modifier of {shown(bare)} is not supported; it may have :not, a reference :Type, agent :identifier"
        raise FhirError(Issue("not-supported", told))
    yield from READ[bare](bare, modifier, [each for each in alternatives(value) if each], base)


def _check_control(name: str, value: str) -> None:
    """Raises FhirError(not-supported) for what pages of the audit cannot have: it has one order, and no neighbours."""
    if name in ("_include", "_revinclude"):
        raise FhirError(Issue("not-supported", f"{name} is not supported for AuditEvent: read what it names by id"))
    if name == "_sort" and value != "-date":
        raise FhirError(Issue("not-supported", "The audit is read the newest first: _sort may be -date"))


def _by_id(name: str, modifier: str, values: Sequence[str], base: str) -> Iterator[Condition]:
    return _ids(values)


def _ids(values: Sequence[str]) -> Iterator[Condition]:
    """The ids, and when they were recorded, which is indexed."""
    spans = {each: span for each in values if (span := recorded_in(each))}
    yield Condition("id", tuple(spans))
    yield Condition("spans", tuple(spans.values()))


def _date(name: str, modifier: str, values: Sequence[str], base: str) -> Iterator[Condition]:
    asked = criterion("AuditEvent", name, ",".join(values))
    assert isinstance(asked, Dates)
    yield Condition("spans", tuple(span for prefix, (low, high) in asked.values for span in SPANS[prefix](low, high)))


SPANS: dict[str, Callable[[datetime, datetime], tuple[Span, ...]]] = {
    "eq": lambda low, high: ((low, high),),
    "ne": lambda low, high: ((BEGINNING, low), (high, END)),
    "gt": lambda low, high: ((high, END),),
    "sa": lambda low, high: ((high, END),),
    "ge": lambda low, high: ((low, END),),
    "lt": lambda low, high: ((BEGINNING, low),),
    "eb": lambda low, high: ((BEGINNING, low),),
    "le": lambda low, high: ((BEGINNING, high),),
    "ap": lambda low, high: ((_moved(low, low - high), _moved(high, high - low)),),
}
"""R4's prefixes, for an instant: from when to just before when. `ap` is as wide again on both sides."""


def _moved(moment: datetime, by: timedelta) -> datetime:
    try:
        return max(BEGINNING, min(moment + by, END))
    except OverflowError:
        return END if by > timedelta() else BEGINNING


def _patient(name: str, modifier: str, values: Sequence[str], base: str) -> Iterator[Condition]:
    """Whose record it was. Who asked for their own is found by `agent=Patient/…`."""
    if modifier not in ("", "Patient"):
        raise malformed(name, "is a Patient: give an id, or Patient/id")
    yield Condition("persons", tuple(id for each in values for _, id in _references(name, "Patient", each, base)))


def _outcome(name: str, modifier: str, values: Sequence[str], base: str) -> Iterator[Condition]:
    systems = parameters("AuditEvent")[name].systems
    yield Condition("outcome", tuple(code for system, code in map(_token, values) if not system or system in systems))


def _action(name: str, modifier: str, values: Sequence[str], base: str) -> Iterator[Condition]:
    codes = [code for system, code in map(_token, values) if system in ("", ACTION)]
    yield Condition("body", tuple(_json({"action": each}) for each in codes))


def _type(name: str, modifier: str, values: Sequence[str], base: str) -> Iterator[Condition]:
    yield Condition("body", tuple(_json({"type": _coding(each)}) for each in values))


def _subtype(name: str, modifier: str, values: Sequence[str], base: str) -> Iterator[Condition]:
    yield Condition("body", tuple(_json({"subtype": [_coding(each)]}) for each in values))


def _agent(name: str, modifier: str, values: Sequence[str], base: str) -> Iterator[Condition]:
    """Who took part. By `:identifier` the application and the organisation, of which a column is kept."""
    if modifier != "identifier":
        named = [f"{kind}/{id}" for each in values for kind, id in _references(name, modifier, each, base)]
        yield Condition("body", tuple(_json({"agent": [{"who": {"reference": each}}]}) for each in named))
        return
    known = [_token(each) for each in values]
    columns = {COLUMNS.get(system) for system, _ in known}
    if len(columns) == 1 and None not in columns:
        yield Condition(str(columns.pop()), tuple(code for _, code in known))
        return
    spelt = [{"system": system, "value": code} for system, code in known]
    yield Condition("body", tuple(_json({"agent": [{"who": {"identifier": each}}]}) for each in spelt))


COLUMNS = {REGISTRATION: "registration", ODS_ORGANISATION: "organisation"}


def _entity(name: str, modifier: str, values: Sequence[str], base: str) -> Iterator[Condition]:
    """What was in the answer, or asked for. Most of it stands in details, by type: see fhirgw.access.audit_event."""
    if modifier == "identifier":
        raise malformed(name, "is Type/id: what was seen is in the audit by its id alone")
    found = [each for value in values for each in _references(name, modifier, value, base)]
    yield Condition("detail", tuple(part for kind, id in found for part in _spelt(kind, id)))


def _spelt(kind: str, id: str) -> tuple[str, str]:
    """How a body spells that it holds a resource: patterns for PostgreSQL, whose `\\.` is a full stop."""
    exact = re.sub(r"\.", r"\.", id)
    detail = f'"type":"{kind}","valueString":"([^"]* )?{exact}( [^"]*)?"'
    return f'"what":\\{{"reference":"{kind}/{exact}"', detail


def _references(name: str, kind: str, value: str, base: str) -> Iterator[tuple[str, str]]:
    """`id`, `Type/id` or our own address of one, as type and id. Raises FhirError for another's."""
    local = unescape(value).removeprefix(f"{base.rstrip('/')}/" if base else "")
    named, slash, id = local.rpartition("/")
    if not ID.fullmatch(id) or (slash and named not in HELD) or (slash and kind and kind != named):
        raise malformed(name, "is no reference: give an id, or Type/id of a type held here")
    kinds = [named] if slash else [kind] if kind else parameters("AuditEvent")[name].targets
    if "Resource" in kinds:
        raise malformed(name, "says no type: give Type/id")
    yield from ((each, id) for each in kinds)


def _token(value: str) -> tuple[str, str]:
    """`code` or `system|code`, as system and code."""
    left, bar, right = at_bar(value)
    return (left, right) if bar else ("", left)


def _coding(value: str) -> dict[str, str]:
    system, code = _token(value)
    return ({"system": system} if system else {}) | ({"code": code} if code else {})


def _json(part: dict[str, Any]) -> str:
    return encode(part).decode()


READ: dict[str, Callable[[str, str, Sequence[str], str], Iterator[Condition]]] = {
    "_id": _by_id,
    "action": _action,
    "agent": _agent,
    "date": _date,
    "entity": _entity,
    "outcome": _outcome,
    "patient": _patient,
    "subtype": _subtype,
    "type": _type,
}
"""By parameter, what its values ask for."""
