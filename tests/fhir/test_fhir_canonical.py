"""What is read is what is written, to the digit."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.issue import FhirError

SPELLINGS = (
    "1.10",
    "0.00000001",
    "-0",
    "-0.0",
    "100",
    "12345678901234567890123",
    "3.14159265358979323846",
    "0.10E+3",
    "1e3",
    "1E3",
    "1e+03",
    "2.50e-7",
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**62), 2**62),
    st.decimals(allow_nan=False, allow_infinity=False, places=5),
    st.text(st.characters(exclude_categories=["Cs"])),
)
TREES = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text("abc:\"\\,[ü'", max_size=5), below, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text("ab:é ", max_size=4), TREES, max_size=5))
def test_a_resource_survives(resource: dict[str, Any]) -> None:
    again = decode(encode(resource))
    assert repr(again) == repr(resource)
    assert list(again) == list(resource)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_number_keeps_its_spelling(spelling: str) -> None:
    text = f'{{"value":{spelling},"values":[1,{spelling}]}}'
    written = encode(decode(text)).decode()
    assert written == text


def test_no_short_text_grows_long() -> None:
    assert len(encode(decode('{"value":1e-131071}'))) < 30
    assert len(encode(decode('{"value":1e131071}'))) < 30


def test_it_writes_json_that_others_read_and_no_control_characters() -> None:
    resource = {"text": "a\n\t\x00\x1f\x7f\u2028", "n": Decimal("1.50")}
    written = encode(resource)
    assert not any(byte < 0x20 for byte in written)
    assert json.loads(written, parse_float=Decimal) == resource


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "not a JSON object"),
        ('{"a":NaN}', "NaN is not a JSON number"),
        ('{"name":"Smith"', "line 1 column 16"),
        (b'{"a":"\xff"}', "invalid UTF-8 at byte 6"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_resource_is_refused_without_quoting_it(text: str | bytes, said: str) -> None:
    with pytest.raises(FhirError, match=said) as refused:
        decode(text)
    assert refused.value.issues[0].code == "structure"
    assert "Smith" not in str(refused.value)


def test_what_json_cannot_say_is_not_written() -> None:
    with pytest.raises(TypeError):
        encode({"value": Decimal("NaN")})
    with pytest.raises(TypeError):
        encode({"value": {1, 2}})
