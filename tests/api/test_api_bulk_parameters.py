"""What an export is asked for with: each parameter of https://hl7.org/fhir/uv/bulkdata/export.html#query-parameters."""

import gzip
import hashlib
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest

from fhirgw.api.bulk import PATIENT
from fhirgw.api.patience import Patience
from tests.api.conftest import OBSERVATIONS, PERSON
from tests.api.test_api_bulk import ASYNC, PLAIN, issue, kick_off, polled
from tests.gateway import Gateway

LENIENT = {**ASYNC, "prefer": "respond-async, handling=lenient"}


def asked(gateway: Gateway, *given: tuple[str, Any], path: str = "Patient/$export") -> httpx.Response:
    body = {"resourceType": "Parameters", "parameter": [{"name": name, **value} for name, value in given]}
    return gateway.http.post(f"/fhir/{path}", json=body, headers=ASYNC)


def manifest(gateway: Gateway, started: httpx.Response) -> dict[str, Any]:
    assert started.status_code == 202, started.text
    done = polled(gateway, started.headers["content-location"])
    assert done.status_code == 200, done.text
    found: dict[str, Any] = done.json()
    return found


def lines(gateway: Gateway, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for each in files for line in gateway.http.get(each["url"]).content.splitlines()]


def test_post_of_parameters_is_the_same_export(gateway: Gateway) -> None:
    kinds = ("_type", {"valueString": "Patient,Observation"})
    by_post = manifest(gateway, asked(gateway, kinds, ("_since", {"valueInstant": "2020-01-01T00:00:00Z"})))
    by_get = manifest(gateway, kick_off(gateway, "Patient/$export?_type=Patient&_type=Observation"))
    assert lines(gateway, by_post["output"]) == lines(gateway, by_get["output"])


def test_only_the_records_of_those_who_are_named(gateway: Gateway) -> None:
    made = manifest(gateway, asked(gateway, ("patient", {"valueReference": {"reference": "Patient/p1"}})))
    assert {each["id"] for each in lines(gateway, made["output"])} == {"p1", *(each["id"] for each in OBSERVATIONS)}


def test_a_patient_may_be_named_by_an_address_here(gateway: Gateway) -> None:
    address = {"valueReference": {"reference": f"{gateway.base}/Patient/p1"}}
    made = manifest(gateway, asked(gateway, ("patient", address), ("_type", {"valueString": "Patient"})))
    assert {each["id"] for each in lines(gateway, made["output"])} == {"p1"}


@pytest.mark.parametrize("nobody", ["Patient/nobody", "Practitioner/p1", "p1", "https://else.example/fhir/Patient/p1"])
def test_a_patient_who_is_not_there_is_refused(gateway: Gateway, nobody: str) -> None:
    answer = asked(gateway, ("patient", {"valueReference": {"reference": nobody}}))
    assert issue(answer, 400).startswith("invalid: patient: ")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["Observation?date=2025-03-02"], {"ob2"}),
        (["Observation?date=2025-03-02", "Observation?date=gt2025-03-06"], {"ob2", "ob7"}),
        (["Observation?date=2025-03-02,Observation?date=2025-03-03%2C2025-03-04"], {"ob2", "ob3", "ob4"}),
        (["Observation?subject:Patient.family=Canarybird&date=2025-03-01"], {"ob1"}),
        (["Observation?subject:Patient.family=Nobody"], set()),
    ],
)
def test_a_filter_holds_for_its_type_alone(gateway: Gateway, filters: list[str], found: set[str]) -> None:
    query = "&".join(f"_typeFilter={quote(each, safe='')}" for each in filters)
    made = manifest(gateway, kick_off(gateway, f"$export?_type=Observation,Patient&{query}"))
    ids = {each["id"] for each in lines(gateway, made["output"]) if each["resourceType"] == "Observation"}
    assert ids == found
    assert [each["count"] for each in made["output"] if each["type"] == "Patient"] == [21]


def test_only_some_elements(gateway: Gateway) -> None:
    made = manifest(gateway, kick_off(gateway, "$export?_type=Patient,Observation&_elements=Patient.birthDate"))
    found = {each["id"]: each for each in lines(gateway, made["output"])}
    assert found["p1"].keys() == {"resourceType", "id", "meta", "birthDate"}
    assert found["p1"]["birthDate"] == PERSON["birthDate"]
    assert found["p1"]["meta"]["tag"][-1]["code"] == "SUBSETTED"
    assert found["ob1"]["effectiveDateTime"] == "2025-03-01"


def test_only_what_changed_until(gateway: Gateway) -> None:
    made = manifest(gateway, kick_off(gateway, "$export?_type=Organization&_until=2026-01-15T00:00:00Z"))
    assert [each["id"] for each in lines(gateway, made["output"])] == ["o1"]


