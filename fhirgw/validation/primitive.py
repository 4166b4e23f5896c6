"""Values of R4's primitive types: their JSON kind, their regular expression, and dates that exist.

https://hl7.org/fhir/R4/datatypes.html#primitive
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

from fhirgw.fhir.facts import table
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.table import Table

WORTH_KEEPING = 128
"""Characters of a text whose answer is remembered: longer ones come once, and are somebody's to send."""

LONGEST = 1 << 20
"""Characters of a string: R4's 1 MB."""

RANGES = {"integer": -(2**31), "unsignedInt": 0, "positiveInt": 1}
LARGEST = 2**31 - 1

_UUID = re.compile(r"urn:uuid:[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OID = re.compile(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+")
_URI = re.compile(r"\S+")
_CODE = re.compile(r"\S+( \S+)*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")

REMEDIES = {
    "boolean": "write true or false, without quotes",
    "integer": "write a whole number of 32 bits, without quotes",
    "unsignedInt": "write a whole number from 0 to 2147483647, without quotes",
    "positiveInt": "write a whole number from 1 to 2147483647, without quotes",
    "decimal": "write a number, without quotes",
    "id": "write 1 to 64 of A-Z, a-z, 0-9, - and .",
    "code": "write it without spaces before, after or doubled",
    "date": "write YYYY, YYYY-MM or YYYY-MM-DD, a date that exists",
    "dateTime": "write YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz, a time that exists",
    "instant": "write YYYY-MM-DDThh:mm:ss+zz:zz, a time that exists, with its zone",
    "time": "write hh:mm:ss",
    "uri": "write a uri without spaces; a urn:uuid: or urn:oid: in full",
    "base64Binary": "write base64, its length a multiple of four",
    "oid": "write urn:oid: and the numbers",
    "uuid": "write urn:uuid: and a lower-case UUID",
    "string": "write at least one character that is no blank, and no control characters",
}


@cache
def refusal(type_code: str) -> Issue:
    """The issue of a value that is none of the type."""
    remedy = REMEDIES.get(type_code) or REMEDIES["uri" if type_code in ("url", "canonical") else "string"]
    return Issue("value", f"Not a value of the type {type_code}: {remedy}")


JSONS = {
    "a boolean": "true or false, without quotes",
    "a number": "it without quotes",
    "a whole number": "it without quotes",
}


@cache
def shape(type_code: str) -> Issue:
    """The issue of a value whose JSON kind is not the type's."""
    kind = {"boolean": "a boolean", "decimal": "a number"}.get(type_code)
    kind = kind or ("a whole number" if type_code in RANGES else "a string")
    return Issue("structure", f"The JSON of the type {type_code} is {kind}: write {JSONS.get(kind, 'it in quotes')}")


def judged(type_code: str, fits: Callable[[str], bool]) -> Table:
    """`table[text]` is None for a text that fits, else the refusal. Long texts are not remembered."""
    wrong = refusal(type_code)
    return Judged(lambda text: None if fits(text) else wrong)


class Judged(Table):
    """A table that remembers only short texts."""

    __slots__ = ()

    def __missing__(self, value: Any) -> Any:
        return super().__missing__(value) if len(value) <= WORTH_KEEPING else self.work_out(value)


@cache
def primitive(type_code: str) -> Callable[[Any], Issue | None]:
    """The judge of one value of a primitive type."""
    if type_code == "boolean":
        return lambda value: None if value is True or value is False else shape(type_code)
    if type_code in RANGES:
        return _whole(type_code)
    if type_code == "decimal":
        return _number
    if type_code in ("string", "markdown", "xhtml"):
        return _string
    known = answers(type_code)
    wrong = shape(type_code)

    def check(value: Any) -> Issue | None:
        return known[value] if value.__class__ is str else wrong

    return check


@cache
def answers(type_code: str) -> Table:
    """The judge of the texts of a type as a table."""
    return judged(type_code, text(type_code))


def is_remembered(type_code: str) -> bool:
    """Whether values of the type are texts that come again: dates and codes, and no names."""
    return type_code not in (*RANGES, "boolean", "decimal", "string", "markdown", "xhtml")


@cache
def text(type_code: str) -> Callable[[str], bool]:
    """Whether a text is one of the type."""
    if type_code in TEXTS:
        return TEXTS[type_code]
    expression = re.compile(table("rules")["primitives"][type_code], re.ASCII)
    exists = EXISTS.get(type_code)
    if exists is None:
        return lambda value: expression.fullmatch(value) is not None
    return lambda value: expression.fullmatch(value) is not None and exists(value)


def _whole(type_code: str) -> Callable[[Any], Issue | None]:
    least, wrong, misshapen = RANGES[type_code], refusal(type_code), shape(type_code)

    def check(value: Any) -> Issue | None:
        if value.__class__ is not int:
            return misshapen
        return None if least <= value <= LARGEST else wrong

    return check


def _number(value: Any) -> Issue | None:
    if value.__class__ is int:
        return None
    if isinstance(value, float):
        return None if value - value == 0 else refusal("decimal")
    if isinstance(value, Decimal):
        return None if value.is_finite() else refusal("decimal")
    return shape("decimal")


def _string(value: Any) -> Issue | None:
    if value.__class__ is not str:
        return shape("string")
    if value.isprintable() and value and not value.isspace() and len(value) <= LONGEST:
        return None
    return None if _is_string(value) else refusal("string")


def _is_string(value: str) -> bool:
    return bool(value) and not value.isspace() and len(value) <= LONGEST and not _CONTROL.search(value)


def _is_uri(value: str) -> bool:
    if not _URI.fullmatch(value):
        return False
    if value.startswith("urn:uuid:"):
        return _UUID.fullmatch(value) is not None
    return not value.startswith("urn:oid:") or _OID.fullmatch(value) is not None


def _is_base64(value: str) -> bool:
    """R4's expression is exponential in Python: decoded instead, which is the same question."""
    bare = "".join(value.split())
    try:
        return bool(bare) and bool(binascii.a2b_base64(bare.encode("ascii"), strict_mode=True))
    except (binascii.Error, UnicodeEncodeError):
        return False


def _day(value: str) -> bool:
    """Whether a date, of any precision, is in the calendar."""
    try:
        date.fromisoformat((value[:10] + "-01-01")[:10])
    except ValueError:
        return False
    return True


def _moment(value: str) -> bool:
    """Whether a day and the time on it exist; Python has no leap second."""
    if not _day(value):
        return False
    clock = value.partition("T")[2]
    if not clock:
        return True
    try:
        datetime.fromisoformat(f"{value[:17]}59{value[19:]}" if clock[6:8] == "60" else value)
    except ValueError:
        return False
    return True


EXISTS = {"date": _day, "dateTime": _moment, "instant": _moment}

TEXTS: dict[str, Callable[[str], bool]] = {
    "uri": _is_uri,
    "url": _is_uri,
    "canonical": _is_uri,
    "base64Binary": _is_base64,
    "code": lambda value: _CODE.fullmatch(value) is not None,
}
