"""Visits that were pushed, read as FHIR over HTTP, by those who may see whose they are, and by nobody else."""

from typing import Any

import httpx

from tests.visits.visiting import MR_B, NOBODY, A, B, visit

PUSH = "/homecare/visits"
VISIT = "https://fhirgw.uk/Id/visit"


def pushed(client: httpx.Client, id: str, **parts: Any) -> str:
    """The id of the resources that a visit is."""
    (receipt,) = client.post(PUSH, json=visit(id, **parts)).json()["receipts"]
    assert receipt["status"] == "stored", receipt
    return str(receipt["id"])


def found(client: httpx.Client, search: str) -> list[str]:
    answer = client.get(f"/fhir/{search}")
    assert answer.status_code == 200, answer.text
    resources = [each["resource"] for each in answer.json().get("entry", ()) if each["search"]["mode"] != "outcome"]
    return [f"{each['resourceType']}/{each['id']}" for each in resources]


WHOLE = {
    "line": {"order": "O-7"},
    "medication": [{"medicine": "Paracetamol 500 mg", "outcome": "given", "dose": "2 tablets"}],
    "observations": [{"name": "Temperature", "value": 36.5, "unit": "Cel"}],
}


def test_a_visit_is_read_with_its_version(kestrel: httpx.Client, council: httpx.Client) -> None:
    id = pushed(kestrel, "read", **WHOLE)
    answer = kestrel.get(f"/fhir/Encounter/{id}")
    assert answer.status_code == 200, answer.text
    encounter = answer.json()
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["last-modified"]
    assert encounter["meta"]["versionId"] == "1"
    assert encounter["status"] == "finished"
    assert encounter["subject"] == {"reference": f"Patient/{A}"}
    assert kestrel.get(f"/fhir/Encounter/{id}", headers={"if-none-match": 'W/"1"'}).status_code == 304
    (appointment,) = encounter["appointment"]
    assert kestrel.get(f"/fhir/{appointment['reference']}").json()["status"] == "fulfilled"
    for kind in ("Task", "MedicationAdministration", "Observation"):
        reference = "context" if kind.startswith("Med") else "encounter"
        (one,) = found(council, f"{kind}?{reference}=Encounter/{id}")
        assert council.get(f"/fhir/{one}").json()["id"].startswith(id)


def test_a_visit_is_found_by_what_it_says(kestrel: httpx.Client, council: httpx.Client) -> None:
    id = pushed(kestrel, "found", **WHOLE)
    own = [f"Encounter/{id}"]
    for search in (
        f"_id={id}",
        f"identifier={VISIT}|K01.found",
        "identifier=K01.found",
        f"patient={A}&identifier=K01.found&status=finished",
        f"appointment=Appointment/{id}",
    ):
        assert found(kestrel, f"Encounter?{search}") == own, search
    for search in (
        f"patient={A}",
        "date=2026-03-30",
        "status=finished",
        "practitioner:identifier=https://fhirgw.uk/Id/K01/carer|C1",
        "service-provider:identifier=https://fhir.nhs.uk/Id/ods-organization-code|K01",
        "based-on:identifier=https://fhirgw.uk/Id/order|O-7",
        f"patient={A}&_sort=-date&date=ge2026-03-30",
        "subject:Patient.birthdate=1940-03-01&date=2026-03-30",
    ):
        assert own[0] in found(kestrel, f"Encounter?{search}&_count=1000"), search
    for search in ("date=2026-03-29", "status=in-progress", f"patient={B}", "identifier=K01.other", "class=AMB"):
        assert own[0] not in found(kestrel, f"Encounter?{search}&_count=1000"), search
    assert found(kestrel, f"Encounter?_id={id}&_include=Encounter:appointment&_include=Encounter:patient") == [
        *own,
        f"Appointment/{id}",
        f"Patient/{A}",
    ]
    along = found(council, f"Encounter?_id={id}&_revinclude=Task:encounter&_revinclude=Observation:encounter")
    assert [each.partition("/")[0] for each in along] == ["Encounter", "Task", "Observation"]
    assert own[0] in found(kestrel, f"Patient?_id={A}&_revinclude=Encounter:patient&_count=1000")


def test_nobody_came(kestrel: httpx.Client) -> None:
    id = pushed(kestrel, "missed", carers=None, tasks=None, outcome={"code": "missed-by-provider"})
    assert kestrel.get(f"/fhir/Encounter/{id}").status_code == 404
    assert kestrel.get(f"/fhir/Appointment/{id}").json()["status"] == "noshow"


def test_what_nobody_wrote_has_no_new_version(kestrel: httpx.Client) -> None:
    """A visit planned for long ago of which nothing is said is booked still: late is what alerts are for."""
    id = pushed(kestrel, "booked", carers=None, tasks=None)
    assert kestrel.get(f"/fhir/Appointment/{id}").json()["status"] == "booked"
    assert f"Appointment/{id}" in found(kestrel, f"Appointment?patient={A}&status=booked&_count=1000")


