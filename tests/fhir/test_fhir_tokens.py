"""Tokens are what SQL makes of the same texts, and strings are compared as people read them."""

from __future__ import annotations

import hashlib

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.fhir import tokens
from fhirgw.fhir.strings import normalise

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
IN_SQL = (
    "SELECT ('x' || left(encode(sha256(convert_to(t, 'UTF8')), 'hex'), 16))::bit(64)::bigint FROM unnest($1::text[]) t"
)
TEXTS = [
    "status||completed",
    "subject|Patient/1",
    "name:exact|Zoë 😀",
    "identifier|https://fhir.nhs.uk/Id/nhs-number|9000000009",
]


async def test_the_documented_sql_makes_the_same_tokens(server_url: str) -> None:
    connection = await asyncpg.connect(server_url)
    try:
        rows = await connection.fetch(IN_SQL, TEXTS)
    finally:
        await connection.close()
    assert [row[0] for row in rows] == [tokens.token(text) for text in TEXTS]
    assert IN_SQL.partition(" FROM ")[0].removeprefix("SELECT ") in (tokens.__doc__ or "")


@given(TEXT)
def test_a_token_is_the_first_eight_bytes_of_the_hash(text: str) -> None:
    expected = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)
    assert tokens.token(text) == expected
    assert -(2**63) <= expected < 2**63


def test_which_texts_stand_for_a_value() -> None:
    def of(*texts: str) -> tuple[int, ...]:
        return tuple(tokens.token(text) for text in texts)

    assert (
        tokens.coding("code", "s", "c") == tokens.identifier("code", "s", "c") == of("code|s|c", "code||c", "code|s|")
    )
    assert tokens.coding("code", None, "c") == of("code||c", "code| |c")
    assert tokens.coding("code", "s", None) == of("code|s|")
    assert tokens.coding("code", None, None) == ()
    assert tokens.referring(("subject",), "Patient/1", None, None) == (tokens.plain_reference("subject", "Patient/1"),)
    assert (tokens.plain_reference("subject", "Patient/1"),) == of("subject|Patient/1")
    assert (tokens.logical("subject", "s", "v"), tokens.uri("url", "u")) == of("subject:identifier|s|v", "url|u")
    assert (tokens.exact("name", "Zoë"), tokens.code("status", "active")) == of("name:exact|Zoë", "status||active")


@pytest.mark.parametrize(
    ("url", "above"),
    [
        ("https://x.uk/a/b", ["https://x.uk", "https://x.uk/a", "https://x.uk/a/b"]),
        ("https://x.uk/a/", ["https://x.uk", "https://x.uk/a", "https://x.uk/a/"]),
        ("https://x.uk", ["https://x.uk"]),
        ("https://x.uk//", ["https://x.uk", "https://x.uk/", "https://x.uk//"]),
        ("urn:oid:1.2.3", []),
        ("a/b", []),
        (f"https://x{'/a' * 15}", [f"https://x{'/a' * most}" for most in range(16)]),
        (f"https://x{'/a' * 400}", [f"https://x{'/a' * most}" for most in range(16)]),
    ],
)
def test_what_a_url_is_below(url: str, above: list[str]) -> None:
    assert tokens.within("url", url) == tuple(tokens.token(f"url:below|{each}") for each in above)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("07700 900-123", "(07700) 900.123", True),
        ("Zoe@Example.ORG", "zoe@example.org ", True),
        ("a-b@x.uk", "ab@x.uk", False),
        ("07700 900123", "07700 900124", False),
    ],
)
def test_contacts_are_compared_without_their_punctuation(one: str, other: str, same: bool) -> None:
    assert (tokens.contact("telecom", one) == tokens.contact("telecom", other)) is same


@pytest.mark.parametrize(
    ("text", "parameter", "normal"),
    [
        ("  Zoë   O’Brien ", "name", "zoe o’brien"),
        ("STRASSE", "address", "strasse"),
        ("Straße", "address", "strasse"),
        ("Siân\u00a0Ffion", "name", "sian ffion"),
        ("SS1 1AA", "address-postalcode", "ss11aa"),
        ("SS1 1AA", "address", "ss1 1aa"),
    ],
)
def test_strings_are_compared_as_people_read_them(text: str, parameter: str, normal: str) -> None:
    assert normalise(text, parameter) == normal


@given(TEXT)
def test_a_normal_text_stays_as_it_is(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
    assert normalise(f"  {text}\t") == normalise(text)
