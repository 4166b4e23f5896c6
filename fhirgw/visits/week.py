"""Weeks as councils count them: from Monday to Sunday, by the clock in London."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.issue import FhirError, Issue

WEEK = re.compile(r"(20\d\d)-W(\d\d)", re.ASCII)
DAY = re.compile(r"20\d\d-\d\d-\d\d", re.ASCII)


class Week(NamedTuple):
    """`name` is ISO 8601's, as 2026-W13; `since` its first moment, `until` the first of the next."""

    name: str
    since: datetime
    until: datetime


def week(text: str | None, now: datetime) -> Week:
    """The week of that name, or of a day in it; without either the last that is over. Raises FhirError(invalid)."""
    try:
        day = _day(text) if text else now.astimezone(LONDON).date() - timedelta(days=7)
    except ValueError:
        told = "A week is written 2026-W13, or as a day in it, 2026-03-30"
        raise FhirError(Issue("invalid", told, "week")) from None
    monday = day - timedelta(days=day.weekday())
    year, number, _ = monday.isocalendar()
    begins = (datetime.combine(monday + timedelta(days=days), time(), LONDON) for days in (0, 7))
    return Week(f"{year}-W{number:02}", *begins)


def _day(text: str) -> date:
    if found := WEEK.fullmatch(text):
        return date.fromisocalendar(int(found[1]), int(found[2]), 1)
    if not DAY.fullmatch(text):
        raise ValueError
    return date.fromisoformat(text)
