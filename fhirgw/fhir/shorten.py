"""Part of a resource, as `_summary` and `_elements` ask for it; marked as such, so that nobody stores it as the whole.

What is kept is kept digit for digit: a shortened body is decoded and encoded exactly.
https://hl7.org/fhir/R4/search.html#summary, https://hl7.org/fhir/R4/search.html#elements
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.elements import Element, children, step
from fhirgw.fhir.facts import table
from fhirgw.fhir.issue import FhirError, Issue, Resource

SUMMARIES = ("true", "text", "data", "count", "false")
SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
ALWAYS = ("resourceType", "id", "meta")
WHOLE = ("Extension", "Narrative", "xhtml")
"""Datatypes of which a part would say something else, or nothing."""

Kept = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of each resource is asked for: a `_summary` (`true`, `text`, `data`), or `_elements` by name."""

    summary: str | None = None
    elements: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether bodies go out as they are."""
        return self.summary in (None, "false", "count") and not self.elements

    def of(self, body: str) -> str:
        """The part of a stored body."""
        return body if self.whole else encode(self.part(decode(body))).decode()

    def part(self, resource: Resource) -> Resource:
        """The part of a resource, tagged SUBSETTED."""
        if self.summary == "true":
            return _tagged(_summarised(resource["resourceType"], resource) | {"resourceType": resource["resourceType"]})
        if self.summary == "data":
            return _tagged({name: value for name, value in resource.items() if name != "text"})
        wanted = {"text"} if self.summary == "text" else {*self.elements}
        return _tagged(_named(resource, wanted | _mandatory(resource["resourceType"])))


WHOLE_SHAPE = Shape()


def shape(pairs: Iterable[tuple[str, str]], resource_type: str | None = None) -> Shape:
    """What a request's parameters ask for; others are left alone.

    Raises FhirError(invalid) for a `_summary` there is none of, and for elements that the type has not.
    """
    found = WHOLE_SHAPE
    for name, value in pairs:
        if name == "_summary":
            found = Shape(summary(value), found.elements)
        elif name == "_elements":
            found = Shape(found.summary, (*found.elements, *elements(value, resource_type)))
    if found.elements and found.summary not in (None, "false"):
        raise FhirError(Issue("invalid", "_summary and _elements exclude each other: ask for one of them"))
    return found


def summary(value: str) -> str:
    """The value of a `_summary`. Raises FhirError(invalid)."""
    if value not in SUMMARIES:
        raise FhirError(Issue("invalid", f"_summary is one of {', '.join(SUMMARIES)}"))
    return value


def elements(value: str, resource_type: str | None) -> tuple[str, ...]:
    """The top-level elements of an `_elements`: `name,birthDate`, or `Patient.name`; choices by their stem.

    Raises FhirError(invalid) for one that the type has not; without a type any name of a word will do.
    """
    found = tuple(each.strip().removeprefix(f"{resource_type}.") for each in value.split(","))
    for each in set(found) - {*ALWAYS}:
        if not each.isidentifier() or (resource_type and each not in _stems(resource_type)):
            near = get_close_matches(each, _stems(resource_type), 1) if resource_type else []
            hint = f": did you mean {near[0]}?" if near else ""
            raise FhirError(Issue("invalid", f"_elements names top-level elements of the type, with commas{hint}"))
    return found


def _tagged(part: Resource) -> Resource:
    meta = part.get("meta", {})
    made = {"resourceType": part["resourceType"]} | ({"id": part["id"]} if "id" in part else {})
    return (
        made
        | {"meta": {**meta, "tag": [*meta.get("tag", ()), SUBSETTED]}}
        | {name: value for name, value in part.items() if name not in ALWAYS}
    )


def _named(resource: Resource, wanted: set[str]) -> Resource:
    return {
        name: value
        for name, value in resource.items()
        if name in ALWAYS or _stem(resource["resourceType"], name) in wanted
    }


def _summarised(context: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """What of an object is part of a summary; nothing of it that would be an empty shell."""
    found: dict[str, Any] = {}
    for name, each in value.items():
        element = step(context, name)
        if element is None or not _in_summary(context, _bare(name)):
            continue
        if (kept := _inner(element, each)) not in ({}, []):
            found[name] = kept
    return found


def _inner(element: Element, value: Any) -> Any:
    if isinstance(value, list):
        return [kept for each in value if (kept := _inner(element, each)) != {}]
    if not isinstance(value, dict) or element.type in WHOLE or element.name.startswith("_"):
        return value
    return _summarised(element.inner, value)


@cache
def _in_summary(context: str, name: str) -> bool:
    """Whether a property is marked, mandatory, or on the way to one that is marked."""
    element = children(context).get(name)
    if element is None:
        return False
    stem = _stem(context, name)
    root, _, inside = context.partition(".")
    if element.min or stem in ("resourceType", "modifierExtension") or (not inside and stem in _everywhere()):
        return True
    marked = table("summary").get(root)
    if marked is None:  # a datatype of which nothing is marked is kept whole
        return True
    path = f"{inside}.{stem}" if inside else stem
    return any(each.replace("[x]", "") == path or each.startswith(f"{path}.") for each in marked)


@cache
def _everywhere() -> frozenset[str]:
    return frozenset(table("summary").get("Resource", ()))


@cache
def _mandatory(resource_type: str) -> frozenset[str]:
    return frozenset(_stem(resource_type, each.name) for each in children(resource_type).values() if each.min)


@cache
def _stems(resource_type: str) -> frozenset[str]:
    return frozenset(_stem(resource_type, name) for name in children(resource_type))


def _stem(context: str, name: str) -> str:
    """`valueQuantity` as `value`; any other name as it is, without the underscore of a primitive's extensions."""
    bare = _bare(name)
    element = children(context).get(bare)
    if element is None or not element.choices:
        return bare
    return bare[: -len(element.type)] if bare.lower().endswith(element.type.lower()) else bare


def _bare(name: str) -> str:
    return name.removeprefix("_")
