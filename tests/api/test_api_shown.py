"""How an answer looks: its format, how much of each resource, and the headers that come back with it."""

import json
import uuid
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from fhirgw.fhir.canonical import decode
from tests.api.conftest import OBSERVATIONS
from tests.api.test_api_fhir import FHIR_JSON, entries, outcome
from tests.gateway import Gateway
from tests.put import put

SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


@pytest.fixture(scope="module")
async def exact(gateway: Gateway, module_database: str) -> str:
    """An Observation whose decimals a double would change."""
    await put(
        module_database,
        decode(
            b'{"resourceType":"Observation","id":"exact","status":"final","code":{"text":"c"},'
            b'"text":{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">x</div>"},'
            b'"valueQuantity":{"value":1.10},"subject":{"reference":"Patient/p1"},"note":[{"text":"n"}],'
            b'"referenceRange":[{"low":{"value":0.0000001000}}]}'
        ),
    )
    return "/fhir/Observation/exact"


WAYS = ["{}", "{}/_history/1", "{}/_history", "/fhir/Observation?_id=exact", "/fhir/Patient/p1/$everything"]


def shown(gateway: Gateway, path: str, asked: str) -> dict[str, Any]:
    """The Observation as the address answers with it."""
    answer = gateway.http.get(f"{path}{'&' if '?' in path else '?'}{asked}")
    assert answer.status_code == 200, answer.text
    found = json.loads(answer.text, parse_float=Decimal)
    every = [each["resource"] for each in found["entry"]] if found["resourceType"] == "Bundle" else [found]
    (one,) = [each for each in every if each.get("id") == "exact"]
    return dict(one)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("_summary=true", ["status", "code", "valueQuantity", "subject"]),
        ("_summary=text", ["status", "code", "text"]),
        ("_summary=data", ["status", "code", "valueQuantity", "subject", "note", "referenceRange"]),
        ("_elements=value,note", ["status", "code", "valueQuantity", "note"]),
    ],
)
def test_a_part_is_told_to_be_one_whichever_way(
    gateway: Gateway, exact: str, way: str, asked: str, kept: list[str]
) -> None:
    found = shown(gateway, way.format(exact), asked)
    assert found["meta"]["tag"] == [SUBSETTED]
    assert sorted(found.keys() - {"resourceType", "id", "meta"}) == sorted(kept)
    if "valueQuantity" in kept:
        assert str(found["valueQuantity"]["value"]) == "1.10"


@pytest.mark.parametrize("way", WAYS)
def test_the_whole_is_told_to_be_nothing_else(gateway: Gateway, exact: str, way: str) -> None:
    found = shown(gateway, way.format(exact), "_summary=false")
    assert "tag" not in found["meta"]
    assert {"text", "note", "referenceRange"} < found.keys()


@pytest.mark.parametrize("way", WAYS)
def test_laid_out_for_people_the_numbers_stay(gateway: Gateway, exact: str, way: str) -> None:
    path = way.format(exact)
    plain = gateway.http.get(f"{path}{'&' if '?' in path else '?'}_format=json")
    laid_out = gateway.http.get(f"{path}{'&' if '?' in path else '?'}_format=json&_pretty=true")
    assert "\n" not in plain.text
    assert '"value": 1.10\n' in laid_out.text
    assert laid_out.headers["content-type"] == FHIR_JSON
    assert json.loads(laid_out.text, parse_float=str) == json.loads(plain.text, parse_float=str)


def test_a_refusal_is_laid_out_too(gateway: Gateway) -> None:
    answer = gateway.http.get("/fhir/Patient/nobody?_pretty=true")
    assert answer.status_code == 404
    assert answer.text.startswith('{\n  "resourceType": "OperationOutcome",\n')


def test_a_count_is_a_total_and_no_match(gateway: Gateway) -> None:
    found = gateway.http.get("/fhir/Observation?_summary=count&status=final").json()
    assert found["total"] >= len(OBSERVATIONS)
    assert [each["search"]["mode"] for each in found["entry"]] == ["outcome"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/fhir/Patient?_summary=text&_revinclude=Observation:subject", "_summary=text cannot be combined"),
        ("/fhir/Patient?_summary=some", "_summary is one of"),
        ("/fhir/Patient/p1?_summary=some", "_summary is one of"),
        ("/fhir/Patient/p1?_summary=count", "_summary=count is for searches"),
        ("/fhir/Patient?_elements=nam", "did you mean name?"),
        ("/fhir/Patient?_elements=name&_summary=true", "exclude each other"),
    ],
)
def test_what_r4_does_not_let_be_combined_is_refused(gateway: Gateway, path: str, words: str) -> None:
    answer = gateway.http.get(path)
    assert answer.status_code == 400
    assert words in outcome(answer)[0]["diagnostics"]


def test_what_comes_along_is_summed_up_too_and_named_elements_are_of_the_matches(gateway: Gateway) -> None:
    asked = "/fhir/Patient?_id=p1&_include=Patient:organization"
    summed = gateway.http.get(f"{asked}&_summary=true").json()
    assert entries(summed, "include") == ["Organization/o1"]
    assert all(each["resource"]["meta"]["tag"] == [SUBSETTED] for each in summed["entry"][:2])
    named = gateway.http.get(f"{asked}&_elements=birthDate").json()
    assert [("tag" in each["resource"]["meta"]) for each in named["entry"][:2]] == [True, False]


