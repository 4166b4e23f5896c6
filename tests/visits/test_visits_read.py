"""Visits that were pushed, read as FHIR over HTTP, by those who may see whose they are, and by nobody else."""

from typing import Any

import httpx
import orjson
import pytest

from fhirgw.fhir.issue import Resource
from tests.visits.visiting import MR_B, MRS_A, NHS, NOBODY, A, B, visit

PUSH = "/homecare/visits"
VISIT = "https://fhirgw.uk/Id/visit"
DERIVED = "https://fhirgw.uk/fhir/StructureDefinition/ext-visit-derived"


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


def line(person: str, number: str, status: str) -> Resource:
    system = "https://fhirgw.uk/Id/meadow/package-line"
    return {
        "resourceType": "ServiceRequest",
        "identifier": [{"system": system, "value": number}],
        "status": status,
        "intent": "order",
        "subject": {"reference": f"Patient/{person}"},
        "performer": [{"reference": "Organization/kestrel"}],
    }


def test_a_visit_leads_to_the_line_it_is_of_when_there_is_one(kestrel: httpx.Client, council: httpx.Client) -> None:
    """Told on the receipt while there is none; found by it from the moment that there is; another's is none."""
    lines = {}
    for number, person, status in (("O-30", B, "active"), ("O-31", A, "draft"), ("O-29", A, "active")):
        answer = council.post("/fhir/ServiceRequest", json=line(person, number, status))
        assert answer.status_code == 201, answer.text
        lines[number] = answer.json()
    stay = {"start": "2026-03-30T07:31", "end": "2026-03-30T08:00"}
    sent = [visit(f"line{n}", line={"order": f"O-{n}"}, carers=[{"carer": f"L{n}", **stay}]) for n in (29, 30, 31)]
    known, others, draft = kestrel.post(PUSH, json=sent).json()["receipts"]
    assert "issues" not in known
    for receipt in (others, draft):
        assert (receipt["status"], [each["column"] for each in receipt["issues"]]) == ("stored", ["line.order"])
        (order,) = kestrel.get(f"/fhir/Encounter/{receipt['id']}").json()["basedOn"]
        assert "reference" not in order
    assert kestrel.post(PUSH, json=sent[1:]).json()["receipts"][0]["issues"][0]["reason"] == "line"
    for kind in ("Encounter", "Appointment"):
        assert found(council, f"{kind}?based-on=ServiceRequest/{lines['O-29']['id']}") == [f"{kind}/{known['id']}"]
    assert found(council, "Encounter?based-on:ServiceRequest.identifier=O-29") == [f"Encounter/{known['id']}"]
    at = f"ServiceRequest/{lines['O-31']['id']}"
    answer = council.put(f"/fhir/{at}", json=lines["O-31"] | {"status": "active"}, headers={"if-match": 'W/"1"'})
    assert answer.status_code == 200, answer.text
    assert found(council, f"Encounter?based-on={at}") == [f"Encounter/{draft['id']}"]
    answer = kestrel.get(f"/fhir/Encounter/{draft['id']}")
    assert answer.headers["etag"] == 'W/"2"', "another state is another version"
    assert answer.json()["basedOn"][0]["reference"] == at
    assert "reference" not in kestrel.get(f"/fhir/Encounter/{draft['id']}/_history/1").json()["basedOn"][0]
    assert kestrel.post(PUSH, json=sent[2:]).json()["receipts"][0].get("issues") is None
    provider = answer.json()["serviceProvider"]
    assert (provider["reference"], provider["identifier"]["value"]) == ("Organization/kestrel", "K01")
    assert f"Encounter/{known['id']}" in found(
        council, f"Encounter?patient={A}&service-provider=Organization/kestrel&_count=500"
    )


@pytest.mark.parametrize(
    ("start", "end", "said", "words"),
    [
        ("07:31", "08:00", None, ["delivered"]),
        ("07:50", "08:20", None, ["delivered-late", "late-start"]),
        ("07:10", "07:40", None, ["delivered-early", "early-start"]),
        ("07:50", "08:00", None, ["delivered-short", "late-start", "short-visit"]),
        ("07:30", "08:30", None, ["delivered-long", "overrun"]),
        ("07:50", "08:20", "no-reply", ["no-reply", "late-start"]),
    ],
)
def test_what_follows_from_times_is_told(
    kestrel: httpx.Client, start: str, end: str, said: str | None, words: list[str]
) -> None:
    carers = [{"carer": "C1", "start": f"2026-03-30T{start}", "end": f"2026-03-30T{end}"}]
    outcome = {"outcome": {"code": said}} if said else {}
    id = pushed(kestrel, f"derived-{start}-{end}-{said}", carers=carers, **outcome)
    told = [each for each in kestrel.get(f"/fhir/Encounter/{id}").json()["extension"] if each["url"] == DERIVED]
    values = [
        (each["url"], next(value for name, value in each.items() if name != "url")) for each in told[0]["extension"]
    ]
    assert [each["coding"][0]["code"] for name, each in values if name in ("outcome", "exception")] == words
    clock = [int(each[:2]) * 60 + int(each[3:]) for each in (start, end)]
    assert dict(values)["late"] == clock[0] - 450
    assert dict(values)["minutes"] == clock[1] - clock[0]


