"""What came of visits, by the tolerances that are shipped."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fhirgw.visits.outcome import came
from fhirgw.visits.rules import rules

RULES = rules(Path(__file__).parents[2] / "mappings")
DAY = "2026-03-30"
AFTER = datetime(2026, 3, 31, tzinfo=UTC)


def at(clock: str) -> str:
    return f"{DAY}T{clock}:00+01:00"


def carer(start: str, end: str | None = None, **more: Any) -> dict[str, Any]:
    return {"carer": f"C{start}", "start": at(start), "method": "nfc-tag"} | ({"end": at(end)} if end else {}) | more


PLANNED = {"start": at("07:30"), "end": at("08:00")}
ON_TIME = carer("07:31", "08:01")
CASES: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "on time": ({"carers": [ON_TIME]}, "delivered", ()),
    "at the tolerance": ({"carers": [carer("07:45", "08:15")]}, "delivered", ()),
    "late": ({"carers": [carer("07:46", "08:16")]}, "delivered-late", ("late-start",)),
    "late with medicines": (
        {"planned": {**PLANNED, "type": "medication"}, "carers": [carer("07:41", "08:11")]},
        "delivered-late",
        ("late-start",),
    ),
    "early": ({"carers": [carer("07:14", "07:44")]}, "delivered-early", ("early-start",)),
    "short": ({"carers": [carer("07:30", "07:52")]}, "delivered-short", ("short-visit",)),
    "long": ({"carers": [carer("07:30", "08:10")]}, "delivered-long", ("overrun",)),
    "short and late": ({"carers": [carer("07:50", "08:05")]}, "delivered-short", ("late-start", "short-visit")),
    "nobody came": ({}, "missed-by-provider", ()),
    "no reply": ({"outcome": {"code": "no-reply"}, "carers": [ON_TIME]}, "no-reply", ()),
    "refused": ({"outcome": {"code": "refused-by-person"}, "carers": [ON_TIME]}, "refused-by-person", ()),
    "cancelled": ({"outcome": {"code": "cancelled-by-person-notice"}}, "cancelled-by-person-notice", ()),
    "in hospital": ({"outcome": {"code": "hospital"}}, "hospital", ()),
    "in part": (
        {"carers": [ON_TIME], "tasks": [{"task": "T1", "outcome": "not-completed", "reason": "No time"}]},
        "partially-delivered",
        ("missed-tasks",),
    ),
    "nobody checked out": ({"carers": [carer("07:31")]}, "delivered", ("no-checkout",)),
    "by two": ({"planned": {**PLANNED, "carers": 2}, "carers": [ON_TIME, carer("07:35", "08:01")]}, "delivered", ()),
    "one of two": (
        {"planned": {**PLANNED, "carers": 2}, "carers": [ON_TIME]},
        "partially-delivered",
        ("single-handed-of-double",),
    ),
    "one after the other": (
        {"planned": {**PLANNED, "carers": 2}, "carers": [carer("07:31", "07:40"), carer("07:40", "08:01")]},
        "partially-delivered",
        ("single-handed-of-double",),
    ),
    "elsewhere": ({"carers": [{**ON_TIME, "distance": 201}]}, "delivered", ("location-mismatch",)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_came_of_it(case: str) -> None:
    said, code, exceptions = CASES[case]
    found = came({"planned": PLANNED, **said}, RULES, AFTER)
    assert (found.code, found.exceptions) == (code, exceptions)


@pytest.mark.parametrize(
    ("clock", "code"), [("07:29", "scheduled"), ("08:30", "scheduled"), ("08:31", "missed-by-provider")]
)
def test_a_visit_is_missed_when_its_time_has_come(clock: str, code: str) -> None:
    assert came({"planned": PLANNED}, RULES, datetime.fromisoformat(at(clock))).code == code


def test_one_who_is_there_is_at_it() -> None:
    said = {"planned": {**PLANNED, "carers": 2}, "carers": [carer("07:31")]}
    assert came(said, RULES, datetime.fromisoformat(at("07:40"))) == ("in-progress", (), None, 1, 3, None)
    alone = came(said, RULES, datetime.fromisoformat(at("07:50")))
    assert (alone.code, alone.exceptions) == ("in-progress", ("single-handed-of-double",))


def test_the_weakest_word_is_how_sure_it_is() -> None:
    for method, strength in (("nfc-tag", 3), ("app-gps", 2), ("manual", 1), ("none", 0)):
        carers = [ON_TIME, {**carer("07:31", "08:01"), "carer": "C2", "method": method}]
        assert came({"planned": PLANNED, "carers": carers}, RULES, AFTER).strength == strength


def test_a_night_across_the_odd_days_is_as_long_as_it_was() -> None:
    for day, following, minutes in (("2026-03-28", "2026-03-29", 540), ("2026-10-24", "2026-10-25", 660)):
        zones = ("+00:00", "+01:00") if minutes == 540 else ("+01:00", "+00:00")
        night = {"carer": "C1", "start": f"{day}T22:00:00{zones[0]}", "end": f"{following}T08:00:00{zones[1]}"}
        assert came({"carers": [night]}, RULES, datetime(2026, 12, 1, tzinfo=UTC)).minutes == minutes
