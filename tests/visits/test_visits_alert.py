"""What is wrong with a visit, minute by minute: each kind, its control, and when it is known by itself."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.visits.alert import Span, due, spans, upcoming
from fhirgw.visits.rules import Rules, rules

RULES = rules(Path(__file__).parents[2] / "mappings")
START = datetime(2026, 3, 30, 7, 30, tzinfo=UTC)
END = START + timedelta(minutes=30)


def at(minute: float) -> str:
    return (START + timedelta(minutes=minute)).isoformat()


def planned(**more: Any) -> dict[str, Any]:
    return {"planned": {"start": at(0), "end": at(30), **more}}


def stay(carer: str, start: float, end: float | None = None) -> dict[str, Any]:
    return {"carer": carer, "start": at(start), **({"end": at(end)} if end is not None else {})}


def made(**parts: Any) -> dict[str, tuple[float, float | None]]:
    """By kind, from which to which minute after the planned start it is wrong."""

    def minute(moment: datetime | None) -> float | None:
        return None if moment is None else (moment - START) / timedelta(minutes=1)

    return {kind: (minute(each.since), minute(each.until)) for kind, each in spans(parts, RULES).items()}  # type: ignore[misc]


MADE = {"carers": [stay("C1", 1, 30)]}
TWO = {"carers": 2}
CASES: dict[str, tuple[dict[str, Any], dict[str, tuple[float, float | None]]]] = {
    "not started": (planned(), {"visit-not-started": (15, None)}),
    "made": (planned() | MADE, {}),
    "begun late": (planned() | {"carers": [stay("C1", 20, 50)]}, {"visit-not-started": (15, 20)}),
    "begun within the tolerance": (planned() | {"carers": [stay("C1", 15, 40)]}, {}),
    "cancelled": (planned() | {"outcome": {"code": "hospital"}}, {}),
    "declared missed": (planned() | {"outcome": {"code": "missed-by-provider"}}, {"visit-not-started": (0, None)}),
    "entered in error": (planned() | {"outcome": {"code": "entered-in-error"}}, {}),
    "a medicine": (
        planned(type="medication"),
        {"visit-not-started": (10, None), "medication-missed": (30, None)},
    ),
    "a medicine that can wait": (planned(type="medication", timeCritical=False), {"visit-not-started": (10, None)}),
    "time-critical, of another type": (
        planned(timeCritical=True),
        {"visit-not-started": (15, None), "medication-missed": (30, None)},
    ),
    "a medicine, late": (
        planned(type="medication") | {"carers": [stay("C1", 25, 50)]},
        {"visit-not-started": (10, 25)},
    ),
    "a medicine, given": (planned(type="medication") | MADE, {}),
    "alone": (
        planned(**TWO) | {"carers": [stay("C1", 0)]},
        {"done-alone": (15, None), "nobody-checked-out": (90, None)},
    ),
    "alone, and gone": (planned(**TWO) | {"carers": [stay("C1", 0, 10)]}, {"done-alone": (10, None)}),
    "one after the other": (
        planned(**TWO) | {"carers": [stay("C1", 0, 10), stay("C2", 12, 20)]},
        {"done-alone": (10, None)},
    ),
    "the second late": (
        planned(**TWO) | {"carers": [stay("C1", 0, 40), stay("C2", 20, 40)]},
        {"done-alone": (15, 20)},
    ),
    "together": (planned(**TWO) | {"carers": [stay("C2", 5, 30), stay("C1", 0, 30)]}, {}),
    "for two, and nobody let in": (
        planned(**TWO) | {"carers": [stay("C1", 0, 5)], "outcome": {"code": "no-reply"}},
        {},
    ),
    "one is enough": (planned() | {"carers": [stay("C1", 0, 30)]}, {}),
    "not checked out": (planned() | {"carers": [stay("C1", 0)]}, {"nobody-checked-out": (90, None)}),
    "came late, stays as long": (
        planned() | {"carers": [stay("C1", 60)]},
        {"visit-not-started": (15, 60), "nobody-checked-out": (150, None)},
    ),
    "checked out in the end": (planned() | {"carers": [stay("C1", 0, 95)]}, {"nobody-checked-out": (90, 95)}),
    "declared delivered": (planned() | {"carers": [stay("C1", 0)], "outcome": {"code": "delivered"}}, {}),
    "not planned": ({"carers": [stay("C1", 0)]}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_is_wrong_from_when_to_when(case: str) -> None:
    parts, expected = CASES[case]
    assert made(**parts) == expected


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_wrong_before_it_is_due(case: str) -> None:
    parts, expected = CASES[case]
    moment = due(parts, START - timedelta(days=1))
    lasting = [since for since, until in expected.values() if until is None]
    if lasting:
        assert moment is not None and moment <= START + timedelta(minutes=min(lasting))


def test_what_was_made_as_it_was_to_needs_no_look() -> None:
    for case in ("made", "together", "cancelled", "declared delivered", "for two, and nobody let in"):
        assert due(CASES[case][0], END) is None, case


def test_what_is_told_a_day_later_is_for_the_ledger() -> None:
    assert due(planned(), END + timedelta(hours=24)) == START
    assert due(planned(), END + timedelta(hours=24, minutes=1)) is None


def test_tolerances_are_data() -> None:
    changed = RULES.model_copy(
        update={"tolerances": {"default": RULES.tolerance(None).model_copy(update={"late": 40})}}
    )
    assert spans(planned(), changed)["visit-not-started"] == Span(START + timedelta(minutes=40))


def test_a_ladder_that_does_not_climb_is_none() -> None:
    told = RULES.model_dump(by_alias=True)
    Rules.model_validate(told)
    told["ladder"] = list(reversed(told["ladder"]))
    with pytest.raises(ValueError, match="first rung is at 0 minutes"):
        Rules.model_validate(told)


MOMENTS = st.integers(-30, 150)


@given(
    carers=st.lists(st.tuples(MOMENTS, st.none() | st.integers(0, 90)), max_size=3),
    two=st.booleans(),
    kind=st.sampled_from(["personal", "medication"]),
    code=st.sampled_from([None, "delivered", "hospital", "missed-by-provider"]),
)
def test_looked_at_only_when_something_is_due_is_looked_at_every_minute(
    carers: list[tuple[int, int | None]], two: bool, kind: str, code: str | None
) -> None:
    """From `due` on, from one upcoming moment to the next: the same as asking at each minute, by itself."""
    stays = [
        stay(f"C{n}", start, start + length if length is not None else None) for n, (start, length) in enumerate(carers)
    ]
    parts = planned(carers=2 if two else 1, type=kind) | {"carers": stays}
    parts |= {"outcome": {"code": code}} if code else {}
    found = spans(parts, RULES)
    first = moment = due(parts, START - timedelta(hours=1))
    looks = set()
    while moment is not None:
        looks.add(moment)
        moment = upcoming(found, moment)
    if first is None:
        assert all(span.until is not None for span in found.values())
        return
    known: set[str] = set()
    for minute in range(-60, 400):
        now = START + timedelta(minutes=minute)
        holding = {each for each, span in found.items() if span.holds(now)}
        known = holding if now in looks else known
        assert known == holding
