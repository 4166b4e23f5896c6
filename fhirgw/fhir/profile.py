"""Profiles, extensions and code lists by their canonical urls: R4's, UK Core's and our own.

R4's and UK Core's come from the derived tables; ours are the StructureDefinitions, CodeSystems and ValueSets
in `profiles/`, read as they stand, so that adding one there is all there is to do. `add` takes those of a package that
an operator installed: they replace drafts, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import orjson

from fhirgw import shipped
from fhirgw.fhir.differential import Constraint, facts_of
from fhirgw.fhir.elements import children
from fhirgw.fhir.facts import table
from fhirgw.fhir.issue import Resource

OURS = "https://fhirgw.uk/fhir"
UK_CORE = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-"
ANYWHERE = ("Element", "Resource", "DomainResource")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile narrows. `draft` ones are announced, not balloted: do not claim them without being asked
    to.

    `constraints` are by element id within the type (`identifier:nhsNumber.value`), as `differential`
    describes them.
    """

    url: str
    type: str
    base: str
    version: str | None
    status: str
    draft: bool
    constraints: Mapping[str, Constraint]

    @property
    def required(self) -> tuple[tuple[str, ...], ...]:
        """The top-level elements that must be there, R4's and the profile's: each the JSON names, any of
        which will do.
        """
        names: dict[str, tuple[str, ...]] = {}
        for element in children(self.type).values():
            stem = _stem(element.name, element.type) if element.choices else element.name
            least = max(element.min, int(self.constraints.get(stem, {}).get("min", 0)))
            if least:
                names[stem] = element.choices or (element.name,)
        return tuple(names.values())

    @property
    def extensions(self) -> Mapping[str, tuple[str, ...]]:
        """The extension urls the profile names, by the path they stand under ("" is the resource itself)."""
        found: dict[str, tuple[str, ...]] = {}
        for path, constraint in self.constraints.items():
            above, _, leaf = path.rpartition(".")
            if leaf.startswith(("extension:", "modifierExtension:")):
                for url in _extension_urls(constraint):
                    found[above] = (*found.get(above, ()), url)
        return MappingProxyType(found)


@dataclass(frozen=True, slots=True)
class Extension:
    """What an extension, or a part of one, may hold: a value of one of `values`, or `parts` by their urls.

    `contexts` are the paths or types it may stand on. No values and no parts means that any value will do.
    """

    url: str
    values: tuple[str, ...] = ()
    parts: Mapping[str, Extension] = field(default_factory=dict)
    contexts: tuple[str, ...] = ()
    binding: str | None = None
    fixed: Any = None
    pattern: Any = None
    min: int = 0
    max: int | None = None
    status: str = "active"
    draft: bool = False
    modifier: bool = False

    def fits(self, *homes: str) -> bool:
        """Whether it may stand on an element by any of its names: its path (`Patient.identifier`), its type
        (`Address`).
        """
        if not self.contexts or any(context in ANYWHERE for context in self.contexts):
            return True
        return any(home in self.contexts for home in homes)

    @property
    def value_types(self) -> tuple[str, ...]:
        """The type codes of its value, without the targets: `Reference`, `CodeableConcept`."""
        return tuple(value.partition("(")[0] for value in self.values)


@cache
def profile(url: str) -> Profile | None:
    """The profile of that url (a version after | is ignored); None when nobody here knows it."""
    bare = url.partition("|")[0]
    facts = _known("profiles").get(bare)
    if facts is None:
        return None
    return Profile(
        url=bare,
        type=facts["type"],
        base=facts["base"],
        version=facts["version"],
        status=facts["status"],
        draft=facts.get("draft", False) or facts["status"] == "draft",
        constraints=MappingProxyType(facts["elements"]),
    )


@cache
def extension(url: str) -> Extension | None:
    """The extension of that url; None when nobody here knows it."""
    facts = _known("extensions").get(url.partition("|")[0])
    return _extension(url, facts) if facts else None


@cache
def code_system(url: str) -> Mapping[str, str | None] | None:
    """The codes of one of our or UK Core's code systems, with their displays."""
    facts = _known("systems").get(url)
    return MappingProxyType(facts["codes"]) if facts else None


def profiles_for(resource_type: str) -> tuple[Profile, ...]:
    """Our, UK Core's and added profiles of a resource type: ours first, drafts included, in the order of urls."""
    urls = [
        url
        for known in (_ours("profiles"), table("ukcore")["profiles"] | _added["profiles"])
        for url, facts in sorted(known.items())
        if facts["type"] == resource_type
    ]
    return tuple(found for url in urls if (found := profile(url)))


def add(definitions: Iterable[Resource]) -> None:
    """Adds definitions for as long as the process runs. What was made of those there before is made again."""
    for definition in definitions:
        if found := facts_of(definition):
            _added[found[0]][definition["url"]] = found[1]
    forget()


def drop() -> None:
    """Takes back all that was added."""
    for known in _added.values():
        known.clear()
    forget()


def forget() -> None:
    for each in (_known.cache_clear, profile.cache_clear, extension.cache_clear, code_system.cache_clear, *_forget):
        each()


def rests_on_these(forgetting: Callable[[], None]) -> None:
    """Names what to call when definitions are added: whoever keeps something made of them forgets it."""
    _forget.append(forgetting)


def _extension(url: str, facts: dict[str, Any], draft: bool = False) -> Extension:
    return Extension(
        url=url,
        values=tuple(facts.get("values", ())),
        parts={name: _extension(name, part) for name, part in facts.get("parts", {}).items()},
        contexts=tuple(facts.get("contexts", ())),
        binding=facts.get("binding"),
        fixed=facts.get("fixed"),
        pattern=facts.get("pattern"),
        min=facts.get("min", 0),
        max=None if facts.get("max", "*") == "*" else int(facts["max"]),
        status=facts.get("status", "active"),
        draft=facts.get("draft", False),
        modifier=facts.get("modifier", False),
    )


def _extension_urls(constraint: Constraint) -> Iterator[str]:
    for kind in constraint.get("types", ()):
        name, _, urls = kind.partition("(")
        if name == "Extension" and urls:
            for url in urls.rstrip(")").split(","):
                yield url if "://" in url else f"http://hl7.org/fhir/StructureDefinition/{url}"


_added: dict[str, dict[str, dict[str, Any]]] = {"profiles": {}, "extensions": {}, "systems": {}, "sets": {}}
_forget: list[Callable[[], None]] = []


@cache
def _known(kind: str) -> dict[str, dict[str, Any]]:
    """Every definition of a kind by url. What is published stands before what was added, and that before drafts."""
    published = table("ukcore")[kind]
    drafts = {url: facts for url, facts in published.items() if facts.get("draft")}
    r4s = table(kind) if kind in ("profiles", "extensions") else {}
    return {
        **drafts,
        **_added[kind],
        **r4s,
        **{url: each for url, each in published.items() if url not in drafts},
        **_ours(kind),
    }


def _stem(name: str, type_code: str) -> str:
    """`valueQuantity` as `value[x]`, the way a profile writes it."""
    return f"{name[: -len(type_code)]}[x]"


@cache
def _ours(kind: str) -> dict[str, dict[str, Any]]:
    """Our own definitions of one kind by url."""
    return {url: facts for found, url, facts in _own_definitions() if found == kind}


@cache
def _own_definitions() -> tuple[tuple[str, str, dict[str, Any]], ...]:
    found = []
    for path in sorted(shipped.path("profiles").glob("*.json")):
        definition = orjson.loads(path.read_bytes())
        if known := facts_of(definition):
            found.append((known[0], definition["url"], known[1]))
    return tuple(found)
