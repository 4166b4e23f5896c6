"""The scan of what comes in, held against JSON made at random and plain counting."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.fhir.canonical import encode
from fhirgw.fhir.incoming import DEEPEST, DIGITS, LARGEST, parse, read
from fhirgw.fhir.issue import FhirError

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=[chr(n) for n in range(32)]), max_size=8)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(ANY, st.booleans())
def test_sound_json_is_what_it_says(value: Any, ascii: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii).encode()) == value


@given(st.lists(st.sampled_from("[{"), min_size=DEEPEST - 3, max_size=DEEPEST + 3), TEXT)
def test_depth_is_counted_as_one_would(opened: list[str], text: str) -> None:
    """Brackets within texts do not count."""
    inner = json.dumps(text + "[[{{" + '"')
    closing = {"[": "]", "{": "}"}
    body = "".join('{"a":' if each == "{" else "[" for each in opened) + inner
    body += "".join(closing[each] for each in reversed(opened))
    if len(opened) <= DEEPEST:
        assert parse(body.encode()) == json.loads(body)
    else:
        with pytest.raises(FhirError, match="nested"):
            parse(body.encode())


@given(st.integers(1, DIGITS + 3), st.integers(-LARGEST - 3, LARGEST + 3))
def test_numbers_are_bounded_and_keep_their_digits(digits: int, exponent: int) -> None:
    number = f"1.{'7' * (digits - 1)}e{exponent}" if digits > 1 else f"7e{exponent}"
    body = f'{{"a":{number}}}'.encode()
    if digits <= DIGITS and abs(exponent) <= LARGEST:
        found = read(body)
        assert found["a"] == Decimal(number)
        assert Decimal(json.loads(encode(found), parse_float=str)["a"]) == Decimal(number)
    else:
        with pytest.raises(FhirError):
            read(body)


@pytest.mark.parametrize("text", ["1.10", "0.00000001", "-0", "100", "1.0", "12345678901234567890123456789"])
def test_a_number_is_written_as_it_was(text: str) -> None:
    assert encode(read(f'{{"a":{text}}}'.encode())) == f'{{"a":{text}}}'.encode()


@pytest.mark.parametrize("spelt", ['{"a":%s}', '{"a": %s}', '{ "a" :%s }', '{"a":{"b":[%s]}}', '{"a": [1, %s]}'])
@pytest.mark.parametrize(
    "number", ["1.10", "1.1", "5e-7", "1e16", "1E3", "1.50e+03", "-0", "12345678901234567890123", "7"]
)
def test_a_number_keeps_its_text_however_it_is_spaced(spelt: str, number: str) -> None:
    """Whatever way a body is read by: one way keeps the text of all."""
    body = (spelt % number).encode()
    plain = json.loads(body, parse_float=Decimal, parse_int=lambda text: Decimal(text) if text == "-0" else int(text))
    found = read(body)
    assert found == plain
    assert "e" in number or encode(found) == "".join((spelt % number).split()).encode()
    assert float not in _classes(found)


def _classes(value: Any) -> set[type]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {type(value)}.union(*map(_classes, inner))


@pytest.mark.parametrize(
    "body",
    [
        '{"a":1,"a":1}',
        '{"a": 1, "a": 1}',
        '{"a":{"b":"c","b":"d"}}',
        '{"a":[{"b":1.5,"b":1.5}]}',
        r'{"a":1,"\u0061":1}',
        '{"a" : 1,\n "a" : 1}',
    ],
)
def test_a_property_stands_once(body: str) -> None:
    once = body.replace('"b"', '"c"', 1) if '"b"' in body else body.replace('"a"', '"c"', 1)
    assert isinstance(read(once.encode()), dict)
    with pytest.raises(FhirError, match="twice"):
        read(body.encode())
