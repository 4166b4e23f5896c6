"""What one search parameter of a request asks: a criterion the store can turn into SQL, or the issue with it.

https://hl7.org/fhir/R4/search.html. A criterion holds the alternatives of one parameter (commas: any of
them); a request's criteria must all hold. What is not supported is refused by name, never passed over.

| criterion | a resource matches when |
|---|---|
| Tokens | its tokens hold any of `any_of` (`negated`: hold none) |
| Strings | a stored value of the parameter starts with one of `values` (`contains`: has one inside) |
| Dates | a span of the parameter (or `_lastUpdated`) compares with one of `values` |
| Numbers | a number at one of `places`, beside what `beside` says, compares with one of `values` |
| Missing | the parameter has no value (`missing`), or has one |
| Texts | what stands for a code starts with one of `values` |
| Codes | a code of it is of a value set, or above or below one: the store asks which those are |
| Ids | its id is one of `values` |
| Every, Some | all of `criteria` hold; or any |
| Chain | the parameter's reference names a `target` resource that matches `criterion` |
| Has | a resource that matches `criterion` refers to it by the parameter |

Long because it is one grammar, and a value of each kind of criterion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from fhirgw.fhir import tokens, values
from fhirgw.fhir.dates import Span
from fhirgw.fhir.elements import is_resource
from fhirgw.fhir.escapes import alternatives, at_bar, parts, unescape
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.leaves import is_patient
from fhirgw.fhir.meant import meant
from fhirgw.fhir.parameters import HELD, NUMERIC, Group, Parameter, parameters, part_of, place, supported
from fhirgw.fhir.strings import normalise
from fhirgw.fhir.values import Asked, malformed, shown

MODIFIERS = {
    "token": ("not", "text", "in", "not-in", "above", "below", "of-type", "missing"),
    "string": ("exact", "contains", "missing"),
    "reference": ("identifier", "missing"),
    "uri": ("below", "above", "missing"),
}
"""By kind; every other kind has `missing` alone."""

BY_TERMINOLOGY = ("in", "not-in", "above", "below")
"""Modifiers of codes that value sets and code systems answer."""

CODED = {"CodeableConcept", "Coding", "code"}
"""Types of elements whose codes are of code systems."""

MOST_VALUES = 500
DEEPEST = 5
"""Steps from one resource to another that one parameter may take."""

MOST_TYPES = 5
"""Types that the last step of a chain may lead to without naming one."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """`person` is the id of the one Patient in whose record a match is, where that is what is asked.

    `asked`: the value itself, where there is one.
    """

    parameter: Parameter
    any_of: tuple[int, ...]
    negated: bool = False
    person: str | None = None
    asked: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Strings:
    parameter: Parameter
    values: tuple[str, ...]
    contains: bool = False


@dataclass(frozen=True, slots=True)
class Dates:
    """Each value is a prefix and the span of the date asked for. `parameter.slot` is None for `_lastUpdated`, and for
    what is kept beside the row."""

    parameter: Parameter
    values: tuple[tuple[str, Span], ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    parameter: Parameter
    places: tuple[str, ...]
    values: tuple[Asked, ...]
    beside: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    parameter: Parameter
    missing: bool


@dataclass(frozen=True, slots=True)
class Texts:
    parameter: Parameter
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Codes:
    """`values` are value sets for the modifiers `in` and `not-in`, and codes as `system|code` for `above` and `below`.

    Which codes those come to is known further up (fhirgw.terminology.meant).
    """

    parameter: Parameter
    modifier: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ids:
    parameter: Parameter
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Every:
    parameter: Parameter
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Some:
    parameter: Parameter
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """`subject:Patient.name=...`: the reference's token is that of the text `parameter.name|target/id`.

    `others`: the same for other types that the reference may name, where none was said.
    """

    parameter: Parameter
    target: str
    criterion: Criterion
    others: tuple[Chain, ...] = ()


@dataclass(frozen=True, slots=True)
class Has:
    """`_has:Observation:patient:code=...`: `parameter` is of `parameter.type`, and refers to what is searched for."""

    parameter: Parameter
    target: str
    criterion: Criterion


Criterion: TypeAlias = "Tokens | Strings | Dates | Numbers | Missing | Texts | Codes | Ids | Every | Some | Chain | Has"


def criterion(resource_type: str, name: str, value: str, base: str = "", deep: int = 0) -> Criterion:
    """What `name=value` asks of resources of a type; `base` is our own address, under which references are
    local.

    Raises FhirError naming the parameter: unknown, not supported, or malformed. It never quotes the value.
    """
    if deep > DEEPEST:
        raise FhirError(Issue("too-costly", f"A parameter takes more than {DEEPEST} steps: ask in parts"))
    if name.startswith("_has:") or name == "_has":
        return _has(resource_type, name, value, base, deep)
    head, dot, rest = name.partition(".")
    bare, _, modifier = head.partition(":")
    parameter = known(resource_type, bare)
    if dot:
        return _chain(parameter, modifier, rest, value, base, deep)
    asked = [each for each in alternatives(value) if each]
    if not asked or "\0" in value:
        raise malformed(name, "has no value that can be looked for: leave it out, or say one")
    if len(asked) > MOST_VALUES:
        raise FhirError(Issue("too-costly", f"{shown(name)} has more than {MOST_VALUES} values: ask in parts"))
    _check_modifier(parameter, modifier)
    return _criterion(parameter, modifier, asked, base)


def each_of(criterion: Criterion) -> Iterator[Criterion]:
    """The criterion, or what it is made of: what is asked of one and the same resource."""
    if isinstance(criterion, Every | Some):
        for each in criterion.criteria:
            yield from each_of(each)
    yield criterion


def known(resource_type: str, name: str) -> Parameter:
    """The supported parameter of that name. Raises FhirError with what was probably meant."""
    parameter = parameters(resource_type).get(name)
    if parameter is None:
        near = meant(name, supported(resource_type))
        hint = f"did you mean {near}?" if near else "the CapabilityStatement lists those it has"
        raise FhirError(Issue("invalid", f"{resource_type} has no search parameter {shown(name)}: {hint}"))
    if parameter.gap:
        raise FhirError(
            Issue("not-supported", f"{resource_type} search parameter {name} is not supported: {parameter.gap}")
        )
    return parameter


def _criterion(parameter: Parameter, modifier: str, asked: list[str], base: str) -> Criterion:
    """One parameter without a chain, its modifier checked."""
    if modifier == "missing":
        return Missing(parameter, _truth(parameter, asked))
    if parameter.name == "_id":
        return Ids(parameter, tuple(map(values.id, asked)))
    if modifier == "text":
        return Texts(parameter, tuple(map(unescape, asked)))
    if modifier in BY_TERMINOLOGY and parameter.kind == "token":
        return Codes(parameter, modifier, tuple(asked))
    match parameter.kind:
        case "date":
            return Dates(parameter, tuple(values.date(parameter, each) for each in asked))
        case "number" | "quantity":
            return Numbers(parameter, parameter.places, tuple(values.number(parameter, each) for each in asked))
        case "string" if modifier != "exact":
            return _strings(parameter, modifier, asked)
        case "composite":
            return _any(parameter, (_composite(parameter, each, base) for each in asked))
    if modifier in ("", "not") and any(_all_of_it(parameter, each) for each in asked):
        rest = [each for each in asked if not _all_of_it(parameter, each)]
        some = Missing(parameter, modifier == "not")  # its values are all of that system: any will do
        if modifier == "not" or not rest:
            return some
        return Some(parameter, (some, _criterion(parameter, modifier, rest, base)))
    found = tuple(token for each in asked for token in values.tokens_of(parameter, modifier, each, base))
    one = unescape(asked[0]) if len(asked) == 1 else None
    return Tokens(parameter, found, modifier == "not", _person(parameter, asked, found), one)


def _all_of_it(parameter: Parameter, value: str) -> bool:
    """Whether `system|` names the system that the elements of a parameter have without saying so."""
    system, bar, code = at_bar(value)
    return parameter.kind == "token" and bool(bar) and not code and {system} == parameter.systems


def _person(parameter: Parameter, asked: list[str], found: tuple[int, ...]) -> str | None:
    if len(found) != 1 or parameter.kind != "reference" or not is_patient(parameter):
        return None
    id = unescape(asked[0]).rpartition("/")[2]
    return id if found[0] == tokens.plain_reference(parameter.name, f"Patient/{id}") else None


def _truth(parameter: Parameter, asked: list[str]) -> bool:
    if asked not in (["true"], ["false"]):
        raise malformed(f"{parameter.name}:missing", "is true or false")
    return asked == ["true"]


def _strings(parameter: Parameter, modifier: str, asked: list[str]) -> Strings:
    texts = tuple(normalise(unescape(each), parameter.name) for each in asked)
    if "" in texts:
        raise malformed(parameter.name, "has a blank among its values")
    return Strings(parameter, texts, contains=modifier == "contains")


def _any(parameter: Parameter, criteria: Iterator[Criterion]) -> Criterion:
    found = tuple(criteria)
    return found[0] if len(found) == 1 else Some(parameter, found)


def _composite(parameter: Parameter, value: str, base: str) -> Criterion:
    """One value of a composite, `part$part`: both in the same element."""
    said = parts(value)
    if len(said) != len(parameter.groups[0].parts) or "" in said:
        raise malformed(parameter.name, f"has {len(parameter.groups[0].parts)} parts: write $ between them")
    return _any(parameter, (_grouped(parameter, group, said, base) for group in parameter.groups))


def _grouped(composite: Parameter, group: Group, said: list[str], base: str) -> Criterion:
    looked = [part_of(composite, group, at) for at in range(len(said))]
    if not group.path:
        return Every(
            composite,
            tuple(_placed(each, group, at, said[at], base) for at, each in enumerate(looked)),
        )
    first = values.texts_of(looked[0], said[0], base)
    if looked[1].kind in NUMERIC:
        beside = tuple(tokens.token(f"{group.name}${text}") for text in first)
        places = tuple(f"{group.name}.{place(source.path)}" for source in group.parts[1].sources)
        return Numbers(composite, places, (values.number(composite, said[1]),), beside)
    second = values.texts_of(looked[1], said[1], base)
    return Tokens(composite, tuple(tokens.token(f"{group.name}${one}${two}") for one in first for two in second))


def _placed(part: Parameter, group: Group, at: int, value: str, base: str) -> Criterion:
    """A part of the resource itself: as a search for it alone, but a number by its place."""
    if part.kind in NUMERIC:
        places = tuple(place(source.path) for source in group.parts[at].sources)
        return Numbers(part, places, (values.number(part, value),))
    return _criterion(part, "", [value], base)


def _check_modifier(parameter: Parameter, modifier: str) -> None:
    allowed = allowed_modifiers(parameter)
    if not modifier or modifier in allowed or (parameter.kind == "reference" and _may_name(parameter, modifier)):
        return
    usable = " or ".join(f":{each}" for each in allowed) or "none"
    raise FhirError(
        Issue(
            "not-supported",
            f"The modifier :{shown(modifier)} of {parameter.name} is not supported; it may have {usable}",
        )
    )


def allowed_modifiers(parameter: Parameter) -> tuple[str, ...]:
    """The modifiers that a parameter takes, besides the name of a type."""
    if parameter.name in ("_id", "_lastUpdated"):
        return ("missing",)
    found = MODIFIERS.get(parameter.kind, ("missing",))
    types = {source.leaf.type for source in parameter.sources}
    if not types & values.TEXTS.keys():
        found = tuple(each for each in found if each != "text")
    if not types & CODED:
        found = tuple(each for each in found if each not in BY_TERMINOLOGY or parameter.kind != "token")
    return found if "Identifier" in types else tuple(each for each in found if each != "of-type")


def _may_name(parameter: Parameter, resource_type: str) -> bool:
    """Whether the parameter's reference may be to that type."""
    return is_resource(resource_type) and (resource_type in parameter.targets or "Resource" in parameter.targets)


