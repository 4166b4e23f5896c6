"""What a line of a package of care commissions in a week: visits and minutes, and how many of them are suspended.

Each visit that it expects has a day, and a time of that day where the line says so. Times are the clock's in London:
one that the clocks leave out in spring is an hour later, one that comes twice in autumn is the first. A visit is
expected while the line runs; while the person is in hospital, or the line is on hold, it is suspended, and nobody's
fault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from fhirgw.visits.line import Line, Span
from fhirgw.visits.week import Week, at, midnight

NOON = time(12)


class Expected(NamedTuple):
    """A visit that a line expects: `start` in UTC, None where the line says the day alone."""

    day: date
    start: datetime | None
    minutes: int
    carers: int
    suspended: bool


class Commissioned(NamedTuple):
    """Of a line in a week: visits, minutes of them, and minutes of all the carers who are to be at them.

    What is suspended is in none of those, and counted apart.
    """

    visits: int = 0
    minutes: int = 0
    carer_minutes: int = 0
    suspended_visits: int = 0
    suspended_minutes: int = 0


def runs(line: Line, week: Week) -> bool:
    """Whether the line runs on some day of the week."""
    return any(_on(line, day) for day in week.days)


def expected(line: Line, week: Week, away: Collection[Span] = ()) -> list[Expected]:
    """The visits of a line in the week, in their order; none of one that commissions hours, or so many a week."""
    return [
        Expected(day, start, line.minutes, line.carers, _suspended(line, start or _noon(day), away))
        for day in week.days
        for start in _starts(line, day)
    ]


def commissioned(line: Line, week: Week, away: Collection[Span] = ()) -> Commissioned:
    """What a line commissions in the week, less what is suspended. `away`: when the person was in hospital."""
    visits = expected(line, week, away)
    if not visits:
        return _block(line, week, away)
    held = sum(each.suspended for each in visits)
    counted = len(visits) - held
    minutes = counted * line.minutes
    return Commissioned(counted, minutes, minutes * line.carers, held, held * line.minutes)


def _starts(line: Line, day: date) -> Iterator[datetime | None]:
    """The moments at which a visit is to begin on a day; None for one that has no time."""
    if day.weekday() not in line.days:
        return
    if line.times:
        for each in line.times:
            start = at(day, each)
            if _in(line, start):
                yield start
    elif line.rate is not None and line.rate == int(line.rate) and _on(line, day):
        yield from [None] * int(line.rate)


def _block(line: Line, week: Week, away: Collection[Span]) -> Commissioned:
    """Of a line without visits that could be named: so many a week, or hours, by the days on which it runs."""
    days = [day for day in week.days if _on(line, day) and day.weekday() in line.days]
    held = [_suspended(line, _noon(day), away) for day in days]
    whole, part = (Decimal(count) for count in (len(days), sum(held)))
    if line.times or not (line.rate or line.hours):
        return Commissioned()
    if line.rate:
        visits, less = _rounded(line.rate * whole), _rounded(line.rate * part)
        minutes, lost = visits * line.minutes, less * line.minutes
    else:
        daily = (line.hours or Decimal(0)) * 60 / len(line.days)
        visits, less, minutes, lost = 0, 0, _rounded(daily * whole), _rounded(daily * part)
    by_carers = line.carers if line.rate else 1  # hours are those that are paid for, however many come
    return Commissioned(visits - less, minutes - lost, (minutes - lost) * by_carers, less, lost)


def _suspended(line: Line, moment: datetime, away: Collection[Span]) -> bool:
    return bool(line.held or away) and any(each.covers(moment) for each in (*line.held, *away))


def _in(line: Line, moment: datetime) -> bool:
    starts, ends = line.bounds
    return (starts is None or starts <= moment) and (ends is None or moment < ends)


def _on(line: Line, day: date) -> bool:
    """Whether the line runs on some part of a day."""
    starts, ends = line.bounds
    low, high = midnight(day), midnight(day + timedelta(days=1))
    return (starts is None or starts < high) and (ends is None or low < ends)


def _noon(day: date) -> datetime:
    return at(day, NOON)


def _rounded(value: Decimal) -> int:
    return int(value.quantize(Decimal(1), ROUND_HALF_UP))
