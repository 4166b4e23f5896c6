"""Nothing is claimed that does not work, and nothing works that is not claimed: the CapabilityStatement, the routes and
the OpenAPI description tell the same.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhirgw.api.answer import Interactions
from fhirgw.api.served import addresses, served
from fhirgw.app import create_app
from fhirgw.fhir.capability import DEFINITIONS, STEPS
from fhirgw.fhir.parameters import HELD
from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from fhirgw.validation import validate
from tests.gateway import Gateway

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared/data/ukcore-stu2/CapabilityStatement/CapabilityStatement-UKCore.json"
VALUES = {"token": "x|y", "reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "date": "ge2025-01"}
NAMED = {"_id": "x", "active": "true", "deceased": "true", "general": "true"}
OTHERS = (
    "true",
    "1",
    "x$y",
    "x|y$ge2025-01",
    "x|y$gt1|u|g",
    "x$1",
    "x|y$x|y",
    "x|y$ge1",
    "x|y$x",
    "51|0|1|km",
    "Patient/x",
)
"""Values that parameters of other kinds take: a boolean, a number, composites."""


@pytest.fixture(scope="module")
def statement(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.http.get("/fhir/metadata").json()
    assert found["resourceType"] == "CapabilityStatement"
    assert found["implementation"]["url"] == gateway.base
    return found


@pytest.fixture(scope="module")
def claimed(statement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in statement["rest"][0]["resource"]}


@pytest.fixture(scope="module")
def auditor(gateway: Gateway) -> Iterator[httpx.Client]:
    """Who may ask for everything there is: the audit is for those named for it."""
    scopes = "system/*.cruds system/AuditEvent.rs"
    with gateway.client(Registration("auditor", "Z99", scopes, rate=1_000_000)) as client:
        yield client


def test_it_is_sound(statement: dict[str, Any]) -> None:
    assert [issue for issue in validate(statement) if issue.severity == "error"] == []


def test_every_parameter_is_one_that_can_be_searched_by(
    auditor: httpx.Client, claimed: dict[str, dict[str, Any]]
) -> None:
    for kind, each in claimed.items():
        known = each.get("searchParam", [])
        values = [(one["name"], NAMED.get(one["name"], VALUES.get(one["type"], "x"))) for one in known]
        for start in range(0, len(values), 8):
            some = values[start : start + 8]
            if auditor.get(f"/fhir/{kind}", params=[*some, ("_total", "none")]).status_code != 200:
                for name, value in some:
                    assert _takes(auditor, kind, name, value), (kind, name)


def _takes(auditor: httpx.Client, kind: str, name: str, value: str) -> bool:
    """Whether a parameter by itself takes some value: one that suits its type, or those of composites."""
    return any(auditor.get(f"/fhir/{kind}", params={name: each}).status_code == 200 for each in (value, *OTHERS))


def test_every_include_is_one_that_can_be_asked_for(auditor: httpx.Client, claimed: dict[str, dict[str, Any]]) -> None:
    asked = 0
    for kind, each in claimed.items():
        for control, name in (("searchInclude", "_include"), ("searchRevInclude", "_revinclude")):
            values = [(name, value) for value in each.get(control, [])]
            for start in range(0, len(values), 20):
                answer = auditor.get(f"/fhir/{kind}", params=[*values[start : start + 20], ("_count", "2")])
                assert answer.status_code == 200, (kind, answer.text)
            asked += len(values)
    assert asked > 200


PLACES = {
    "read": ("GET", "/{type}/{id}"),
    "vread": ("GET", "/{type}/{id}/_history/{vid}"),
    "update": ("PUT", "/{type}/{id}"),
    "patch": ("PATCH", "/{type}/{id}"),
    "delete": ("DELETE", "/{type}/{id}"),
    "history-instance": ("GET", "/{type}/{id}/_history"),
    "history-type": ("GET", "/{type}/_history"),
    "create": ("POST", "/{type}"),
    "search-type": ("GET", "/{type}"),
}
"""Where R4 has each interaction. https://hl7.org/fhir/R4/http.html#summary"""

CONDITIONAL = {
    ("PUT", "/{type}"): ("conditionalUpdate", True),
    ("DELETE", "/{type}"): ("conditionalDelete", "single"),
}
BY_THEMSELVES = ("/metadata", "/openapi.json", "/.well-known/smart-configuration", "", "/_search")
"""Addresses that describe the rest."""


