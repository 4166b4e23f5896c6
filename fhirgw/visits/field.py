"""The fields of a visit as it is sent: what each may hold, as a table that JSON, CSV and the guide are read by.

A field's codec takes the JSON value and gives it as it is kept, or raises Refusal with the rule and the remedy. None
quotes a value.

Long, because a third of it is the table, and the codecs say nothing without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from fhirgw.fhir import nhs
from fhirgw.mapping.refusal import Refusal
from fhirgw.visits.moment import WRITTEN, moment
from fhirgw.visits.rules import Rules

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
"""A care provider's own id of a visit, a carer or a task: no blanks, so that no name is taken for one."""
UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
CODE = re.compile(r"[^\s\x00-\x1f\x7f]+( [^\s\x00-\x1f\x7f]+)*")
URI = re.compile(r"(https?://|urn:)[!-~]{1,190}")
LONGEST = 4000
"""Characters of a note: FHIR's own limit is a megabyte, a visit's notes are a few lines."""
ENTRIES = 100
"""Of a list."""
ROSTERED = 10
"""Carers who are to come to one visit."""
HOME = "home"
"""Where the person lives: what a carer's distance is measured from, and not kept (fhirgw.visits.distance)."""

Codec = Callable[[Any], Any]
Schema = Mapping[str, Any]
_SCHEMAS: WeakKeyDictionary[Codec, Schema] = WeakKeyDictionary()


def schema(codec: Codec) -> Schema:
    """What a field's codec takes, as JSON Schema says it: no more than can be said so (a check digit cannot).

    https://json-schema.org/draft/2020-12
    """
    return _SCHEMAS[codec]


def _says(codec: Codec, **told: Any) -> Codec:
    _SCHEMAS[codec] = told
    return codec


class Field(NamedTuple):
    """`required`: without it the part says nothing."""

    codec: Codec
    required: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """A part: an object of these fields, or (`many`) a list of such objects that `key` tells apart."""

    fields: Mapping[str, Field]
    many: bool = False
    key: str | None = None
    names: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(self.fields))