def test_nothing_follows_of_a_visit_that_goes_on(kestrel: httpx.Client) -> None:
    id = pushed(kestrel, "goes-on", carers=[{"carer": "C1", "start": "2026-03-30T07:50"}])
    assert "extension" not in kestrel.get(f"/fhir/Encounter/{id}").json()


def test_a_reading_keeps_its_codes(kestrel: httpx.Client, council: httpx.Client) -> None:
    """As it was sent, digit for digit; found by its code without naming whose it is."""
    coding = {"system": "http://snomed.info/sct", "code": "276885007"}
    quantity = '{"value": 36.50, "unit": "degrees C", "system": "http://unitsofmeasure.org", "code": "Cel"}'
    resources = [
        {
            "resourceType": "Encounter",
            "id": "e1",
            "identifier": [{"system": VISIT, "value": "K01.coded"}],
            "status": "finished",
            "subject": {"type": "Patient", "identifier": {"system": NHS, "value": MRS_A}},
            "participant": [{"individual": {"reference": "Practitioner/C1"}}],
        },
        {
            "resourceType": "Observation",
            "status": "final",
            "encounter": {"reference": "Encounter/e1"},
            "code": {"coding": [{**coding, "display": "Core body temperature"}]},
            "valueQuantity": "QUANTITY",
        },
    ]
    resources[0]["participant"][0]["period"] = {"start": "2026-03-30T07:31:00Z", "end": "2026-03-30T08:00:00Z"}
    body = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in resources]}
    text = orjson.dumps(body).decode().replace('"QUANTITY"', quantity)
    (receipt,) = kestrel.post(PUSH, content=text, headers={"content-type": "application/fhir+json"}).json()["receipts"]
    assert receipt["status"] == "stored", receipt
    (one,) = found(council, "Observation?code=http://snomed.info/sct|276885007")
    assert found(council, "Observation?code=276885007&_total=none") == [one]
    assert found(council, f"Observation?combo-code=276885007&encounter=Encounter/{receipt['id']}") == [one]
    assert found(council, f"Observation?patient={A}&code=271649006") == []
    answer = council.get(f"/fhir/{one}")
    assert '"value":36.50,' in answer.text.replace(" ", "")
    assert answer.json()["code"] == {"coding": [coding], "text": "Core body temperature"}
    assert answer.json()["valueQuantity"] == orjson.loads(quantity)


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


AMENDED = {"by": "M1", "reason": "Forgot to check out"}


def amended(client: httpx.Client, id: str) -> str:
    """The id of a visit that was amended by hand."""
    made = pushed(client, id)
    left = {"carer": "C1", "start": "2026-03-30T07:31:10", "end": "2026-03-30T08:20:00", "method": "manual"}
    assert pushed(client, id, version=2, carers=[left], amended=AMENDED) == made
    return made


def test_what_is_amended_by_hand_says_by_whom_and_keeps_what_was_there(kestrel: httpx.Client) -> None:
    id = amended(kestrel, "amended")
    now, before = (kestrel.get(f"/fhir/Encounter/{id}{each}").json() for each in ("", "/_history/1"))
    assert (before["period"]["end"], now["period"]["end"]) == ("2026-03-30T08:00:41+01:00", "2026-03-30T08:20:00+01:00")
    (told,) = [each for each in now["extension"] if each["url"].endswith("ext-visit-amended")]
    assert {each["url"]: each["valueString"] for each in told["extension"]} == AMENDED
    assert "ext-visit-amended" not in str(before)


UPDATE = {"system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation", "code": "UPDATE"}
MAKER = {
    "reference": "Organization/kestrel",
    "type": "Organization",
    "identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "K01"},
}


def kinds(id: str, version: int) -> list[dict[str, str]]:
    return [{"reference": f"{kind}/{id}/_history/{version}"} for kind in ("Encounter", "Appointment")]


