"""R4's prefixes: how what is kept compares with what is asked for. https://hl7.org/fhir/R4/search.html#prefix"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, and_, not_, or_
from sqlalchemy.dialects.postgresql import TIMESTAMP

from fhirgw.fhir.dates import BEGINNING, END, Span

Condition: TypeAlias = "ColumnElement[bool]"
Value: TypeAlias = "ColumnElement[Any]"
INSTANT = TIMESTAMP(timezone=True)
TENTH = Decimal("0.1")


def about(span: Span, today: date) -> Span:
    """A tenth of the time between it and today to both sides, as R4 recommends: the longer ago, the less exact."""
    low, high = span
    width = abs(datetime.combine(today, time(), UTC) - low) / 10
    return _not_before(low, width), _not_after(high, width)


def nearly(value: Decimal) -> tuple[Decimal, Decimal]:
    """A tenth of the number to both sides, as R4 recommends."""
    tenth = abs(value) * TENTH
    return value - tenth, value + tenth


def _not_before(instant: datetime, width: timedelta) -> datetime:
    return instant - width if instant - BEGINNING > width else BEGINNING


def _not_after(instant: datetime, width: timedelta) -> datetime:
    return instant + width if END - instant > width else END


class Range:
    """Two columns: from `low` to just before `high`."""

    def __init__(self, low: Value, high: Value) -> None:
        self.low, self.high = low, high

    def begins_before(self, instant: Value) -> Condition:
        return self.low < instant

    def begins_from(self, instant: Value) -> Condition:
        return self.low >= instant

    def ends_after(self, instant: Value) -> Condition:
        return self.high > instant

    def ends_by(self, instant: Value) -> Condition:
        return self.high <= instant


class Point(Range):
    """A column that is one instant, and so ends just after itself."""

    def __init__(self, column: Value) -> None:
        super().__init__(column, column)

    def ends_after(self, instant: Value) -> Condition:
        return self.low >= instant

    def ends_by(self, instant: Value) -> Condition:
        return self.low < instant


def _within(kept: Range, low: Value, high: Value) -> Condition:
    # That it begins before `high` follows; saying so bounds the index scan on both sides.
    return and_(kept.begins_from(low), kept.begins_before(high), kept.ends_by(high))


COMPARE: dict[str, Callable[[Range, Value, Value], Condition]] = {
    "eq": _within,
    "ne": lambda kept, low, high: or_(kept.begins_before(low), kept.ends_after(high)),
    "gt": lambda kept, low, high: kept.ends_after(high),
    "lt": lambda kept, low, high: kept.begins_before(low),
    "ge": lambda kept, low, high: or_(kept.ends_after(high), _within(kept, low, high)),
    "le": lambda kept, low, high: or_(kept.begins_before(low), _within(kept, low, high)),
    "sa": lambda kept, low, high: kept.begins_from(high),
    "eb": lambda kept, low, high: kept.ends_by(low),
    "ap": lambda kept, low, high: and_(kept.begins_before(high), kept.ends_after(low)),
}
"""Of dates: what is kept against the span asked for, [low, high)."""

NUMBERS: dict[str, Callable[[Value, Value, Value, Value, Value], Condition]] = {
    "eq": lambda low, high, value, least, most: and_(low >= least, low < most, high < most),
    "ne": lambda low, high, value, least, most: not_(and_(low >= least, high < most)),
    "gt": lambda low, high, value, least, most: high > value,
    "lt": lambda low, high, value, least, most: low < value,
    "ge": lambda low, high, value, least, most: high >= value,
    "le": lambda low, high, value, least, most: low <= value,
    "sa": lambda low, high, value, least, most: low > value,
    "eb": lambda low, high, value, least, most: high < value,
    "ap": lambda low, high, value, least, most: and_(low <= most, high >= least),
}
"""Of numbers: what is kept, [low, high], against the value asked for as written, and what it may mean, [least, most).
But for eq, ne and ap the number asked for is taken as exact."""
