"""The values of a search parameter, read: tokens, dates, numbers, ids, addresses; or the issue, without the value.

https://hl7.org/fhir/R4/search.html#ptypes
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fhirgw.fhir import tokens
from fhirgw.fhir.dates import Span, span
from fhirgw.fhir.elements import is_resource
from fhirgw.fhir.escapes import at_bar, at_bars, unescape
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.numbers import Amount, amount
from fhirgw.fhir.parameters import HELD, Parameter

PREFIXES = ("eq", "ne", "gt", "ge", "lt", "le", "sa", "eb", "ap")
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
SAFE_NAME = re.compile(r"[A-Za-z_][A-Za-z_.:\-]{0,80}", re.ASCII)
ABSOLUTE = re.compile(r"(?:[a-z][a-z0-9+.\-]*)://\S+|urn:\S+", re.ASCII)

TEXTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "CodeableConcept": (("text",), ("coding", "display")),
    "Coding": (("display",),),
    "Identifier": (("type", "text"),),
}
"""Where the text stands that goes with a code. https://hl7.org/fhir/R4/search.html#modifiers"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A number asked for: `measure` is its unit, as (system, code); no system means the code or the unit's name."""

    prefix: str
    amount: Amount
    measure: tuple[str, str] | None = None


def shown(name: str) -> str:
    """A parameter's name, as it may be repeated to a caller and in a log: nothing that could hold a person's data."""
    return name if SAFE_NAME.fullmatch(name) else "of that name"


def malformed(name: str, fault: str) -> FhirError:
    """The refusal of a value, by its parameter's name alone."""
    return FhirError(Issue("invalid", f"The search parameter {shown(name)} {fault}"))


def id(value: str) -> str:
    """An id."""
    if not ID.fullmatch(value):
        raise malformed("_id", "is not an id: letters, digits, - and ., at most 64")
    return value


def date(parameter: Parameter, value: str) -> tuple[str, Span]:
    """A prefix and a date of any precision."""
    prefix, text = _prefixed(value)
    try:
        return prefix, span(text.replace(" ", "+"))  # an unencoded + of a zone arrives as a space
    except FhirError as error:
        raise malformed(parameter.name, f"is n{error.issues[0].diagnostics[1:]}") from None


def number(parameter: Parameter, value: str) -> Asked:
    """`[prefix]number`; of a quantity `[prefix]number|system|code`, or `number||unit`."""
    prefix, text = _prefixed(value)
    pieces = at_bars(text, 3)
    if len(pieces) == 2 or (len(pieces) == 3 and parameter.kind == "number"):
        raise malformed(parameter.name, "is written number, number|system|code or number||unit")
    try:
        found = amount(pieces[0])
    except FhirError as error:
        raise malformed(parameter.name, f"is n{error.issues[0].diagnostics[1:]}") from None
    measure = (pieces[1], pieces[2]) if len(pieces) == 3 and (pieces[1] or pieces[2]) else None
    return Asked(prefix, found, measure)


def address(parameter: Parameter, value: str) -> str:
    """A url whose path has steps; a urn has none."""
    text = unescape(value)
    if "://" not in text:
        raise malformed(parameter.name, "is no url: what is above or below goes by the steps of its path")
    return text


def tokens_of(parameter: Parameter, modifier: str, value: str, base: str) -> tuple[int, ...]:
    """The tokens of one alternative, any of which is a match."""
    name = parameter.name
    match parameter.kind:
        case "reference" if modifier == "identifier":
            return (_logical(parameter, value),)
        case "uri" if modifier == "below":
            return (_under(parameter, address(parameter, value)),)
        case "uri" if modifier == "above":
            return tuple(tokens.uri(name, each) for each in _steps(address(parameter, value)))
        case "uri":
            return (tokens.uri(name, unescape(value)),)
        case "string":
            return (tokens.exact(name, unescape(value)),)
        case "token" if modifier == "of-type":
            return (_of_type(parameter, value),)
    return tuple(tokens.token(f"{name}|{text}") for text in texts_of(parameter, value, base, modifier))


def texts_of(parameter: Parameter, value: str, base: str, modifier: str = "") -> tuple[str, ...]:
    """What a token's text may be for a token or a reference, behind the parameter's name."""
    if parameter.kind == "reference":
        return _references(parameter, modifier, unescape(value), base)
    return (_token(parameter, value),)


def _prefixed(value: str) -> tuple[str, str]:
    return (value[:2], value[2:]) if value[:2] in PREFIXES else ("eq", value)


def _token(parameter: Parameter, value: str) -> str:
    """`code`, `system|code`, `|code` (no system) or `system|` (any code)."""
    system, bar, code = at_bar(value)
    if not bar:
        return f"|{_code(parameter, system)}"
    if not code:
        if not system:
            raise malformed(parameter.name, "is a bare |: say a system, a code or both")
        return f"{system}|"
    if system in parameter.systems:
        return f"|{code}"
    return f"{system or tokens.NO_SYSTEM}|{code}"


def _code(parameter: Parameter, code: str) -> str:
    """A code without a system, as the elements of this parameter are indexed."""
    kinds = {source.leaf.type for source in parameter.sources}
    if kinds == {"boolean"} and code not in ("true", "false"):
        raise malformed(parameter.name, "is true or false")
    return tokens.contact_key(code) if kinds == {"ContactPoint"} else code


def _of_type(parameter: Parameter, value: str) -> int:
    """`system|code|value`: an identifier by what type of number it is."""
    pieces = at_bars(value, 3)
    if len(pieces) < 3 or not pieces[1] or not pieces[2]:
        raise malformed(f"{parameter.name}:of-type", "is written system|code|value, of the identifier's type")
    return tokens.token(f"{parameter.name}:of-type|{pieces[0] or tokens.NO_SYSTEM}|{pieces[1]}|{pieces[2]}")


def _logical(parameter: Parameter, value: str) -> int:
    system, _, code = at_bar(value)
    if not system or not code:
        raise malformed(f"{parameter.name}:identifier", "needs both: system|value")
    return tokens.logical(parameter.name, system, code)


def _under(parameter: Parameter, url: str) -> int:
    top = url.rstrip("/")
    if top.count("/", top.find("://") + 3) >= tokens.DEEPEST:
        raise malformed(f"{parameter.name}:below", f"has more than {tokens.DEEPEST} steps: ask for one further up")
    return tokens.below(parameter.name, top)


def _steps(url: str) -> list[str]:
    """A url and every url above it, with and without the slash at its end."""
    start = url.index("://") + 3
    pieces = url[start:].rstrip("/").split("/")
    above = [url[:start] + "/".join(pieces[:most]) for most in range(len(pieces), 0, -1)]
    return [text for each in above for text in (each, f"{each}/")]


def _references(parameter: Parameter, modifier: str, value: str, base: str) -> tuple[str, ...]:
    """`id`, `Type/id` or an absolute url; one of our own address is local."""
    local = value.removeprefix(f"{base.rstrip('/')}/") if base else value
    if ABSOLUTE.fullmatch(local):
        return (local,)
    kind, slash, id_part = local.rpartition("/")
    if not ID.fullmatch(id_part):
        raise malformed(parameter.name, "is no reference: give an id, Type/id or an absolute url")
    if slash:
        fits = is_resource(kind) and (kind in parameter.targets or "Resource" in parameter.targets)
        if not fits or (modifier and modifier != kind):
            raise malformed(parameter.name, "does not refer to such a resource: give Type/id of a type it takes")
        return (local,)
    kinds = (modifier,) if modifier else HELD if "Resource" in parameter.targets else parameter.targets
    return tuple(f"{each}/{id_part}" for each in kinds)
