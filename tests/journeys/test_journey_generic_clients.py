"""Generic FHIR libraries do their whole job against the gateway over HTTP: fhirpy and fhirclient (SMART on FHIR's own).

They know FHIR and nothing of us. What they need besides is a token. https://github.com/beda-software/fhir-py,
https://github.com/smart-on-fhir/client-py
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import requests
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle
from fhirclient.models.humanname import HumanName
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import MultipleResourcesFound, OperationOutcome, ResourceNotFound

from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.put import made, put

NHS = "https://fhir.nhs.uk/Id/nhs-number"
ALL = Registration("council", "Z99", "system/*.cruds", sector="council", rate=1_000_000)


PEOPLE = [
    made(
        *("Patient", f"p{n}"),
        name=[{"family": f"Family{n % 3}", "given": [f"Given{n}"]}],
        gender="female" if n % 2 else "male",
        birthDate=f"195{n}-01-01",
        managingOrganization={"reference": "Organization/o1"},
    )
    for n in range(7)
]
OBSERVATIONS = [
    made(
        *("Observation", f"ob{n}"),
        status="final",
        code={"text": "weight"},
        subject={"reference": f"Patient/p{n % 2}"},
        effectiveDateTime=f"2025-03-0{n + 1}",
        valueQuantity={"value": 70 + n, "unit": "kg"},
    )
    for n in range(5)
]


@pytest.fixture(scope="module")
async def stored(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, made("Organization", "o1", name="A council"), *PEOPLE, *OBSERVATIONS)
        yield url


@pytest.fixture(scope="module")
def gateway(stored: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data: Path = tmp_path_factory.mktemp("data")
    with serving(Settings(database_url=stored, data=data, log="json", controller="Z99")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def authorization(gateway: Gateway) -> str:
    with gateway.client(ALL) as client:
        return client.headers["authorization"]


# fhirpy


@pytest.fixture
def fhirpy(gateway: Gateway, authorization: str) -> SyncFHIRClient:
    return SyncFHIRClient(gateway.base, authorization=authorization)


def matching(fhirpy: SyncFHIRClient, version: int, kind: str = "application/json") -> SyncFHIRClient:
    """The client as it changes a version: it knows no If-Match of its own, which everybody must send."""
    headers = {"If-Match": f'W/"{version}"', "Content-Type": kind}
    return SyncFHIRClient(fhirpy.url, authorization=fhirpy.authorization, extra_headers=headers)


def test_fhirpy_reads_and_searches(fhirpy: SyncFHIRClient) -> None:
    assert fhirpy.reference("Patient", "p1").to_resource()["name"][0]["family"] == "Family1"
    found = fhirpy.resources("Patient").search(family="Family1").sort("-birthdate").fetch()
    assert [each.id for each in found] == ["p4", "p1"]
    assert fhirpy.resources("Patient").search(gender="male").count() == 4
    assert [each.id for each in fhirpy.resources("Patient").limit(2).sort("_id").fetch_all()] == [
        each["id"] for each in PEOPLE
    ]
    assert fhirpy.resources("Patient").search(birthdate__ge="1955-01-01").count() == 2
    assert fhirpy.resources("Patient").search(_id="p3").first()["gender"] == "female"
    with pytest.raises(ResourceNotFound):
        fhirpy.reference("Patient", "nobody").to_resource()
    with pytest.raises(OperationOutcome):
        SyncFHIRClient(fhirpy.url, fhirpy.authorization).resources("Patient").search(famly="x").fetch()


def test_fhirpy_as_it_comes_updates_and_deletes(fhirpy: SyncFHIRClient) -> None:
    """It sends back the version it read in the body, and no header."""
    stock = SyncFHIRClient(fhirpy.url, fhirpy.authorization)
    kept = stock.resource("Observation", status="preliminary", code={"text": "h"}, subject={"reference": "Patient/p2"})
    kept.save()
    other = stock.reference("Observation", kept.id).to_resource()
    kept["status"] = "final"
    kept.save()
    assert stock.reference("Observation", kept.id).to_resource()["status"] == "final"
    other["status"] = "cancelled"
    with pytest.raises(MultipleResourcesFound, match="has been changed since"):
        other.save()
    kept.delete()
    with pytest.raises(ResourceNotFound):
        stock.reference("Observation", kept.id).to_resource()


def test_fhirpy_follows_chains_and_includes(fhirpy: SyncFHIRClient) -> None:
    chained = fhirpy.resources("Observation").search(**{"subject:Patient.family": "Family0"}).sort("date").fetch()
    assert [each.id for each in chained] == ["ob0", "ob2", "ob4"]
    reverse = fhirpy.resources("Patient").has("Observation", "subject", date__ge="2025-03-04").sort("_id").fetch()
    assert [each.id for each in reverse] == ["p0", "p1"]
    bundle = fhirpy.resources("Observation").search(_id="ob1").include("Observation", "subject").fetch_raw()
    assert [each.resource.id for each in bundle.entry if each.search.mode == "include"] == ["p1"]
    bundle = fhirpy.resources("Patient").search(_id="p0").revinclude("Observation", "subject").fetch_raw()
    assert len([each for each in bundle.entry if each.search.mode == "include"]) == 3
    short = fhirpy.resources("Patient").elements("birthDate").search(_id="p0").first()
    assert {"birthDate"} == short.keys() - {"resourceType", "id", "meta"}


def test_fhirpy_writes(fhirpy: SyncFHIRClient) -> None:
    made = fhirpy.resource(
        "Observation", status="preliminary", code={"text": "height"}, subject={"reference": "Patient/p5"}
    )
    made.save()
    assert made.id
    assert fhirpy.resources("Observation").search(patient="p5").count() == 1
    assert made.is_valid()
    changed = matching(fhirpy, 1).reference("Observation", made.id).to_resource()
    changed["status"] = "final"
    changed.save()
    assert fhirpy.reference("Observation", made.id).to_resource()["status"] == "final"
    with pytest.raises(MultipleResourcesFound, match="has been changed since"):
        changed.save()  # as it was, though it has been changed since
    patch = [{"op": "replace", "path": "/status", "value": "amended"}]
    matching(fhirpy, 2, "application/json-patch+json").execute(f"Observation/{made.id}", method="patch", data=patch)
    assert fhirpy.reference("Observation", made.id).to_resource()["status"] == "amended"
    history = fhirpy.execute(f"Observation/{made.id}/_history", method="get")
    assert [each["resource"]["status"] for each in history["entry"]] == ["amended", "final", "preliminary"]
    matching(fhirpy, 3).reference("Observation", made.id).delete()
    with pytest.raises(ResourceNotFound):
        fhirpy.reference("Observation", made.id).to_resource()


def test_fhirpy_sends_a_transaction_and_asks_for_operations(fhirpy: SyncFHIRClient) -> None:
    entries = [
        {
            "fullUrl": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",
            "resource": {"resourceType": "Goal", "lifecycleStatus": "active", "description": {"text": "g"}}
            | {"subject": {"reference": "Patient/p6"}},
            "request": {"method": "POST", "url": "Goal"},
        },
        {
            "resource": {"resourceType": "CarePlan", "status": "active", "intent": "plan"}
            | {"subject": {"reference": "Patient/p6"}}
            | {"goal": [{"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"}]},
            "request": {"method": "POST", "url": "CarePlan"},
        },
    ]
    done = fhirpy.execute("/", method="post", data={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert [each["response"]["status"][:3] for each in done["entry"]] == ["201", "201"]
    plan = fhirpy.resources("CarePlan").search(patient="p6").first()
    assert fhirpy.reference(reference=plan["goal"][0]["reference"]).to_resource()["description"]["text"] == "g"
    summary = fhirpy.execute("Patient/p6/$summary", method="get")
    assert summary["entry"][0]["resource"]["resourceType"] == "Composition"
    whole = fhirpy.execute("Patient/p6/$everything", method="get")
    assert {each["resource"]["resourceType"] for each in whole["entry"]} >= {"Patient", "Goal", "CarePlan"}


# fhirclient


@pytest.fixture
def smart(gateway: Gateway, authorization: str) -> FHIRClient:
    """The client as it is after a launch: its session sends the token."""
    client = FHIRClient(settings={"app_id": "generic", "api_base": f"{gateway.base}/"})
    client.server.session = requests.Session()
    client.server.session.headers["Authorization"] = authorization
    return client


def test_fhirclient_reads_and_searches(smart: FHIRClient) -> None:
    patient = Patient.read("p1", smart.server)
    assert (patient.name[0].family, patient.birthDate.isostring) == ("Family1", "1951-01-01")
    found = Patient.where({"family": "Family0", "_sort": "_id"}).perform_resources_iter(smart.server)
    assert [each.id for each in found if each.resource_type == "Patient"] == ["p0", "p3", "p6"]
    paged = Patient.where({"_count": "3", "_sort": "_id"}).perform_resources_iter(smart.server)
    assert [each.id for each in paged if each.resource_type == "Patient"] == [each["id"] for each in PEOPLE]
    found = Observation.where({"subject": "Patient/p1", "_include": "Observation:subject"}).perform_iter(smart.server)
    bundle = next(iter(found))
    assert isinstance(bundle, Bundle)
    assert {each.search.mode for each in bundle.entry} == {"match", "include", "outcome"}
    smart.server.get_capability()
    assert smart.server.capabilityStatement.fhirVersion == "4.0.1"


def test_fhirclient_resolves_references(smart: FHIRClient) -> None:
    observation = Observation.read("ob1", smart.server)
    subject = observation.subject.resolved(Patient)
    assert subject.id == "p1"


def test_fhirclient_writes(smart: FHIRClient) -> None:
    observation = Observation(
        {"status": "preliminary", "code": {"text": "pulse"}, "subject": {"reference": "Patient/p4"}}
    )
    done = observation.create(smart.server)
    assert done["resourceType"] == "Observation"
    (found,) = [
        each
        for each in Observation.where({"patient": "p4"}).perform_resources_iter(smart.server)
        if each.resource_type == "Observation"
    ]
    found.status = "final"
    assert found.update(smart.server)["status"] == "final"
    found.delete()
    assert next(iter(Observation.where({"patient": "p4"}).perform_iter(smart.server))).total == 0


def test_fhirclient_names_are_ours(smart: FHIRClient) -> None:
    name = Patient.read("p2", smart.server).name[0]
    assert isinstance(name, HumanName)
    assert smart.human_name(name) == "Given2 Family2"
