"""Whatever is sent is read or refused: nothing that anybody can send raises anything else."""

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError
from fhirgw.mapping.refusal import Refusal
from fhirgw.visits import bundle, sheet
from fhirgw.visits.batch import UNHEARD, Taken, at_once, taken, told_apart
from fhirgw.visits.field import shapes
from fhirgw.visits.layout import layouts
from fhirgw.visits.merge import parts
from fhirgw.visits.outcome import came
from fhirgw.visits.quick import RECURRING, Quick
from fhirgw.visits.reading import OWN, Reader, Refused, Sent
from fhirgw.visits.rules import rules
from tests.visits.test_visits_ways import BUNDLE, CELLS
from tests.visits.visiting import visit

MAPPINGS = Path(__file__).parents[2] / "mappings"
RULES = rules(MAPPINGS)
READER = Reader(RULES)
LAYOUTS = layouts(MAPPINGS, READER.shapes)
NOW = datetime(2026, 4, 1, tzinfo=UTC)
HOME = {"latitude": 51, "longitude": 0}
NAMES = st.sampled_from([*OWN, *shapes(RULES), *(name for each in shapes(RULES).values() for name in each.fields)])
TEXTS = st.text(max_size=8) | st.sampled_from(
    ["C1", "2026-03-30T07:30", "2000-01-01T00:00Z", "2099-12-31T23:59:59.999999+14:00", "9990000018", "no-reply"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | TEXTS
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=4), max_leaves=12
)


@st.composite
def mutated(draw: st.DrawFn, whole: Any) -> Any:
    """The value with something else in one place of it."""
    found = copy.deepcopy(whole)
    at = found
    while True:
        places = list(at) if isinstance(at, dict) else list(range(len(at)))
        place = draw(st.sampled_from(places))
        if isinstance(at[place], dict | list) and at[place] and draw(st.booleans()):
            at = at[place]
            continue
        at[place] = draw(ANYTHING)
        return found


@given(st.lists(ANYTHING | mutated(visit()), max_size=4))
def test_a_row_is_read_or_refused(rows: list[Any]) -> None:
    read = told_apart([READER.read(each, "K01", NOW) for each in rows])
    at_once(read)
    for each in read:
        if isinstance(each, Refused):
            assert each.faults
        else:
            made = taken(UNHEARD, [each], NOW)
            assert came(parts(made.known), RULES, NOW).code
            joined = Taken(made.known, made.added, made.statuses)
            assert (encode(made.facts), encode(made.values)) == (encode(joined.facts), encode(joined.values))
            assert (made.newest, made.older) == (joined.newest, joined.older)


@given(ANYTHING | mutated(visit()) | mutated(visit(home=HOME)))
def test_what_is_read_quickly_is_read_alike(row: Any) -> None:
    """Both ways read a row alike, or the quick one leaves it: never is a row that is wrong taken, or otherwise."""
    slowly = READER.slowly(row, "K01", NOW)
    assert READER.read(row, "K01", NOW) == slowly
    if isinstance(slowly, Sent):
        assert list(slowly.said.parts) == [each for each in READER.shapes if each in slowly.said.parts]


@pytest.mark.parametrize("name", RECURRING)
def test_parts_that_are_read_once_are_of_texts_alone(name: str) -> None:
    """What is remembered of such a part is given to one that is equal, and 1 equals true."""
    for codec, _ in READER.shapes[name].fields.values():
        for value in (1, True, 1.0):
            with pytest.raises(Refusal):
                codec(value)


def test_the_usual_is_read_quickly() -> None:
    quick = Quick(READER.shapes, RULES)
    assert quick.read(visit(), "K01", NOW) is not None
    swapped = dict(reversed(visit().items())) | {"planned": dict(reversed(visit()["planned"].items()))}
    assert READER.read(swapped, "K01", NOW) == READER.read(visit(), "K01", NOW)


@given(mutated(BUNDLE))
def test_a_bundle_is_read_or_refused(sent: Any) -> None:
    try:
        found = bundle.rows(sent, "K01")
    except FhirError:
        return
    for _, row in found:
        assert isinstance(row, Refused) or isinstance(READER.read(row, "K01", NOW), Sent | Refused)


HEADER = ",".join(CELLS).encode()


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: HEADER + b"\n" + text.encode("utf-8", "replace")))
def test_a_spreadsheet_is_read_or_refused(body: bytes) -> None:
    try:
        found = sheet.read(body, LAYOUTS["homecare"])
    except FhirError:
        return
    for _, row in found.rows:
        assert isinstance(row, Refused) or isinstance(READER.read(row, "K01", NOW), Sent | Refused)


@given(st.dictionaries(st.sampled_from(sorted(CELLS)), st.text(max_size=12) | st.sampled_from(["30/03/26", "7:30"])))
def test_cells_are_read_or_refused(changes: dict[str, str]) -> None:
    cells = {**CELLS, **changes}
    quoted = ",".join('"{}"'.format(each.replace('"', '""')) for each in cells.values())
    body = HEADER + b"\n" + quoted.encode("utf-8", "replace") + b"\n"
    try:
        found = sheet.read(body, LAYOUTS["homecare"])
    except FhirError:
        return
    for _, row in found.rows:
        assert isinstance(row, Refused) or isinstance(READER.read(row, "K01", NOW), Sent | Refused)
