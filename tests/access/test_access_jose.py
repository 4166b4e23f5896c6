"""Keys: which may be registered, and which are passed over."""

from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from fhirgw.access import jose

EC = ECKey.generate_key("P-384", auto_kid=True)
RSA = RSAKey.generate_key(2048, auto_kid=True)


def short() -> dict[str, Any]:
    """A key of 1024 bits: its modulus is all that is looked at."""
    return {"kty": "RSA", "kid": "k", "e": "AQAB", "n": "w" * 171}


def of(key: Any, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (key.as_dict(private=False) | changes).items() if value is not None}


@pytest.mark.parametrize("key", [of(EC), of(RSA), of(EC, use="sig", alg="ES384"), of(RSA, key_ops=["verify"])])
def test_a_public_key_is_taken(key: dict[str, Any]) -> None:
    assert jose.public_key(key).kid == key["kid"]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (EC.as_dict(private=True), "private"),
        (RSA.as_dict(private=True), "private"),
        (OctKey.generate_key(256, auto_kid=True).as_dict(private=True), "another kind"),
        (of(OKPKey.generate_key("Ed25519", auto_kid=True)), "another kind"),
        (of(EC, kid=None), "no kid"),
        (of(EC, kid=""), "no kid"),
        (of(EC, kid="k" * 256), "no kid"),
        (of(EC, use="enc"), "not for signatures"),
        (of(EC, key_ops=["encrypt"]), "not for signatures"),
        (of(EC, x=None), "malformed"),
        (of(EC, x="AA"), "malformed"),
        (of(ECKey.generate_key("secp256k1", auto_kid=True)), "another curve"),
        (short(), "shorter than 2048"),
        ("text", "another kind"),
        (None, "another kind"),
    ],
)
def test_any_other_key_is_refused(key: Any, why: str) -> None:
    with pytest.raises(jose.Untrusted, match=why):
        jose.public_key(key)


def test_a_set_passes_over_keys_that_nobody_here_can_use() -> None:
    unknown = {"kty": "AKP", "kid": "post-quantum"}
    found = jose.public_keys({"keys": [unknown, of(EC), short(), "text", of(RSA)]})
    assert [key.kid for key in found] == [EC.kid, RSA.kid]


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, "keys"])
def test_what_is_no_set_is_refused(document: Any) -> None:
    with pytest.raises(jose.Untrusted, match="no JWK set"):
        jose.public_keys(document)
