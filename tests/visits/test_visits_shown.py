"""Who is shown what visits are rendered as, and what an export has of them: the one predicate, and no way around it."""

import time
from typing import Any

import httpx
import orjson
import pytest

from fhirgw.fhir.issue import Resource
from fhirgw.store.registration import Registration
from tests.gateway import Gateway
from tests.visits.visiting import A, visit

PUSH = "/homecare/visits"
CARER = "cafe0000-0000-5000-8000-000000000003"
"""A Patient of the council's who is nobody whom a care provider looks after."""
AMENDED = {"by": "M1", "reason": "Wrong day"}
LISTED = Registration("narrow", "K01", "system/Encounter.rs?status=finished", sector="care-provider", rate=1_000_000)


@pytest.fixture(scope="module")
def besides() -> tuple[Resource, ...]:
    return ({"resourceType": "Patient", "id": CARER},)


def pushed(client: httpx.Client, id: str, **parts: Any) -> str:
    (receipt,) = client.post(PUSH, json=visit(id, **parts)).json()["receipts"]
    assert receipt["status"] == "stored", receipt
    return str(receipt["id"])


def found(client: httpx.Client, search: str) -> list[str]:
    """What a search finds, as addresses."""
    entries = client.get(f"/fhir/{search}").json().get("entry", ())
    resources = [each["resource"] for each in entries if each["search"]["mode"] != "outcome"]
    return [f"{each['resourceType']}/{each['id']}" for each in resources]


def told(client: httpx.Client, id: str) -> list[tuple[int, str]]:
    """What every way of asking for a visit tells, without the ids of it and what is random in an answer."""
    answers = []
    for address in (
        *(f"{kind}/{id}" for kind in ("Appointment", "Encounter")),
        *(f"Encounter/{id}/_history", f"Encounter/{id}/_history/1", f"Encounter?_id={id}", f"Task?encounter={id}"),
        *(f"Encounter?_id={id}&_summary=count", f"Patient?_has:Encounter:patient:_id={id}"),
        *(f"Task?encounter:Encounter._id={id}", f"Encounter?_id={id}&_revinclude=Task:encounter"),
        f"Encounter?_id={id}&_include=Encounter:appointment",
        *(f"Provenance/{id}.a2", f"Provenance?target=Encounter/{id}", f"Provenance/{id}.a2/_history"),
    ):
        answer = client.get(f"/fhir/{address}")
        body = answer.json()
        for name in ("id", "timestamp", "link"):
            body.pop(name, None)
        body.get("meta", {}).pop("lastUpdated", None)
        answers.append((answer.status_code, orjson.dumps(body).decode().replace(id, "ID")))
    return answers


def dissent() -> dict[str, Any]:
    scope = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]}
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": scope,
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{A}"},
        "performer": [{"reference": f"Patient/{A}"}],
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]},
    }


def test_what_is_hidden_is_as_what_is_absent(kestrel: httpx.Client, council: httpx.Client) -> None:
    """A dissent hides visits from its care provider from the next request on, and hides that there are any."""
    pushed(kestrel, "hidden")
    id = pushed(kestrel, "hidden", version=2, amended=AMENDED)
    absent = id[:-4] + ("0000" if not id.endswith("0000") else "1111")
    before = told(kestrel, id)
    assert before != told(kestrel, absent)
    assert all(status == 200 for status, _ in before)
    made = council.post("/fhir/Consent", json=dissent())
    assert made.status_code == 201, made.text
    assert told(kestrel, id) == told(kestrel, absent)
    assert kestrel.get("/fhir/Encounter?_summary=count").json()["total"] == 0
    assert council.get(f"/fhir/Encounter/{id}").status_code == 200
    body = {**made.json(), "status": "inactive"}
    place = f"/fhir/Consent/{body['id']}"
    assert council.put(place, json=body, headers={"if-match": made.headers["etag"]}).status_code == 200
    assert told(kestrel, id) == before


