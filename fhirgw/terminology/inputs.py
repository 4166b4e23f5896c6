"""The parameters of an operation, read from an address or from a Parameters resource, against a table of what it takes.

https://hl7.org/fhir/R4/operations.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhirgw.fhir.dates import span
from fhirgw.fhir.issue import FhirError, Issue, Resource

Kinds = Mapping[str, str]
"""Name -> datatype of each parameter; `*` after it: more than once."""

TEXTS = {"uri": ("Uri", "Url", "Canonical"), "code": ("Code", "String"), "string": ("String", "Code")}
COMPLEX = ("Coding", "CodeableConcept")
VALUE_SET = "ValueSet"
NOT_TAKEN = {
    **dict.fromkeys(("CodeSystem", "ConceptMap"), "name one that is carried here by its url"),
    "Parts": "no map here depends on anything besides the code",
}
"""What R4 lets an operation take and this gateway does not, with the remedy."""
PRESENTATION = ("_format", "_pretty")
LONGEST = 2048
"""Characters of one value: urls and codes are short."""
MOST_CODINGS = 100


class Inputs:
    """What was given: `text`, `flag`, `number`, `coded` by name. Faults are told once read, all together by name."""

    def __init__(self, operation: str, kinds: Kinds, given: Iterable[tuple[str, Any]]) -> None:
        self.operation = operation
        self._found: dict[str, list[Any]] = {}
        for name, value in given:
            self._found.setdefault(name, []).append(value)
        for name, values in self._found.items():
            if len(values) > 1 and not kinds[name].endswith("*"):
                raise FhirError(Issue("invalid", f"{operation} takes {name} once"))

    def text(self, name: str) -> str | None:
        return self._found[name][0] if name in self._found else None

    def required(self, name: str) -> str:
        """A text that must be there. Raises FhirError(required)."""
        if name not in self._found:
            raise FhirError(Issue("required", f"{self.operation} wants {name}"))
        return str(self._found[name][0])

    def texts(self, name: str) -> list[str]:
        return self._found.get(name, [])

    def flag(self, name: str) -> bool | None:
        return self._found[name][0] if name in self._found else None

    def number(self, name: str) -> int | None:
        return self._found[name][0] if name in self._found else None

    def resource(self, name: str) -> Resource | None:
        """A resource that was sent along. Whoever takes it sees first that it is FHIR."""
        return self._found[name][0] if name in self._found else None

    def coding(self, name: str) -> Resource | None:
        """A Coding or CodeableConcept."""
        return self._found[name][0] if name in self._found else None

    def value(self, name: str) -> Any:
        """Whatever was given by that name."""
        return self._found[name][0]

    def __contains__(self, name: str) -> bool:
        return name in self._found


def from_pairs(operation: str, kinds: Kinds, pairs: Iterable[tuple[str, str]]) -> Inputs:
    """Of a GET: primitive parameters alone. Raises FhirError naming the parameter that is wrong."""
    return Inputs(operation, kinds, _from_pairs(operation, kinds, pairs))


def from_parameters(operation: str, kinds: Kinds, body: Resource) -> Inputs:
    """Of a POST: a Parameters resource. Raises FhirError naming the parameter that is wrong."""
    if body.get("resourceType") != "Parameters" or not isinstance(body.get("parameter", []), list):
        raise FhirError(Issue("structure", f"{operation} takes a Parameters resource as its body"))
    return Inputs(operation, kinds, _from_parts(operation, kinds, body.get("parameter", [])))


def _from_pairs(operation: str, kinds: Kinds, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    for name, value in pairs:
        if name in PRESENTATION:
            continue
        kind = _kind(operation, kinds, name)
        if kind in COMPLEX or kind in NOT_TAKEN or kind == VALUE_SET:
            raise FhirError(Issue("invalid", f"{name} does not fit an address: send it by POST, in Parameters"))
        yield name, _primitive(name, kind, value)


def _from_parts(operation: str, kinds: Kinds, parts: list[Any]) -> Iterator[tuple[str, Any]]:
    for at, part in enumerate(parts):
        place = f"Parameters.parameter[{at}]"
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise FhirError(Issue("structure", "A parameter is an object with a name", place))
        name = part["name"]
        kind = _kind(operation, kinds, name, place)
        if kind in NOT_TAKEN:
            raise FhirError(Issue("not-supported", f"{name} is not taken: {NOT_TAKEN[kind]}", place))
        yield name, _resource(name, part, place) if kind == VALUE_SET else _value(name, kind, part, place)


def _resource(name: str, part: Resource, place: str) -> Resource:
    found = part.get("resource")
    if not isinstance(found, dict) or found.get("resourceType") != VALUE_SET:
        raise FhirError(Issue("structure", f"{name} is given as resource, a {VALUE_SET}", place))
    return found


def _kind(operation: str, kinds: Kinds, name: str, place: str | None = None) -> str:
    if name not in kinds:
        known = ", ".join(each for each, kind in kinds.items() if kind not in NOT_TAKEN)
        raise FhirError(Issue("not-supported", f"{operation} takes {known}", place))
    return kinds[name].removesuffix("*")


def _value(name: str, kind: str, part: Resource, place: str) -> Any:
    """The value[x] of a part, as its kind wants it."""
    given = [key for key in part if key.startswith("value")]
    if len(given) != 1 or "part" in part or "resource" in part:
        raise FhirError(Issue("structure", f"{name} has one value, of type {kind}", place))
    key = given[0].removeprefix("value")
    if key != kind[0].upper() + kind[1:] and key not in TEXTS.get(kind, ()):
        raise FhirError(Issue("structure", f"{name} is given as value{kind[0].upper()}{kind[1:]}", place))
    value = part[given[0]]
    if kind in COMPLEX:
        return _complex(name, kind, value, place)
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind == "integer" and type(value) is int:
        return _primitive(name, kind, str(value))
    if (kind in TEXTS or kind == "dateTime") and isinstance(value, str):
        return _primitive(name, kind, value)
    raise FhirError(Issue("structure", f"{name} is malformed: it is of type {kind}", place))


def _primitive(name: str, kind: str, value: str) -> Any:
    """Raises FhirError(invalid) for what its kind cannot be."""
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    if kind == "integer" and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    if kind == "dateTime" and _is_date(value):
        return value
    if kind in TEXTS and value.strip() == value and 0 < len(value) <= LONGEST and "\0" not in value:
        return value
    raise FhirError(Issue("invalid", f"{name} is malformed: it is of type {kind}"))


def _is_date(value: str) -> bool:
    try:
        span(value)
    except FhirError:
        return False
    return True


def _complex(name: str, kind: str, value: Any, place: str) -> Resource:
    """A Coding, or a CodeableConcept of Codings, that is one."""
    codings = [value] if kind == "Coding" else value.get("coding") if isinstance(value, dict) else None
    if not isinstance(codings, list) or not 0 < len(codings) <= MOST_CODINGS or not all(map(_is_coding, codings)):
        wanted = f"{name} is malformed: each coding has a code, and texts for system, version and display"
        raise FhirError(Issue("structure", wanted, place))
    found: Resource = value
    return found


def _is_coding(value: Any) -> bool:
    texts = ("system", "version", "code", "display")
    return (
        isinstance(value, dict)
        and "code" in value
        and all(isinstance(value[each], str) and 0 < len(value[each]) <= LONGEST for each in texts if each in value)
    )
