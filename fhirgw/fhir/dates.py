"""A FHIR date of any precision as the span of time it covers: half-open, aware, in UTC.

`2025-03` is the whole of March. A value without a zone is the wall clock of the United Kingdom, as the
records of councils and care providers are. https://hl7.org/fhir/R4/search.html#date
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from fhirgw.fhir.issue import FhirError, Issue

Span = tuple[datetime, datetime]
"""From the first instant the value covers to the first it no longer does."""

LONDON = ZoneInfo("Europe/London")
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
END = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
"""An open start or end of a period."""

SECOND = timedelta(seconds=1)
TO_THE_SECOND = (20, 25)
"""Lengths of a time to the second with its zone, Z or an offset: the usual form, read the fast way.

The places of its punctuation keep out what Python reads besides, such as the days of numbered weeks.
"""

FHIR_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)


def span(value: str) -> Span:
    """The span of a date, dateTime, instant or search value (`2025`, `2025-03`, `2025-03-30T09:15`,
    `...:00.123Z`).

    Raises FhirError(value) for what is no date, and for the 30th of February.
    """
    length = len(value)
    if length <= 10:
        return _day(value)
    usual = length in TO_THE_SECOND and value[7] == "-" and value[10] == "T" and value[16] == ":"
    if usual and value[19] in "Z+-":
        try:
            low = datetime.fromisoformat(value).astimezone(UTC)
            return low, low + SECOND
        except (ValueError, OverflowError):
            pass  # the long way says what is wrong, and knows leap seconds and the last second of 9999
    return _moment(value)


def period(value: dict[str, Any]) -> Span | None:
    """The span of a Period, open where it has no start or end; None for one with neither."""
    start, end = value.get("start"), value.get("end")
    if start is None and end is None:
        return None
    return (span(start)[0] if start else BEGINNING, span(end)[1] if end else END)


def outer(spans: list[Span]) -> Span | None:
    """The span from the earliest start to the latest end: for a Timing only its outer limits count."""
    return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None


@lru_cache(maxsize=65_536)
def _day(value: str) -> Span:
    """The span of a year, month or day, in London time. Cached: a county's records name few different days."""
    match = FHIR_DATE.fullmatch(value)
    if match is None:
        raise _refusal()
    year, month, day = (int(part) if part else None for part in match.group(1, 2, 3))
    try:
        first = date(year or 0, month or 1, day or 1)
    except ValueError:
        raise _refusal() from None
    return _midnight(first), _end(first, month is not None, day is not None)


def _end(first: date, has_month: bool, has_day: bool) -> datetime:
    """The midnight that ends the day, month or year that begins at `first`; 9999-12-31 has none and ends time."""
    try:
        if has_day:
            return _midnight(first + timedelta(days=1))
        if has_month and first.month < 12:
            return _midnight(first.replace(month=first.month + 1))
        return _midnight(date(first.year + 1, 1, 1))
    except (ValueError, OverflowError):
        return END


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=LONDON).astimezone(UTC)


def _moment(value: str) -> Span:
    """The span of a time of day: the minute, second or fraction of a second that it names."""
    match = FHIR_DATE.fullmatch(value)
    if match is None or match.group(4) is None:
        raise _refusal()
    second, fraction, zone = match.group(6, 7, 8)
    known = f"{value[:17]}59{value[19:]}" if second == "60" else value  # Python has no leap second
    try:
        local = datetime.fromisoformat(known)
        low = (local if zone else local.replace(tzinfo=LONDON)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refusal() from None
    try:
        return low, low + _width(second, fraction)
    except OverflowError:
        return low, END


def _width(second: str | None, fraction: str | None) -> timedelta:
    if second is None:
        return timedelta(minutes=1)
    return max(SECOND / 10 ** (len(fraction) - 1), timedelta.resolution) if fraction else SECOND


def _refusal() -> FhirError:
    return FhirError(
        Issue("value", "Not a date that exists: write YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz")
    )