def _chain(parameter: Parameter, modifier: str, rest: str, value: str, base: str, deep: int) -> Chain:
    """One step of chaining, to every type that has the parameter unless one is named. Steps that more follow, and those
    to many types, must name it: otherwise each would multiply the next.
    """
    if parameter.kind != "reference":
        raise malformed(parameter.name, "is no reference: nothing can follow its dot")
    held = [each for each in HELD if _may_name(parameter, each)]
    bare = rest.partition(":")[0].partition(".")[0]
    targets = [each for each in held if each == modifier] if modifier else held
    fitting = [each for each in targets if bare in supported(each) or bare == "_has"]
    if len(targets) == 1:
        fitting = targets  # so that the refusal names what that type does have
    if len(fitting) == 1 or (len(fitting) <= MOST_TYPES and "." not in rest and bare != "_has"):
        first, *others = [Chain(parameter, each, criterion(each, rest, value, base, deep + 1)) for each in fitting]
        return replace(first, others=tuple(others))
    if fitting:
        choices = ", ".join(f"{parameter.name}:{each}" for each in fitting)
        raise malformed(parameter.name, f"may refer to several types: name one, {choices}")
    raise malformed(parameter.name, f"refers to nothing that has a search parameter {shown(bare)}")


def _has(resource_type: str, name: str, value: str, base: str, deep: int) -> Has:
    """`_has:Type:reference:parameter`, where the last may be a chain or another `_has`."""
    pieces = name.split(":", 3)
    if len(pieces) < 4 or not all(pieces) or pieces[1] not in HELD:
        raise malformed("_has", "is written _has:Type:reference:parameter, with a type held here")
    _, source, reference, rest = pieces
    parameter = known(source, reference)
    if parameter.kind != "reference" or not _may_name(parameter, resource_type):
        raise malformed("_has", f"names {shown(reference)} of {source}, which does not refer to {resource_type}")
    return Has(parameter, resource_type, criterion(source, rest, value, base, deep + 1))