def test_the_pages_of_a_summary_stay_one(gateway: Gateway) -> None:
    first = gateway.http.get("/fhir/Patient?_count=2&_summary=true").json()
    following = next(each["url"] for each in first["link"] if each["relation"] == "next")
    assert gateway.http.get(following).json()["entry"][0]["resource"]["meta"]["tag"] == [SUBSETTED]


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        *(("application/fhir+json; fhirVersion=4.0", 200), ("application/fhir+json;fhirVersion=4.0.1", 200)),
        *(("application/fhir+json; fhirVersion=3.0", 406), ("application/fhir+json; fhirVersion=5.0, */*", 200)),
        *(("application/fhir+json;charset=utf-8", 200), ("application/fhir+json; charset=latin1", 406)),
        *(("application/fhir+json;q=0", 406), ("application/fhir+json;q=0.0, application/json;q=0.1", 200)),
        *(("application/fhir+xml, text/xml", 406), ("APPLICATION/FHIR+JSON", 200)),
    ],
)
def test_an_accept_may_say_which_version_and_alphabet(gateway: Gateway, accept: str, status: int) -> None:
    answer = gateway.http.get("/fhir/Patient/p1", headers={"Accept": accept})
    assert answer.status_code == status
    assert gateway.http.get("/fhir/Patient/p1?_format=json", headers={"Accept": accept}).status_code == 200


@pytest.mark.parametrize(
    ("format", "status"),
    [
        *(("json", 200), ("application/fhir%2Bjson", 200), ("application/fhir+json", 200), ("text/json", 200)),
        *(("application/fhir%2Bjson;fhirVersion=4.0", 200), ("application/fhir%2Bjson;fhirVersion=3.0", 406)),
        *(("xml", 406), ("ttl", 406), ("html", 406), ("", 406)),
    ],
)
def test_a_format_is_a_kind_of_json(gateway: Gateway, format: str, status: int) -> None:
    assert gateway.http.get(f"/fhir/Patient/p1?_format={format}").status_code == status


def test_ids_come_back_as_they_were_sent(gateway: Gateway) -> None:
    request = str(uuid.uuid4())
    sent = {"X-Request-ID": request, "X-Correlation-ID": "11c46f5f-cdef-4865-94b2-0ee0edcc26da"}
    for path, status in (("/fhir/Patient/p1", 200), ("/fhir/Patient/nobody", 404), ("/fhir/metadata", 200)):
        answer = gateway.http.get(path, headers=sent)
        assert answer.status_code == status
        assert {name: answer.headers[name] for name in sent} == sent
    assert (
        gateway.http.get("/fhir/Patient/p1", headers={"X-Request-ID": "trace-7"}).headers["x-request-id"] == "trace-7"
    )
    alone = gateway.http.get("/fhir/Patient/p1").headers
    assert uuid.UUID(alone["x-request-id"])
    assert "x-correlation-id" not in alone


@pytest.mark.parametrize("name", ["X-Request-ID", "X-Correlation-ID", "NHSD-End-User-Organisation-ODS"])
@pytest.mark.parametrize("value", ["a b", "<script>", "x" * 200, "é".encode(), ""])
def test_a_header_that_is_none_is_refused_and_not_sent_back(gateway: Gateway, name: str, value: str) -> None:
    answer = gateway.http.get("/fhir/Patient/p1", headers={name: value})
    assert answer.status_code == 400
    assert name.lower() in outcome(answer)[0]["diagnostics"]
    assert answer.headers.get(name) != value


async def test_the_audit_says_for_whom_and_under_which_id(gateway: Gateway, module_database: str) -> None:
    request = str(uuid.uuid4())
    sent = {"X-Request-ID": request, "NHSD-End-User-Organisation-ODS": "rre"}
    assert gateway.http.get("/fhir/Patient/p1", headers=sent).status_code == 200
    gateway.http.get("/fhir/Patient/p1", headers={"X-Request-ID": "Canarybird.1950"})
    connection = await asyncpg.connect(module_database, server_settings={"fhirgw.permit": "test"})
    try:
        bodies = [row[0] for row in await connection.fetch("SELECT body FROM fhirgw.audited ORDER BY sequence")]
    finally:
        await connection.close()
    (event,) = [json.loads(each) for each in bodies if request in each]
    assert event["agent"][-1]["who"]["identifier"]["value"] == "RRE"
    assert event["agent"][-1]["requestor"] is False
    assert not any("Canarybird" in each for each in bodies)


@pytest.mark.parametrize(
    "path", ["/fhir/Patient/p1", "/fhir/Patient", "/fhir/metadata", "/fhir/Patient/p1/$everything"]
)
def test_nothing_is_opened_to_other_sites(gateway: Gateway, path: str) -> None:
    origin = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    for method in ("GET", "OPTIONS"):
        answer = gateway.http.request(method, path, headers=origin)
        assert not any(name.startswith("access-control") for name in answer.headers)


READ_ONLY = ["/fhir/metadata", "/fhir/_history", "/fhir/Patient/_history", "/fhir/Patient/p1/_history", "/fhir/$meta"]
READ_ONLY += ["/fhir/Patient/p1/_history/1", "/fhir/Patient/p1/$everything", "/fhir/Patient/p1/$summary", "/fhir"]


@pytest.mark.parametrize("path", READ_ONLY)
def test_head_and_options_are_right_everywhere(gateway: Gateway, path: str) -> None:
    whole, head = gateway.http.get(path), gateway.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    allowed = gateway.http.options(path)
    assert (allowed.status_code, allowed.content) == (204, b"")
    named = allowed.headers["allow"].split(", ")
    assert {"GET", "HEAD", "OPTIONS"} <= set(named)
    refused = gateway.http.request("PROPFIND", path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed.headers["allow"])


def test_metadata_has_a_tag(gateway: Gateway) -> None:
    first = gateway.http.get("/fhir/metadata")
    again = gateway.http.get("/fhir/metadata", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert gateway.http.get("/fhir/metadata", headers={"If-None-Match": 'W/"x"'}).status_code == 200
