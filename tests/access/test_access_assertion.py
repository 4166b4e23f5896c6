"""Client assertions: each rule of SMART Backend Services beside the assertion that keeps them all."""

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from fhirgw.access import assertion, jose
from fhirgw.access.assertion import OAuthError

NOW = 1_800_000_000.0
AUDIENCE = "https://gateway.test/fhir/oauth/token"
EC = ECKey.generate_key("P-384", auto_kid=True)
RSA = RSAKey.generate_key(2048, auto_kid=True)
WEAK = ECKey.generate_key("P-256", auto_kid=True)
REGISTERED = "https://app.test/keys.json"


def public(*keys: jose.Key) -> list[jose.Key]:
    return jose.public_keys({"keys": [key.as_dict(private=False) for key in keys]})


def claims(**changes: Any) -> dict[str, Any]:
    made = {"iss": "app", "sub": "app", "aud": AUDIENCE, "exp": NOW + 120, "iat": NOW, "jti": "j1"}
    return {name: value for name, value in (made | changes).items() if value is not None}


def part(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def raw(header: object, said: object, key: Any = EC, algorithm: str = "ES384") -> str:
    """Signed as it is, whatever joserfc would say to its header."""
    signing = f"{part(header)}.{part(said)}"
    signature = jws.JWSRegistry.algorithms[algorithm].sign(signing.encode(), key)
    return f"{signing}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def header(**changes: Any) -> dict[str, Any]:
    made = {"alg": "ES384", "typ": "JWT", "kid": EC.kid}
    return {name: value for name, value in (made | changes).items() if value is not None}


def judged(text: str, key_set: str | None = None, keys: list[jose.Key] | None = None) -> assertion.Assertion:
    found = assertion.read(text, AUDIENCE, NOW)
    assertion.verify(found, public(EC, RSA) if keys is None else keys, key_set)
    return found


@pytest.mark.parametrize(
    "text",
    [
        raw(header(), claims()),
        raw(header(alg="RS384", kid=RSA.kid), claims(), RSA, "RS384"),
        raw(header(), claims(aud=[AUDIENCE])),
        raw(header(), claims(iat=None)),
        raw(header(), claims(nbf=NOW, exp=NOW + 300)),
        raw(header(), claims(iat=NOW + 5)),
        raw(header(), claims(jti="j" * 255)),
        raw(header(), claims(exp=NOW + 0.5, another={"claim": [1]})),
    ],
)
def test_an_assertion_that_keeps_the_rules_is_taken(text: str) -> None:
    assert judged(text).issuer == "app"


def test_a_jku_is_taken_where_it_is_the_registered_one() -> None:
    text = raw(header(jku=REGISTERED), claims())
    assert judged(text, REGISTERED).key_set == REGISTERED
    assert judged(text, "https://APP.test:443/keys.json")


@pytest.mark.parametrize(
    ("jku", "key_set"),
    [
        (REGISTERED, None),
        ("https://evil.test/keys.json", REGISTERED),
        (REGISTERED + "/../evil", REGISTERED),
        ("https://app.test.evil.test/keys.json", REGISTERED),
        ("https://app.test@evil.test/keys.json", REGISTERED),
        ("https://app.test:444/keys.json", REGISTERED),
        ("http://app.test/keys.json", REGISTERED),
        (REGISTERED + "?x", REGISTERED),
        (REGISTERED + "#x", REGISTERED),
        ("https://app.test:x/keys.json", REGISTERED),
    ],
)
def test_another_jku_is_refused(jku: str, key_set: str | None) -> None:
    with pytest.raises(OAuthError, match="its jku is not the registered address"):
        judged(raw(header(jku=jku), claims()), key_set)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"alg": "none"}, "alg is not"),
        ({"alg": None}, "alg is not"),
        ({"alg": "ES256"}, "alg is not"),
        ({"alg": "RS256"}, "alg is not"),
        ({"alg": "HS384"}, "alg is not"),
        ({"alg": "es384"}, "alg is not"),
        ({"kid": None}, "no kid"),
        ({"kid": ""}, "no kid"),
        ({"kid": 7}, "not text"),
        ({"typ": None}, "typ"),
        ({"typ": "at+jwt"}, "typ"),
        ({"jwk": EC.as_dict(private=False)}, "not accepted: jwk"),
        ({"x5u": "https://app.test/cert"}, "not accepted: x5u"),
        ({"x5c": ["MII"]}, "not accepted: x5c"),
        ({"crit": ["exp"]}, "not accepted: crit"),
        ({"b64": False}, "not accepted: b64"),
        ({"zip": "DEF"}, "not accepted: zip"),
        ({"naïve": "x"}, "not accepted"),
        ({"kid": "another"}, "no key has its kid"),
        ({"kid": RSA.kid}, "no key has its kid and fits its alg"),
    ],
)
def test_a_header_that_breaks_a_rule_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(OAuthError, match=why) as refused:
        judged(raw(header(**changes), claims()))
    assert (refused.value.error, refused.value.status) == ("invalid_client", 401)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": None}, "no iss"),
        ({"iss": "other"}, "iss and sub"),
        ({"sub": None}, "iss and sub"),
        ({"iss": "", "sub": ""}, "no iss"),
        ({"iss": ["app"], "sub": ["app"]}, "no iss"),
        ({"aud": None}, "aud"),
        ({"aud": AUDIENCE + "/"}, "aud"),
        ({"aud": AUDIENCE.upper()}, "aud"),
        ({"aud": "https://gateway.test/fhir"}, "aud"),
        ({"aud": [AUDIENCE, "https://other.test"]}, "aud"),
        ({"aud": [AUDIENCE, AUDIENCE]}, "aud"),
        ({"aud": []}, "aud"),
        ({"exp": None}, "no exp"),
        ({"exp": str(NOW + 60)}, "no exp"),
        ({"exp": True}, "no exp"),
        ({"exp": NOW}, "expired"),
        ({"exp": NOW - 1}, "expired"),
        ({"exp": NOW + 306}, "more than 5 minutes"),
        ({"exp": NOW + 360}, "more than 5 minutes"),
        ({"exp": 1e300}, "no exp"),
        ({"iat": NOW + 6}, "iat is still to come"),
        ({"nbf": NOW + 6}, "nbf is still to come"),
        ({"nbf": "soon"}, "no nbf"),
        ({"jti": None}, "no jti"),
        ({"jti": ""}, "no jti"),
        ({"jti": 7}, "no jti"),
        ({"jti": "j" * 256}, "no jti"),
    ],
)
def test_claims_that_break_a_rule_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(OAuthError, match=why) as refused:
        judged(raw(header(), claims(**changes)))
    assert refused.value.error == "invalid_client"


