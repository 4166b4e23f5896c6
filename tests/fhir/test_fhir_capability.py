"""The CapabilityStatement claims what the tables hold, and is itself R4."""

from __future__ import annotations

from fhirgw.api.served import served
from fhirgw.app import create_app
from fhirgw.fhir.capability import capability
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.profile import UK_CORE
from fhirgw.fhir.query import Query
from fhirgw.settings import Settings
from tests.judged import check

SERVED = served(create_app(Settings()).routes)
STATEMENT = capability("1.2.3", "https://gw.uk/fhir", "2025-11-01T00:00:00Z", SERVED)
RESOURCES = {each["type"]: each for each in STATEMENT["rest"][0]["resource"]}


def test_it_is_a_capability_statement_of_the_types_held() -> None:
    assert check(STATEMENT) == []
    assert set(RESOURCES) >= set(HELD)
    assert (STATEMENT["software"]["version"], STATEMENT["implementation"]["url"]) == ("1.2.3", "https://gw.uk/fhir")
    assert f"{UK_CORE}Patient" in RESOURCES["Patient"]["supportedProfile"]
    assert not any(each.startswith(UK_CORE) for each in RESOURCES["Goal"].get("supportedProfile", ()))
    assert [each["name"] for each in RESOURCES["Patient"]["operation"]] == [
        *("break-glass", "everything", "explain", "export", "match", "meta", "summary", "validate", "who-looked")
    ]


def test_it_says_where_tokens_come_from() -> None:
    security = STATEMENT["rest"][0]["security"]
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    assert "https://gw.uk/fhir/.well-known/smart-configuration" in security["description"]


def test_a_parameter_of_two_types_names_the_definition_they_share() -> None:
    definitions = {each["name"]: each["definition"] for each in RESOURCES["Patient"]["searchParam"]}
    assert definitions["identifier"] == "http://hl7.org/fhir/SearchParameter/Patient-identifier"
    assert definitions["gender"] == "http://hl7.org/fhir/SearchParameter/individual-gender"
    assert definitions["_id"] == "http://hl7.org/fhir/SearchParameter/Resource-id"
    assert "phonetic" not in definitions


def test_every_include_it_claims_is_taken() -> None:
    claimed = 0
    for name, resource in RESOURCES.items():
        pairs = [("_include", each) for each in resource.get("searchInclude", ())]
        pairs += [("_revinclude", each) for each in resource.get("searchRevInclude", ())]
        for pair in pairs:
            query = Query.parse(name, [pair])
            assert query.include or query.revinclude
            claimed += 1
    assert claimed > 200
