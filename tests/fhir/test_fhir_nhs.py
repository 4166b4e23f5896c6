"""Identifiers by their shape and check digit; the numbers are the published ones, good and bad."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.fhir import nhs


@pytest.mark.parametrize("number", ["9000000009", "9912003888", "9434765919", "9990000018", "9990000050"])
def test_a_good_nhs_number(number: str) -> None:
    assert nhs.is_nhs_number(number)
    assert nhs.unspaced(nhs.spaced(number)) == number


@pytest.mark.parametrize(
    "number",
    [
        "9912003890",
        "9999999991",
        "91000000009",
        "9100000009",
        "3478526985",
        "0000000000",
        "",
        "900 000 0009",
        "９００００００００９",
    ],
)
def test_a_bad_nhs_number(number: str) -> None:
    assert not nhs.is_nhs_number(number)


def test_where_the_check_would_be_ten_no_digit_serves() -> None:
    assert not any(nhs.is_nhs_number(f"999000000{digit}") for digit in range(10))


@given(st.integers(400_000_000, 499_999_999), st.integers(0, 8), st.integers(1, 9))
def test_one_wrong_digit_is_always_noticed(stem: int, place: int, more: int) -> None:
    good = [number for digit in range(10) if nhs.is_nhs_number(number := f"{stem}{digit}")]
    assert len(good) <= 1
    for number in good:
        wrong = f"{number[:place]}{(int(number[place]) + more) % 10}{number[place + 1 :]}"
        assert not nhs.is_nhs_number(wrong)


@pytest.mark.parametrize("code", ["425268008", "514331000000104", "999001471000000108", "22298006", "1127581000000103"])
def test_a_good_snomed_id(code: str) -> None:
    assert nhs.is_snomed_id(code)
    assert not any(nhs.is_snomed_id(f"{code[:-1]}{digit}") for digit in range(10) if f"{digit}" != code[-1])


@pytest.mark.parametrize("code", ["", "12345", "425268007", "0425268008", "4252680089999999999", "42526800x"])
def test_a_bad_snomed_id(code: str) -> None:
    assert not nhs.is_snomed_id(code)


@pytest.mark.parametrize(
    "postcode",
    ["SS1 1AA", "CM1 1QH", "EC1A 1BB", "W1A 0AX", "M1 1AE", "B33 8TH", "CR2 6XH", "DN55 1PT", "GIR 0AA", "ZZ99 3VZ"],
)
def test_a_good_postcode(postcode: str) -> None:
    assert nhs.is_postcode(postcode)


@pytest.mark.parametrize("postcode", ["", "SS11AA", "ss1 1aa", "Q1 1AA", "SS1 1CI", "SS1  1AA", "SS1 1AA "])
def test_a_bad_postcode(postcode: str) -> None:
    assert not nhs.is_postcode(postcode)


def test_the_shapes_of_the_others() -> None:
    assert (
        nhs.is_ods_code("Z9C01") and nhs.is_ods_code("RXX") and not nhs.is_ods_code("rxx") and not nhs.is_ods_code("A1")
    )
    assert (
        nhs.is_uprn("100090000001") and nhs.is_uprn("7") and not nhs.is_uprn("1000900000012") and not nhs.is_uprn("1a")
    )
