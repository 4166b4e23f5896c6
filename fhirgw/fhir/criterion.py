"""What one search parameter of a request asks: a criterion the store can turn into SQL, or the issue with it.

https://hl7.org/fhir/R4/search.html. A criterion holds the alternatives of one parameter (commas: any of
them); a request's criteria must all hold. What is not supported is refused by name, never passed over.

| criterion | a resource matches when |
|---|---|
| Tokens | its tokens hold any of `any_of` (`negated`: hold none) |
| Strings | a stored value of the parameter starts with one of `values` (`contains`: has one inside) |
| Dates | the span in the parameter's slot (or `_lastUpdated`) compares with one of `values` |
| Ids | its id is one of `values` |
| Chain | the parameter's reference names a `target` resource that matches `criterion` |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from fhirgw.fhir import tokens
from fhirgw.fhir.dates import Span, span
from fhirgw.fhir.elements import is_resource
from fhirgw.fhir.escapes import alternatives, at_bar, unescape
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import HELD, Parameter, parameters, supported
from fhirgw.fhir.strings import normalise

PREFIXES = ("eq", "ne", "gt", "ge", "lt", "le", "sa", "eb", "ap")
MODIFIERS = {"token": ("not",), "string": ("exact", "contains"), "reference": ("identifier",)}
MOST_VALUES = 500
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
SAFE_NAME = re.compile(r"[A-Za-z_][A-Za-z_.:\-]{0,80}", re.ASCII)
ABSOLUTE = re.compile(r"(?:[a-z][a-z0-9+.\-]*)://\S+|urn:\S+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tokens:
    parameter: Parameter
    any_of: tuple[int, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Strings:
    parameter: Parameter
    values: tuple[str, ...]
    contains: bool = False


@dataclass(frozen=True, slots=True)
class Dates:
    """Each value is a prefix and the span of the date asked for. `parameter.slot` is None for `_lastUpdated`."""

    parameter: Parameter
    values: tuple[tuple[str, Span], ...]


@dataclass(frozen=True, slots=True)
class Ids:
    parameter: Parameter
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """`subject:Patient.name=...`: the reference's token is that of the text `parameter.name|target/id`."""

    parameter: Parameter
    target: str
    criterion: Tokens | Strings | Dates | Ids


Criterion = Tokens | Strings | Dates | Ids | Chain


def criterion(resource_type: str, name: str, value: str, base: str = "") -> Criterion:
    """What `name=value` asks of resources of a type; `base` is our own address, under which references are
    local.

    Raises FhirError naming the parameter: unknown, not supported, or malformed. It never quotes the value.
    """
    head, dot, rest = name.partition(".")
    bare, _, modifier = head.partition(":")
    parameter = known(resource_type, bare)
    if dot:
        return _chain(parameter, modifier, rest, value, base)
    values = [each for each in alternatives(value) if each]
    if not values or "\0" in value:
        raise malformed(name, "has no value that can be looked for: leave it out, or say one")
    if len(values) > MOST_VALUES:
        raise FhirError(Issue("too-costly", f"{shown(name)} has more than {MOST_VALUES} values: ask in parts"))
    _check_modifier(parameter, modifier)
    if parameter.name == "_id":
        return Ids(parameter, tuple(_id(each) for each in values))
    if parameter.kind == "date":
        return Dates(parameter, tuple(_date(parameter, each) for each in values))
    if parameter.kind == "string" and modifier != "exact":
        texts = tuple(normalise(unescape(each), parameter.name) for each in values)
        if "" in texts:
            raise malformed(name, "has a blank among its values")
        return Strings(parameter, texts, contains=modifier == "contains")
    found = tuple(token for each in values for token in _tokens(parameter, modifier, each, base))
    return Tokens(parameter, found, negated=modifier == "not")


