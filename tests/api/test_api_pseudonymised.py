"""An application whose agreement is for pseudonymised data alone: it has exports with pseudonyms, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from fhirgw.store import opt_out
from fhirgw.store.database import connect, direct
from fhirgw.store.registration import Registration
from tests.api.conftest import CANARY, NHS, PERSON, made
from tests.api.test_api_bulk import ASYNC, issue
from tests.api.test_api_group import lines, manifest
from tests.api.test_api_routes import OPEN, ROUTES
from tests.conftest import NewDatabase
from tests.gateway import Gateway
from tests.jobs.test_jobs_pseudonymise import number
from tests.put import put

STUDY = Registration(
    *("study", "Z99", "system/*.cruds"), purposes=("research",), agreement="DARS-1", pseudonyms=True, rate=1_000_000
)
"""It has every scope there is: what it is refused is for its agreement."""

IDENTIFIABLE = replace(STUDY, id="cohort", scopes="system/*.rs", pseudonyms=False)
NUMBERED = [
    PERSON,
    *(
        made("Patient", f"n{at}", identifier=[{"system": NHS, "value": number(at)}], birthDate="1940")
        for at in range(11)
    ),
]
IDENTIFY = "INSERT INTO fhirgw.identifier (system, value, patient, origin, sure) VALUES ($1, $2, $3, $4, $5)"
NO_PERSONS = ("$lookup", "$subsumes", "$validate", "$expand", "$translate", "openapi.json", "/Measure", "/oauth/")
DEFINED = ("CodeSystem", "ValueSet", "ConceptMap", "StructureDefinition", "OperationDefinition")


@pytest.fixture(scope="module")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, *NUMBERED, made("Organization", "o1", name="A council"))
        engine = connect(url)
        async with direct(engine) as connection:
            await opt_out.load(connection, [number(99)], datetime.now(UTC))
            known = [(NHS, each["identifier"][0]["value"], each["id"], "test", "stated") for each in NUMBERED]
            await connection.executemany(IDENTIFY, known)
        await engine.dispose()
        yield url


@pytest.fixture(scope="module")
def study(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(STUDY) as client:
        yield client


def test_it_has_exports_with_pseudonyms(gateway: Gateway, study: httpx.Client) -> None:
    asked = study.get("/fhir/Patient/$export?_pseudonymise=falls&_type=Patient", headers=ASYNC)
    told = manifest(study, asked)
    found = lines(study, told["output"])
    assert len(found) == 12
    assert CANARY["family"] not in str(found) and CANARY["number"] not in str(found)
    assert not {each["id"] for each in found} & {each["id"] for each in NUMBERED}
    assert study.delete(asked.headers["content-location"]).status_code == 202


def test_it_has_no_export_without(study: httpx.Client) -> None:
    for path in ("$export", "Patient/$export?_type=Patient", "$export?_outputFormat=csv", "Group/g1/$export"):
        refused = issue(study.get(f"/fhir/{path}", headers=ASYNC), 403)
        assert refused.startswith("forbidden: This application's agreement is for pseudonymised data alone"), path


def test_nothing_else_shows_it_anything(gateway: Gateway, study: httpx.Client) -> None:
    """Every route there is, and what a batch asks; what tells of nobody but of codes and forms stays open."""
    shown = {}
    for path in (*ROUTES, "/fhir/Patient?name=Canarybird", "/fhir/Patient/p1", "/fhir/Organization/o1"):
        if path in (*OPEN, "/fhir") or any(each in path for each in (*NO_PERSONS, *DEFINED)):
            continue
        for method in ("GET", "POST", "DELETE"):
            with study.stream(method, path, json={} if method == "POST" else None) as answer:
                if answer.status_code < 300:
                    shown[method, path] = answer.read()
    assert shown == {}
    entry = {"request": {"method": "GET", "url": "Patient/p1"}}
    batch = study.post("/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": [entry]})
    assert CANARY["family"] not in batch.text
    with gateway.client(IDENTIFIABLE) as cohort:
        assert cohort.get("/fhir/Patient/p1").json()["name"][0]["family"] == CANARY["family"]


def test_an_agreement_that_is_narrowed_takes_what_was_made_before(gateway: Gateway) -> None:
    wide = replace(STUDY, id="narrowed", scopes="system/*.rs", pseudonyms=False)
    with gateway.client(wide) as before:
        asked = before.get("/fhir/Patient/$export?_type=Patient", headers=ASYNC)
        (file,) = manifest(before, asked)["output"]
        assert CANARY["family"] in before.get(file["url"]).text
        with gateway.client(replace(wide, pseudonyms=True)) as after:
            for client, path in itertools.product((before, after), (file["url"], asked.headers["content-location"])):
                assert issue(client.get(path), 404) == "not-found: There is no such export"
