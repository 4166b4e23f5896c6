"""Exports in blocks by Patient, with what tells where records come from, and with manifests in pages.

https://hl7.org/fhir/uv/bulkdata/export.html#query-parameters
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from fhirgw.jobs import conclusion
from fhirgw.store.registration import Registration
from tests.api.test_api_group import ASYNC, diagnostics, kick_off, lines, manifest
from tests.api.writing import PEOPLE, PROVIDER, observation
from tests.conftest import NewDatabase
from tests.gateway import Gateway
from tests.put import made, put

UNTOLD = Registration("untold", "Z99", "system/Observation.rs system/Patient.rs", rate=1_000_000)
POLICY = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]}
REFUSES = made("Consent", "no", status="active", patient={"reference": "Patient/dissenting"}, policyRule=POLICY)


def provenance(id: str, recorded: str, *targets: str) -> dict[str, Any]:
    return made("Provenance", id, recorded=recorded, target=[{"reference": each} for each in targets])


WORDS = (
    provenance("first", "2026-01-01T00:00:00Z", "Observation/w-cared-for"),
    provenance("second", "2026-01-02T00:00:00Z", "Observation/w-cared-for", "Observation/w-stranger"),
    provenance("of-patient", "2026-01-01T00:00:00Z", "Patient/stranger"),
    provenance("of-dissenting", "2026-01-03T00:00:00Z", "Observation/w-dissenting"),
    provenance("of-organisation", "2026-01-03T00:00:00Z", "Organization/provider"),
    provenance("of-nothing", "2026-01-03T00:00:00Z", "Observation/never"),
)
TASKS = (
    made("Task", "assessed", status="completed", intent="order", **{"for": {"reference": "Patient/stranger"}}),
    made("Task", "nobodys", status="draft", intent="order"),
)
WEIGHTS = [{**observation(each), "id": f"w-{each}"} for each in ("cared-for", "stranger", "dissenting")]


@pytest.fixture(scope="module")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, *PEOPLE, made("Patient", "dissenting"), *WEIGHTS, *WORDS, *TASKS, REFUSES)
        yield url


def blocks(found: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What is in each Patient's block, in its order; each begins with a header."""
    made: dict[str, list[str]] = {}
    for each in found:
        if each["resourceType"] == "Parameters":
            (header,) = each["parameter"]
            assert each.keys() == {"resourceType", "parameter"} and header["name"] == "header"
            block = made.setdefault(header["valueReference"]["reference"], [])
            assert block == []  # one block is one Patient's
        else:
            block.append(f"{each['resourceType']}/{each['id']}")
    return made


def test_output_in_blocks_by_patient(gateway: Gateway, council: httpx.Client) -> None:
    told = manifest(council, kick_off(council, "Patient/$export?organizeOutputBy=Patient"))
    assert told["outputOrganizedBy"] == "Patient"
    assert all(each.keys() == {"url", "count"} for each in told["output"])
    found = lines(council, told["output"])
    assert sum(each["count"] for each in told["output"]) == len(found)
    made = blocks(found)
    assert list(made) == sorted(made)
    assert made == {
        "Patient/cared-for": ["Patient/cared-for", "EpisodeOfCare/care", "Observation/w-cared-for"],
        "Patient/dissenting": ["Patient/dissenting", "Consent/no", "Observation/w-dissenting"],
        "Patient/restricted": ["Patient/restricted"],
        "Patient/stranger": [*("Patient/stranger", "Observation/w-stranger", "Provenance/of-patient", "Task/assessed")],
    }
    by_type = manifest(council, kick_off(council, "Patient/$export"))
    assert "outputOrganizedBy" not in by_type
    every = {f"{each['resourceType']}/{each['id']}" for each in lines(council, by_type["output"])}
    assert {each for block in made.values() for each in block} == every - {
        "Provenance/first",
        "Provenance/second",
        "Provenance/of-dissenting",
    }


def test_blocks_hold_what_is_asked_for_and_shown_alone(gateway: Gateway) -> None:
    path = "Patient/$export?organizeOutputBy=Patient"
    with gateway.client(PROVIDER) as provider:
        assert list(blocks(lines(provider, manifest(provider, kick_off(provider, path))["output"]))) == [
            "Patient/cared-for"
        ]
    weights = manifest(gateway.http, kick_off(gateway.http, f"{path}&_type=Observation&_elements=status"))
    found = lines(gateway.http, weights["output"])
    assert blocks(found) == {
        "Patient/cared-for": ["Observation/w-cared-for"],
        "Patient/stranger": ["Observation/w-stranger"],
    }
    assert all("subject" not in each for each in found)
    some = kick_off(gateway.http, f"{path}&_type=Observation&_typeFilter=Observation?patient=stranger")
    assert list(blocks(lines(gateway.http, manifest(gateway.http, some)["output"]))) == ["Patient/stranger"]


def test_tasks_are_in_the_records_of_those_they_are_for(gateway: Gateway) -> None:
    """R4's Patient compartment has no Task; assessments, reviews and alerts are Tasks, and whose they are they say."""
    paths = ("Patient/$export", "Patient/$export?_type=Task", "$export?_type=Task")
    listed = [lines(gateway.http, manifest(gateway.http, kick_off(gateway.http, each))["output"]) for each in paths]
    tasks = [[each["id"] for each in found if each["resourceType"] == "Task"] for found in listed]
    assert tasks == [["assessed"], ["assessed"], ["assessed", "nobodys"]]


