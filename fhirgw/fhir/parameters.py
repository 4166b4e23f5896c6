"""The search parameters of each type, from R4's own definitions: a type is searchable because a row says so.

https://hl7.org/fhir/R4/searchparameter-registry.html. R4's expressions are FHIRPath, of which they use
little: paths, `.as(Type)`, `.where(resolve() is Type)`, `.where(system='phone')` and unions. Each is resolved
here, once, to the JSON paths it can mean, so that indexing needs no FHIRPath at all. Long because it reads R4's
expressions of every kind of parameter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

from fhirgw.fhir.elements import Element, children, codes
from fhirgw.fhir.facts import table

HELD = (
    *("Patient", "RelatedPerson", "Practitioner", "PractitionerRole", "Organization", "Location"),
    *("HealthcareService", "ServiceRequest", "Task", "QuestionnaireResponse", "Questionnaire", "Observation"),
    *("Condition", "CarePlan", "Goal", "CareTeam", "EpisodeOfCare", "Flag", "DeviceRequest", "Device"),
    *("DeviceUseStatement", "Consent", "Encounter", "Appointment", "Communication", "Provenance"),
    *("AuditEvent", "MedicationAdministration", "DocumentReference", "Group", "AllergyIntolerance"),
)
"""The resource types the gateway holds."""

LEAVES = {
    "token": {"CodeableConcept", "Coding", "Identifier", "ContactPoint", "code", "boolean", "string"},
    "reference": {"Reference", "canonical"},
    "date": {"date", "dateTime", "instant", "Period", "Timing"},
    "string": {"string", "markdown", "HumanName", "Address"},
    "uri": {"uri", "url", "canonical"},
    "quantity": {"Quantity", "Age", "Count", "Distance", "Duration", "Money", "Range", "SampledData"},
    "number": {"decimal", "integer", "positiveInt", "unsignedInt"},
}
"""The element types that a parameter of each kind is looked up in."""

NUMERIC = ("quantity", "number")

DEFINITIONS = "http://hl7.org/fhir/SearchParameter/"
EVERYWHERE = ("_id", "_lastUpdated", "_profile", "_security", "_source", "_tag")
COLUMNS = ("_id", "_lastUpdated")
"""Answered by columns of the store, not by the index."""

SLOTS = 4
FIRST_DATES = ("birthdate", "date", "authored", "authored-on", "recorded-date", "effective-time", "sent", "recorded")
"""What people sort and filter by: it takes slot 1. Never reorder: stored rows are laid out by it."""

NOT_MEANT = {
    "phonetic": "matching by sound is not supported: use name",
    "near": "distances are not computed: use address-city or address-postalcode",
}
"""Parameters that an element type would allow but that mean something else."""

DECEASED = "deceased.exists() and deceased != false"
_STEP = re.compile(r"(as|where)\(((?:[^()]|\(\))*)\)|(\w+)")
_IS_TYPE = re.compile(r"resolve\(\) is (\w+)")
_EQUALS = re.compile(r"(\w+)\s*=\s*'([^']*)'")


@dataclass(frozen=True, slots=True)
class Source:
    """One place a parameter looks: a path of Elements from the resource, the last of which holds the value.

    `only_type` keeps references to one resource type; `only_where` keeps elements whose property has that
    value.
    """

    path: tuple[Element, ...]
    only_type: str | None = None
    only_where: tuple[str, str] | None = None

    @property
    def leaf(self) -> Element:
        return self.path[-1]

    @property
    def repeats(self) -> bool:
        return any(element.is_list for element in self.path)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a composite: its kind, and where it stands below what the composite is of."""

    kind: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """What one value of a composite is of: elements at a path, () for the resource itself, and the parts in them."""

    path: tuple[Element, ...]
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """Its path, dotted."""
        return ".".join(element.name for element in self.path)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter of one type.

    `kind` is R4's (token, string, date, reference, uri ...); `targets` the types a reference may name
    ("Resource" is any); `definition` the url of R4's SearchParameter; `slot` 1..4 of a date, None for one kept
    beside; `systems` the code systems that a bare code implies; `groups` are a composite's; `bit` is its place among
    those of its type in Index.present; `gap` says why a parameter is not supported, None when it is.
    """

    type: str
    name: str
    kind: str
    expression: str
    definition: str
    sources: tuple[Source, ...] = ()
    targets: tuple[str, ...] = ()
    slot: int | None = None
    systems: frozenset[str] = frozenset()
    groups: tuple[Group, ...] = ()
    bit: int | None = None
    gap: str | None = None

    @property
    def supported(self) -> bool:
        return self.gap is None

    @property
    def canonical(self) -> bool:
        """Whether it refers to definitions by their url."""
        return self.kind == "reference" and all(source.leaf.type == "canonical" for source in self.sources)

    @property
    def places(self) -> tuple[str, ...]:
        """Where a number or quantity stands, as the index names it."""
        return tuple(dict.fromkeys(place(source.path) for source in self.sources))


def place(path: tuple[Element, ...]) -> str:
    """A path as JSON's names, dotted."""
    return ".".join(element.name for element in path)


