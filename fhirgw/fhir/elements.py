"""The elements of R4: what may stand under what, walking from a resource type through its datatypes.

A context is where one stands: a type (`Task`, `CodeableConcept`) or a backbone within one
(`Task.restriction`). `step(context, name)` goes one JSON property down and answers with an Element, whose
`inner` is the next context.

https://hl7.org/fhir/R4/elementdefinition.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

from fhirgw.fhir.facts import table

_ELEMENT = re.compile(r"(\d+)\.\.(\*|\d+) (\S+)(?: ([!~])(\S+))?")
_KIND = re.compile(r"(\w+)(?:\(([^)]*)\))?")
_VALUE_SETS = "http://hl7.org/fhir/ValueSet/"
BACKBONE = ("BackboneElement", "Element")
POINTERS = ("Reference", "canonical")


@dataclass(frozen=True, slots=True)
class Binding:
    """The value set a coded element is bound to; `strength` is required or extensible (weaker ones are not kept)."""

    strength: str
    value_set: str


@dataclass(frozen=True, slots=True)
class Element:
    """One element as its JSON property.

    `name` is the JSON name (`valueQuantity`); `type` the type code; `inner` the context below it; `max` None
    when unbounded; `choices` the JSON names it shares one place with (all of them, itself in); `targets` the
    resource types a Reference or canonical may name ("Resource" is any); `profiles` what a value of another
    type keeps to (`SimpleQuantity`).
    """

    name: str
    type: str
    inner: str
    min: int
    max: int | None
    choices: tuple[str, ...] = ()
    binding: Binding | None = None
    targets: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()

    @property
    def is_list(self) -> bool:
        return self.max is None or self.max > 1

    @property
    def is_primitive(self) -> bool:
        return is_primitive(self.type)


def step(context: str, name: str) -> Element | None:
    """The element called `name` (its JSON name) in a context; None when there is none.

    `_birthDate` is the Element beside a primitive, which holds its id and extensions.
    """
    if name.startswith("_"):
        beside = children(context).get(name[1:])
        if beside is None or not beside.is_primitive:
            return None
        return replace(beside, name=name, type="Element", inner="Element", min=0, choices=(), binding=None)
    return children(context).get(name)


def element(path: str) -> Element | None:
    """The element at a dotted path of JSON names from a type: `Task.restriction.period.start`; None when
    there is none.
    """
    context, *names = path.split(".")
    found = None
    for name in names:
        found = step(context, name)
        if found is None:
            return None
        context = found.inner
    return found


@cache
def children(context: str) -> Mapping[str, Element]:
    """The elements in a context by JSON name, inherited ones first, choices expanded. Empty for what is not a
    context.
    """
    root, _, inside = context.partition(".")
    facts = table("elements").get(root)
    if facts is None or (inside and inside not in facts):
        return MappingProxyType({})
    prefix = f"{inside}." if inside else ""
    found: dict[str, Element] = {}
    for base in _bases(root, inside, facts):
        found |= children(base)
    for path, text in facts.items():
        name = path.removeprefix(prefix)
        if path and path.startswith(prefix) and "." not in name:
            found |= {each.name: each for each in _elements(root, path, name, text)}
    return MappingProxyType(found)


@cache
def is_primitive(type_code: str) -> bool:
    """Whether values of the type are JSON strings, numbers or booleans."""
    return kind(type_code) == "primitive-type" or type_code == "xhtml"


@cache
def is_resource(type_code: str) -> bool:
    """Whether this is the name of a resource type of R4."""
    return kind(type_code) == "resource"


def kind(type_code: str) -> str | None:
    """`resource`, `complex-type` or `primitive-type`; None for what R4 does not know."""
    facts = table("elements").get(type_code)
    return facts[""].partition(" ")[0] if facts else None


@cache
def codes(value_set: str) -> Mapping[str, frozenset[str]] | None:
    """The codes of an R4 value set by system; None when the set cannot be listed, or R4 binds it nowhere as
    required.
    """
    facts = table("codes")
    includes = facts["sets"].get(value_set.partition("|")[0].removeprefix(_VALUE_SETS))
    if includes is None:
        return None
    found: dict[str, frozenset[str]] = {}
    for system, listed in includes:
        more = frozenset(facts["systems"][system] if listed is None else listed)
        found[system] = found.get(system, frozenset()) | more
    return MappingProxyType(found)


@cache
def ancestry(type_code: str) -> tuple[str, ...]:
    """The type and all it specialises, itself first: Age, Quantity, Element. Empty for what R4 does not know."""
    facts = table("elements").get(type_code)
    if facts is None:
        return ()
    return (type_code, *ancestry(facts[""].partition(" ")[2]))


def _bases(root: str, inside: str, facts: dict[str, str]) -> tuple[str, ...]:
    """The contexts this one inherits from."""
    if inside:
        declared = _ELEMENT.match(facts[inside])
        return (declared.group(3),) if declared and declared.group(3) in BACKBONE else ()
    base = facts[""].partition(" ")[2]
    return (base,) if base else ()


def _elements(root: str, path: str, name: str, text: str) -> tuple[Element, ...]:
    """What one line of the table stands for: one Element, or one for each type of a choice."""
    match = _ELEMENT.fullmatch(text)
    if match is None:
        raise ValueError(f"The elements table does not read at {root}.{path}: derive it again")
    least, most, types, strength, value_set = match.groups()
    binding = Binding("required" if strength == "!" else "extensible", _full(value_set)) if value_set else None
    kinds = _kinds(types)
    choices = _choice_names(name, [code for code, _ in kinds]) if name.endswith("[x]") else ()
    return tuple(
        Element(
            name=choices[at] if choices else name,
            type="BackboneElement" if code.startswith("#") else code,
            inner=_inner(root, path, code),
            min=int(least),
            max=None if most == "*" else int(most),
            choices=choices,
            binding=binding,
            targets=named if code in POINTERS else (),
            profiles=() if code in POINTERS else named,
        )
        for at, (code, named) in enumerate(kinds)
    )


def _kinds(types: str) -> list[tuple[str, tuple[str, ...]]]:
    if types.startswith("#"):
        return [(types, ())]
    return [(code, tuple(named.split(",")) if named else ()) for code, named in _KIND.findall(types)]


def _choice_names(name: str, codes_of_choice: list[str]) -> tuple[str, ...]:
    stem = name.removesuffix("[x]")
    return tuple(f"{stem}{code[0].upper()}{code[1:]}" for code in codes_of_choice)


def _inner(root: str, path: str, code: str) -> str:
    """Where the next step goes from: the type, the backbone itself, or the backbone a contentReference repeats."""
    if code.startswith("#"):
        return f"{root}.{code[1:]}"
    return f"{root}.{path}" if code in BACKBONE else code


def _full(value_set: str) -> str:
    return value_set if "://" in value_set else _VALUE_SETS + value_set
