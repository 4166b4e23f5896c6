"""Who may change and not read is told nothing of what is there; what a batch asks, or is asked again, is audited."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from fhirgw.fhir.canonical import encode
from fhirgw.store.registration import Registration
from tests.api.writing import CLEARED, PEOPLE, observation
from tests.conftest import NewDatabase
from tests.gateway import Gateway
from tests.put import connected, put

JSON = {"content-type": "application/fhir+json", "if-match": "*"}
PATCH = {"content-type": "application/json-patch+json", "if-match": "*"}
WRITES = Registration("writes", "Z99", "system/*.cud", sector="council", rate=1_000_000)
READS_FINAL = Registration(
    "reads-final", "Z99", "system/Observation.cu system/Observation.r?status=final", sector="council", rate=1_000_000
)
AUDITOR = Registration("auditor", "Z99", "system/AuditEvent.rs", sector="council", rate=1_000_000)
OF_REFUSALS = Registration("of-refusals", "Z99", "system/AuditEvent.rs?outcome=4", sector="council", rate=1_000_000)
SLOW = Registration("slow", "Z99", "system/*.rs", sector="council", rate=20)
AMEND = [{"op": "replace", "path": "/status", "value": "amended"}]


@pytest.fixture(scope="module")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, *PEOPLE)
        yield url


def created(client: httpx.Client, **headers: str) -> httpx.Response:
    answer = client.post("/fhir/Observation", content=encode(observation()), headers={**JSON, **headers})
    assert answer.status_code == 201, answer.text
    return answer


def patched(client: httpx.Client, id: str, operations: Any) -> httpx.Response:
    return client.patch(f"/fhir/Observation/{id}", content=json.dumps(operations), headers=PATCH)


def posted(client: httpx.Client, bundle: bytes, request: str) -> httpx.Response:
    return client.post("/fhir", content=bundle, headers={**JSON, "x-request-id": request})


async def audited(url: str, request: str) -> list[dict[str, Any]]:
    connection = await connected(url)
    rows = await connection.fetch(
        "SELECT body FROM fhirgw.audited WHERE body LIKE $1 ORDER BY recorded", f"%{request}%"
    )
    await connection.close()
    return [json.loads(each["body"]) for each in rows]


def test_what_may_not_be_read_does_not_come_back(gateway: Gateway, council: httpx.Client) -> None:
    id = created(council).json()["id"]
    with gateway.client(WRITES) as writes:
        made = created(writes)
        assert (made.content, made.headers["etag"]) == (b"", 'W/"1"')
        assert writes.get(f"/fhir/Observation/{id}").status_code == 403
        answer = patched(writes, id, AMEND)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (200, b"", 'W/"2"')
        again = patched(writes, id, AMEND)  # makes no difference
        assert (again.status_code, again.content, again.headers["etag"]) == (200, b"", 'W/"2"')
        for asking in (
            {"op": "test", "path": "/status", "value": "amended"},
            {"op": "test", "path": "/status", "value": "final"},
            {"op": "copy", "from": "/code", "path": "/method"},
            {"op": "move", "from": "/method", "path": "/bodySite"},
        ):
            refused = patched(writes, id, [asking])
            assert refused.status_code == 403
            assert "need a scope that reads" in refused.json()["issue"][0]["diagnostics"]
        entries = [{"resource": observation(), "request": {"method": "POST", "url": "Observation"}}]
        for kind in ("batch", "transaction"):
            bundle = encode({"resourceType": "Bundle", "type": kind, "entry": entries})
            wish = {**JSON, "prefer": "return=representation"}
            assert "resource" not in writes.post("/fhir", content=bundle, headers=wish).json()["entry"][0]
            assert "resource" in council.post("/fhir", content=bundle, headers=wish).json()["entry"][0]
    assert patched(council, id, [{"op": "test", "path": "/status", "value": "amended"}]).json()["status"] == "amended"
    assert council.get(f"/fhir/Observation/{id}").headers["etag"] == 'W/"2"'


def test_a_narrowed_scope_to_read_shows_what_it_covers(gateway: Gateway, council: httpx.Client) -> None:
    id = created(council).json()["id"]
    with gateway.client(READS_FINAL) as narrow:
        note = [{"op": "add", "path": "/note", "value": [{"text": "x"}]}]
        assert patched(narrow, id, note).json()["status"] == "final"
        out = patched(narrow, id, AMEND)
        assert (out.status_code, out.content) == (200, b"")
        assert patched(narrow, id, [{"op": "test", "path": "/status", "value": "amended"}]).status_code == 403
        back = patched(narrow, id, [{"op": "replace", "path": "/status", "value": "final"}])
        assert (back.status_code, back.content) == (200, b"")


def test_a_narrowed_auditor_gets_no_whole_answer(gateway: Gateway) -> None:
    paths = ("/fhir/Patient/cared-for/$who-looked", "/fhir/Patient/cared-for/$explain?app=council-system")
    with gateway.client(AUDITOR) as auditor, gateway.client(OF_REFUSALS) as narrow:
        for path in paths:
            assert auditor.get(path).status_code == 200
            assert auditor.post(path).status_code == 200
            refused = narrow.get(path)
            assert refused.status_code == 403
            assert "without a constraint" in refused.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize("wish", ["return=representation", "return=minimal"])
async def test_an_answer_given_again_is_audited_with_its_person(
    council: httpx.Client, module_database: str, wish: str
) -> None:
    request = str(uuid.uuid4())
    first, again = (created(council, **{"x-request-id": request, "prefer": wish}) for _ in range(2))
    assert first.content == again.content
    events = await audited(module_database, request)
    assert len(events) == 2
    for event in events:
        named = [each["what"].get("reference") for each in event["entity"]]
        assert "Patient/cared-for" in named


async def test_what_a_batch_may_not_read_is_audited(council: httpx.Client, module_database: str) -> None:
    nobody = str(uuid.uuid4())
    urls = (f"Patient/{nobody}", f"Patient/{nobody}/_history/1", "Patient?colour=red", "Patient/cared-for")
    entries = [{"request": {"method": "GET", "url": each}} for each in urls]
    bundle = encode({"resourceType": "Bundle", "type": "batch", "entry": entries})
    request = str(uuid.uuid4())
    answer = posted(council, bundle, request)
    assert [each["response"]["status"][:3] for each in answer.json()["entry"]] == ["404", "404", "400", "200"]
    events = await audited(module_database, request)
    told = sorted((each["subtype"][0]["code"], each["outcome"]) for each in events)
    assert told == [("batch", "0"), ("read", "4"), ("search-type", "4"), ("vread", "4")]
    assert len([each for each in events if nobody in json.dumps(each)]) == 2


def test_a_batch_counts_what_it_asks(gateway: Gateway) -> None:
    entries = [{"request": {"method": "GET", "url": "Patient/cared-for"}}] * 30
    bundle = encode({"resourceType": "Bundle", "type": "batch", "entry": entries})
    with gateway.client(SLOW) as slow:
        assert slow.get("/fhir/Patient/cared-for").status_code == 200
        assert slow.get("/fhir/Patient/cared-for").status_code == 200
        answer = slow.post("/fhir", content=bundle, headers=JSON)
        assert (answer.status_code, ";r=0;" in answer.headers["ratelimit"]) == (200, True)
        later = slow.get("/fhir/Patient/cared-for")
        assert later.status_code == 429
        assert int(later.headers["retry-after"]) > 30


def test_nobody_writes_what_they_are_then_not_shown(gateway: Gateway, council: httpx.Client) -> None:
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    labelled = encode(observation(meta={"security": [label]}))
    refused = council.post("/fhir/Observation", content=labelled, headers=JSON)
    assert refused.status_code == 403
    assert refused.json()["issue"][0]["expression"] == ["Observation.meta.security"]
    plain = created(council).json()
    changed = encode({**plain, "meta": {"security": [label]}})
    assert council.put(f"/fhir/Observation/{plain['id']}", content=changed, headers=JSON).status_code == 403
    with gateway.client(CLEARED) as cleared:
        made = cleared.post("/fhir/Observation", content=labelled, headers=JSON)
        assert made.status_code == 201
        assert cleared.get(f"/fhir/Observation/{made.json()['id']}").status_code == 200
    assert council.get(f"/fhir/Observation/{made.json()['id']}").status_code == 404


@pytest.mark.parametrize("path", ["Patient/cared-for/$everything", "Patient/cared-for/$meta", "Patient/$meta", "$meta"])
def test_operations_are_asked_by_post_too(council: httpx.Client, path: str) -> None:
    wanted = council.get(f"/fhir/{path}").json()
    sent = [b"", encode({"resourceType": "Parameters"})]
    for body in sent:
        answer = council.post(f"/fhir/{path}", content=body, headers=JSON if body else {})
        assert (answer.status_code, answer.json()) == (200, wanted)
    assert council.post(f"/fhir/{path}", content=b"<a/>", headers={"content-type": "text/xml"}).status_code == 415


def test_parameters_of_a_post_are_those_of_the_address(council: httpx.Client) -> None:
    path = "/fhir/Patient/cared-for/$everything"
    given = [{"name": "_type", "valueString": "EpisodeOfCare"}, {"name": "_count", "valueInteger": 1}]
    answer = council.post(path, content=encode({"resourceType": "Parameters", "parameter": given}), headers=JSON)
    assert answer.json() == council.get(f"{path}?_type=EpisodeOfCare&_count=1").json()
    for wrong in ({"name": "colour", "valueString": "red"}, {"name": "_type", "resource": observation()}, {}):
        body = encode({"resourceType": "Parameters", "parameter": [wrong]})
        assert council.post(path, content=body, headers=JSON).status_code == 400
    assert council.post("/fhir/Patient/cared-for/$summary").json()["type"] == "document"


def test_a_system_without_a_code_finds_all_of_it(council: httpx.Client) -> None:
    system = "http://hl7.org/fhir/observation-status"
    id = created(council).json()["id"]

    def found(asked: str) -> bool:
        answer = council.get("/fhir/Observation", params=[("_id", id), *[tuple(asked.split("=", 1))]])
        return bool(answer.json()["total"])

    assert found(f"status={system}|") and found(f"status={system}|,amended") and found("status=final")
    assert not found(f"status:not={system}|")
    assert not found("status=http://example.org|") and found("status:not=http://example.org|")


def test_any_type_of_r4_is_validated(council: httpx.Client) -> None:
    def judged(kind: str, resource: dict[str, Any]) -> list[str]:
        answer = council.post(f"/fhir/{kind}/$validate", content=encode(resource), headers=JSON)
        assert answer.status_code == 200, answer.text
        return [each["severity"] for each in answer.json()["issue"]]

    entry = {"fullUrl": f"urn:uuid:{uuid.uuid4()}", "resource": observation()}
    assert "error" not in judged("Bundle", {"resourceType": "Bundle", "type": "collection", "entry": [entry]})
    entry["resource"] = {**observation(), "status": "x"}
    assert "error" in judged("Bundle", {"resourceType": "Bundle", "type": "collection", "entry": [entry]})
    assert "error" in judged("Bundle", observation())
    assert "error" not in judged("Substance", {"resourceType": "Substance", "code": {"text": "x"}})
    assert council.post("/fhir/Nonsense/$validate", content=encode(observation()), headers=JSON).status_code == 404
