r"""What comes in, scanned before anything is made of it: one JSON object, bounded, that says each thing once.

Refused: invalid UTF-8, NUL and the other control characters that FHIR's strings may not hold, lone surrogates, a key
twice in one object at any depth, depth over DEEPEST, numbers of more than DIGITS digits or with an exponent beyond
LARGEST. A decimal keeps its text (fhirgw.fhir.canonical). https://hl7.org/fhir/R4/datatypes.html#string

Each question is asked of the whole text in C: brackets are counted with the strings taken out, characters are looked
at one by one only where an escape names one that might not do. Whether a key stands twice, or a number says more than
was read, is asked by writing down what was read: where that is the text again, nothing was lost. What is written
otherwise (`\/`, say) is read slowly, pair by pair. 12 microseconds a kilobyte, beside 5 for orjson and 37 for pairs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson

from fhirgw.fhir.canonical import INTEGERS, LONGEST_INTEGER, _place, encode, number
from fhirgw.fhir.issue import FhirError, Issue, Resource

DEEPEST = 64
"""Objects and lists within one another."""
DIGITS = 40
LARGEST = 32
"""The exponent of a number, either way."""

STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
BLANKS, SPACED = b" \t\r\n", b'": '
FRACTION = re.compile(rb"[0-9][.eE]")
"""In every text with a number that is to keep its text, outside of its strings."""
SUSPECT = re.compile(rb"\\u(?:00[01]|[dD][89a-fA-F])")
"""An escape that may stand for a control character or half a character."""
REFUSED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


def read(body: bytes) -> Resource:
    """The resource that a body holds. Raises FhirError(structure, invalid, value), a 400, that quotes nothing of it."""
    found = parse(body)
    if not isinstance(found, dict):
        raise FhirError(Issue("structure", "The body is not a JSON object: send one resource"))
    return found


def parse(body: bytes) -> Any:
    """The JSON value of a body, as `read` does it; a JSON Patch is a list."""
    outside = _outside(body)
    if outside.count(b"{") + outside.count(b"[") > DEEPEST:
        _shallow(outside)
    found = _quickly(_compact(body) if SPACED in body else body, outside)
    if found is None:
        found = _slowly(body)
    if SUSPECT.search(body):
        _plain(found)
    return found


def _outside(body: bytes) -> bytes:
    """The body without its strings."""
    return STRINGS.sub(b"", body) if b"\\" in body else b"".join(body.split(b'"')[::2])


def _quickly(body: bytes, outside: bytes) -> Any:
    """What the body says, where writing that down gives the body again, so that no key and no digit was lost."""
    try:
        found = _reader.decode(body.decode()) if FRACTION.search(outside) else orjson.loads(body)
        return found if encode(found) == body else None
    except (ValueError, TypeError, RecursionError, FhirError):
        return None


def _compact(body: bytes) -> bytes:
    """The body without blanks between its tokens; as it is, where strings have escapes."""
    if b"\\" in body:
        return body
    parts = body.split(b'"')
    parts[::2] = [each.translate(None, BLANKS) for each in parts[::2]]
    return b'"'.join(parts)


def _slowly(body: bytes) -> Any:
    """What the body says, each object pair by pair. Raises FhirError."""
    _shallow(_outside(body))  # which tells of brackets that do not match, too
    try:
        return _decoder.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise FhirError(Issue("structure", f"The body is not JSON: {_place(error)}")) from None


def _shallow(outside: bytes) -> None:
    """Takes out pairs of brackets that hold none, level by level: what is then left is deeper.

    First two levels at a time, which is sure of what is at most half as deep, and that is everything but an attack.
    """
    brackets = left = outside.translate(None, NOT_BRACKETS)
    for _ in range(DEEPEST // 2):
        if not left:
            return
        left = left.replace(b"{}", b"").replace(b"[]", b"")
    left = brackets
    for _ in range(DEEPEST):
        if not left:
            return
        left = left.replace(b"{}", b"\0").replace(b"[]", b"\0").replace(b"\0", b"")
    if left:
        pairs = all(brackets.count(first) == brackets.count(last) for first, last in (b"{}", b"[]"))
        deep = f"The body is nested more than {DEEPEST} deep, or its brackets do not match"
        told = deep if pairs else "The body is not JSON, or was broken off: its brackets do not match"
        raise FhirError(Issue("structure", told))


def _plain(found: Any) -> None:
    for place, text in _texts(found, ""):
        if REFUSED.search(text):
            told = "Text holds a control character (NUL, say) or half of a surrogate pair: FHIR's strings hold neither"
            raise FhirError(Issue("invalid", told, place or None))


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every text, names too, each with where it is; the place of a name is that of its object."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _texts(each, f"{place}[{at}]")
    elif isinstance(value, dict):
        for name, each in value.items():
            yield place, name
            yield from _texts(each, (f"{place}.{name}" if place else name) if name.isidentifier() else place)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise FhirError(
            Issue("structure", "A property stands twice in one object: say it once, as a list if it is one")
        )
    return made


def _decimal(text: str) -> Decimal:
    digits, _, exponent = text.lower().partition("e")
    _bounded(digits)
    if exponent and (len(exponent) > DIGITS or abs(int(exponent)) > LARGEST):
        raise FhirError(Issue("value", f"A number's exponent is beyond {LARGEST}"))
    return number(text)


def _integer(text: str) -> int | Decimal:
    """An int that orjson can write again, else a Decimal: `-0`, and more than 64 bits."""
    _bounded(text)
    plain = len(text) <= LONGEST_INTEGER and text != "-0" and int(text) in INTEGERS
    return int(text) if plain else Decimal(text)


def _bounded(digits: str) -> None:
    if len(digits) > DIGITS and sum(map(str.isdigit, digits.lstrip("-0."))) > DIGITS:
        raise FhirError(Issue("value", f"A number has more than {DIGITS} significant digits"))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


_numbers: Any = {"parse_float": _decimal, "parse_int": _integer, "parse_constant": _no_constant}
_reader = json.JSONDecoder(**_numbers)
_decoder = json.JSONDecoder(object_pairs_hook=_object, **_numbers)
