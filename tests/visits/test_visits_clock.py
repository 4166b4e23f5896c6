"""Local time, as all three ways in take it: the two odd days of any year, midnight, and hours that are none or two.

The oracle is the law's own rule, by hand: from 01:00 UTC on the last Sunday of March to 01:00 UTC on the last Sunday of
October, clocks in the United Kingdom are an hour ahead. https://www.legislation.gov.uk/uksi/2002/262
"""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fhirgw.visits import bundle, sheet
from fhirgw.visits.layout import layouts
from fhirgw.visits.moment import instant
from fhirgw.visits.reading import Fault, Reader, Refused, Sent
from fhirgw.visits.rules import rules
from tests.visits.visiting import MRS_A, NHS

MAPPINGS = Path(__file__).parents[2] / "mappings"
READER = Reader(rules(MAPPINGS))
LAYOUT = layouts(MAPPINGS, READER.shapes)["homecare"]
NOW = datetime(2099, 12, 31, tzinfo=UTC)
YEARS = range(2000, 2099)
WAYS = ("json", "csv", "bundle")
HOUR = timedelta(hours=1)
wall = datetime.fromisoformat
"""What a clock on a wall shows: a moment that says nothing of its offset."""


def last_sunday(year: int, month: int) -> date:
    """Of March or October, which have 31 days."""
    last = date(year, month, 31)
    return last - timedelta(days=last.isoweekday() % 7)


def utc(wall: datetime) -> list[datetime]:
    """Every moment at which a clock on a wall in London shows this: one; in spring none, in autumn two."""
    begins, ends = (datetime.combine(last_sunday(wall.year, month), time(1)) for month in (3, 10))
    return [wall - ahead for ahead in (HOUR, timedelta()) if (begins <= wall - ahead < ends) == bool(ahead)]


def said(way: str, start: str, end: str) -> Any:
    """The planned times of a visit, or its faults, as one way in takes them; both are written 2026-03-30T07:30."""
    if way == "csv":
        cells = [f"{start[8:10]}/{start[5:7]}/{start[:4]}", start[11:], end[11:]]
        text = f"Visit,NHS number,Date,Planned start,Planned end\nV1,{MRS_A},{','.join(cells)}\n"
        ((_, row),) = sheet.read(text.encode(), LAYOUT).rows
    elif way == "bundle":
        whose = {"actor": {"type": "Patient", "identifier": {"system": NHS, "value": MRS_A}}}
        made = {"resourceType": "Appointment", "status": "booked", "identifier": [{"value": "V1"}]}
        made |= {"start": start, "end": end, "participant": [whose]}
        given = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": made}]}
        ((_, row),) = bundle.rows(given, "K01")
    else:
        row = {"visit": "V1", "person": {"nhsNumber": MRS_A}, "planned": {"start": start, "end": end}}
    read = row if isinstance(row, Refused) else READER.read(row, "K01", NOW)
    return read.said.parts["planned"] if isinstance(read, Sent) else read.faults


def moments(planned: Any) -> list[datetime]:
    return [instant(planned[name]).astimezone(UTC).replace(tzinfo=None) for name in ("start", "end")]


WALLS = st.builds(
    lambda year, month, offset, minute: (
        datetime.combine(last_sunday(year, month) + timedelta(days=offset), time()) + timedelta(minutes=minute)
    ),
    *(st.sampled_from(YEARS), st.sampled_from((3, 10)), st.integers(-1, 1), st.integers(0, 1438)),
)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=150)
@example(wall("2026-03-29T00:59")).via("the last minute before the gap")
@example(wall("2026-03-29T01:00")).via("its first")
@example(wall("2026-03-29T01:59")).via("its last")
@example(wall("2026-03-29T02:00")).via("the first after it")
@example(wall("2026-10-25T00:59")).via("the last minute that is once")
@example(wall("2026-10-25T01:00")).via("the first that is twice")
@example(wall("2026-10-25T01:59")).via("the last that is twice")
@example(wall("2026-10-25T02:00")).via("the first that is once again")
@example(wall("2026-10-25T00:00")).via("midnight")
@given(WALLS)
def test_a_time_on_the_wall_is_the_one_moment_it_may_be(way: str, shown: datetime) -> None:
    """Or is refused, in its place, with the remedy: nothing is guessed."""
    day = f"{shown:%Y-%m-%d}"
    found, meant = said(way, f"{shown:%Y-%m-%dT%H:%M}", f"{day}T23:59"), utc(shown)
    if len(meant) == 1:
        assert moments(found) == [*meant, *utc(datetime.combine(shown.date(), time(23, 59)))]
        return
    (fault,) = found
    assert isinstance(fault, Fault)
    assert (fault.reason, "offset" in fault.remedy) == ("local-time", True)
    assert fault.column == ("Date, Planned start" if way == "csv" else "planned.start")
    assert day not in f"{fault.rule}{fault.remedy}", "no value is told again"


@pytest.mark.parametrize("way", ["json", "bundle"])
@settings(max_examples=100)
@given(WALLS, st.sampled_from(("+00:00", "+01:00", "Z")))
def test_with_an_offset_every_time_is_taken(way: str, shown: datetime, zone: str) -> None:
    start = f"{shown:%Y-%m-%dT%H:%M}{zone}"
    moment = shown - HOUR * (zone == "+01:00")
    assert moments(said(way, start, f"{moment + HOUR:%Y-%m-%dT%H:%M}Z")) == [moment, moment + HOUR]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("year", range(2023, 2031))
@pytest.mark.parametrize(("month", "hours"), [(3, 2), (10, 4)])
def test_a_night_on_which_the_clocks_change_is_as_long_as_it_was(way: str, year: int, month: int, hours: int) -> None:
    """From half past eleven on Saturday to half past two on Sunday: three hours by the clock."""
    sunday = last_sunday(year, month)
    evening = f"{sunday - timedelta(days=1)}T23:30"
    start, end = moments(said(way, evening, f"{sunday}T02:30"))
    assert end - start == hours * HOUR
    assert [each.reason for each in said(way, evening, f"{sunday}T01:30")] == ["local-time"]


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=50)
@given(st.dates(date(2000, 1, 1), date(2098, 12, 31)), st.integers(1, 960))
def test_a_visit_across_midnight_ends_the_next_day(way: str, day: date, minute: int) -> None:
    """From a minute before midnight, 16 hours at most: a spreadsheet has one date, and the end is on the next day."""
    end = datetime.combine(day + timedelta(days=1), time()) + timedelta(minutes=minute - 1)
    if len(utc(end)) == 1:
        found = moments(said(way, f"{day}T23:59", f"{end:%Y-%m-%dT%H:%M}"))
        assert found == [*utc(datetime.combine(day, time(23, 59))), *utc(end)]


def test_living_in_is_a_day_by_the_clock_also_when_it_has_25_hours() -> None:
    autumn, spring = last_sunday(2026, 10), last_sunday(2026, 3)
    for day, hours in ((autumn, 25), (spring, 23), (date(2026, 6, 1), 24)):
        start, end = moments(said("json", f"{day}T00:00", f"{day + timedelta(days=1)}T00:00"))
        assert end - start == hours * HOUR
        (fault,) = said("json", f"{day}T00:00", f"{day + timedelta(days=1)}T01:01")
        assert fault.reason == "length"


def test_the_oracle_is_sound() -> None:
    assert (last_sunday(2026, 3), last_sunday(2026, 10)) == (date(2026, 3, 29), date(2026, 10, 25))
    assert [len(utc(wall(f"2026-{day}T01:30"))) for day in ("03-29", "10-25", "03-30")] == [0, 2, 1]