def words(client: httpx.Client, path: str) -> set[str]:
    found = lines(client, manifest(client, kick_off(client, path))["output"])
    return {each["id"] for each in found if each["resourceType"] == "Provenance"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$export?_type=Observation&includeAssociatedData=RelevantProvenanceResources", {"first", "second"}),
        ("$export?_type=Observation&includeAssociatedData=LatestProvenanceResources", {"second"}),
        (
            "$export?_type=Observation&includeAssociatedData=LatestProvenanceResources,RelevantProvenanceResources",
            {"first", "second"},
        ),
        ("$export?_type=Patient&includeAssociatedData=LatestProvenanceResources", {"of-patient"}),
        (
            "$export?_type=Observation,Patient&includeAssociatedData=LatestProvenanceResources"
            "&_typeFilter=Observation?patient=cared-for",
            {"second", "of-patient"},
        ),
        ("$export?includeAssociatedData=LatestProvenanceResources", {"second", "of-patient", "of-organisation"}),
        ("$export?_type=Provenance", {each["id"] for each in WORDS}),
        ("$export?_type=Observation", set()),
        ("Patient/$export", {"first", "second", "of-patient"}),
        ("Patient/$export?_type=Observation", set()),
    ],
)
def test_what_tells_where_records_come_from(gateway: Gateway, path: str, found: set[str]) -> None:
    assert words(gateway.http, path) == found


def test_who_sees_more_is_told_more(gateway: Gateway, council: httpx.Client) -> None:
    relevant = "$export?_type=Observation&includeAssociatedData=RelevantProvenanceResources"
    assert words(council, relevant) == {"first", "second", "of-dissenting"}
    with gateway.client(PROVIDER) as provider:
        assert words(provider, "Patient/$export?includeAssociatedData=RelevantProvenanceResources") == set()
    with gateway.client(UNTOLD) as untold:
        assert "Provenance" in diagnostics(kick_off(untold, relevant), 403)
        assert "Provenance" in diagnostics(
            kick_off(untold, "$export?includeAssociatedData=LatestProvenanceResources"), 403
        )
        assert words(untold, "$export") == set()


def test_leniently_what_is_known_of_it_is_included(gateway: Gateway) -> None:
    lenient = {**ASYNC, "prefer": "respond-async, handling=lenient"}
    path = "$export?_type=Observation&includeAssociatedData=LatestProvenanceResources,_custom"
    told = manifest(gateway.http, gateway.http.get(f"/fhir/{path}", headers=lenient))
    assert [each["type"] for each in told["output"]] == ["Observation", "Provenance"]
    (outcome,) = lines(gateway.http, told["error"])
    assert "_custom" in outcome["issue"][0]["diagnostics"]


def test_a_manifest_in_pages(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conclusion, "PAGE", 2)
    client = gateway.http
    whole = manifest(client, kick_off(client, "$export?allowPartialManifests=false"))
    assert "link" not in whole and "pages" not in whole
    started = kick_off(client, "$export?allowPartialManifests=true")
    page, pages = manifest(client, started), []
    first = page
    while True:
        pages.append(page)
        if "link" not in page:
            break
        ((relation, address),) = [(each["relation"], each["url"]) for each in page["link"]]
        assert relation == "next" and address.startswith(started.headers["content-location"])
        page = client.get(address).json()
        assert {name: page[name] for name in ("transactionTime", "request", "requiresAccessToken")} == {
            name: first[name] for name in ("transactionTime", "request", "requiresAccessToken")
        }
    assert [len(each["output"]) for each in pages[:-1]] == [2] * (len(pages) - 1) and len(pages) > 1
    every = [each["type"] for page in pages for each in page["output"]]
    assert every == [each["type"] for each in whole["output"]]
    assert len(lines(client, pages[-1]["output"])) == sum(each["count"] for each in pages[-1]["output"])
    for none in ("0", str(len(pages) + 1), "x", "01", "-1"):
        assert client.get(f"{started.headers['content-location']}?page={none}").status_code == 404


def test_tables_in_pages(gateway: Gateway, council: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table once, with its view, on a page of its own."""
    whole = manifest(council, kick_off(council, "$export?_outputFormat=csv"))
    assert len(whole["output"]) > 1 and "link" not in whole
    monkeypatch.setattr(conclusion, "PAGE", 1)
    page = manifest(council, kick_off(council, "$export?_outputFormat=csv&allowPartialManifests=true"))
    found = []
    while True:
        (told,) = page["output"]
        answer = council.get(told["url"])
        assert answer.headers["content-type"].startswith("text/csv")
        assert len(list(csv.DictReader(io.StringIO(answer.text)))) == told["count"]
        found.append({**told, "url": told["url"].rpartition("/")[2]})
        if "link" not in page:
            break
        page = council.get(page["link"][0]["url"]).json()
    assert found == [{**each, "url": each["url"].rpartition("/")[2]} for each in whole["output"]]
