"""A code system's concepts, and what is under what.

https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import MappingProxyType

from fhirgw.fhir.issue import Resource
from fhirgw.terminology.definitions import carried, definition, rests_on_these

ENDED = ("retired", "deprecated", "inactive")


@dataclass(frozen=True, slots=True)
class Concept:
    """One code: `parents` are the codes it is immediately under; `abstract` ones are headings, never recorded."""

    code: str
    display: str | None = None
    definition: str | None = None
    parents: tuple[str, ...] = ()
    abstract: bool = False
    inactive: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CodeSystem:
    """The concepts by code, in the order published. `complete`: what is not among them is no code of the system."""

    url: str
    version: str | None
    name: str
    concepts: Mapping[str, Concept]
    complete: bool
    is_case_sensitive: bool

    def find(self, code: str) -> Concept | None:
        """The concept of a code, in another case too where the system does not mind."""
        found = self.concepts.get(code)
        if found is None and not self.is_case_sensitive:
            return self.concepts.get(self._folded.get(code.casefold(), ""))
        return found

    def children(self, code: str) -> tuple[str, ...]:
        """The codes immediately under it."""
        return self._children.get(code, ())

    def ancestors(self, code: str) -> frozenset[str]:
        """Every code it is under, itself not."""
        found: set[str] = set()
        waiting = list(self.concepts[code].parents) if code in self.concepts else []
        while waiting:
            parent = waiting.pop()
            if parent not in found and parent in self.concepts:
                found.add(parent)
                waiting += self.concepts[parent].parents
        return frozenset(found)

    def descendants(self, code: str) -> frozenset[str]:
        """Every code under it, itself not."""
        found: set[str] = set()
        waiting = [code]
        while waiting:
            more = [each for each in self._children.get(waiting.pop(), ()) if each not in found]
            found.update(more)
            waiting += more
        return frozenset(found)

    def subsumes(self, a: str, b: str) -> str:
        """`equivalent`, `subsumes` (b is an a), `subsumed-by` or `not-subsumed`."""
        if a == b:
            return "equivalent"
        if a in self.ancestors(b):
            return "subsumes"
        return "subsumed-by" if b in self.ancestors(a) else "not-subsumed"

    def filtered(self, filters: list[Resource]) -> frozenset[str] | None:
        """The codes that pass every filter of a value set; None where one cannot be decided here.

        https://hl7.org/fhir/R4/valueset-filter-operator.html
        """
        found = frozenset(self.concepts)
        for each in filters:
            passed = self._passed(each["property"], each["op"], each["value"])
            if passed is None:
                return None
            found &= passed
        return found

    def _passed(self, name: str, op: str, value: str) -> frozenset[str] | None:
        if op in _HIERARCHY:
            return _HIERARCHY[op](self, value) & frozenset(self.concepts) if value in self.concepts else None
        read = _PROPERTIES.get(name, _property(name))
        if op not in _COMPARED or (name not in _PROPERTIES and not any(map(read, self.concepts.values()))):
            return None
        passes = _COMPARED[op](value)
        return frozenset(code for code, each in self.concepts.items() if passes(read(each)))

    @cached_property
    def _children(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for code, each in self.concepts.items():
            for parent in each.parents:
                found[parent] = (*found.get(parent, ()), code)
        return found

    @cached_property
    def _folded(self) -> Mapping[str, str]:
        return {code.casefold(): code for code in self.concepts}


def _property(name: str) -> Callable[[Concept], set[str]]:
    """Reads a property that the code system defines itself."""
    return lambda concept: {concept.properties[name]} if name in concept.properties else set()


_HIERARCHY: dict[str, Callable[[CodeSystem, str], frozenset[str]]] = {
    "is-a": lambda system, code: system.descendants(code) | {code},
    "descendent-of": lambda system, code: system.descendants(code),
    "is-not-a": lambda system, code: frozenset(system.concepts) - system.descendants(code) - {code},
    "generalizes": lambda system, code: system.ancestors(code) | {code},
}
_PROPERTIES: dict[str, Callable[[Concept], set[str]]] = {
    "code": lambda concept: {concept.code},
    "concept": lambda concept: {concept.code},
    "display": lambda concept: {concept.display or ""},
    "definition": lambda concept: {concept.definition or ""},
    "parent": lambda concept: set(concept.parents),
    "inactive": lambda concept: {"true" if concept.inactive else "false"},
    "notSelectable": lambda concept: {"true" if concept.abstract else "false"},
}
_COMPARED: dict[str, Callable[[str], Callable[[set[str]], bool]]] = {
    "=": lambda value: lambda found: value in found,
    "in": lambda value: lambda found: bool(found & {each.strip() for each in value.split(",")}),
    "not-in": lambda value: lambda found: not found & {each.strip() for each in value.split(",")},
    "regex": lambda value: lambda found: any(re.fullmatch(value, each) for each in found),
    "exists": lambda value: lambda found: bool(found) == (value == "true"),
}


def code_system(url: str) -> CodeSystem | None:
    """The code system of that url (a version after | is ignored); None when it is not carried."""
    found = definition("CodeSystem", url)
    return _compiled(found["url"]) if found else None


@cache
def _compiled(url: str) -> CodeSystem:
    found = carried("CodeSystem")[url]
    return CodeSystem(
        url=found["url"],
        version=found.get("version"),
        name=found.get("title") or found.get("name") or found["url"],
        concepts=MappingProxyType(_concepts(found)),
        complete=found.get("content") == "complete",
        is_case_sensitive=found.get("caseSensitive", True),
    )


rests_on_these(_compiled.cache_clear)


def _concepts(found: Resource) -> dict[str, Concept]:
    """By code, depth first. A `child` property makes a second parent. https://hl7.org/fhir/R4/codesystem.html#hierarchy"""
    parents: dict[str, tuple[str, ...]] = {}
    seen: dict[str, Resource] = {}
    for parent, concept in _walk(found.get("concept", []), None):
        code = concept["code"]
        seen.setdefault(code, concept)
        above = (parent,) if parent else ()
        parents[code] = tuple(dict.fromkeys((*parents.get(code, ()), *above, *_values(concept, "parent"))))
        for child in _values(concept, "child"):
            parents[child] = tuple(dict.fromkeys((*parents.get(child, ()), code)))
    return {code: _concept(each, parents[code]) for code, each in seen.items()}


def _walk(concepts: list[Resource], parent: str | None) -> Iterator[tuple[str | None, Resource]]:
    for each in concepts:
        if "code" not in each:
            continue  # no concept: of a package nobody checked
        yield parent, each
        yield from _walk(each.get("concept", []), each["code"])


def _concept(found: Resource, parents: tuple[str, ...]) -> Concept:
    properties = {each["code"]: _value(each) for each in found.get("property", ()) if each["code"] != "child"}
    return Concept(
        code=found["code"],
        display=found.get("display"),
        definition=found.get("definition"),
        parents=parents,
        abstract="true" in (properties.get("notSelectable"), properties.get("abstract")),
        inactive=properties.get("status") in ENDED or properties.get("inactive") == "true",
        properties=properties,
    )


def _values(concept: Resource, name: str) -> list[str]:
    return [_value(each) for each in concept.get("property", ()) if each["code"] == name]


def _value(found: Resource) -> str:
    """The value of a property as text: a Coding's code."""
    value = next((value for name, value in found.items() if name.startswith("value")), "")
    if isinstance(value, dict):
        value = value.get("code", "")
    return str(value).lower() if isinstance(value, bool) else str(value)
