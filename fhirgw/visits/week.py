"""A week of homecare: Monday to Sunday by the clock in London, as ISO 8601 numbers weeks (`2026-W40`).

Its bounds are midnights there, so that the week in which the clocks go forward has 167 hours and the other one 169. A
visit belongs to the day it was planned to begin, whenever it ends.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple

from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.issue import FhirError, Issue

WRITTEN = re.compile(r"(20\d\d)-W(\d\d)", re.ASCII)
DAY = re.compile(r"20\d\d-\d\d-\d\d", re.ASCII)
DAYS = 7
MIDNIGHT = time()


class Week(NamedTuple):
    """`monday`: its first day."""

    monday: date

    @classmethod
    def parse(cls, text: str) -> Week:
        """The week of a text such as `2026-W40`, or of a day in it. Raises FhirError(invalid) for what is none."""
        found = WRITTEN.fullmatch(text)
        try:
            if found:
                return cls(date.fromisocalendar(int(found[1]), int(found[2]), 1))
            if not DAY.fullmatch(text):
                raise ValueError
            return cls._with(date.fromisoformat(text))
        except ValueError:
            told = "week is a year and the number of a week in it, as ISO 8601 has it: 2026-W40; or a day: 2026-09-28"
            raise FhirError(Issue("invalid", told, "week")) from None

    @classmethod
    def over(cls, now: datetime) -> Week:
        """The last week that is over."""
        return cls._with(now.astimezone(LONDON).date() - timedelta(days=DAYS))

    @classmethod
    def of(cls, moment: datetime) -> Week:
        """The week that a moment is in."""
        return cls._with(moment.astimezone(LONDON).date())

    @classmethod
    def _with(cls, day: date) -> Week:
        return cls(day - timedelta(days=day.weekday()))

    @property
    def starts(self) -> datetime:
        """The midnight it begins at, in UTC."""
        return midnight(self.monday)

    @property
    def ends(self) -> datetime:
        """The midnight it ends at, in UTC."""
        return midnight(self.monday + timedelta(days=DAYS))

    @property
    def days(self) -> tuple[date, ...]:
        """Monday to Sunday."""
        return tuple(self.monday + timedelta(days=each) for each in range(DAYS))

    def __str__(self) -> str:
        year, number, _ = self.monday.isocalendar()
        return f"{year}-W{number:02}"


def midnight(day: date) -> datetime:
    """The moment at which a day begins in London, in UTC."""
    return at(day, MIDNIGHT)


@lru_cache(maxsize=4096)
def at(day: date, clock: time) -> datetime:
    """A time of day by the clock in London, in UTC. Cached: a county's lines name few different ones."""
    return datetime.combine(day, clock, LONDON).astimezone(UTC)