def test_what_is_seen_ends_with_the_package(kestrel: httpx.Client, council: httpx.Client) -> None:
    """In the grace for late visits they are taken, and not shown."""
    id = pushed(kestrel, "ended")
    (task,) = found(kestrel, f"Task?encounter=Encounter/{id}")
    address = "/fhir/EpisodeOfCare/care-a"
    care = council.get(address).json()
    now = time.time()
    start, end = (time.strftime("%Y-%m-%d", time.gmtime(now - 86_400 * days)) for days in (400, 10))

    def put(body: dict[str, Any]) -> None:
        answer = council.put(address, json=body, headers={"if-match": council.get(address).headers["etag"]})
        assert answer.status_code == 200, answer.text

    def statuses(client: httpx.Client) -> set[int]:
        return {client.get(f"/fhir/{each}").status_code for each in (f"Encounter/{id}", f"Appointment/{id}", task)}

    assert statuses(kestrel) == {200}
    put({**care, "status": "finished", "period": {"start": start, "end": end}})
    assert (statuses(kestrel), statuses(council)) == ({404}, {200})
    assert found(kestrel, f"Encounter?_id={id}") == []
    assert council.get(f"/fhir/Encounter/{pushed(kestrel, 'late')}").status_code == 200
    put(care)
    assert statuses(kestrel) == {200}


def test_a_scope_of_some_shows_those(gateway: Gateway, kestrel: httpx.Client) -> None:
    finished = pushed(kestrel, "finished")
    going = pushed(kestrel, "going", carers=[{"carer": "C1", "start": "2026-03-30T07:31"}])
    with gateway.client(LISTED) as narrow:
        assert narrow.get(f"/fhir/Encounter/{finished}").status_code == 200
        assert narrow.get(f"/fhir/Encounter/{going}").status_code == 404
        assert narrow.get(f"/fhir/Appointment/{finished}").status_code == 403


def exported(client: httpx.Client, path: str) -> dict[str, Any]:
    asked = client.get(f"/fhir/{path}", headers={"prefer": "respond-async", "accept": "application/fhir+json"})
    assert asked.status_code == 202, asked.text
    until = time.monotonic() + 60
    while (answer := client.get(asked.headers["content-location"])).status_code == 202:
        assert time.monotonic() < until, "the export did not end"
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    manifest: dict[str, Any] = answer.json()
    return manifest


def lines(client: httpx.Client, manifest: dict[str, Any], part: str = "output") -> list[dict[str, Any]]:
    return [
        orjson.loads(line) for each in manifest[part] for line in client.get(each["url"]).content.splitlines() if line
    ]


def test_exports_have_visits_what_changed_and_what_is_gone(kestrel: httpx.Client, council: httpx.Client) -> None:
    id = pushed(kestrel, "exported", observations=[{"name": "Temperature", "value": 36, "unit": "Cel"}])
    whole = exported(council, "$export")
    served = council.get(f"/fhir/Encounter/{id}").content
    bodies = [line for each in whole["output"] for line in council.get(each["url"]).content.splitlines()]
    assert served in bodies, "the same bytes"
    kinds = {each["resourceType"] for each in lines(council, whole) if each["id"].startswith(id)}
    assert kinds == {"Appointment", "Encounter", "Observation", "Task"}
    since = whole["transactionTime"]
    assert lines(council, exported(council, f"$export?_since={since}&_type=Encounter,Task")) == []
    pushed(kestrel, "exported", version=2, carers=None, tasks=None, amended=AMENDED)
    later = exported(council, f"$export?_since={since}")
    changed = {(each["resourceType"], each["meta"]["versionId"]) for each in lines(council, later)}
    assert changed == {("Appointment", "2"), ("Observation", "2"), ("Provenance", "2")}
    gone = {entry["request"]["url"] for each in lines(council, later, "deleted") for entry in each["entry"]}
    assert {each for each in gone if id in each} > {f"Encounter/{id}"}
    assert len([each for each in gone if each.startswith(f"Task/{id}.t")]) == 1
    own = exported(council, "$export?_type=Appointment&_typeFilter=Appointment%3Fstatus%3Dbooked")
    assert id in {each["id"] for each in lines(council, own)}
    again = exported(council, "$export")
    one = next(each for each in lines(council, again) if each["id"] == id)
    assert (one["resourceType"], one["meta"]["versionId"]) == ("Appointment", "2")
