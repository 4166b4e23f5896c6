"""Numbers and quantities as ranges: what a resource says, and what a search asks.

A number a search asks for is as precise as it is written: `100` is 99.5 to 100.5, and `100.00` is 99.995 to 100.005.
https://hl7.org/fhir/R4/search.html#number, https://hl7.org/fhir/R4/search.html#quantity
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fhirgw.fhir.issue import FhirError, Issue

Number = tuple[str, Decimal, Decimal, str | None, str | None, str | None, list[int] | None]
"""Where it stands (`component.valueQuantity`), from and to (both in), system, code, unit; tokens of what is beside."""

LEAST, MOST = Decimal("-Infinity"), Decimal("Infinity")
DIGITS, EXPONENT = 40, 32
"""What fhirgw takes of a number (the rules on what comes in)."""

SPELT = re.compile(r"[+-]?(\d{1,40})(\.\d{1,40})?([eE][+-]?\d{1,2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Amount:
    """A number asked for: `value` as written, and the range from `low` to just before `high` that it may mean."""

    value: Decimal
    low: Decimal
    high: Decimal


def amount(text: str) -> Amount:
    """The number of a search value. Raises FhirError(value)."""
    match = SPELT.fullmatch(text)
    value = Decimal(text) if match else Decimal("NaN")
    if match is None or abs(value.adjusted()) > EXPONENT or len(value.as_tuple().digits) > DIGITS:
        raise FhirError(Issue("value", "Not a number: write digits, as in 5.40 or 5.4e-3"))
    half = Decimal(5).scaleb(_exponent(value) - (2 if match[3] and not match[2] else 1))
    return Amount(value, value - half, value + half)


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def quantity(place: str, value: dict[str, Any], tokens: list[int] | None = None) -> Iterator[Number]:
    """A Quantity, or an Age, Duration, Money ...: a point, or all that is on one side where it has a comparator."""
    said = value.get("value")
    if said is None:
        return
    point = decimal(said)
    comparator = value.get("comparator") or ""
    low = LEAST if comparator.startswith("<") else point
    high = MOST if comparator.startswith(">") else point
    currency = value.get("currency")
    system = value.get("system") or (currency and "urn:iso:std:iso:4217")
    yield place, low, high, system, value.get("code") or currency, value.get("unit"), tokens


def between(place: str, value: dict[str, Any], tokens: list[int] | None = None) -> Iterator[Number]:
    """A Range, open where it has no low or high."""
    low, high = value.get("low") or {}, value.get("high") or {}
    if low.get("value") is None and high.get("value") is None:
        return
    measure = low if low.get("value") is not None else high
    yield (
        place,
        LEAST if low.get("value") is None else decimal(low["value"]),
        MOST if high.get("value") is None else decimal(high["value"]),
        *(measure.get("system"), measure.get("code"), measure.get("unit"), tokens),
    )


def sampled(place: str, value: dict[str, Any], tokens: list[int] | None = None) -> Iterator[Number]:
    """SampledData: from the least to the greatest of what was measured."""
    origin = value.get("origin") or {}
    start, factor = decimal(origin.get("value", 0)), decimal(value.get("factor", 1))
    points = [each for each in str(value.get("data", "")).split() if SPELT.fullmatch(each)]
    ends = [start + Decimal(each) * factor for each in points]
    if ends:
        yield place, min(ends), max(ends), origin.get("system"), origin.get("code"), origin.get("unit"), tokens


def plain(place: str, value: Any, tokens: list[int] | None = None) -> Iterator[Number]:
    """A bare number."""
    point = decimal(value)
    yield place, point, point, None, None, None, tokens


def decimal(value: Any) -> Decimal:
    """A JSON number, digit for digit. Raises TypeError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise TypeError("a number is needed")
    return value if isinstance(value, Decimal) else Decimal(str(value))


READ = {"Range": between, "SampledData": sampled, "decimal": plain, "integer": plain}
"""How a number is read, where its element is not a Quantity."""