def refusals(auditor: httpx.Client, method: str, path: str) -> bool:
    """Whether a request is refused for its method or address alone, not for what it holds."""
    answer = auditor.request(method, f"/fhir{path}", json={} if method in ("POST", "PUT", "PATCH") else None)
    told = answer.json()["issue"][0]["diagnostics"] if answer.status_code in (404, 405) else ""
    return answer.status_code == 405 or "nothing at this address" in told or "are not held here" in told


def test_every_interaction_is_answered_and_every_other_refused(
    auditor: httpx.Client, claimed: dict[str, dict[str, Any]]
) -> None:
    for kind in ("Patient", "Observation", "AuditEvent", "CodeSystem", "OperationDefinition"):
        each = claimed[kind]
        codes = {one["code"] for one in each.get("interaction", ())}
        assert codes <= PLACES.keys()
        for code, (method, template) in PLACES.items():
            path = template.replace("{type}", kind).replace("{id}", "none").replace("{vid}", "1")
            assert refusals(auditor, method, path) is (code not in codes), (kind, code)


def test_every_route_is_claimed(statement: dict[str, Any], claimed: dict[str, dict[str, Any]]) -> None:
    """The other way round: each method of each template below the base is an interaction or operation that is told."""
    told = {each["name"] for each in statement["rest"][0]["operation"]} | set(STEPS)
    whole = {each["code"] for each in statement["rest"][0]["interaction"]}
    for method, path in addresses(create_app(Settings()).routes):
        parts = path.split("/")
        kind = parts[1] if len(parts) > 1 else ""
        types = [each for each in HELD if each != "AuditEvent"] if kind == "{type}" else [kind]
        if path in BY_THEMSELVES or path.startswith("/oauth/"):
            assert path or {"transaction", "batch", "search-system"} <= whole
        elif operation := next((part[1:] for part in parts if part.startswith("$")), None):
            names = (
                told if kind.startswith("$") else {one["name"] for each in types for one in claimed[each]["operation"]}
            )
            assert operation in names, path
        elif path == "/_history":
            assert "history-system" in whole
        else:
            template = path.replace(f"/{kind}", "/{type}", 1)
            for each in types:
                assert _told(claimed[each], method, template), (each, method, path)


def _told(claim: dict[str, Any], method: str, template: str) -> bool:
    if (method, template) in CONDITIONAL:
        name, value = CONDITIONAL[method, template]
        return bool(claim[name] == value)
    if (method, template) == ("PATCH", "/{type}"):
        return "patch" in {one["code"] for one in claim["interaction"]}  # R4 has no word for it on a condition
    place = (method, template.replace("/_search", "")) if template.endswith("_search") else (method, template)
    codes = {"search-type" if template.endswith("_search") else code for code, at in PLACES.items() if at == place}
    return bool(codes) and codes <= {one["code"] for one in claim["interaction"]}


def test_every_operation_has_a_definition_and_an_address() -> None:
    known = served(create_app(Settings()).routes)
    assert {each for each in known.operations if each[1] not in STEPS} <= DEFINITIONS.keys()
    assert DEFINITIONS.keys() <= set(known.operations)


def test_every_operation_is_answered(auditor: httpx.Client, claimed: dict[str, dict[str, Any]]) -> None:
    asked = 0
    for kind, each in claimed.items():
        for operation in each.get("operation", ()):
            places = [f"/{kind}/${operation['name']}", f"/{kind}/none/${operation['name']}"]
            ways = [(method, path) for path in places for method in ("GET", "POST")]
            assert not all(refusals(auditor, *way) for way in ways), (kind, operation)
            asked += 1
    assert asked > 50


def test_what_is_not_claimed_is_refused(gateway: Gateway, claimed: dict[str, dict[str, Any]]) -> None:
    assert set(HELD) <= claimed.keys()
    assert "Medication" not in claimed
    assert gateway.http.get("/fhir/Medication").status_code == 404


# UK Core Access: https://build.fhir.org/ig/HL7-UK/UK-Core-Access/capabilities.html

ACCESS = {
    "UKCoreAccessPatientIndexProvider": {"_id", "family", "gender", "given", "identifier", "name", "birthdate"},
    "UKCoreAccessClinicalDataProvider": {"identifier"},
}
"""The search parameters of Patient that the two statements of UK Core Access ask for, SHALL and SHOULD alike."""