def test_what_is_amended_by_hand_has_a_provenance(kestrel: httpx.Client, council: httpx.Client) -> None:
    id = amended(kestrel, "provenance")
    (one,) = found(kestrel, f"Provenance?target=Encounter/{id}")
    answer = council.get(f"/fhir/{one}")
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"2"')
    told = answer.json()
    assert (told["target"], told["activity"]) == (kinds(id, 2), {"coding": [UPDATE]})
    assert told["entity"] == [{"role": "revision", "what": each} for each in kinds(id, 1)]
    assert told["reason"] == [{"text": AMENDED["reason"]}]
    author, enterer = told["agent"]
    assert (author["who"], enterer["onBehalfOf"]) == (MAKER, MAKER)
    assert enterer["who"]["identifier"] == {"system": "https://fhirgw.uk/Id/K01/carer", "value": "M1"}
    for each in (*told["target"], *(entity["what"] for entity in told["entity"])):
        assert kestrel.get(f"/fhir/{each['reference']}").status_code == 200
    for search in (
        f"Provenance?target=Appointment/{id}",
        f"Provenance?entity=Encounter/{id}",
        f"Provenance?patient={A}&target=Encounter/{id}",
        f"Provenance?_id={one.partition('/')[2]}&agent=Organization/kestrel&recorded=ge2026-01-01",
    ):
        assert found(kestrel, search) == [one], search
    assert one in found(council, f"Provenance?patient={A}&_count=1000")
    assert one in found(council, f"Patient?_id={A}&_revinclude=Provenance:patient&_count=1000")
    for kind in ("Encounter", "Appointment"):
        assert found(council, f"{kind}?_id={id}&_revinclude=Provenance:target") == [f"{kind}/{id}", one]
    along = found(council, f"Provenance?target=Encounter/{id}&_include=Provenance:target")
    assert sorted(along) == sorted([one, f"Encounter/{id}", f"Appointment/{id}"])
    record = council.get(f"/fhir/Patient/{A}/$everything?_type=Provenance&_count=1000").json()
    assert told in [each["resource"] for each in record["entry"]]
    change = council.put(f"/fhir/{one}", json=told, headers={"if-match": 'W/"2"'})
    assert change.status_code == 405, change.text


def test_what_is_not_amended_has_none_and_others_see_none(kestrel: httpx.Client, heron: httpx.Client) -> None:
    """A visit that is sent again is a later version, and amended by nobody."""
    id, other = pushed(kestrel, "as-it-was"), amended(kestrel, "others-none")
    assert pushed(kestrel, "as-it-was", version=2, carers=[{"carer": "C2", "start": "2026-03-30T07:40"}]) == id
    assert kestrel.get(f"/fhir/Encounter/{id}").headers["etag"] == 'W/"2"'
    assert found(kestrel, f"Provenance?target=Encounter/{id}") == []
    (one,) = found(kestrel, f"Provenance?target=Encounter/{other}")
    assert found(heron, f"Provenance?target=Encounter/{other}") == []
    assert found(heron, f"Provenance?patient={A}") == []
    hidden, absent = (heron.get(f"/fhir/{each}") for each in (one, one.replace(id[:8], "a1bfffff")))
    assert (hidden.status_code, hidden.json()) == (404, absent.json())


def test_each_amendment_has_a_provenance_of_its_own(kestrel: httpx.Client) -> None:
    """Also one in the words of the one before; and what is sent after it, of another part, amends nothing by hand."""
    id = amended(kestrel, "again")
    (first,) = found(kestrel, f"Provenance?target=Encounter/{id}")
    before = kestrel.get(f"/fhir/{first}").content
    left = {"carer": "C1", "start": "2026-03-30T07:31:10", "end": "2026-03-30T08:25:00", "method": "manual"}
    pushed(kestrel, "again", version=3, carers=[left], amended={**AMENDED, "at": "2026-03-31T09:00:00+01:00"})
    pushed(kestrel, "again", version=4, carers=[{**left, "end": "2026-03-30T08:30:00"}], amended=AMENDED)
    pushed(kestrel, "again", version=5, carers=[{**left, "end": "2026-03-30T08:35:00"}], amended=AMENDED)
    note = {"visit": "again", "version": 6, "person": {"nhsNumber": MRS_A}, "notes": [{"text": "Well"}]}
    assert kestrel.post(PUSH, json=note).json()["receipts"][0]["status"] == "stored"
    assert kestrel.get(f"/fhir/Encounter/{id}").headers["etag"] == 'W/"6"'
    told = found(kestrel, f"Provenance?target=Encounter/{id}")
    assert told == [f"Provenance/{id}.a{version}" for version in (2, 3, 4, 5)]
    assert kestrel.get(f"/fhir/{first}").content == before
    assert kestrel.get(f"/fhir/{told[1]}").json()["occurredDateTime"] == "2026-03-31T09:00:00+01:00"
    assert found(kestrel, f"Provenance?target=Encounter/{id}&when=2026-03-31") == [told[1]]


def test_what_was_amended_before_it_was_heard_of_says_so(kestrel: httpx.Client) -> None:
    """The original, if it comes at all, comes too late to be a version before."""
    changed = {"changed": "2026-03-31T09:00:00Z"}
    id = pushed(kestrel, "at-once", version=2, amended=AMENDED, **changed)
    (one,) = found(kestrel, f"Provenance?target=Encounter/{id}")
    told = kestrel.get(f"/fhir/{one}").json()
    assert "entity" not in told
    assert told["recorded"] == changed["changed"], "when the care provider's system recorded it"
    answer = kestrel.post(PUSH, json=visit("at-once", version=1, changed="2026-03-30T09:00:00Z"))
    assert answer.json()["receipts"][0]["status"] == "superseded"
    assert found(kestrel, f"Provenance?target=Encounter/{id}") == [one]
    assert kestrel.get(f"/fhir/{one}").json() == told
