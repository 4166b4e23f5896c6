"""The file that lists issuers elsewhere: read whole, or refused with what is wrong where."""

import json
from pathlib import Path
from typing import Any

import pytest

from fhirgw.api.issuers import Issuers
from fhirgw.api.jwks import KeySets
from fhirgw.fhir.issue import FhirError
from tests.api.smart_world import EC, jwks

GOOD = {
    "issuer": "https://login.test",
    "audience": "fhirgw",
    "scopes": "user/*.rs",
    "jwks": jwks(EC),
    "algorithms": ["ES384"],
    "fixed": {"organisation": "RX1"},
}
KEYCLOAK = """
- issuer: https://login.test/realms/care
  audience: fhirgw
  scopes: user/*.rs
  jwks_url: https://login.test/realms/care/protocol/openid-connect/certs
  internal: true
  types: [JWT]
  require: {typ: Bearer}
  claims: {organisation: org, sds_user: uid, roles: realm_access.roles}
"""


def read(path: Path, *issuers: Any) -> Issuers:
    (path / "issuers.json").write_text(json.dumps(issuers))
    return Issuers.read(path / "issuers.json", KeySets())


def test_no_file_lists_nobody() -> None:
    assert Issuers.read(None, KeySets()).find("https://login.test") is None


async def test_issuers_are_found_by_their_name_exactly(tmp_path: Path) -> None:
    made = read(tmp_path, GOOD)
    found = made.find("https://login.test")
    assert found is not None
    assert [key.kid for key in await made.keys(found)] == [EC.kid]
    for other in ("https://login.test/", "HTTPS://login.test", "", None, ["https://login.test"]):
        assert made.find(other) is None


def test_a_file_may_be_yaml(tmp_path: Path) -> None:
    (tmp_path / "issuers.yaml").write_text(KEYCLOAK)
    sets = KeySets()
    found = Issuers.read(tmp_path / "issuers.yaml", sets).find("https://login.test/realms/care")
    assert found is not None
    assert found.require == {"typ": "Bearer"}
    assert sets.vouched == {found.jwks_url}


@pytest.mark.parametrize(
    ("issuers", "fault"),
    [
        ([GOOD, GOOD], "an issuer is listed twice"),
        ([GOOD, {**GOOD, "issuer": "x", "audience": ""}], "issuer 2: audience"),
        ([{**GOOD, "jwks": {"keys": []}}], "issuer 1: jwks: it holds no key"),
        ([{**GOOD, "jwks": {}}], "issuer 1: jwks: it is no JWK set"),
        ([{**GOOD, "jwks": None, "jwks_url": "http://login.test/keys"}], "not an https address"),
        ([{**GOOD, "colour": "blue"}], "issuer 1: colour"),
        ([{**GOOD, "fixed": {"organisation": "RX1", "sector": "hospital"}}], "issuer 1: fixed.sector: choose from nhs"),
        (["text"], "issuer 1: "),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, issuers: list[Any], fault: str) -> None:
    with pytest.raises(FhirError, match=fault) as refused:
        read(tmp_path, *issuers)
    assert str(tmp_path / "issuers.json") in str(refused.value)


@pytest.mark.parametrize("text", ["issuer: x", "", "- [", "\x00"])
def test_what_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "issuers.yaml").write_text(text)
    with pytest.raises(FhirError, match=r"issuers.yaml:[12]: it is (not a list of issuers|no YAML)"):
        Issuers.read(tmp_path / "issuers.yaml", KeySets())
    with pytest.raises(FhirError, match="cannot be read"):
        Issuers.read(tmp_path / "nowhere.yaml", KeySets())


def test_a_fault_is_told_with_its_line(tmp_path: Path) -> None:
    """And a key that is there twice, of which YAML would take the second without a word."""
    file = tmp_path / "issuers.yaml"
    good = "- issuer: https://login.test\n  audience: fhirgw\n  scopes: system/*.rs\n  jwks_url: https://login.test/k\n"
    file.write_text(good + "  claims: {organisation: ods}\n  purposes: [direct-care, fun]\n")
    with pytest.raises(FhirError, match=r"issuers.yaml:6: issuer 1: purposes.1: Input should be"):
        Issuers.read(file, KeySets())
    file.write_text(good + "  claims: {organisation: ods}\n  scopes: user/*.rs\n")
    with pytest.raises(FhirError, match=r"issuers.yaml:6: the key scopes is there twice"):
        Issuers.read(file, KeySets())
    file.write_text(good + "  claims: {organisation: ods}\n")
    assert Issuers.read(file, KeySets()).find("https://login.test") is not None