@cache
def parameters(resource_type: str) -> Mapping[str, Parameter]:
    """The search parameters of a type by name, supported or not, those of all resources included."""
    types = table("parameters")["types"]
    rows = {name: types["Resource"][name] for name in EVERYWHERE} | types.get(resource_type, {})
    found = {name: _parameter(resource_type, name, *row) for name, row in rows.items()}
    slots = _slots(found)
    bits = {name: at for at, name in enumerate(sorted(name for name, each in found.items() if _has_bit(each)))}
    return MappingProxyType(
        {
            name: replace(parameter, slot=slots.get(name), bit=bits.get(name))
            for name, parameter in sorted(found.items())
        }
    )


def supported(resource_type: str) -> dict[str, Parameter]:
    """Those that a search may use, and that the CapabilityStatement claims."""
    return {name: parameter for name, parameter in parameters(resource_type).items() if parameter.supported}


def dates(resource_type: str) -> dict[int, Parameter]:
    """The date parameters of a type by slot."""
    return {parameter.slot: parameter for parameter in parameters(resource_type).values() if parameter.slot is not None}


@cache
def compartment(resource_type: str) -> tuple[str, ...]:
    """The parameters that put a resource of the type into a patient's compartment, by R4's definition.

    But a Group: it is in the compartments of all its members, and in nobody's record.
    """
    return () if resource_type == "Group" else tuple(table("parameters")["compartment"].get(resource_type, ()))


def personal(resource_type: str) -> bool:
    """Whether a resource of the type may be in somebody's record: R4's compartment leaves out some that say whose they
    are, as Task (`for`) and Device.
    """
    return bool(compartment(resource_type)) or "patient" in supported(resource_type)


def _has_bit(parameter: Parameter) -> bool:
    return parameter.supported and parameter.name not in COLUMNS


def part_of(composite: Parameter, group: Group, at: int) -> Parameter:
    """A part of a composite as a parameter of its own. Of the resource itself that is the parameter that looks there
    and nowhere else, or one that is indexed for the composite alone.
    """
    part = group.parts[at]
    for each in parameters(composite.type).values() if not group.path else ():
        if each.kind == part.kind and set(each.sources) == set(part.sources) and each.supported:
            return each
    name = f"{composite.name}.{at + 1}"
    targets = _targets(part.sources) if part.kind == "reference" else ()
    systems = _implied_systems(part.sources)
    return Parameter(composite.type, name, part.kind, "", composite.definition, part.sources, targets, None, systems)


def own_parts(resource_type: str) -> tuple[Parameter, ...]:
    """What is indexed for composites alone; a number is found by its place, whoever asks."""
    return tuple(
        made
        for each in supported(resource_type).values()
        for group in each.groups
        if not group.path
        for at, part in enumerate(group.parts)
        if part.kind not in NUMERIC and (made := part_of(each, group, at)).name.startswith(f"{each.name}.")
    )


def _parameter(
    resource_type: str,
    name: str,
    kind: str,
    expression: str,
    published: str | None = None,
    parts: tuple[tuple[str, str], ...] = (),
) -> Parameter:
    sources = tuple(_sources(resource_type, kind, expression))
    groups = tuple(_groups(resource_type, expression, parts))
    return Parameter(
        type=resource_type,
        name=name,
        kind=kind,
        expression=expression,
        definition=f"{DEFINITIONS}{published or f'{resource_type}-{name}'}",
        sources=sources,
        targets=_targets(sources) if kind == "reference" else (),
        systems=_implied_systems(sources) if kind == "token" else frozenset(),
        groups=groups,
        gap=None if name in COLUMNS or expression == DECEASED or groups else _gap(name, kind, sources),
    )