def known(resource_type: str, name: str) -> Parameter:
    """The supported parameter of that name. Raises FhirError with what was probably meant."""
    parameter = parameters(resource_type).get(name)
    if parameter is None:
        near = get_close_matches(name, supported(resource_type), n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "the CapabilityStatement lists those it has"
        raise FhirError(Issue("invalid", f"{resource_type} has no search parameter {shown(name)}: {hint}"))
    if parameter.gap:
        raise FhirError(
            Issue("not-supported", f"{resource_type} search parameter {name} is not supported: {parameter.gap}")
        )
    return parameter


def shown(name: str) -> str:
    """A parameter's name, as it may be repeated to a caller and in a log: nothing that could hold a person's data."""
    return name if SAFE_NAME.fullmatch(name) else "of that name"


def malformed(name: str, fault: str) -> FhirError:
    """The refusal of a value, by its parameter's name alone."""
    return FhirError(Issue("invalid", f"The search parameter {shown(name)} {fault}"))


def _check_modifier(parameter: Parameter, modifier: str) -> None:
    allowed = MODIFIERS.get(parameter.kind, ()) if not parameter.name.startswith("_") else ("not",)
    if not modifier or (modifier in allowed and parameter.name not in ("_id", "_lastUpdated")):
        return
    if parameter.kind == "reference" and _may_name(parameter, modifier):
        return
    usable = " or ".join(f":{each}" for each in allowed) or "none"
    raise FhirError(
        Issue(
            "not-supported",
            f"The modifier :{shown(modifier)} of {parameter.name} is not supported; it may have {usable}",
        )
    )


def _may_name(parameter: Parameter, resource_type: str) -> bool:
    """Whether the parameter's reference may be to that type."""
    return is_resource(resource_type) and (resource_type in parameter.targets or "Resource" in parameter.targets)


def _chain(parameter: Parameter, modifier: str, rest: str, value: str, base: str) -> Chain:
    """One level of chaining. A reference to several types must say which, unless only one has the parameter."""
    if parameter.kind != "reference":
        raise malformed(parameter.name, "is no reference: nothing can follow its dot")
    if "." in rest:
        raise FhirError(Issue("not-supported", f"{parameter.name} is chained more than once: one level is supported"))
    held = [each for each in HELD if _may_name(parameter, each)]
    bare = rest.partition(":")[0]
    targets = [each for each in held if each == modifier] if modifier else held
    fitting = [each for each in targets if bare in supported(each)]
    if len(targets) == 1:
        fitting = targets  # so that the refusal names what that type does have
    if len(fitting) == 1:
        inner = criterion(fitting[0], rest, value, base)
        if not isinstance(inner, Chain):
            return Chain(parameter, fitting[0], inner)
    if fitting:
        choices = ", ".join(f"{parameter.name}:{each}" for each in fitting)
        raise malformed(parameter.name, f"may refer to several types: name one, {choices}")
    raise malformed(parameter.name, f"refers to nothing that has a search parameter {shown(bare)}")


def _id(value: str) -> str:
    if not ID.fullmatch(value):
        raise malformed("_id", "is not an id: letters, digits, - and ., at most 64")
    return value


def _date(parameter: Parameter, value: str) -> tuple[str, Span]:
    prefix, text = (value[:2], value[2:]) if value[:2] in PREFIXES else ("eq", value)
    try:
        return prefix, span(text.replace(" ", "+"))  # an unencoded + of a zone arrives as a space
    except FhirError as error:
        raise malformed(parameter.name, f"is n{error.issues[0].diagnostics[1:]}") from None


def _tokens(parameter: Parameter, modifier: str, value: str, base: str) -> tuple[int, ...]:
    """The tokens of one alternative, any of which is a match."""
    match parameter.kind:
        case "reference" if modifier == "identifier":
            return (_logical(parameter, value),)
        case "reference":
            return _references(parameter, modifier, unescape(value), base)
        case "uri":
            return (tokens.uri(parameter.name, unescape(value)),)
        case "string":
            return (tokens.exact(parameter.name, unescape(value)),)
    return (_token(parameter, value),)


def _token(parameter: Parameter, value: str) -> int:
    """`code`, `system|code`, `|code` (no system) or `system|` (any code)."""
    system, bar, code = at_bar(value)
    if not bar:
        return tokens.code(parameter.name, _code(parameter, system))
    if not code:
        if not system:
            raise malformed(parameter.name, "is a bare |: say a system, a code or both")
        return tokens.system_only(parameter.name, system)
    if system in parameter.systems:
        return tokens.code(parameter.name, code)
    return tokens.token(f"{parameter.name}|{system or tokens.NO_SYSTEM}|{code}")


def _code(parameter: Parameter, code: str) -> str:
    """A code without a system, as the elements of this parameter are indexed."""
    kinds = {source.leaf.type for source in parameter.sources}
    if kinds == {"boolean"} and code not in ("true", "false"):
        raise malformed(parameter.name, "is true or false")
    return tokens.contact_key(code) if kinds == {"ContactPoint"} else code


def _logical(parameter: Parameter, value: str) -> int:
    system, _, code = at_bar(value)
    if not system or not code:
        raise malformed(f"{parameter.name}:identifier", "needs both: system|value")
    return tokens.logical(parameter.name, system, code)


def _references(parameter: Parameter, modifier: str, value: str, base: str) -> tuple[int, ...]:
    """`id`, `Type/id` or an absolute url; one of our own address is local."""
    local = value.removeprefix(f"{base.rstrip('/')}/") if base else value
    if ABSOLUTE.fullmatch(local):
        return (tokens.plain_reference(parameter.name, local),)
    kind, slash, id_part = local.rpartition("/")
    if not ID.fullmatch(id_part):
        raise malformed(parameter.name, "is no reference: give an id, Type/id or an absolute url")
    if slash:
        if not _may_name(parameter, kind) or (modifier and modifier != kind):
            raise malformed(parameter.name, "does not refer to such a resource: give Type/id of a type it takes")
        return (tokens.plain_reference(parameter.name, local),)
    kinds = (modifier,) if modifier else HELD if "Resource" in parameter.targets else parameter.targets
    return tuple(tokens.plain_reference(parameter.name, f"{each}/{id_part}") for each in kinds)
