"""Joining what was said of a visit: a join-semilattice, judged against a plain reading of the rule."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fhirgw.visits.merge import NOTHING, Known, Said, Stamp, fold, join, parts

NOON = datetime(2026, 3, 30, 12, tzinfo=UTC)
KEYS = st.sampled_from(["C1", "C2"])
CARERS = st.lists(KEYS, unique=True).map(lambda keys: [{"carer": each} for each in keys])
STAMPS = st.builds(
    lambda version, minute, digest: Stamp(version, NOON + timedelta(minutes=minute), bytes([digest])),
    *(st.integers(0, 2), st.integers(0, 2), st.integers(0, 255)),
)
PARTS = st.fixed_dictionaries(
    {},
    optional={"planned": st.none() | st.integers(0, 3).map(lambda n: {"carers": n}), "carers": st.none() | CARERS},
) | st.builds(lambda key, at: {"carer": {"carer": key, "start": at}}, KEYS, st.integers(0, 3))
EVENTS = st.lists(st.builds(Said, STAMPS, PARTS), unique_by=lambda said: said.stamp, max_size=8)


def plainly(events: list[Said]) -> dict[str, Any]:
    """The oracle: said one after the other by their stamps, each in the place of what it is about."""
    told: dict[str, Any] = {}
    for each in sorted(events, key=lambda said: said.stamp):
        for name, value in each.parts.items():
            if name != "carer":
                told[name] = value
                continue
            others = {one["carer"]: one for one in told.get("carers") or ()}
            told["carers"] = list({**others, value["carer"]: value}.values())
    return {name: value for name, value in told.items() if value is not None}


def alike(found: dict[str, Any]) -> dict[str, Any]:
    """Without the order of carers, which says nothing."""
    return {name: sorted(map(repr, value)) if name == "carers" else value for name, value in found.items()}


@given(EVENTS)
def test_what_is_known_is_what_was_said_last(events: list[Said]) -> None:
    assert alike(parts(fold(events))) == alike(plainly(events))


@given(EVENTS, st.randoms(use_true_random=False))
def test_the_order_says_nothing(events: list[Said], random: Any) -> None:
    shuffled = [*events, *events[:3]]
    random.shuffle(shuffled)
    assert fold(shuffled) == fold(events)


@given(EVENTS, EVENTS)
def test_joining_again_changes_nothing(first: list[Said], second: list[Said]) -> None:
    known: Known = fold([*first, *second])
    for each in first:
        assert join(known, each) is known


def test_nothing_is_known_of_nothing() -> None:
    assert parts(NOTHING) == {}
    withdrawn = Said(Stamp(1, NOON, b""), {"outcome": None})
    assert parts(fold([Said(Stamp(0, NOON, b""), {"outcome": {"code": "hospital"}}), withdrawn])) == {}