def test_uk_core_access_is_kept(
    gateway: Gateway, statement: dict[str, Any], claimed: dict[str, dict[str, Any]]
) -> None:
    assert {each.rpartition("/")[2] for each in statement["instantiates"]} == {
        *ACCESS,
        *("bulk-data", "backport-subscription-server-r4"),
    }
    assert (statement["fhirVersion"], "application/fhir+json" in statement["format"]) == ("4.0.1", True)
    patient = claimed["Patient"]
    assert {"code": "search-type"} in patient["interaction"]
    assert set.union(*ACCESS.values()) <= {each["name"] for each in patient["searchParam"]}
    for pair in (("birthdate", "family"), ("birthdate", "name"), ("gender", "family"), ("gender", "name")):
        values = {"birthdate": "1950-03-01", "gender": "female", "family": "x", "name": "x"}
        assert gateway.http.get("/fhir/Patient", params={name: values[name] for name in pair}).status_code == 200
    published = json.loads(PUBLISHED.read_text())
    listed = {each["type"]: each["profile"] for each in published["rest"][0]["resource"]}
    for kind in listed.keys() & claimed.keys():
        assert listed[kind] in claimed[kind]["supportedProfile"]
    for kind in {each for each in listed.keys() & claimed.keys() if "patient" in _searched(claimed[each])}:
        assert gateway.http.get(f"/fhir/{kind}?patient=nobody").status_code == 200


def _searched(claim: dict[str, Any]) -> set[str]:
    return {each["name"] for each in claim.get("searchParam", ())}


# The README


def test_the_readme_says_what_is_claimed(statement: dict[str, Any], claimed: dict[str, dict[str, Any]]) -> None:
    told = {row[0]: set(re.findall(r"`([^`]+)`", row[1])) for row in _table("FHIR R4")}
    rest = statement["rest"][0]
    held = {kind for kind in claimed if kind in HELD}
    every = [claimed[kind] for kind in sorted(held - {"AuditEvent"})]
    named = [{one["name"] for one in each["operation"]} for each in every]
    conditions = {name for name in every[0] if name.startswith("conditional") and every[0][name]}
    carried = claimed.keys() - held - {"Subscription"}
    definitions = [claimed[kind] for kind in carried]
    assert told == {
        "interactions with a type": set.union(*({one["code"] for one in each["interaction"]} for each in every)),
        "interactions with the system": {one["code"] for one in rest["interaction"]},
        "operations of every type": set.intersection(*named),
        "operations of Group": {one["name"] for one in claimed["Group"]["operation"]},
        "operations of Patient": {one["name"] for one in claimed["Patient"]["operation"]},
        "operations of the system": {one["name"] for one in rest["operation"]},
        "operations of definitions": {one["name"] for each in definitions for one in each.get("operation", ())},
        "on a condition": conditions,
        "types": held,
        "definitions, to read and search": carried,
        "operations of Subscription": {one["name"] for one in claimed["Subscription"]["operation"]},
        "claimed besides": set(),
    }


def _table(heading: str) -> list[list[str]]:
    """The rows of the README's table whose first column has that heading."""
    lines = (ROOT / "README.md").read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


# OpenAPI


def test_the_openapi_description_tells_of_the_same(gateway: Gateway) -> None:
    made = gateway.http.get("/fhir/openapi.json").json()
    assert made["openapi"] == "3.1.0"
    told = {(method.upper(), path) for path, each in made["paths"].items() for method in each}
    routes = [each for each in gateway.app.routes if isinstance(each, Interactions)]
    for method, path in addresses(routes):
        spelt = "/Patient" if (method, path) == ("GET", "/{type}") else path or "/"
        assert (method, spelt) in told
    below = {path: each for path, each in made["paths"].items() if "servers" not in each}
    ids = [each["operationId"] for path in below.values() for each in path.values()]
    assert len(ids) == len(set(ids))
    for path, each in below.items():
        for one in each.values():
            places = {name["name"] for name in one["parameters"] if name["in"] == "path"}
            assert places == set(re.findall(r"{(\w+)}", path))


def test_whoever_has_no_token_is_told_nothing_of_it(gateway: Gateway) -> None:
    with gateway.stranger() as stranger:
        assert stranger.get("/fhir/openapi.json").status_code == 401
