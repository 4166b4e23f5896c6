"""A search request, read: what it asks, in what order, and how much of it at once.

https://hl7.org/fhir/R4/search.html. Strict unless told otherwise: every fault of a request is reported at
once. With `Prefer: handling=lenient` what cannot be honoured is left out and said in `warnings`.
Long because each parameter of the request itself is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from fhirgw.fhir.criterion import Criterion, criterion, known
from fhirgw.fhir.escapes import alternatives
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.meant import meant
from fhirgw.fhir.parameters import EVERYWHERE, HELD, Parameter, supported
from fhirgw.fhir.shorten import elements, summary
from fhirgw.fhir.values import malformed, shown

DEFAULT_COUNT = 50
MOST_COUNT = 1000
MOST_PAIRS = 100
TOTALS = ("none", "accurate", "estimate")
JSON_FORMATS = ("json", "application/json", "application/fhir+json", "text/json")
UNSUPPORTED = {
    "_text": "narrative is not searched: use a parameter of the type",
    "_content": "text is not searched as a whole: use a parameter of the type",
    "_list": "lists are not held here: name the ids with _id",
    "_filter": "use parameters and chains",
    "_query": "there are no named queries",
    "_containedType": "contained resources are found with what holds them",
}
"""What R4 has and the gateway has not, and what to do instead."""

SORTABLE = ("string", "date", "number", "quantity", "token", "reference", "uri")
SEARCHED = tuple(each for each in HELD if each != "AuditEvent")
"""Types that a search of everything is of: the audit is searched by itself."""


@dataclass(frozen=True, slots=True)
class Sort:
    """One key of the order: `parameter` is `_id`, `_lastUpdated`, or one of the type that is of a kind in SORTABLE."""

    parameter: Parameter
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Include:
    """Resources to send along: those that `source`'s parameter refers to (`_include`), or that refer here
    (`_revinclude`).

    `target` narrows to one type; None is any. For `_revinclude` it is the searched type. `iterate`: of what comes along
    too, and of what that brings.
    """

    source: str
    parameter: Parameter
    target: str | None = None
    iterate: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """`Query.parse(type, pairs)`: a request as values, or every issue with it.

    `count` 0 asks for the total alone (as `_summary=count` does); `cursor` is opaque; `applied` are the pairs
    that were honoured, for the self link; `warnings` say what a lenient reading left out. A search of several types
    has its first as `type`, and of the `others` each with its criteria; `anything`: no type was named.
    """

    type: str
    criteria: tuple[Criterion, ...] = ()
    include: tuple[Include, ...] = ()
    revinclude: tuple[Include, ...] = ()
    sort: tuple[Sort, ...] = ()
    count: int = DEFAULT_COUNT
    cursor: str | None = None
    total: str | None = None
    summary: str | None = None
    elements: tuple[str, ...] = ()
    applied: tuple[tuple[str, str], ...] = ()
    warnings: tuple[Issue, ...] = field(default=())
    others: tuple[tuple[str, tuple[Criterion, ...]], ...] = ()
    anything: bool = False
    explain: bool = False

    @property
    def types(self) -> tuple[str, ...]:
        """Every type it is of."""
        return self.type, *(each for each, _ in self.others)

    @property
    def parts(self) -> tuple[tuple[str, tuple[Criterion, ...]], ...]:
        """Every type with its criteria."""
        return (self.type, self.criteria), *self.others

    @classmethod
    def parse(cls, type: str, pairs: Sequence[tuple[str, str]], lenient: bool = False, base: str = "") -> Query:
        """Read the pairs of a query string or form, decoded, in their order. `base` is our own FHIR address.

        `type` "" is a search of the whole system, of the types that `_type` names, or of all.
        Raises FhirError (400) with every issue, unless lenient.
        """
        if len(pairs) > MOST_PAIRS:
            raise FhirError(Issue("too-costly", f"More than {MOST_PAIRS} search parameters: ask in parts"))
        query = cls(type) if type else _of_types(pairs)
        issues: list[Issue] = []
        for pair in pairs:
            try:
                read = _read(query, *pair, base)
            except FhirError as error:
                issues += error.issues
            else:
                _put(query, read | {"applied": (*query.applied, pair)})
        if issues and not lenient:
            raise FhirError(*issues, status=400)
        if issues:
            warnings = (replace(issue, severity="warning") for issue in issues)
            _put(query, {"warnings": (*query.warnings, *warnings)})
        return query


def _put(query: Query, changes: dict[str, Any]) -> None:
    """Changes a query that is still being read, and nobody's yet: a new one for each pair took half of the reading."""
    for name, value in changes.items():
        object.__setattr__(query, name, value)


