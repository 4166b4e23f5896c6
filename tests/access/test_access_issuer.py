"""Tokens of other issuers: what their claims come to here, by the issuer's declaration; what is missing refuses."""

from typing import Any

import pytest
from joserfc.jwk import RSAKey
from pydantic import ValidationError

from fhirgw.access import jose
from fhirgw.access.issuer import Issuer
from fhirgw.access.label import RESTRICTED, SAFEGUARDING
from fhirgw.access.scope import scopes
from fhirgw.access.token import Bearer

NOW = 1_800_000_000
KEY = RSAKey.generate_key(2048, auto_kid=True)

KEYCLOAK: dict[str, Any] = {
    "issuer": "https://login.test/realms/care",
    "audience": "fhirgw",
    "jwks": {"keys": [KEY.as_dict(private=False)]},
    "types": ["JWT"],
    "require": {"typ": "Bearer"},
    "scopes": "user/*.rs",
    "claims": {
        "organisation": "nhsid_org",
        "sds_user": "nhsid_useruid",
        "roles": "realm_access.roles",
        "scope": "scope",
    },
    "roles": {"senior": "break-glass"},
    "clearance": {"senior": ["safeguarding", "restricted"]},
}
SAID: dict[str, Any] = {
    "iss": KEYCLOAK["issuer"],
    "aud": ["account", "fhirgw"],
    "typ": "Bearer",
    "iat": NOW,
    "exp": NOW + 300,
    "nhsid_org": "RX1",
    "nhsid_useruid": "555021935107",
    "realm_access": {"roles": ["senior", "other"]},
    "scope": "openid user/Patient.rs user/Task.cruds",
}


def read(declared: dict[str, Any] | None = None, header: str = "JWT", **changes: Any) -> Bearer:
    said = {name: value for name, value in (SAID | changes).items() if value is not None}
    found = jose.read(jose.sign({"alg": "RS256", "typ": header}, said, KEY))
    return Issuer.model_validate(KEYCLOAK | (declared or {})).bearer(found, NOW + 1)


def test_claims_become_who_asks() -> None:
    assert read() == Bearer(
        issuer="https://login.test/realms/care",
        registration=None,
        scopes=scopes("user/Patient.rs user/Task.rs"),
        expires=NOW + 300,
        purposes=("direct-care",),
        organisation="RX1",
        sds_user="555021935107",
        roles=("break-glass",),
        clearance=SAFEGUARDING | RESTRICTED,
    )


def test_what_no_claim_tells_is_told_by_the_declaration() -> None:
    login = {
        "claims": {"nhs_number": "nhs_number"},
        "fixed": {"organisation": "Z9C01", "sector": "council"},
        "scopes": "patient/*.rs",
        "purposes": ["person"],
        "registration": "portal",
    }
    found = read(login, nhs_number="9000000009")
    assert (found.organisation, found.sector, found.nhs_number) == ("Z9C01", "council", "9000000009")
    assert (found.scopes, found.purposes, found.registration) == (scopes("patient/*.rs"), ("person",), "portal")
    assert found.clearance == 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"nhsid_org": None}, "does not tell its organisation"),
        ({"nhsid_org": ""}, "does not tell its organisation"),
        ({"nhsid_useruid": None}, "does not tell its sds_user"),
        ({"scope": None}, "does not tell its scope"),
        ({"nhsid_useruid": 555021935107}, "does not tell its sds_user"),
        ({"nhsid_useruid": ["555021935107"]}, "does not tell its sds_user"),
        ({"nhsid_useruid": " "}, "does not tell its sds_user"),
        ({"nhsid_org": ["RX1"]}, "does not tell its organisation"),
        ({"nhsid_org": "RX1|x"}, "not one its issuer may speak for"),
        ({"aud": "account"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"typ": "ID"}, "a claim that its issuer is declared with"),
        ({"typ": None}, "a claim that its issuer is declared with"),
        ({"nonce": "n"}, "not an access token"),
        ({"at_hash": "h"}, "not an access token"),
        ({"exp": NOW - 10}, "expired"),
        ({"exp": None}, "when it expires"),
        ({"nbf": NOW + 60}, "not valid yet"),
    ],
)
def test_a_token_that_is_not_as_declared_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(jose.Untrusted, match=why):
        read(**changes)