@pytest.mark.parametrize("twice", ['"iss": "evil", ', '"x": {"a": 1, "a": 2}, '])
def test_a_claim_said_twice_is_refused(twice: str) -> None:
    once = json.dumps(claims())
    assert judged(raw(header(), once))
    with pytest.raises(OAuthError, match="says something twice"):
        judged(raw(header(), "{" + twice + once[1:]))


def test_a_header_said_twice_is_refused() -> None:
    with pytest.raises(OAuthError, match="says something twice"):
        judged(raw('{"alg": "none", ' + json.dumps(header())[1:], claims()))


@pytest.mark.parametrize(
    "text",
    ["", "a", "a.b", "a.b.c", "..", "a.b.c.d", "a.b.c\n", "{}", raw(header(), "[]"), raw(header(), '{"exp": NaN}')],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(OAuthError):
        judged(text)


def test_a_signature_is_that_of_the_key_it_names() -> None:
    other = ECKey.generate_key("P-384", {"kid": EC.kid})
    good = raw(header(), claims())
    for forged in (raw(header(), claims(), other), good[:-8] + "AAAAAAAA", good.rpartition(".")[0] + ".AAAA"):
        with pytest.raises(OAuthError, match="signature"):
            judged(forged)


def test_claims_cannot_be_changed_under_a_signature() -> None:
    first, _, last = raw(header(), claims()).split(".")
    with pytest.raises(OAuthError, match="signature"):
        judged(f"{first}.{part(claims(jti='j2'))}.{last}")


def test_a_public_key_is_no_secret_to_sign_with() -> None:
    signing = f"{part(header(alg='HS384', kid=RSA.kid))}.{part(claims())}"
    code = hmac.digest(RSA.as_pem(private=False), signing.encode(), "sha384")
    with pytest.raises(OAuthError, match="alg is not"):
        judged(f"{signing}.{urlsafe_b64encode(code).rstrip(b'=').decode()}")


@pytest.mark.parametrize("signature", ["", "AA"])
def test_what_is_not_signed_is_refused(signature: str) -> None:
    with pytest.raises(OAuthError, match=r"alg is not|not a signed"):
        judged(f"{part(header(alg='none'))}.{part(claims())}.{signature}")


def test_two_keys_of_one_kid_are_none() -> None:
    twin = ECKey.generate_key("P-384", {"kid": EC.kid})
    with pytest.raises(OAuthError, match="more than one key"):
        judged(raw(header(), claims()), keys=public(EC, twin))
    same_kid = RSAKey.generate_key(2048, {"kid": EC.kid})
    assert judged(raw(header(), claims()), keys=public(EC, same_kid))


def test_a_key_for_another_algorithm_is_none() -> None:
    with pytest.raises(OAuthError, match="no key"):
        judged(raw(header(kid=WEAK.kid), claims(), WEAK, "ES256"), keys=public(WEAK))
    declared = ECKey.import_key({**EC.as_dict(private=False), "alg": "ES256"})
    with pytest.raises(OAuthError, match="no key"):
        judged(raw(header(), claims()), keys=[declared])


def test_each_assertion_is_told_from_every_other() -> None:
    def use(issuer: str, jti: str) -> bytes:
        return assertion.read(raw(header(), claims(iss=issuer, sub=issuer, jti=jti)), AUDIENCE, NOW).use

    assert use("app", "j1") == use("app", "j1")
    assert len({use("app", "j1"), use("app", "j2"), use("app|j", "1"), use("app", "j|1"), use("ap", "p|j1")}) == 5