def text(longest: int) -> Codec:
    """Text that FHIR can carry."""

    def codec(value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > longest or _unwanted(value):
            raise Refusal("text", f"this is text of 1 to {longest} characters", "Shorten it, or leave it out")
        return value

    return _says(codec, type="string", minLength=1, maxLength=longest)


def _unwanted(value: str) -> bool:
    """Whether it holds what FHIR cannot carry. Most texts are of one line, which is known at once."""
    return not value.isprintable() and UNWANTED.search(value) is not None


def identifier(value: Any) -> str:
    """The care provider's own id of something."""
    if not isinstance(value, str) or not ID.fullmatch(value):
        told = "an id has 1 to 64 letters, digits and . _ : / -, and begins with a letter or digit"
        raise Refusal("id", told, "Send the id that your own system gives it")
    return value


def identifiers(value: Any) -> list[str]:
    """Ids, each once."""
    if not isinstance(value, list) or not 1 <= len(value) <= ROSTERED or len({*map(str, value)}) < len(value):
        raise Refusal("id", f"this is a list of 1 to {ROSTERED} ids, each once", 'Send it as ["C1", "C2"]')
    return [identifier(each) for each in value]


def nhs_number(value: Any) -> str:
    """Ten digits with their check; spaces are left out."""
    found = nhs.unspaced(value) if isinstance(value, str) else ""
    if not nhs.is_nhs_number(found):
        told = "an NHS number has ten digits, the last of which checks the others"
        raise Refusal("nhs-number", told, "Look it up in the person's care plan, or send the council's number")
    return found


def medicine(value: Any) -> str:
    """A code of the dictionary of medicines and devices: a SNOMED CT identifier."""
    if not isinstance(value, str) or not nhs.is_snomed_id(value):
        told = "a dm+d code has 6 to 18 digits, the last of which checks the others"
        raise Refusal("number", told, "Copy it from the medicine's record as text, or send the medicine's name alone")
    return value


def code(value: Any) -> str:
    """A code of any system, as FHIR has them. https://hl7.org/fhir/R4/datatypes.html#code"""
    if not isinstance(value, str) or len(value) > 64 or not CODE.fullmatch(value):
        raise Refusal("code", "a code has 1 to 64 characters, and no blanks at its ends or two together", "Correct it")
    return value


def uri(value: Any) -> str:
    """The address of a system of codes."""
    if not isinstance(value, str) or not URI.fullmatch(value):
        told = "a system of codes has an address, such as http://snomed.info/sct"
        raise Refusal("uri", told, "Copy it from the list of codes; left out, codes are of SNOMED CT and units of UCUM")
    return value


def number(low: int, high: int) -> Codec:
    """A whole number."""

    def codec(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise Refusal("number", f"this is a whole number from {low} to {high}", "Correct it")
        return value

    return _says(codec, type="integer", minimum=low, maximum=high)


def quantity(value: Any) -> int | Decimal:
    """A measured number, digit for digit."""
    if type(value) not in (int, Decimal) or abs(value) >= 10**9:
        raise Refusal("number", "this is a number below 1,000,000,000", "Correct it; the unit is a field of its own")
    found: int | Decimal = value
    return found


def degrees(most: int) -> Codec:
    """A latitude or longitude, as WGS 84 has them."""

    def codec(value: Any) -> float:
        if type(value) not in (int, Decimal) or abs(value) > most:
            raise Refusal("number", f"this is a number of degrees from -{most} to {most}", "Send it as 51.50735")
        return float(value)

    return _says(codec, type="number", minimum=-most, maximum=most)


def boolean(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise Refusal("boolean", "this is true or false", "Correct it")
    return value


def word(words: Mapping[str, Any] | tuple[str, ...]) -> Codec:
    """One of a list."""
    listed = ", ".join(words)

    def codec(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise Refusal("code", f"this is one of: {listed}", "Use the word that is nearest")
        return value

    return _says(codec, type="string", enum=[*words])


_says(identifier, type="string", pattern=f"^{ID.pattern}$")
_says(identifiers, type="array", minItems=1, maxItems=ROSTERED, uniqueItems=True, items=_SCHEMAS[identifier])
_says(
    nhs_number,
    type="string",
    pattern="^ *([0-9] *){10}$",
    description="Ten digits, the last of which checks the others",
)
_says(medicine, type="string", pattern="^[0-9]{6,18}$", description="A code of the dictionary of medicines and devices")
_says(quantity, type="number", exclusiveMinimum=-(10**9), exclusiveMaximum=10**9)
_says(boolean, type="boolean")
_says(code, type="string", maxLength=64, pattern=r"^\S+( \S+)*$")
_says(uri, type="string", pattern=f"^{URI.pattern}$")
_says(
    moment,
    type="string",
    pattern=f"^{WRITTEN.pattern}$",
    description="2026-03-30T07:30, of the United Kingdom, or with an offset",
)


# Long, because it is a table.
def shapes(rules: Rules) -> dict[str, Shape]:
    """Every part of a visit, by the names that a care provider uses, in the order in which they are kept."""
    short, name = text(200), Field(identifier, required=True)
    place = {"latitude": Field(degrees(90)), "longitude": Field(degrees(180))}
    carer = {
        "carer": name,
        "start": Field(moment),
        "end": Field(moment),
        "method": Field(word(rules.verification)),
        "endMethod": Field(word(rules.verification)),
        "distance": Field(number(0, 1_000_000)),
        "exception": Field(identifier),
        **place,
    }
    task = {
        "task": name,
        "text": Field(short),
        "outcome": Field(word(rules.tasks)),
        "reason": Field(short),
        "carer": Field(identifier),
    }
    return {
        "person": Shape(
            {
                "nhsNumber": Field(nhs_number),
                "number": Field(identifier),
                "system": Field(short),
                "id": Field(identifier),
            }
        ),
        "line": Shape({"order": name}),
        "planned": Shape(
            {
                "start": Field(moment, required=True),
                "end": Field(moment, required=True),
                "carers": Field(number(1, ROSTERED)),
                "rostered": Field(identifiers),
                "type": Field(identifier),
                "timeCritical": Field(boolean),
            }
        ),
        "carers": Shape(carer, many=True, key="carer"),
        "carer": Shape(carer),
        HOME: Shape({each: field._replace(required=True) for each, field in place.items()}),
        "claimed": Shape({"start": Field(moment, required=True), "minutes": Field(number(0, 1500), required=True)}),
        "outcome": Shape({"code": Field(word(rules.outcomes), required=True), "reason": Field(short)}),
        "tasks": Shape(task, many=True, key="task"),
        "task": Shape(task),
        "medication": Shape(
            {
                "medicine": Field(short, required=True),
                "dmd": Field(medicine),
                "outcome": Field(word(rules.support), required=True),
                "at": Field(moment),
                "dose": Field(short),
                "reason": Field(short),
                "timeCritical": Field(boolean),
                "carer": Field(identifier),
            },
            many=True,
        ),
        "notes": Shape(
            {"text": Field(text(LONGEST), required=True), "at": Field(moment), "carer": Field(identifier)}, many=True
        ),
        "observations": Shape(
            {
                "name": Field(short, required=True),
                "value": Field(quantity, required=True),
                "unit": Field(text(40)),
                "at": Field(moment),
                "carer": Field(identifier),
                "code": Field(code),
                "system": Field(uri),
                "unitCode": Field(code),
                "unitSystem": Field(uri),
            },
            many=True,
        ),
        "amended": Shape(
            {"by": Field(identifier, required=True), "reason": Field(short, required=True), "at": Field(moment)}
        ),
    }
