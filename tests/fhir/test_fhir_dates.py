"""Dates of every precision as the time they cover."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.fhir.dates import BEGINNING, END, outer, period, span
from fhirgw.fhir.issue import FhirError

LONDON = ZoneInfo("Europe/London")
DAYS = st.dates(date(1900, 1, 1), date(2199, 12, 31))
BOUNDS = (datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2199-12-31"))
MOMENTS = st.datetimes(*BOUNDS, timezones=st.just(UTC))
NO_DATES = (
    *("", "2025-02-30", "2025-13", "0000", "2025-1-1", "20250101", "2025-W01-1", "01/02/2025", "2025-01-01Z"),
    *("2025-01-01T", "2025-01-01T10", "2025-01-01T24:00:00Z", "2025-01-01 10:00:00Z", "2025-01-01T10:00:00+99:00"),
    *(
        "2025-01-01T100000+01:00 ",
        "２０２５-01-01",
        "2025-01-01T10:00:00,5Z",
        "2025-W01-1T10:00:00Z",
        "2025-W01-1T10:00:00+01:00",
    ),
    *("2025-03-30T091500.1+01:00", "2025-03-30 09:15:00+01:00", "2025-03-30T09:15:00Z+01:00"),
)
OFFSETS = st.integers(-14 * 60, 14 * 60)


def local(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=LONDON).astimezone(UTC)  # type: ignore[misc,arg-type]


@given(DAYS)
def test_a_day_a_month_and_a_year_are_all_of_it_in_london(day: date) -> None:
    last = calendar.monthrange(day.year, day.month)[1]
    after = day + timedelta(days=1)
    after_month = date(day.year, day.month, last) + timedelta(days=1)
    assert span(day.isoformat()) == (local(*day.timetuple()[:3]), local(*after.timetuple()[:3]))
    assert span(day.isoformat()[:7]) == (local(day.year, day.month, 1), local(*after_month.timetuple()[:3]))
    assert span(day.isoformat()[:4]) == (local(day.year, 1, 1), local(day.year + 1, 1, 1))


@given(MOMENTS, OFFSETS)
def test_a_moment_is_the_same_whatever_zone_says_it(moment: datetime, minutes: int) -> None:
    moment = moment.replace(microsecond=0)
    shifted = moment + timedelta(minutes=minutes)
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    expected = (moment, moment + timedelta(seconds=1))
    assert span(f"{shifted:%Y-%m-%dT%H:%M:%S}{zone}") == expected
    assert span(f"{moment:%Y-%m-%dT%H:%M:%S}Z") == expected


@given(MOMENTS, st.integers(1, 6))
def test_a_fraction_is_as_wide_as_it_is_written(moment: datetime, digits: int) -> None:
    text = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06}"[: 20 + digits] + "Z"
    low, high = span(text)
    assert low <= moment < high
    assert high - low == timedelta(microseconds=10 ** (6 - digits))


@given(DAYS, st.sampled_from([4, 7, 10]), st.sampled_from([4, 7, 10]))
def test_the_more_that_is_said_the_less_is_covered(day: date, one: int, other: int) -> None:
    wide, narrow = span(day.isoformat()[: min(one, other)]), span(day.isoformat()[: max(one, other)])
    assert wide[0] <= narrow[0] < narrow[1] <= wide[1]


@given(st.text("0123456789-:TZ+. ", max_size=30) | st.text(max_size=12))
def test_any_other_text_is_refused_and_nothing_else(text: str) -> None:
    try:
        low, high = span(text)
    except FhirError as refused:
        assert refused.issues[0].code == "value"
    else:
        assert low < high


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("2025-03-30T09:15", "2025-03-30T08:15:00", "2025-03-30T08:16:00"),
        ("2025-01-30T09:15:20", "2025-01-30T09:15:20", "2025-01-30T09:15:21"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59", "2017-01-01T00:00:00"),
        ("2025-03-30", "2025-03-30T00:00:00", "2025-03-30T23:00:00"),
        ("2025-10-26", "2025-10-25T23:00:00", "2025-10-27T00:00:00"),
    ],
)
def test_the_odd_ones(value: str, low: str, high: str) -> None:
    assert span(value) == (datetime.fromisoformat(low + "+00:00"), datetime.fromisoformat(high + "+00:00"))


@pytest.mark.parametrize("value", ["9999", "9999-12", "9999-12-31", "9999-12-31T23:59:59Z"])
def test_the_last_day_that_systems_write_for_never_ends_with_time(value: str) -> None:
    assert span(value)[1] == END


@pytest.mark.parametrize("value", NO_DATES)
def test_what_is_no_date_is_refused_without_quoting_it(value: str) -> None:
    with pytest.raises(FhirError, match="Not a date that exists") as refused:
        span(value)
    assert not value or value not in str(refused.value)


def test_a_period_is_open_where_it_says_nothing() -> None:
    assert period({"start": "2025-01-01", "end": "2025-01-31"}) == (local(2025, 1, 1), local(2025, 2, 1))
    assert period({"start": "2025-01-01"}) == (local(2025, 1, 1), END)
    assert period({"end": "2025-01-31"}) == (BEGINNING, local(2025, 2, 1))
    assert period({}) is None


def test_the_outer_limits_of_several() -> None:
    assert outer([span("2025-02"), span("2025-01-05"), span("2024-12-31")]) == (local(2024, 12, 31), local(2025, 3, 1))
    assert outer([]) is None
