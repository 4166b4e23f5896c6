"""Rate limits: so many a minute, in a burst or not, and none lost for waiting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.api import limits
from fhirgw.api.limits import Limits, Quota


class Clock:
    """Time as a test tells it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_may_come_at_once() -> None:
    clock = Clock()
    made = Limits(clock)
    taken = [made.take("app", 4) for _ in range(5)]
    assert [each.remaining for each in taken] == [3, 2, 1, 0, 0]
    assert [each.wait for each in taken] == [0, 0, 0, 0, 15]
    clock.now += 14.9
    assert made.take("app", 4).wait == pytest.approx(0.1)
    clock.now += 0.1
    assert made.take("app", 4) == Quota(4, 0, 60, 0)
    clock.now += 60
    assert made.take("app", 4).remaining == 3


def test_processes_share_the_rate() -> None:
    clock = Clock()
    both = [Limits(clock, processes=2) for _ in range(2)]
    assert [sum(not each.take("a", 7).wait for _ in range(10)) for each in both] == [3, 3]
    assert both[0].take("b", 6).headers()["ratelimit-policy"] == '"registration";q=3;w=60'
    assert not Limits(clock, processes=50).take("a", 1).wait  # nobody is shut out


def test_each_registration_has_its_own() -> None:
    made = Limits(Clock())
    assert [made.take(each, 1).wait for each in ("a", "b", "a", "b")] == [0, 0, 60, 60]


def test_what_the_caller_is_told() -> None:
    assert Quota(400, 399, 0.15, 0).headers() == {
        "ratelimit-policy": '"registration";q=400;w=60',
        "ratelimit": '"registration";r=399;t=1',
    }
    assert Quota(2, 0, 60, 29.2).headers() == {
        "ratelimit-policy": '"registration";q=2;w=60',
        "ratelimit": '"registration";r=0;t=60',
        "retry-after": "30",
    }


@given(st.integers(1, 50), st.lists(st.floats(0, 30), max_size=200))
def test_no_window_holds_more_than_two_minutes_worth(rate: int, pauses: list[float]) -> None:
    """A burst, and what is earned while it lasts."""
    clock = Clock()
    made = Limits(clock)
    let: list[float] = []
    for pause in pauses:
        clock.now += pause
        taken = made.take("app", rate)
        if not taken.wait:
            let.append(clock.now)
        assert 0 <= taken.remaining <= rate
    for at in let:
        assert sum(at <= each < at + 60 for each in let) <= 2 * rate


@given(st.integers(1, 500))
def test_who_waits_as_told_is_let_in(rate: int) -> None:
    clock = Clock()
    made = Limits(clock)
    for _ in range(rate):
        assert not made.take("app", rate).wait
    for _ in range(3):
        wait = made.take("app", rate).wait
        assert wait > 0
        clock.now += wait
        assert not made.take("app", rate).wait


def test_those_who_asked_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 3)
    clock = Clock()
    made = Limits(clock)
    for name in "abc":
        made.take(name, 1)
    clock.now += 61
    made.take("d", 1)
    assert set(made._whole) == {"d"}
    for name in "efgh":
        made.take(name, 1)
    assert len(made._whole) == 3
    assert made.take("h", 1).wait == 60
