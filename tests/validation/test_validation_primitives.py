"""Values of primitive types: what R4's expressions let through, less what does not exist."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fhirgw.fhir.facts import table
from fhirgw.validation import validate
from fhirgw.validation.primitive import primitive
from tests.validation.right import PATIENT, spoilt

FITS: dict[str, list[Any]] = {
    "boolean": [True, False],
    "integer": [0, -(2**31), 2**31 - 1],
    "unsignedInt": [0, 2**31 - 1],
    "positiveInt": [1, 2**31 - 1],
    "decimal": [0, -1.5, Decimal("1.10"), Decimal("1E-30")],
    "string": ["x", "two\nlines", "caf\u00e9 \U0001f600", " x "],
    "markdown": ["*x*\r\n\ty"],
    "code": ["a", "a b", "v2-0131|x"],
    "id": ["a", "A-b.1", "a" * 64],
    "uri": ["x", "#a", "urn:uuid:0D4FD1A6-4a4e-4c3c-9f43-1c2c0a5e8a10", "urn:oid:1.2.0", "https://a/b?c"],
    "url": ["https://a.example"],
    "canonical": ["https://a.example|1.0#x"],
    "oid": ["urn:oid:2.16.840.1"],
    "uuid": ["urn:uuid:0d4fd1a6-4a4e-4c3c-9f43-1c2c0a5e8a10"],
    "date": ["2025", "2025-03", "2024-02-29", "0001-01-01", "9999-12-31"],
    "dateTime": ["2025", "2025-03-30T01:30:00Z", "2025-03-30T23:59:60.123+14:00"],
    "instant": ["2025-03-30T01:30:00Z", "2025-03-30T01:30:00.123456789-11:00"],
    "time": ["00:00:00", "23:59:60.5"],
    "base64Binary": ["aGVsbG8=", "aGVs\nbG8="],
}

FAILS: dict[str, list[Any]] = {
    "boolean": ["true", 1, 0, None, []],
    "integer": ["1", 1.0, True, 2**31, Decimal(1)],
    "unsignedInt": [-1, 2**31],
    "positiveInt": [0, "1"],
    "decimal": ["1.5", True, float("nan"), float("inf"), Decimal("NaN")],
    "string": ["", " ", "\n", "a\x00", "\x1b", 7, ["x"], "x" * (2**20 + 1)],
    "markdown": ["", 7],
    "code": ["", " a", "a ", "a  b", "a\tb", "a\n"],
    "id": ["", "a_b", "a" * 65, "é", "a\n"],
    "uri": ["", "a b", "urn:uuid:1", "urn:oid:3.1", "urn:oid:01.2", "a\n"],
    "url": ["", "a b"],
    "canonical": ["", "a b"],
    "oid": ["2.16.840.1", "urn:oid:2"],
    "uuid": ["urn:uuid:0D4FD1A6-4a4e-4c3c-9f43-1c2c0a5e8a10", "0d4fd1a6-4a4e-4c3c-9f43-1c2c0a5e8a10"],
    "date": ["", "25", "2025-13", "2025-02-29", "2025-3-1", "0000", "2025-01-01T00:00:00Z", "20250101", "2025-W01"],
    "dateTime": ["2025-02-30T00:00:00Z", "2025-01-01T00:00:00", "2025-01-01T00:00Z", "2025-01-01T24:00:00Z"],
    "instant": ["2025", "2025-01-01", "2025-01-01T00:00:00", "2025-02-30T00:00:00Z", "2025-01-01T00:00:00+14:01"],
    "time": ["24:00:00", "00:00", "1:00:00", "00:00:00Z"],
    "base64Binary": ["", "a", "aGVsbG8", "aGV$bG8=", "é==="],
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in FITS.items() for value in values])
def test_what_fits(kind: str, value: Any) -> None:
    assert primitive(kind)(value) is None


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in FAILS.items() for value in values])
def test_what_does_not(kind: str, value: Any) -> None:
    issue = primitive(kind)(value)
    assert issue is not None and issue.code in ("value", "structure")
    assert primitive(kind)(value) == issue  # also when it is asked again


def test_each_primitive_type_of_r4_is_tried() -> None:
    assert FITS.keys() == FAILS.keys() == {*table("rules")["primitives"]}


TEXTS = sorted(set(FITS) - {"boolean", "integer", "unsignedInt", "positiveInt", "decimal", "base64Binary", "markdown"})
LIKELY = st.from_regex(re.compile(r"[0-9]{4}(-[0-9]{2}){0,2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|\+01:00)?)?", re.A))


@given(st.sampled_from(TEXTS), st.text(max_size=20) | LIKELY)
@example("dateTime", "2025-01-01T09:00:00+01:00")
def test_nothing_passes_that_r4s_own_expression_refuses(kind: str, value: str) -> None:
    """The expressions leave out that a day exists: what they refuse we refuse, and may refuse more."""
    expression = re.compile(table("rules")["primitives"][kind], re.ASCII)
    if primitive(kind)(value) is None:
        assert expression.fullmatch(value) or (kind == "string" and value)


def test_no_message_repeats_a_value() -> None:
    for path in ("name[0].family", "birthDate", "gender", "identifier[0].system", "id", "address[0].line[0]", "active"):
        for value in ("Canary Wharf\x00", ["Canary"], {"canary": "Canary"}):
            for issue in validate(spoilt(PATIENT, {path: value})):
                assert "Canary" not in f"{issue.diagnostics} {issue.expression}"
