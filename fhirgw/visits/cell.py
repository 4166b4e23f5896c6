"""Cells of a spreadsheet, as its owner sees them: dates, times of day, numbers, yes and no."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date as day_of
from decimal import Decimal
from typing import Any

from fhirgw.mapping.refusal import Refusal
from fhirgw.visits.moment import moment

STROKES = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4}|\d\d)", re.ASCII)
ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
WORDED = re.compile(r"(\d{1,2})[ -]([a-z]{3})[a-z]*[ -](\d{4}|\d\d)", re.ASCII | re.IGNORECASE)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
CLOCK = re.compile(r"([01]?\d|2[0-3])[:.]?([0-5]\d)(?:[:.]([0-5]\d))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
TWELVE = re.compile(r"(0?[1-9]|1[0-2])(?:[:.]([0-5]\d))?(?:[:.]([0-5]\d))? ?([ap])\.?m\.?", re.ASCII | re.IGNORECASE)
INTEGER = re.compile(r"\d{1,9}(?:[.,]0{1,4})?", re.ASCII)
DECIMAL = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?", re.ASCII)
BOTH = re.compile(r"(.+?)[ T]+(\d\S*(?: ?[ap]\.?m\.?)?)", re.IGNORECASE)
"""A date and a time of day."""
YES, NO = ("y", "yes", "true", "1"), ("n", "no", "false", "0")


def moment_of(date: str, time: str | None, dates: str, short_years: bool) -> str:
    """A date and a time of day, of two cells or of one. Raises Refusal."""
    if time is None:
        found = BOTH.fullmatch(date)
        if found is None:
            raise Refusal("datetime", "this is a date and a time of day", "Write it as 30/03/2026 07:30")
        date, time = found.groups()
        if time.endswith("Z") or "+" in time:
            return moment(f"{date}T{time}")
    try:
        return moment(f"{_date(date, dates, short_years)}T{_clock(time)}")
    except Refusal as refusal:
        if refusal.reason != "local-time":
            raise
        told = "Correct the time, or write it with its offset, which is +01:00 in summer time: 01:30+01:00"
        raise Refusal(refusal.reason, refusal.rule, told) from None


def _date(cell: str, dates: str, short_years: bool) -> str:
    # Excel writes the time of midnight behind a date that is formatted so.
    cell = cell.removesuffix(" 00:00:00").removesuffix(" 00:00")
    if iso := ISO.fullmatch(cell):
        return _day(*iso.groups())
    found = STROKES.fullmatch(cell) or WORDED.fullmatch(cell)
    if found is None or dates == "iso":
        shown = "2026-03-30" if dates == "iso" else "30/03/2026"
        raise Refusal("date", f"a date is written {shown}", "Format the column so, and save as CSV again")
    day, month, year = found.groups()
    if len(year) == 2 and not short_years:
        told = "a year has four digits: with two nobody can tell 03/04/25 of 2025 from 2003"
        raise Refusal("date", told, "Format the column as 30/03/2026, and save as CSV again")
    return _day(f"{'20' if len(year) == 2 else ''}{year}", _month(month), day)


def _month(text: str) -> str:
    """A month's number, also of its name."""
    name = text[:3].casefold()
    return str(MONTHS.index(name) + 1) if name in MONTHS else text


def _day(year: str, month: str, day: str) -> str:
    try:
        return day_of(int(year), int(month), int(day)).isoformat()
    except ValueError:
        remedy = "Correct it; where days and months are written with strokes, the day comes first"
        raise Refusal("date", "the calendar has no such day", remedy) from None


def _clock(cell: str) -> str:
    if twelve := TWELVE.fullmatch(cell):
        hour, minute, second, half = twelve.groups()
        return f"{int(hour) % 12 + 12 * (half in 'pP'):02}:{minute or '00'}:{second or '00'}"
    found = CLOCK.fullmatch(cell)
    if found is None:
        told = "a time of day is written 07:30, from 00:00 to 23:59, or 7:30 pm"
        raise Refusal("time", told, "Format the column so, and save as CSV again")
    hour, minute, second, offset = found.groups()
    return f"{int(hour):02}:{minute}:{second or '00'}{offset or ''}"


def _integer(cell: str) -> int:
    if not INTEGER.fullmatch(cell):
        raise Refusal("number", "this is a whole number, 0 or more", "Write it in digits alone, without a unit")
    return int(re.split("[.,]", cell)[0])


def _decimal(cell: str) -> Decimal:
    if not DECIMAL.fullmatch(cell):
        raise Refusal("number", "this is a number, as 36.5", "Leave out units and blanks")
    return Decimal(cell)


def _boolean(cell: str) -> bool:
    if cell.casefold() not in (*YES, *NO):
        raise Refusal("boolean", "this is Y or N", "Correct it")
    return cell.casefold() in YES


CELLS: dict[str, Callable[[str], Any]] = {
    "text": lambda cell: cell,
    "integer": _integer,
    "decimal": _decimal,
    "boolean": _boolean,
}
"""By kind of field, what becomes of a cell; each raises Refusal."""