def test_an_access_token_says_so() -> None:
    assert read({"types": ["at+jwt"]}, header="at+jwt")
    with pytest.raises(jose.Untrusted, match="not an access token"):
        read({"types": ["at+jwt"]})


def test_scopes_are_never_wider_than_declared() -> None:
    assert read(scope="system/*.cruds openid").scopes == ()
    assert read(scope=["user/*.cruds"]).scopes == scopes("user/*.rs")
    assert read(scope="launch").scopes == ()


def test_a_purpose_is_one_its_issuer_may_give() -> None:
    asking = {"claims": KEYCLOAK["claims"] | {"purpose": "pou"}, "purposes": ["direct-care", "safeguarding"]}
    assert read(asking, pou="safeguarding").purposes == ("safeguarding",)
    with pytest.raises(jose.Untrusted, match="its purpose is not one"):
        read(asking, pou="research")


def test_an_issuer_speaks_for_its_own_organisations() -> None:
    """Or for any, where its declaration names none: then whoever runs it can say that they are the council."""
    some = {"organisations": ["RX1", "RX2"]}
    assert [read(some, nhsid_org=each).organisation for each in ("RX1", "RX2")] == ["RX1", "RX2"]
    with pytest.raises(jose.Untrusted, match="not one its issuer may speak for"):
        read(some, nhsid_org="Z9C01")
    assert read(nhsid_org="Z9C01").organisation == "Z9C01"


@pytest.mark.parametrize("name", ["delegate", "patient", "purpose", "nhs_number"])
def test_what_is_told_in_another_form_is_not_told(name: str) -> None:
    """A delegate with a number for a name would be the person, an NHS number that is none an organisation's system."""
    asking = {"claims": {"organisation": "nhsid_org", name: "x"}, "purposes": ["direct-care"], "scopes": "system/*.rs"}
    for value in (5, True, ["direct-care"], {"id": "p1"}):
        with pytest.raises(jose.Untrusted, match=f"does not tell its {name}"):
            read(asking, x=value)
    assert read(asking, x="9000000009" if name == "nhs_number" else "direct-care")


def test_a_sector_is_one_that_consents_know() -> None:
    """Consents deny by sector: whoever is of none of them would be denied by none."""
    asking = {"claims": KEYCLOAK["claims"] | {"sector": "kind"}}
    assert read(asking, kind="care-provider").sector == "care-provider"
    for other in ("hospital", "family", "NHS"):
        with pytest.raises(jose.Untrusted, match="its sector is none of nhs"):
            read(asking, kind=other)


def test_an_nhs_number_is_one() -> None:
    with pytest.raises(jose.Untrusted, match="NHS number is none"):
        read({"claims": {"nhs_number": "n"}, "fixed": {"organisation": "Z9C01"}}, n="9000000001")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"jwks": None}, "either jwks or jwks_url"),
        ({"jwks_url": "https://login.test/keys"}, "either jwks or jwks_url"),
        ({"algorithms": ["HS256"]}, "algorithms: choose from"),
        ({"algorithms": ["none"]}, "algorithms: choose from"),
        ({"algorithms": []}, "algorithms: choose from"),
        ({"purposes": ["operations"]}, "purposes: choose from"),
        ({"purposes": ["emergency"]}, "purposes: choose from"),
        ({"purposes": ["nonsense"]}, "purposes"),
        ({"purposes": []}, "purposes: choose from"),
        ({"clearance": {"x": ["everything"]}}, "there is no class everything"),
        ({"claims": {}}, "which organisation is asking"),
        ({"claims": {"organisation": "o", "sds_user": "s", "nhs_number": "n"}}, "two issuers"),
        ({"claims": {"organization": "o"}}, "claims"),
        ({"scopes": "user/*.sr"}, "scopes: A scope is not one"),
        ({"scopes": ""}, "scopes: there is none"),
        ({"issuer": ""}, "issuer"),
        ({"issuer": "demo-ics"}, "an application could have any other name"),
        ({"organisations": ["rx1"]}, "are ODS codes"),
        ({"fixed": {"organisation": "the council"}}, "are ODS codes"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Issuer.model_validate(KEYCLOAK | changes)


@pytest.mark.parametrize("realm_access", [{}, "senior", {"roles": []}, None])
def test_who_has_no_roles_is_allowed_no_more(realm_access: Any) -> None:
    assert read(realm_access=realm_access).roles == ()
    assert read().roles != ()
