"""What the value of one element is found by, by the kind of parameter and the type of the element.

https://hl7.org/fhir/R4/search.html says for each kind which types it looks in, and what it compares. Each table here
works out a value once for all the parameters that look at it: codes, names and references come back in every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from fhirgw.fhir import tokens
from fhirgw.fhir.dates import Span, outer, period, span
from fhirgw.fhir.elements import Element
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import Group, Parameter, Source, parameters
from fhirgw.fhir.strings import normalise
from fhirgw.fhir.table import Table

PRIMARY = ("patient", "subject")
"""The parameters that say whose record a resource belongs to."""


def is_patient(parameter: Parameter) -> bool:
    """Whether the row's `patient` is what the parameter refers to: nothing else says whose record it is."""
    known = parameters(parameter.type)
    looked = [source for name in PRIMARY if name in known for source in known[name].sources]
    return parameter.name in PRIMARY and len({source.path for source in looked}) == 1 and not looked[0].repeats


@cache
def telling(resource_type: str) -> frozenset[str]:
    """The elements of a type in which it says whose record it is."""
    primary = [each for name, each in parameters(resource_type).items() if name in PRIMARY]
    return frozenset(source.path[0].name for each in primary for source in each.sources)


Names = tuple[str, ...]
Tokens = tuple[int, ...]
Strings = tuple[tuple[str, str], ...]


@cache
def codings(names: Names) -> Table:
    """(system, code) -> tokens."""
    return Table(lambda pair: tuple(each for name in names for each in tokens.coding(name, *pair)))


@cache
def codes(names: Names) -> Table:
    """A bare code, whose system the element implies -> tokens."""
    return Table(lambda value: tuple(tokens.code(name, value) for name in names))


@cache
def uris(names: Names) -> Table:
    """A uri -> tokens: compared exactly, and by what it is below."""
    return Table(
        lambda value: tuple(each for name in names for each in (tokens.uri(name, value), *tokens.within(name, value)))
    )


@cache
def canonicals(names: Names) -> Table:
    """A canonical -> tokens with its version and without."""
    return Table(
        lambda value: tuple(
            tokens.uri(name, each) for name in names for each in dict.fromkeys((value, value.partition("|")[0]))
        )
    )


@cache
def texts(names: Names) -> Table:
    """A text -> its strings, and the tokens of how it is spelt."""

    def work_out(text: str) -> tuple[Strings, Tokens]:
        strings = tuple((name, normalise(text, name)) for name in names)
        return strings, tuple(tokens.exact(name, text) for name in names)

    return Table(work_out)


def contact(names: Names, value: str | None) -> Tokens:
    """The tokens of a telephone number or e-mail address. Not remembered: nobody shares one."""
    return tuple(tokens.contact(name, value) for name in names) if value else ()


def references(looking: Sequence[tuple[Parameter, Source]]) -> Table:
    """(reference, type, identifier's system and value) -> tokens, the id of the Patient whose record it makes it, and
    the bits of parameters for the type it names.

    For all parameters of one element: those for any type, and those for the type it turns out to name.
    """
    bits: dict[str, int] = {}
    for parameter, source in looking:
        if source.only_type is not None:
            bits[source.only_type] = bits.get(source.only_type, 0) | 1 << (parameter.bit or 0)
    return _references(
        tuple(parameter.name for parameter, source in looking if source.only_type is None),
        tuple(
            (kind, tuple(parameter.name for parameter, source in looking if source.only_type in (None, kind)))
            for kind in dict.fromkeys(source.only_type for _, source in looking)
            if kind is not None
        ),
        any(parameter.name in PRIMARY for parameter, _ in looking),
        tuple(bits.items()),
    )


