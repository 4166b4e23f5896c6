"""Resources as JSON text and back, losing nothing: `1.10` stays `1.10`, however long.

FHIR decimals carry their precision (https://hl7.org/fhir/R4/datatypes.html#decimal), which a double does not
keep. Finding out that a body holds no decimal costs as much as parsing it exactly (11 against 5 µs for
orjson, measured on 1.1 kB), so there is one way to parse.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Self

import orjson

from fhirgw.fhir.issue import FhirError, Issue, Resource

INTEGERS = range(-(2**63), 2**64)
"""What orjson can write as a JSON integer."""

LONGEST_INTEGER = 20

LONGEST_FRACTION = 40
"""Digits after the point that are written out; beyond it stands an exponent, so that no short text grows long."""


class Spelt(Decimal):
    """A number with an exponent, which remembers how it was written: `1e3` is not respelt as `1E+3`."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Of the text of a JSON number."""
        made = super().__new__(cls, text)
        made.text = text
        return made


def number(text: str) -> Decimal:
    """What a JSON number with a point or an exponent says."""
    return Spelt(text) if "e" in text or "E" in text else Decimal(text)


def encode(resource: Resource) -> bytes:
    """The resource as compact UTF-8 JSON: keys in their order, no control characters, decimals digit for
    digit.

    Raises TypeError for what JSON cannot say (a set, NaN).
    """
    return orjson.dumps(resource, default=_decimal)


def decode(text: str | bytes) -> Resource:
    """The resource that the JSON text says; numbers with a point or exponent become Decimal.

    Raises FhirError(structure) when the text is not one JSON object in UTF-8.
    """
    try:
        resource = _decoder.decode(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        raise FhirError(Issue("structure", f"The body is not JSON: {_place(error)}")) from None
    if not isinstance(resource, dict):
        raise FhirError(Issue("structure", "The body is not a JSON object: send one resource"))
    return resource


def _decimal(value: Any) -> orjson.Fragment:
    """A Decimal as a JSON number of the same digits: `0.00000001`, where Python would say `1E-8`."""
    if isinstance(value, Spelt):
        return orjson.Fragment(value.text)
    if not isinstance(value, Decimal) or not value.is_finite():
        raise TypeError(f"JSON has no way to say a {type(value).__name__}")
    exponent = int(value.as_tuple().exponent)
    return orjson.Fragment(format(value, "f") if -LONGEST_FRACTION <= exponent <= 0 else str(value))


def _integer(digits: str) -> int | Decimal:
    """An int that orjson can write again, else a Decimal: `-0`, and more than 64 bits."""
    plain = len(digits) <= LONGEST_INTEGER and digits != "-0" and int(digits) in INTEGERS
    return int(digits) if plain else Decimal(digits)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _place(error: Exception) -> str:
    """Where the text goes wrong, without quoting it: it may hold personal data."""
    match error:
        case json.JSONDecodeError():
            return f"{error.msg} at line {error.lineno} column {error.colno}"
        case UnicodeDecodeError():
            return f"invalid UTF-8 at byte {error.start}"
        case RecursionError():
            return "nested too deeply"
    return str(error)


_decoder = json.JSONDecoder(parse_float=number, parse_int=_integer, parse_constant=_no_constant)
