"""Nothing is claimed that does not work: every type, parameter, include and operation of the CapabilityStatement."""

import pytest

from tests.gateway import Gateway

VALUES = {"token": "x|y", "reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "date": "ge2025-01"}
NAMED = {"_id": "x", "active": "true", "deceased": "true", "general": "true"}


@pytest.fixture(scope="module")
def claimed(gateway: Gateway) -> list[dict[str, object]]:
    statement = gateway.http.get("/fhir/metadata").json()
    assert statement["resourceType"] == "CapabilityStatement"
    assert statement["implementation"]["url"] == gateway.base
    resources: list[dict[str, object]] = statement["rest"][0]["resource"]
    return resources


def test_every_parameter_is_one_that_can_be_searched_by(gateway: Gateway, claimed: list[dict[str, object]]) -> None:
    for each in claimed:
        for parameter in each["searchParam"]:  # type: ignore[attr-defined]
            for value in (NAMED.get(parameter["name"], VALUES.get(parameter["type"], "x")), "true"):
                answer = gateway.http.get(f"/fhir/{each['type']}", params={parameter["name"]: value, "_total": "none"})
                if answer.status_code == 200:
                    break
            assert answer.status_code == 200, (each["type"], parameter, answer.text)


def test_every_include_is_one_that_can_be_asked_for(gateway: Gateway, claimed: list[dict[str, object]]) -> None:
    for each in claimed:
        asked = [("_include", value) for value in each.get("searchInclude", [])]  # type: ignore[attr-defined]
        answer = gateway.http.get(f"/fhir/{each['type']}", params=[*asked[:90], ("_count", "2")])
        assert answer.status_code == 200, (each["type"], answer.text)
        asked = [("_revinclude", value) for value in each.get("searchRevInclude", [])]  # type: ignore[attr-defined]
        answer = gateway.http.get(f"/fhir/{each['type']}", params=[*asked[:90], ("_count", "2")])
        assert answer.status_code == 200, (each["type"], answer.text)


def test_what_is_not_claimed_is_refused(gateway: Gateway, claimed: list[dict[str, object]]) -> None:
    types = {each["type"] for each in claimed}
    assert "Patient" in types
    assert "Medication" not in types
    assert gateway.http.get("/fhir/Medication").status_code == 404
    assert {each["code"] for one in claimed for each in one["interaction"]} == {  # type: ignore[attr-defined]
        *("read", "vread", "search-type", "history-instance")
    }
