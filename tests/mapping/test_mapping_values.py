"""What codecs take and refuse, and that a refusal never says the value."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.mapping.codec import CODECS, Options
from fhirgw.mapping.localtime import local_codec
from fhirgw.mapping.refusal import Fault, Refusal, RefusedRow, value_class

LONDON = ZoneInfo("Europe/London")


@pytest.mark.parametrize(
    ("codec", "options", "cell", "value"),
    [
        ("date", Options(format="%d/%m/%Y"), "31/03/2026", "2026-03-31"),
        ("date", Options(), "2024-02-29", "2024-02-29"),
        ("local_datetime", Options(), "2025-07-01 10:00:00", "2025-07-01T10:00:00+01:00"),
        ("local_datetime", Options(format="%d/%m/%Y %H:%M"), "01/12/2025 09:05", "2025-12-01T09:05:00+00:00"),
        ("local_datetime", Options(), "2025-03-30 00:59:59", "2025-03-30T00:59:59+00:00"),
        ("local_datetime", Options(), "2025-03-30 02:00:00", "2025-03-30T02:00:00+01:00"),
        ("integer", Options(), "12", 12),
        ("boolean", Options(values={"Y": True, "N": False}), "N", False),
        ("time", Options(format="%H:%M"), "07:30", "07:30:00"),
        ("words", Options(), "Anna Maria", ["Anna", "Maria"]),
        ("list", Options(values={"MON": "mon", "TUE": "tue"}), "TUE,MON", ["tue", "mon"]),
        ("list", Options(item="time", format="%H:%M"), "07:30,19:00", ["07:30:00", "19:00:00"]),
        ("nhs_number", Options(), "9990000018", "9990000018"),
        ("postcode", Options(), "CM1 1QH", "CM1 1QH"),
    ],
)
def test_a_cell_and_its_value(codec: str, options: Options, cell: str, value: object) -> None:
    made = CODECS[codec](options)
    assert made.encode(cell) == value
    assert made.decode(value) == cell


@pytest.mark.parametrize(
    ("codec", "options", "cell"),
    [
        ("date", Options(), "2025-02-29"),
        ("date", Options(), "29/02/2024"),
        ("date", Options(format="%d/%m/%Y"), "1/3/2026"),
        ("date", Options(), "٢٠٢٤-٠١-٠١"),
        ("local_datetime", Options(), "2025-03-30 01:30:00"),
        ("local_datetime", Options(), "2025-10-26 01:30:00"),
        ("local_datetime", Options(), "2025-07-01 24:00:00"),
        ("integer", Options(), "012"),
        ("decimal", Options(), "1,5"),
        ("decimal", Options(), "1e3"),
        ("boolean", Options(values={"Y": True, "N": False}), "y"),
        ("time", Options(format="%H:%M"), "25:00"),
        ("list", Options(values={"MON": "mon"}), "MON,,MON"),
        ("nhs_number", Options(), "9990000019"),
        ("nhs_number", Options(), "999000001"),
        ("postcode", Options(), "CM11QH"),
        ("phone", Options(), "ring the neighbour"),
        ("text", Options(), "   "),
        ("text", Options(), "a\x00b"),
    ],
)
def test_a_cell_that_is_refused(codec: str, options: Options, cell: str) -> None:
    with pytest.raises(Refusal) as refused:
        CODECS[codec](options).encode(cell)
    told = refused.value
    assert told.rule
    assert told.remedy
    assert cell.strip() == "" or cell not in f"{told.rule} {told.remedy}"


def test_the_spring_hour_and_the_autumn_hour_are_told_apart() -> None:
    encode, _ = local_codec("%Y-%m-%d %H:%M:%S", "Europe/London")
    with pytest.raises(Refusal, match="did not exist"):
        encode("2025-03-30 01:30:00")
    with pytest.raises(Refusal, match="happened twice"):
        encode("2025-10-26 01:30:00")


@given(st.datetimes(datetime(1972, 1, 1), datetime(2037, 12, 31)).map(lambda moment: moment.replace(microsecond=0)))  # noqa: DTZ001
def test_a_local_time_has_the_offset_of_its_place_or_is_refused(moment: datetime) -> None:
    encode, decode = local_codec("%Y-%m-%d %H:%M:%S", "Europe/London")
    cell = moment.strftime("%Y-%m-%d %H:%M:%S")
    answers = {
        (moment - offset).replace(tzinfo=ZoneInfo("UTC"))
        for offset in (timedelta(0), timedelta(hours=1))
        if (moment - offset).replace(tzinfo=ZoneInfo("UTC")).astimezone(LONDON).replace(tzinfo=None) == moment
    }
    if len(answers) == 1:
        assert {datetime.fromisoformat(encode(cell))} == answers
        assert decode(encode(cell)) == cell
    else:
        with pytest.raises(Refusal):
            encode(cell)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "blank"),
        ("9434765918", "10 digits"),
        ("Smith", "text of 5 characters"),
        ("31/02/2020", "shape 99/99/9999"),
        (True, "bool"),
    ],
)
def test_a_value_is_told_by_its_class(value: object, told: str) -> None:
    assert value_class(value) == told


def test_a_refused_row_says_place_rule_and_remedy() -> None:
    fault = Fault("person", "12", "nhs_number", "nhs-number", "10 digits", "the rule", "The remedy")
    refused = RefusedRow([fault])
    assert str(refused) == "person 12, column nhs_number: the rule. The remedy"
    assert refused.status == 422
