"""What was tried to get at what is kept from one, over HTTP: each with what is allowed beside it."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.api.test_api_write import PATCH, created, headers_of, issue, sent
from tests.api.writing import CLEARED, COUNCIL, OWN_APP, PEOPLE, PORTAL, PROVIDER, observation
from tests.conftest import NewDatabase
from tests.gateway import Gateway
from tests.put import made, put

CARED_FOR = {"reference": "Patient/cared-for"}
SCOPES = "user/*.cruds system/*.cruds patient/*.cruds"
STAFF = replace(COUNCIL, id="staff", scopes=SCOPES, practitioner="worker", patient="stranger", clearance=2)
CASEWORK = replace(STAFF, id="casework", purposes=("direct-care", "safeguarding"), roles=("safeguarding",))
SAFEGUARDING = {"system": "https://fhirgw.uk/fhir/CodeSystem/record-class", "code": "safeguarding"}
RESTRICTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}


@pytest.fixture(scope="module")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, *PEOPLE, made("Practitioner", "worker"), made("Organization", "council"))
        yield url


@pytest.mark.parametrize("scope", ["user/*.cruds", "system/*.cruds", "patient/*.cruds"])
def test_staff_see_and_open_no_more_by_other_scopes(gateway: Gateway, council: httpx.Client, scope: str) -> None:
    team = {
        "resourceType": "CareTeam",
        "status": "active",
        "subject": {"reference": "Patient/stranger"},
        "participant": [{"member": {"reference": "Practitioner/worker"}}],
    }
    with gateway.client(STAFF, scope=scope) as staff:
        assert staff.get("/fhir/Patient/stranger").status_code == 404
        assert issue(sent(staff, "POST", "/fhir/CareTeam", team), 403)["code"] == "forbidden"
        path = f"/fhir/CareTeam/{created(council, team).json()['id']}"
        assert staff.get("/fhir/Patient/stranger").status_code == 200
        assert sent(council, "DELETE", path, {}, if_match='W/"1"').status_code == 204
        assert staff.get("/fhir/Patient/stranger").status_code == 404


def test_staff_make_themselves_no_case(gateway: Gateway, council: httpx.Client) -> None:
    flag = {
        "resourceType": "Flag",
        "status": "active",
        "code": {"text": "At risk"},
        "subject": {"reference": "Patient/stranger"},
        "meta": {"security": [SAFEGUARDING]},
    }
    team = {
        "resourceType": "CareTeam",
        "status": "active",
        "subject": {"reference": "Patient/stranger"},
        "participant": [{"member": {"reference": "Practitioner/worker"}}],
    }
    path = f"/fhir/CareTeam/{created(council, team).json()['id']}"
    with gateway.client(CASEWORK, "direct-care", "user/*.cruds") as staff, gateway.client(CLEARED) as cleared:
        assert issue(sent(staff, "POST", "/fhir/Flag", flag), 403)["code"] == "forbidden"
        over = created(cleared, {**flag, "status": "inactive"}).json()
        again = {**over, "status": "active"}
        where = f"/fhir/Flag/{over['id']}"
        assert issue(sent(staff, "PUT", where, again, if_match='W/"1"'), 403)["code"] == "forbidden"
        assert sent(staff, "PUT", where, {**over, "code": {"text": "Was"}}, if_match='W/"1"').status_code == 200
        created(staff, {name: value for name, value in flag.items() if name != "meta"})
        case = {"x-safeguarding-case": over["id"]}
        asked = "/fhir/Patient/stranger"
        assert sent(council, "DELETE", path, {}, if_match='W/"1"').status_code == 204
        assert staff.get(asked, headers=case).status_code == 404
        assert sent(cleared, "PUT", where, again, if_match='W/"2"').status_code == 200
        assert staff.get(asked, headers=case).status_code == 200


def test_who_is_not_cleared_deletes_no_restricted_person(gateway: Gateway, council: httpx.Client) -> None:
    with gateway.client(CLEARED) as cleared:
        given = {"resourceType": "Patient", "birthDate": "1970-01-01", "meta": {"security": [RESTRICTED]}}
        person = created(cleared, {**given, "address": [{"postalCode": "ZZ99 3WZ"}]}).json()["id"]
        relative = {"resourceType": "RelatedPerson", "patient": {"reference": f"Patient/{person}"}}
        inside = created(cleared, {**relative, "address": [{"postalCode": "ZZ99 3WZ"}]}).json()["id"]
        path, within = f"/fhir/Patient/{person}", f"/fhir/RelatedPerson/{inside}"
        assert council.get(within).status_code == 404
        assert issue(sent(council, "DELETE", path, {}, if_match='W/"1"'), 403)["code"] == "forbidden"
        assert issue(sent(cleared, "DELETE", path, {}, if_match='W/"1"'), 409)["code"] == "conflict"
        assert (council.get(path).status_code, council.get(within).status_code) == (200, 404)
        assert sent(cleared, "DELETE", within, {}, if_match='W/"1"').status_code == 204
        assert sent(cleared, "DELETE", path, {}, if_match='W/"1"').status_code == 204
        late = created(cleared, {**relative, "address": [{"postalCode": "ZZ99 3WZ"}]}).json()["id"]
        assert council.get(f"/fhir/RelatedPerson/{late}").status_code == 404
        assert cleared.get(f"/fhir/RelatedPerson/{late}").status_code == 200


def test_who_is_not_cleared_makes_nobody_restricted(gateway: Gateway, council: httpx.Client) -> None:
    """They could not see where the person lives afterwards, nor take it back."""
    restricted = {"resourceType": "Patient", "birthDate": "1970-01-01", "meta": {"security": [RESTRICTED]}}
    assert issue(sent(council, "POST", "/fhir/Patient", restricted), 403)["expression"] == ["Patient.meta.security"]
    free = created(council, {name: value for name, value in restricted.items() if name != "meta"}).json()
    path, labelled = f"/fhir/Patient/{free['id']}", {**free, "meta": {**free["meta"], "security": [RESTRICTED]}}
    assert issue(sent(council, "PUT", path, labelled, if_match='W/"1"'), 403)["code"] == "forbidden"
    patch = [{"op": "add", "path": "/meta/security", "value": [RESTRICTED]}]
    assert sent(council, "PATCH", path, patch, **headers_of(PATCH), if_match='W/"1"').status_code == 403
    bundle = {
        "type": "transaction",
        "entry": [{"resource": restricted, "request": {"method": "POST", "url": "Patient"}}],
    }
    assert sent(council, "POST", "/fhir", {"resourceType": "Bundle", **bundle}).status_code == 403
    assert sent(council, "PUT", path, {**free, "gender": "female"}, if_match='W/"1"').status_code == 200
    with gateway.client(CLEARED) as cleared:
        assert sent(cleared, "PUT", path, labelled, if_match='W/"2"').status_code == 200
        created(cleared, restricted)


def test_what_is_hidden_in_a_record_keeps_its_person(gateway: Gateway, council: httpx.Client) -> None:
    """The same words, whether the caller sees what there is more or does not."""
    told = []
    with gateway.client(CLEARED) as cleared:
        for labelled in ({}, {"meta": {"security": [SAFEGUARDING | {"code": "sealed"}]}}):
            person = created(council, {"resourceType": "Patient", "birthDate": "1970-01-01"}).json()["id"]
            inside = created(cleared, observation(person, **labelled)).json()
            assert council.get(f"/fhir/Observation/{inside['id']}").status_code == (404 if labelled else 200)
            told.append(sent(council, "DELETE", f"/fhir/Patient/{person}", {}, if_match='W/"1"'))
            where = f"/fhir/Observation/{inside['id']}"
            assert sent(cleared, "DELETE", where, {}, if_match='W/"1"').status_code == 204
            gone = sent(council, "DELETE", f"/fhir/Patient/{person}", {}, if_match='W/"1"')
            assert gone.status_code == 204
    assert [each.status_code for each in told] == [409, 409]
    assert told[0].content == told[1].content


def test_our_own_addresses_are_local_references(gateway: Gateway, council: httpx.Client) -> None:
    host = gateway.root.removeprefix("http://")
    ours = [f"{gateway.base}/", f"HTTP://{host.upper()}/fhir/", f"//{host}/fhir/", "/fhir/", "./"]
    with gateway.client(PORTAL) as portal:
        for base in ours:
            given = observation(subject={"reference": f"{base}Patient/cared-for"})
            answer = created(portal, given).json()
            assert answer["subject"] == {"reference": "Patient/cared-for"}
            found = council.get(f"/fhir/Observation?patient=cared-for&_id={answer['id']}&_summary=count").json()
            assert found["total"] == 1
        for wrong in ("Patient/cared-for/", "Patient?identifier=7", "metadata", "Patient/cared-for#x"):
            given = observation(subject={"reference": f"{gateway.base}/{wrong}"})
            refused = issue(sent(portal, "POST", "/fhir/Observation", given), 422)
            assert (refused["code"], refused["expression"]) == ("value", ["Observation.subject"])
        for unseen in ("nobody", "restrictedx"):
            given = observation(subject={"reference": f"{gateway.base}/Patient/{unseen}"})
            assert issue(sent(portal, "POST", "/fhir/Observation", given), 422)["code"] == "not-found"
    elsewhere = observation(performer=[{"reference": "https://elsewhere.example/fhir/Practitioner/1"}])
    assert created(council, elsewhere).json()["performer"] == elsewhere["performer"]


def test_our_own_addresses_are_local_in_patches_and_bundles_too(gateway: Gateway, council: httpx.Client) -> None:
    own = {"reference": f"{gateway.base}/Patient/cared-for"}
    system = {"system": own["reference"], "value": "7"}
    id = created(council, observation(identifier=[system], focus=[{"display": "x"}])).json()["id"]
    copied = [{"op": "copy", "from": "/identifier/0/system", "path": "/focus/0/reference"}]
    patched = sent(council, "PATCH", f"/fhir/Observation/{id}", copied, **headers_of(PATCH), if_match='W/"1"')
    assert (patched.status_code, patched.json()["focus"][0]["reference"]) == (200, "Patient/cared-for")
    assert patched.json()["identifier"] == [system]  # no reference, so it is left as it is
    for kind in ("batch", "transaction"):
        entry = {"resource": observation(subject=own), "request": {"method": "POST", "url": "Observation"}}
        answer = sent(council, "POST", "/fhir", {"resourceType": "Bundle", "type": kind, "entry": [entry]})
        where = answer.json()["entry"][0]["response"]["location"].removeprefix(gateway.base)
        assert council.get(f"/fhir{where}").json()["subject"] == {"reference": "Patient/cared-for"}


def test_a_person_speaks_in_their_own_name(gateway: Gateway) -> None:
    said = {"resourceType": "Communication", "status": "completed", "subject": {"reference": "Patient/cared-for"}}
    doctor = {"type": "Practitioner", "identifier": {"value": "7"}, "display": "Dr Real"}
    with gateway.client(OWN_APP, "person") as person, gateway.client(PROVIDER) as provider:
        refused = issue(sent(person, "POST", "/fhir/Communication", {**said, "sender": doctor}), 403)
        assert refused["expression"] == ["Communication.sender"]
        created(person, {**said, "sender": {"reference": "Patient/cared-for"}})
        created(person, {**said, "sender": {"reference": f"{gateway.base}/Patient/cared-for"}})
        created(person, said)
        created(provider, {**said, "sender": doctor})


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_a_care_provider_makes_visits_in_its_own_name(gateway: Gateway, council: httpx.Client, kind: str) -> None:
    visit = {"resourceType": "Encounter", "status": "finished", "class": {"code": "HH"}, "subject": CARED_FOR}
    ours, theirs = ({**visit, "serviceProvider": {"reference": f"Organization/{id}"}} for id in ("provider", "council"))
    entry = {"resource": theirs, "request": {"method": "POST", "url": "Encounter"}}
    both = {"resourceType": "Bundle", "type": kind, "entry": [entry, {**entry, "resource": ours}]}
    with gateway.client(PROVIDER) as provider:
        refused = issue(sent(provider, "POST", "/fhir/Encounter", theirs), 403)
        assert refused["expression"] == ["Encounter.serviceProvider"]
        id = created(provider, ours).json()["id"]
        patch = [{"op": "replace", "path": "/serviceProvider/reference", "value": "Organization/council"}]
        told = sent(provider, "PATCH", f"/fhir/Encounter/{id}", patch, **PATCH, if_match='W/"1"')
        assert told.status_code == 403
        answer = sent(provider, "POST", "/fhir", both)
        if kind == "transaction":
            assert answer.status_code == 403
        else:
            assert [each["response"]["status"][:3] for each in answer.json()["entry"]] == ["403", "201"]
    created(council, theirs)


def test_those_who_come_by_one_application_do_not_share_request_ids(gateway: Gateway, council: httpx.Client) -> None:
    id = str(uuid.uuid4())
    person = replace(OWN_APP, id="portal-of-many")
    said = {"resourceType": "Communication", "status": "completed"}
    made_by = []
    for patient in ("cared-for", "stranger"):
        with gateway.client(person if patient == person.patient else replace(person, patient=patient)) as client:
            given = {**said, "subject": {"reference": f"Patient/{patient}"}}
            answers = [sent(client, "POST", "/fhir/Communication", given, x_request_id=id) for _ in range(2)]
            assert [each.status_code for each in answers] == [201, 201]
            assert answers[0].content == answers[1].content
            made_by.append(answers[0].json()["id"])
    assert made_by[0] != made_by[1]
    path = f"/fhir/Communication/{made_by[0]}"
    assert sent(council, "DELETE", path, {}, if_match='W/"1"').status_code == 204


def test_a_dissent_against_councils_can_be_written(gateway: Gateway) -> None:
    def consent(code: str) -> dict[str, Any]:
        return {
            "resourceType": "Consent",
            "status": "active",
            "scope": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
            },
            "category": [
                {"coding": [{"system": "http://loinc.org", "code": "59284-0"}]},
                {"coding": [{"system": "https://fhirgw.uk/fhir/CodeSystem/consent-sharing", "code": code}]},
            ],
            "patient": {"reference": "Patient/cared-for"},
            "policyRule": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]
            },
        }

    with gateway.client(OWN_APP, "person") as person:
        for code in ("council", "family"):
            created(person, consent(code))
        assert issue(sent(person, "POST", "/fhir/Consent", consent("nobody")), 422)["code"] == "code-invalid"
