"""A search request, read: what it asks, in what order, and how much of it at once.

https://hl7.org/fhir/R4/search.html. Strict unless told otherwise: every fault of a request is reported at
once. With `Prefer: handling=lenient` what cannot be honoured is left out and said in `warnings`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from fhirgw.fhir.criterion import Criterion, criterion, known, malformed, shown
from fhirgw.fhir.escapes import alternatives
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import EVERYWHERE, HELD, Parameter

DEFAULT_COUNT = 50
MOST_COUNT = 1000
MOST_PAIRS = 100
TOTALS = ("none", "accurate", "estimate")
JSON_FORMATS = ("json", "application/json", "application/fhir+json", "text/json")
UNSUPPORTED = ("_has", "_text", "_content", "_list", "_filter", "_query", "_contained", "_containedType", "_type")


@dataclass(frozen=True, slots=True)
class Sort:
    """One key of the order: `parameter` is `_id`, `_lastUpdated` or a date of the type (which has a slot)."""

    parameter: Parameter
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Include:
    """Resources to send along: those that `source`'s parameter refers to (`_include`), or that refer here
    (`_revinclude`).

    `target` narrows to one type; None is any. For `_revinclude` it is the searched type.
    """

    source: str
    parameter: Parameter
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """`Query.parse(type, pairs)`: a request as values, or every issue with it.

    `count` 0 asks for the total alone (as `_summary=count` does); `cursor` is opaque; `applied` are the pairs
    that were honoured, for the self link; `warnings` say what a lenient reading left out.
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

    @classmethod
    def parse(cls, type: str, pairs: Sequence[tuple[str, str]], lenient: bool = False, base: str = "") -> Query:
        """Read the pairs of a query string or form, decoded, in their order. `base` is our own FHIR address.

        Raises FhirError (400) with every issue, unless lenient.
        """
        if len(pairs) > MOST_PAIRS:
            raise FhirError(Issue("too-costly", f"More than {MOST_PAIRS} search parameters: ask in parts"))
        query = cls(type)
        issues: list[Issue] = []
        for name, value in pairs:
            try:
                query = _read(query, name, value, base)
            except FhirError as error:
                issues += error.issues
            else:
                query = replace(query, applied=(*query.applied, (name, value)))
        if issues and not lenient:
            raise FhirError(*issues, status=400)
        warnings = (replace(issue, severity="warning") for issue in issues)
        return replace(query, warnings=(*query.warnings, *warnings))


def _read(query: Query, name: str, value: str, base: str) -> Query:
    """The query with one more pair."""
    if control := CONTROLS.get(name):
        return replace(query, **control(query, value))
    bare = name.partition(":")[0].partition(".")[0]
    if bare in UNSUPPORTED or bare in CONTROLS:
        raise FhirError(Issue("not-supported", f"The search parameter {shown(name)} is not supported"))
    if bare.startswith("_") and bare not in EVERYWHERE:
        near = get_close_matches(bare, (*CONTROLS, *EVERYWHERE), n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise FhirError(Issue("invalid", f"There is no search parameter {shown(name)}{hint}"))
    return replace(query, criteria=(*query.criteria, criterion(query.type, name, value, base)))


def _count(query: Query, value: str) -> dict[str, Any]:
    """A larger page than we give is R4's to ask and ours to shorten."""
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise malformed("_count", "is a number of resources, 0 or more")
    if int(value) <= MOST_COUNT:
        return {"count": int(value)}
    note = Issue("informational", f"_count is at most {MOST_COUNT}: pages are that long", severity="information")
    return {"count": MOST_COUNT, "warnings": (*query.warnings, note)}


def _sort(query: Query, value: str) -> dict[str, Any]:
    return {"sort": tuple(_sort_key(query.type, each) for each in alternatives(value))}


def _sort_key(resource_type: str, text: str) -> Sort:
    name = text.removeprefix("-")
    parameter = known(resource_type, name)
    if parameter.slot is None and name not in ("_id", "_lastUpdated"):
        raise FhirError(
            Issue("not-supported", f"_sort by {name} is not supported: sort by a date, _lastUpdated or _id")
        )
    return Sort(parameter, text.startswith("-"))


def _include(query: Query, value: str) -> dict[str, Any]:
    source, parameter, target = _inclusion("_include", value)
    if source != query.type:
        raise malformed("_include", f"starts with the searched type: {query.type}:parameter")
    return {"include": (*query.include, Include(source, parameter, target))}


def _revinclude(query: Query, value: str) -> dict[str, Any]:
    source, parameter, target = _inclusion("_revinclude", value)
    if target not in (None, query.type) or not {query.type, "Resource"} & set(parameter.targets):
        raise malformed("_revinclude", f"names a parameter that refers to {query.type}")
    return {"revinclude": (*query.revinclude, Include(source, parameter, query.type))}


def _inclusion(control: str, value: str) -> tuple[str, Parameter, str | None]:
    source, _, rest = value.partition(":")
    name, _, target = rest.partition(":")
    if source not in HELD or not name:
        raise malformed(control, "is written Type:parameter or Type:parameter:Target, with a type held here")
    parameter = known(source, name)
    if parameter.kind != "reference":
        raise malformed(control, f"names {name}, which is no reference")
    if target and not {target, "Resource"} & set(parameter.targets):
        raise malformed(control, f"names {shown(target)}, to which {name} does not refer")
    return source, parameter, target or None


def _total(query: Query, value: str) -> dict[str, Any]:
    if value not in TOTALS:
        raise malformed("_total", f"is one of {', '.join(TOTALS)}")
    return {"total": value}


def _summary(query: Query, value: str) -> dict[str, Any]:
    match value:
        case "false":
            return {"summary": "false"}
        case "count":
            return {"summary": "count", "count": 0, "total": "accurate"}
        case "true" | "text" | "data":
            raise FhirError(Issue("not-supported", "_summary may be count or false: bodies are served whole"))
    raise malformed("_summary", "is count or false")


def _elements(query: Query, value: str) -> dict[str, Any]:
    raise FhirError(Issue("not-supported", "_elements is not supported: bodies are served whole"))


def _cursor(query: Query, value: str) -> dict[str, Any]:
    return {"cursor": value}


def _format(query: Query, value: str) -> dict[str, Any]:
    if value.partition(";")[0].strip().replace(" ", "+") not in JSON_FORMATS:
        raise FhirError(Issue("not-supported", "_format is JSON only: application/fhir+json"))
    return {}


CONTROLS: dict[str, Callable[[Query, str], dict[str, Any]]] = {
    "_count": _count,
    "_cursor": _cursor,
    "_elements": _elements,
    "_format": _format,
    "_include": _include,
    "_revinclude": _revinclude,
    "_sort": _sort,
    "_summary": _summary,
    "_total": _total,
}
"""Parameters of the request itself, by name; each gives what it changes of the query."""
