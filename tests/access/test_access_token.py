"""Access tokens of the gateway's own: what they say, and what is none of them."""

from typing import Any

import pytest
from joserfc.jwk import RSAKey

from fhirgw.access import jose, token
from fhirgw.access.scope import Scope
from fhirgw.access.token import Bearer

NOW = 1_800_000_000
GATEWAY = "urn:uuid:1"
KEY = RSAKey.generate_key(2048, auto_kid=True)


def read(header: dict[str, Any] | None = None, **changes: Any) -> Bearer:
    said = token.claims(GATEWAY, "app", "j1", "system/*.rs", "direct-care", NOW, patient="p1") | changes
    said = {name: value for name, value in said.items() if value is not None}
    text = jose.sign({"alg": "RS256", "typ": "at+jwt"} | (header or {}), said, KEY)
    found = jose.read(text)
    jose.verify(found, [jose.public_key(KEY.as_dict(private=False))], ("RS256",))
    return token.own(found, GATEWAY, NOW + 60)


def test_it_says_who_and_what_for() -> None:
    assert read() == Bearer(
        issuer=GATEWAY,
        registration="app",
        scopes=(Scope("system", "*", "rs"),),
        expires=NOW + 300,
        own=True,
        jti="j1",
        purposes=("direct-care",),
        patient="p1",
    )


@pytest.mark.parametrize("scope", ["", "openid profile", "system/*.rs openid", "system/*.sr", " "])
def test_scopes_that_cannot_be_read_grant_nothing(scope: str) -> None:
    assert read(scope=scope).scopes == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "urn:uuid:2"}, "another"),
        ({"aud": "urn:uuid:2"}, "another"),
        ({"aud": [GATEWAY, "urn:uuid:2"]}, "another"),
        ({"aud": None}, "another"),
        ({"sub": "other"}, "not the same"),
        ({"sub": None, "client_id": None}, "does not say"),
        ({"jti": None}, "does not say"),
        ({"scope": None}, "does not say"),
        ({"scope": ["system/*.rs"]}, "does not say"),
        ({"purpose": None}, "does not say"),
        ({"exp": NOW + 60}, "expired"),
        ({"exp": NOW}, "expired"),
        ({"exp": None}, "when it expires"),
        ({"exp": "2050"}, "when it expires"),
        ({"exp": 1e300}, "when it expires"),
        ({"nbf": NOW + 120}, "not valid yet"),
    ],
)
def test_claims_of_anything_else_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(jose.Untrusted, match=why):
        read(**changes)


@pytest.mark.parametrize("typ", ["JWT", "AT+JWT", "at+jwt ", ""])
def test_a_token_of_another_type_is_none(typ: str) -> None:
    with pytest.raises(jose.Untrusted, match="not an access token"):
        read({"typ": typ})


@pytest.mark.parametrize("algorithm", ["RS384", "PS256"])
def test_another_algorithm_is_refused(algorithm: str) -> None:
    with pytest.raises(jose.Untrusted, match="alg is not accepted"):
        read({"alg": algorithm})
