"""Cells of a spreadsheet, as its owner sees them: dates, times of day, numbers, yes and no."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fhirgw.mapping.refusal import Refusal
from fhirgw.visits.moment import moment

STROKES = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4}|\d\d)", re.ASCII)
ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
CLOCK = re.compile(r"(\d{1,2})[:.]?(\d\d)(?:[:.](\d\d))?", re.ASCII)
INTEGER = re.compile(r"\d{1,9}(?:[.,]0{1,4})?", re.ASCII)
DECIMAL = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?", re.ASCII)
MIDNIGHT = re.compile(r"(.+?)[ T]+(\S+)")
YES, NO = ("y", "yes", "true", "1"), ("n", "no", "false", "0")


def moment_of(date: str, time: str | None, dates: str, short_years: bool) -> str:
    """A date and a time of day, of two cells or of one. Raises Refusal."""
    if time is None:
        found = MIDNIGHT.fullmatch(date)
        if found is None:
            raise Refusal("datetime", "this is a date and a time of day", "Write it as 30/03/2026 07:30")
        date, time = found.groups()
        if time.endswith("Z") or "+" in time:
            return moment(f"{date}T{time}")
    return moment(f"{_date(date, dates, short_years)}T{_clock(time)}")


def _date(cell: str, dates: str, short_years: bool) -> str:
    # Excel writes the time of midnight behind a date that is formatted so.
    cell = cell.removesuffix(" 00:00:00").removesuffix(" 00:00")
    if ISO.fullmatch(cell):
        return cell
    found = STROKES.fullmatch(cell)
    if found is None or dates == "iso":
        shown = "2026-03-30" if dates == "iso" else "30/03/2026"
        raise Refusal("date", f"a date is written {shown}", "Format the column so, and save as CSV again")
    day, month, year = found.groups()
    if len(year) == 2 and not short_years:
        told = "a year has four digits: with two nobody can tell 03/04/25 of 2025 from 2003"
        raise Refusal("date", told, "Format the column as 30/03/2026, and save as CSV again")
    return f"{'20' if len(year) == 2 else ''}{year}-{int(month):02}-{int(day):02}"


def _clock(cell: str) -> str:
    found = CLOCK.fullmatch(cell)
    if found is None:
        raise Refusal("time", "a time of day is written 07:30", "Format the column so, and save as CSV again")
    hour, minute, second = found.groups()
    return f"{int(hour):02}:{minute}:{second or '00'}"


def _integer(cell: str) -> int:
    if not INTEGER.fullmatch(cell):
        raise Refusal("number", "this is a whole number", "Leave out units and blanks")
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