def test_a_corrected_visit_keeps_what_it_was(kestrel: httpx.Client) -> None:
    id = pushed(kestrel, "corrected")
    again = pushed(kestrel, "corrected", version=2, tasks=[], carers=[{"carer": "C2", "start": "2026-03-30T07:40"}])
    assert again == id
    answer = kestrel.get(f"/fhir/Encounter/{id}")
    assert (answer.headers["etag"], answer.json()["status"]) == ('W/"2"', "in-progress")
    assert kestrel.get(f"/fhir/Encounter/{id}/_history/1").json()["status"] == "finished"
    entries = kestrel.get(f"/fhir/Encounter/{id}/_history").json()["entry"]
    assert [each["resource"]["meta"]["versionId"] for each in entries] == ["2", "1"]
    (task,) = [
        each
        for each in kestrel.get("/fhir/Task/_history?_count=1000").json()["entry"]
        if each["request"]["method"] == "DELETE" and f"{id}.t" in each["request"]["url"]
    ]
    assert kestrel.get(f"/fhir/{task['request']['url']}").status_code == 410
    whole = kestrel.get("/fhir/_history?_count=1000").json()["entry"]
    listed = [each for each in whole if id in each["fullUrl"]]
    assert [each["response"]["etag"] for each in listed if "/Encounter/" in each["fullUrl"]] == ['W/"2"', 'W/"1"']
    assert task in listed


def test_a_visit_is_corrected_by_sending_it_again(kestrel: httpx.Client) -> None:
    id = pushed(kestrel, "put")
    body = kestrel.get(f"/fhir/Encounter/{id}").json()
    change = [{"op": "replace", "path": "/status", "value": "entered-in-error"}]
    for answer in (
        kestrel.put(f"/fhir/Encounter/{id}", json=body),
        kestrel.patch(
            f"/fhir/Encounter/{id}",
            json=change,
            headers={"if-match": 'W/"1"', "content-type": "application/json-patch+json"},
        ),
        kestrel.delete(f"/fhir/Encounter/{id}"),
    ):
        assert answer.status_code == 405, answer.text
        assert "sends it again" in answer.text
    assert kestrel.get(f"/fhir/Encounter/{id}").headers["etag"] == 'W/"1"'


def test_others_do_not_see_it(kestrel: httpx.Client, heron: httpx.Client) -> None:
    id = pushed(kestrel, "own", **WHOLE)
    theirs = pushed(heron, "own", person={"nhsNumber": MR_B})
    (task,) = found(kestrel, f"Task?encounter=Encounter/{id}")
    for address in (f"Encounter/{id}", f"Appointment/{id}", task, f"Encounter/{id}/_history/1"):
        assert kestrel.get(f"/fhir/{address}").status_code == 200
        hidden, absent = heron.get(f"/fhir/{address}"), heron.get(f"/fhir/{address.replace(id[:8], 'a1bfffff')}")
        assert (hidden.status_code, hidden.json()) == (404, absent.json())
    assert heron.put(f"/fhir/Encounter/{id}", json={"resourceType": "Encounter", "id": id}).status_code != 200
    assert "sends it again" not in heron.delete(f"/fhir/Encounter/{id}").text
    assert found(heron, "Encounter?_count=1000") == [f"Encounter/{theirs}"]
    assert found(heron, "Encounter?identifier=K01.own") == []
    assert found(heron, f"Task?encounter=Encounter/{id}") == []
    everything = heron.get("/fhir/_history?_count=1000").json()
    assert id not in str(everything)
    assert theirs in str(everything)


def test_what_is_nobodys_is_in_no_record(kestrel: httpx.Client, council: httpx.Client) -> None:
    answer = kestrel.post(PUSH, json=visit("nobodys", person={"nhsNumber": NOBODY}))
    assert answer.json()["unallocated"] == 1
    for client in (kestrel, council):
        assert found(client, "Encounter?identifier=K01.nobodys") == []
    id = pushed(kestrel, "somebodys")
    assert found(council, "Encounter?identifier=K01.somebodys") == [f"Encounter/{id}"]


def test_a_record_has_its_visits(kestrel: httpx.Client, council: httpx.Client) -> None:
    id = pushed(kestrel, "record", **WHOLE)
    whole = council.get(f"/fhir/Patient/{A}/$everything").json()
    resources = [each["resource"] for each in whole["entry"] if each["resource"].get("id", "").startswith(id)]
    kinds = {each["resourceType"] for each in resources}
    assert kinds == {"Appointment", "Encounter", "MedicationAdministration", "Observation", "Task"}
    some = council.get(f"/fhir/Patient/{A}/$everything?_type=Patient,Encounter&_count=2").json()
    kinds = {each["resource"]["resourceType"] for each in some["entry"]}
    assert "Encounter" in kinds <= {"Patient", "Encounter", "OperationOutcome"}