@cache
def _references(
    always: Names, kinds: tuple[tuple[str, Names], ...], primary: bool, present: tuple[tuple[str, int], ...]
) -> Table:
    by_kind, bits = dict(kinds), dict(present)

    def work_out(reference: tuple[str | None, ...]) -> tuple[Tokens, str | None, int]:
        written, kind, system, value = reference
        target, named = _target(written) if written else (None, kind)
        found = tokens.referring(by_kind.get(named or "", always), target, system, value)
        theirs = target if primary and target and target.startswith("Patient/") else None
        return found, theirs[8:] if theirs else None, bits.get(named or "", 0)

    return Table(work_out)


def _target(reference: str) -> tuple[str, str]:
    """What a reference names, without a version, and the resource type; two blanks within the same resource."""
    if reference[0] == "#":
        return "", ""
    target = reference.partition("/_history/")[0]
    kind, _, rest = target.partition("/")
    if kind.endswith(":"):
        kind = target.rpartition("/")[0].rpartition("/")[2]
    return target, kind if rest else ""


def of_type(names: Names, value: dict[str, Any]) -> list[int]:
    """The tokens of an identifier by its type: `system|code|value`, for each coding of the type."""
    said = value.get("value")
    codings = (value.get("type") or {}).get("coding") or ()
    return [
        tokens.token(f"{name}:of-type|{each.get('system') or tokens.NO_SYSTEM}|{each['code']}|{said}")
        for each in codings
        if each.get("code") and said
        for name in names
    ]


def texts_of(type: str, value: Any) -> list[str]:
    """How one part of a composite may be asked for: what a token's text is, behind the parameter's name."""
    match type:
        case "CodeableConcept":
            return [text for each in value.get("coding", ()) for text in texts_of("Coding", each)]
        case "Coding" | "Identifier":
            system, code = value.get("system"), value.get("code" if type == "Coding" else "value")
            if system and code:
                return [f"{system}|{code}", f"|{code}", f"{system}|"]
            return [f"|{code}", f"{tokens.NO_SYSTEM}|{code}"] if code else [f"{system}|"] if system else []
        case "Reference":
            target = _target(value["reference"])[0] if value.get("reference") else ""
            return [target] if target else []
        case "boolean":
            return ["|true" if value else "|false"]
    return [f"|{value}"]


@cache
def heads(group: Group) -> Callable[[dict[str, Any]], list[int]]:
    """The element a composite is of -> the tokens of its first part there."""
    first = [(source.leaf.name, source.leaf.type) for source in group.parts[0].sources]

    def work_out(holder: dict[str, Any]) -> list[int]:
        return [tokens.token(f"{group.name}${text}") for text in _said(holder, first)]

    return work_out


@cache
def pairs(group: Group, last: Element) -> Callable[[dict[str, Any], Any], list[int]]:
    """The element a composite is of, and its last part -> the tokens of both together."""
    first = [(source.leaf.name, source.leaf.type) for source in group.parts[0].sources]

    def work_out(holder: dict[str, Any], value: Any) -> list[int]:
        behind = texts_of(last.type, value)
        return [tokens.token(f"{group.name}${one}${two}") for one in _said(holder, first) for two in behind]

    return work_out


def _said(holder: dict[str, Any], first: Sequence[tuple[str, str]]) -> list[str]:
    return [text for name, type in first if holder.get(name) is not None for text in texts_of(type, holder[name])]


def timing(value: dict[str, Any]) -> Span | None:
    """The outer limits of a Timing: of its events and of the bounds of its repetition."""
    spans = [span(each) for each in value.get("event", ()) if each is not None]
    bounds = period(value.get("repeat", {}).get("boundsPeriod", {}))
    return outer([*spans, bounds] if bounds else spans)


DATES: dict[str, Callable[[Any], Span | None]] = {"Period": period, "Timing": timing}
"""How a date's span is read, where the element is more than a date."""


def wrong_date(error: FhirError, path: str) -> FhirError:
    """The refusal of a date, with its place."""
    return FhirError(Issue("value", error.issues[0].diagnostics, path))