def _groups(resource_type: str, expression: str, parts: tuple[tuple[str, str], ...]) -> Iterator[Group]:
    """What a composite is of, one for each branch of its expression. R4 has the two expressions of a
    DocumentReference's relationship the wrong way round: what finds nothing of its kind takes the other's.
    """
    for branch in expression.split(" | ") if parts else ():
        for at in [Source(())] if branch == "$this" else _walk(resource_type, branch):
            context = at.leaf.inner if at.path else resource_type
            spelt = [each for _, each in parts]
            found = [tuple(_sources(context, kind, each)) for kind, each in parts]
            if not all(found):
                found = [tuple(_sources(context, kind, spelt[~where])) for where, (kind, _) in enumerate(parts)]
            if all(found):
                kinds = [kind for kind, _ in parts]
                yield Group(at.path, tuple(Part(*each) for each in zip(kinds, found, strict=True)))


def _gap(name: str, kind: str, sources: tuple[Source, ...]) -> str | None:
    if name in NOT_MEANT:
        return NOT_MEANT[name]
    if kind not in LEAVES:
        return f"{kind} parameters are not supported"
    return None if sources else "it looks where R4 has no element of its kind"


def _sources(resource_type: str, kind: str, expression: str) -> Iterator[Source]:
    """Each JSON path that the expression can mean, to an element the parameter's kind can be looked up in."""
    if expression == DECEASED or kind not in LEAVES:
        return
    for branch in expression.split(" | "):
        for source in _walk(resource_type, branch):
            if source.leaf.type in LEAVES[kind]:
                yield source


def _walk(resource_type: str, branch: str) -> list[Source]:
    found = [Source(())]
    for function, argument, name in _STEP.findall(branch):
        if name:
            found = [
                Source((*source.path, element))
                for source in found
                for element in _named(source.leaf.inner if source.path else resource_type, name)
            ]
        elif function == "as":
            found = [source for source in found if source.leaf.type.casefold() == argument.casefold()]
        elif is_type := _IS_TYPE.fullmatch(argument):
            found = [Source(source.path, only_type=is_type.group(1)) for source in found]
        elif equals := _EQUALS.fullmatch(argument):
            found = [Source(source.path, only_where=(equals.group(1), equals.group(2))) for source in found]
        else:
            raise ValueError(f"{resource_type}: the expression {branch!r} has a part this reader does not know")
    return found


def _named(context: str, name: str) -> list[Element]:
    """The elements FHIRPath means by a name: one, or every type of a choice (`value` for `valueString` ...)."""
    here = children(context)
    if name in here:
        return [here[name]]
    return [
        element
        for element in here.values()
        if element.choices and element.name.casefold() == f"{name}{element.type}".casefold()
    ]


def _targets(sources: tuple[Source, ...]) -> tuple[str, ...]:
    return tuple(
        sorted(
            {source.only_type for source in sources if source.only_type}
            | {target for source in sources if not source.only_type for target in source.leaf.targets}
        )
    )


def _implied_systems(sources: tuple[Source, ...]) -> frozenset[str]:
    """Every code system that the bound codes of a `code` element come from: a search may name it, the body cannot."""
    bindings = [source.leaf.binding for source in sources if source.leaf.type == "code"]
    return frozenset(system for binding in bindings if binding for system in (codes(binding.value_set) or ()))


def _slots(found: Mapping[str, Parameter]) -> dict[str, int]:
    """Slot 1 to the date people use most, the rest by name. What repeats has none: it is kept beside the row."""
    names = [
        name
        for name, parameter in found.items()
        if parameter.kind == "date" and _has_bit(parameter) and not any(source.repeats for source in parameter.sources)
    ]
    rank = {name: at for at, name in enumerate(FIRST_DATES)}
    ordered = sorted(names, key=lambda name: (rank.get(name, len(rank)), name))
    return {name: at for at, name in enumerate(ordered[:SLOTS], start=1)}
