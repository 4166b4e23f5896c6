"""Days and times of day at the council's offices: everything an office does happens on a working day, in working hours.

Weekends fall back to the Friday before: that keeps every order of days as it was, and never reaches past an ending.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from random import Random

from fhirgw.council.odds import between

DAY = timedelta(days=1)


def workday(day: date) -> date:
    """The day itself, or the Friday before."""
    return day - max(day.weekday() - 4, 0) * DAY


def after(rng: Random, day: date, low: int, high: int) -> date:
    """A working day from `low` to `high` days later."""
    return workday(day + between(rng, low, high) * DAY)


def at_work(rng: Random, day: date) -> datetime:
    """A quarter of an hour between nine and five on that day: never within an hour of a clock change."""
    return datetime.combine(day, time(between(rng, 9, 16), between(rng, 0, 3) * 15))
