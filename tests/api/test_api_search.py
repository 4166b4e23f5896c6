"""Search over HTTP: what is new to it beyond the store's own tests. https://hl7.org/fhir/R4/search.html"""

from collections.abc import Iterator

import httpx
import pytest

from fhirgw.store.registration import Registration
from tests.api.conftest import CANARY, OBSERVATIONS, OTHERS
from tests.api.test_api_fhir import entries, link, outcome
from tests.gateway import Gateway


def test_the_whole_system_is_searched_at_once(gateway: Gateway) -> None:
    asked = {"_type": "Patient,Observation", "_count": "6", "_sort": "-_lastUpdated"}
    answer = gateway.http.get("/fhir", params=asked)
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    found = entries(bundle)
    while following := link(bundle, "next"):
        assert following.partition("?")[0].endswith("/fhir")
        bundle = gateway.http.get(following).json()
        found += entries(bundle)
    expected = [f"Observation/{each['id']}" for each in OBSERVATIONS] + ["Patient/p1"]
    assert sorted(found) == sorted(expected + [f"Patient/{each['id']}" for each in OTHERS])
    assert bundle["total"] == len(found)


def test_the_whole_system_is_searched_by_form_too(gateway: Gateway) -> None:
    answer = gateway.http.post("/fhir/_search", data={"_type": "Patient,Observation", "_id": "p1,ob3,o1"})
    assert sorted(entries(answer.json())) == ["Observation/ob3", "Patient/p1"]


def test_a_search_of_everything_names_no_type(gateway: Gateway) -> None:
    bundle = gateway.http.get("/fhir", params={"_id": "p1,o1,ob3"}).json()
    assert sorted(entries(bundle)) == ["Observation/ob3", "Organization/o1", "Patient/p1"]
    refused = gateway.http.get("/fhir", params={"_type": "Patient,Observatin"})
    assert (refused.status_code, "did you mean Observation" in outcome(refused)[0]["diagnostics"]) == (400, True)


def test_what_is_not_honoured_is_left_out_when_that_is_preferred(gateway: Gateway) -> None:
    asked = {"gender": "male", "gendre": "x", "_has:Observation:patient:status": "final"}
    strict = gateway.http.get("/fhir/Patient", params=asked)
    assert (strict.status_code, "did you mean gender" in outcome(strict)[0]["diagnostics"]) == (400, True)
    lenient = gateway.http.get("/fhir/Patient", params=asked, headers={"Prefer": "handling=lenient"})
    assert lenient.status_code == 200
    self = link(lenient.json(), "self") or ""
    assert "gendre" not in self
    assert "gender=male" in self and "_has" in self
    told = next(each["resource"] for each in lenient.json()["entry"] if each["search"]["mode"] == "outcome")
    assert any("did you mean gender" in issue["diagnostics"] for issue in told["issue"])


@pytest.fixture(scope="module")
def operator(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(Registration("watcher", "Z99", "system/*.rs", roles=("operator",))) as http:
        yield http


PLAN = {"identifier": f"https://fhir.nhs.uk/Id/nhs-number|{CANARY['number']}", "family": CANARY["family"]}


def test_an_operator_is_told_the_plan_and_no_value(operator: httpx.Client) -> None:
    answer = operator.get("/fhir/Patient", params=PLAN | {"_explain": "true", "_sort": "birthdate"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["resourceType"] == "Parameters"
    statements = [each for each in told["parameter"] if each["name"] == "statement"]
    assert len(statements) == 2  # those with a date of birth, then those without
    step = statements[0]["part"][0]["part"]
    assert {"Node Type", "Total Cost", "Plan Rows"} <= {each["name"] for each in step}
    assert not any(value.lower() in answer.text.lower() for value in CANARY.values())
    assert "Cond" not in answer.text and "Filter" not in answer.text


def test_nobody_else_is_told_the_plan(gateway: Gateway, operator: httpx.Client) -> None:
    assert operator.get("/fhir/Patient", params={"_explain": "true"}).status_code == 200
    refused = gateway.http.get("/fhir/Patient", params={"_explain": "true"})
    assert (refused.status_code, outcome(refused)[0]["code"]) == (403, "forbidden")
    plain = operator.get("/fhir/Patient", params={"_explain": "false", "_id": "p1"})
    assert entries(plain.json()) == ["Patient/p1"]


def test_a_cursor_in_a_link_holds_no_name(gateway: Gateway) -> None:
    bundle = gateway.http.get("/fhir/Patient", params={"_sort": "family", "_count": "1"}).json()
    assert entries(bundle) == ["Patient/p1"]
    following = link(bundle, "next") or ""
    assert following and CANARY["family"].lower() not in following.lower()
    rest = gateway.http.get(following).json()
    assert len(entries(rest)) == 1 and entries(rest) != ["Patient/p1"]