def test_what_was_deleted_since_is_told(gateway: Gateway) -> None:
    made = manifest(gateway, kick_off(gateway, "$export?_since=2026-01-15T00:00:00Z"))
    (bundle,) = lines(gateway, made["deleted"])
    assert bundle == {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"request": {"method": "DELETE", "url": "Organization/gone"}}],
    }
    assert [each["type"] for each in made["deleted"]] == ["Bundle"]
    later = manifest(gateway, kick_off(gateway, "$export?_since=2026-03-15T00:00:00Z"))
    assert later["deleted"] == []
    assert manifest(gateway, kick_off(gateway))["deleted"] == []


def test_leniently_what_is_not_done_is_left_out_and_told(gateway: Gateway) -> None:
    path = "$export?_type=Patient,Patiant&organizeOutputBy=Patient"
    assert issue(kick_off(gateway, path), 400)
    made = manifest(gateway, kick_off(gateway, path, LENIENT))
    assert [each["type"] for each in made["output"]] == ["Patient"]
    told = lines(gateway, made["error"])
    assert {each["resourceType"] for each in told} == {"OperationOutcome"}
    said = " ".join(each["issue"][0]["diagnostics"] for each in told)
    assert "organizeOutputBy" in said and "Patiant" in said
    malformed = kick_off(gateway, "$export?_since=yesterday", LENIENT)
    assert issue(malformed, 400).startswith("invalid: _since")  # what is wrong is wrong


def test_leniently_types_that_are_in_nobodys_record_are_left_out_and_told_each(gateway: Gateway) -> None:
    path = "Patient/$export?_type=Organization,Patient,Patiant,Practitioner"
    assert issue(kick_off(gateway, path), 400).startswith("not-supported: _type: Organization is in nobody's record")
    made = manifest(gateway, kick_off(gateway, path, LENIENT))
    assert [each["type"] for each in made["output"]] == ["Patient"]
    told = [each["issue"][0]["diagnostics"] for each in lines(gateway, made["error"])]
    assert [each.partition("_type: ")[2].split()[0] for each in told] == ["Organization", "'Patiant'", "Practitioner"]
    assert issue(kick_off(gateway, "Patient/$export?_type=Organization", LENIENT), 400)  # nothing would be left


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "application/x-www-form-urlencoded"}, b"_type=Patient", 415),
        ({"content-type": "application/fhir+json"}, b"[1]", 400),
        ({"content-type": "application/fhir+json"}, b'{"resourceType":"Patient"}', 400),
        (
            {"content-type": "application/fhir+json"},
            b'{"resourceType":"Parameters","parameter":[{"name":"_type"}]}',
            400,
        ),
        ({"content-type": "application/fhir+json"}, b'{"resourceType":"Parameters","parameter":[7]}', 400),
    ],
)
def test_a_body_that_is_no_parameters_is_refused(
    gateway: Gateway, headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = gateway.http.post("/fhir/$export", content=body, headers=ASYNC | headers)
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_file_is_packed_for_who_takes_it_so(gateway: Gateway) -> None:
    (file,) = manifest(gateway, kick_off(gateway, "$export?_type=Patient"))["output"]
    plain = gateway.http.get(file["url"], headers=PLAIN)
    assert "content-encoding" not in plain.headers
    digest = hashlib.sha256(plain.content).hexdigest()
    assert plain.headers["etag"] == f'"{digest}"'
    packed = gateway.http.send(
        gateway.http.build_request("GET", file["url"], headers={"accept-encoding": "gzip"}), stream=True
    )
    raw = b"".join(packed.iter_raw())
    assert (packed.headers["content-encoding"], packed.headers["etag"]) == ("gzip", f'"{digest}-gzip"')
    assert gzip.decompress(raw) == plain.content
    refused = gateway.http.get(file["url"], headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers and refused.content == plain.content


def test_who_asks_too_often_is_told_to_wait(gateway: Gateway) -> None:
    address = kick_off(gateway).headers["content-location"]
    job = address.rpartition("/")[2]
    for _ in range(70):  # as a caller would who asked so often
        PATIENT.seconds(job)
    hasty = gateway.http.get(address)  # the first time it is 202 otherwise, even of an export that is done
    assert issue(hasty, 429).startswith("throttled: The export is asked after too often")
    assert int(hasty.headers["retry-after"]) >= 1
    assert polled(gateway, address).status_code in (200, 429)


def test_the_bucket_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("fhirgw.api.patience.time.monotonic", lambda: now)
    patience = Patience(burst=2, rate=0.5, kept=1)
    assert [patience.seconds("a") for _ in range(4)] == [0, 0, 3, 3]
    now += 4
    assert [patience.seconds("a") for _ in range(2)] == [0, 3]
    patience.seconds("b")  # and "a" is forgotten
    assert [patience.seconds("a") for _ in range(3)] == [0, 0, 3]