def _read(query: Query, name: str, value: str, base: str) -> dict[str, Any]:
    """What one more pair changes of the query."""
    if control := CONTROLS.get(name):
        return control(query, value)
    bare = name.partition(":")[0].partition(".")[0]
    if bare in UNSUPPORTED or bare in CONTROLS:
        why = UNSUPPORTED.get(bare, f"it is written {bare}")
        raise FhirError(Issue("not-supported", f"The search parameter {shown(name)} is not supported: {why}"))
    if bare.startswith("_") and bare not in EVERYWHERE and bare != "_has":
        near = meant(bare, (*CONTROLS, *EVERYWHERE, *supported(query.type)))
        hint = f": did you mean {near}?" if near else ""
        raise FhirError(Issue("invalid", f"There is no search parameter {shown(name)}{hint}"))
    (_, criteria), *others = ((each, (*held, criterion(each, name, value, base))) for each, held in query.parts)
    return {"criteria": criteria, "others": tuple(others)}


def _of_types(pairs: Sequence[tuple[str, str]]) -> Query:
    """A search of the whole system. Raises FhirError for a type that is not held."""
    asked = [each for name, value in pairs if name == "_type" for each in value.split(",")]
    if unheld := [each for each in asked if each not in SEARCHED]:
        near = get_close_matches(unheld[0], SEARCHED, n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise malformed("_type", f"names a type that is not held here{hint}")
    first, *rest = dict.fromkeys(asked or SEARCHED)
    return Query(first, others=tuple((each, ()) for each in rest), anything=not asked)


def _type(query: Query, value: str) -> dict[str, Any]:
    """Read before all else, for a search of the whole system; of one type it may name that type alone."""
    if {*value.split(",")} - {*query.types}:
        raise malformed("_type", "is for searches of the whole system: this one is of one type")
    return {}


def _count(query: Query, value: str) -> dict[str, Any]:
    """A larger page than we give is R4's to ask and ours to shorten."""
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise malformed("_count", "is a number of resources, 0 or more")
    if int(value) <= MOST_COUNT:
        return {"count": int(value)}
    note = Issue("informational", f"_count is at most {MOST_COUNT}: pages are that long", severity="information")
    return {"count": MOST_COUNT, "warnings": (*query.warnings, note)}


def _sort(query: Query, value: str) -> dict[str, Any]:
    found = tuple(_sort_key(query.type, each) for each in alternatives(value))
    if query.others and any(each.parameter.name not in ("_id", "_lastUpdated") for each in found):
        raise FhirError(Issue("not-supported", "_sort of several types is by _lastUpdated or _id"))
    return {"sort": found}


def _sort_key(resource_type: str, text: str) -> Sort:
    name = text.removeprefix("-")
    parameter = known(resource_type, name)
    if parameter.kind not in SORTABLE:
        told = f"_sort by {name} is not supported: a {parameter.kind} parameter has no order, sort by one of its parts"
        raise FhirError(Issue("not-supported", told))
    return Sort(parameter, text.startswith("-"))


def _include(query: Query, value: str, iterate: bool = False) -> dict[str, Any]:
    if value == "*":
        found = [Include(each, parameter) for each in query.types for parameter in _references(each)]
        return {"include": (*query.include, *(replace(each, iterate=iterate) for each in found))}
    source, several, target = _inclusion("_include", value)
    if source not in query.types and not iterate:
        raise malformed("_include", f"starts with the searched type: {query.type}:parameter")
    return {"include": (*query.include, *(Include(source, each, target, iterate) for each in several))}


def _revinclude(query: Query, value: str, iterate: bool = False) -> dict[str, Any]:
    source, several, target = _inclusion("_revinclude", value)
    fitting = [each for each in several if iterate or {*query.types, "Resource"} & set(each.targets)]
    if not fitting or (target not in (None, *query.types) and not iterate):
        raise malformed("_revinclude", f"names a parameter that refers to {query.type}")
    of = target if iterate or query.others else query.type
    return {"revinclude": (*query.revinclude, *(Include(source, each, of, iterate) for each in fitting))}


def _inclusion(control: str, value: str) -> tuple[str, list[Parameter], str | None]:
    source, _, rest = value.partition(":")
    name, _, target = rest.partition(":")
    if source not in HELD or not name:
        raise malformed(control, "is written Type:parameter or Type:parameter:Target, with a type held here")
    if name == "*":
        return source, _references(source), target or None
    parameter = known(source, name)
    if parameter.kind != "reference":
        raise malformed(control, f"names {name}, which is no reference")
    if target and not {target, "Resource"} & set(parameter.targets):
        raise malformed(control, f"names {shown(target)}, to which {name} does not refer")
    return source, [parameter], target or None


def _references(resource_type: str) -> list[Parameter]:
    """Every parameter of a type that refers to something that may be held here."""
    held = {*HELD, "Resource"}
    return [each for each in supported(resource_type).values() if each.kind == "reference" and held & set(each.targets)]


def _explain(query: Query, value: str) -> dict[str, Any]:
    if value not in ("true", "false"):
        raise malformed("_explain", "is true or false")
    return {"explain": value == "true"}


def _total(query: Query, value: str) -> dict[str, Any]:
    if value not in TOTALS:
        raise malformed("_total", f"is one of {', '.join(TOTALS)}")
    return {"total": value}


def _total_method(query: Query, value: str) -> dict[str, Any]:
    """The same in Aidbox's words, which fhirpy says to every server."""
    return {} if value == "no" else _total(query, {"count": "accurate"}.get(value, "estimate"))


def _summary(query: Query, value: str) -> dict[str, Any]:
    if summary(value) == "count":
        return {"summary": "count", "count": 0, "total": "accurate"}
    return {"summary": value}


def _elements(query: Query, value: str) -> dict[str, Any]:
    return {"elements": (*query.elements, *elements(value, query.type))}


def _cursor(query: Query, value: str) -> dict[str, Any]:
    return {"cursor": value}


def _contained(query: Query, value: str) -> dict[str, Any]:
    """What R4 does unless it is told otherwise, and no more."""
    if value != "false":
        raise FhirError(Issue("not-supported", f"_contained is false only: {UNSUPPORTED['_containedType']}"))
    return {}


def _format(query: Query, value: str) -> dict[str, Any]:
    if value.partition(";")[0].strip().replace(" ", "+") not in JSON_FORMATS:
        raise FhirError(Issue("not-supported", "_format is JSON only: application/fhir+json"))
    return {}


CONTROLS: dict[str, Callable[[Query, str], dict[str, Any]]] = {
    "_contained": _contained,
    "_count": _count,
    "_cursor": _cursor,
    "_elements": _elements,
    "_format": _format,
    "_explain": _explain,
    "_include": _include,
    "_include:iterate": partial(_include, iterate=True),
    "_include:recurse": partial(_include, iterate=True),
    "_revinclude": _revinclude,
    "_revinclude:iterate": partial(_revinclude, iterate=True),
    "_revinclude:recurse": partial(_revinclude, iterate=True),
    "_sort": _sort,
    "_summary": _summary,
    "_total": _total,
    "_totalMethod": _total_method,
    "_type": _type,
}
"""Parameters of the request itself, by name; each gives what it changes of the query."""
