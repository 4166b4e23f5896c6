"""`$break-glass` and `$explain` over HTTP: who may, what they are answered, and what is told to nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request

from fhirgw.access.permit import Permit
from fhirgw.access.scope import scopes
from fhirgw.api import break_glass, explain
from fhirgw.api.authenticate import ROLES
from fhirgw.api.context import Context
from fhirgw.store.audit import Auditor
from fhirgw.store.database import WRITING
from fhirgw.store.registration import Registration, add
from tests.conftest import NewDatabase
from tests.put import put, reading

WHY = "found on the floor, cannot speak"
USER = Permit("RAB", "direct-care", scopes("user/*.rs"), practitioner="w1", registration="trust-app")
AUDITOR = Permit("Z99", "direct-care", scopes("system/AuditEvent.r"))
OVERSEER = Permit("Z99", "operations", scopes("system/*.rs"))
BODY = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": WHY}]}
PERSON = {
    "resourceType": "Patient",
    "id": "p1",
    "name": [{"family": "Canarybird"}],
    "generalPractitioner": [{"reference": "Organization/o1"}],
}
SURGERY = {
    "resourceType": "Organization",
    "id": "o1",
    "name": "A surgery",
    "identifier": [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "A81001"}],
}


class Gateway:
    """`permit` and `roles` are the caller's: set them and ask."""

    def __init__(self, url: str, http: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
        self.url, self.http, self.pool = url, http, pool
        self.permit, self.roles = USER, frozenset({"break-glass"})

    async def gate(self, request: Request) -> Permit:
        request.scope[ROLES] = self.roles
        return self.permit

    async def break_glass(self, id: str = "p1", body: Any = BODY, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        known = {"content-type": "application/fhir+json", **headers}
        return await self.http.post(f"/fhir/Patient/{id}/$break-glass", content=content, headers=known)

    async def explain(self, id: str = "p1", **asked: str) -> httpx.Response:
        return await self.http.get(f"/fhir/Patient/{id}/$explain", params=asked)


@pytest.fixture
async def gateway(new_database: NewDatabase) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as owned:
        url = await owned.enter_async_context(new_database())
        await put(url, PERSON, SURGERY)
        plain = await owned.enter_async_context(asyncpg.create_pool(url, min_size=0, server_settings=WRITING))
        pool = await owned.enter_async_context(reading(url))
        app = Starlette(routes=[*break_glass.routes(), *explain.routes()])
        http = await owned.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.test")
        )
        made = Gateway(url, http, plain)
        app.state.smart = SimpleNamespace(connect=plain.acquire)
        app.state.auditor = await owned.enter_async_context(Auditor(url))
        app.state.context = Context(pool, pool, made.gate, None, "0", "2026-01-01T00:00:00Z")
        app.state.controller, app.state.overseer, app.state.opt_out_days = "Z99", OVERSEER, 7.0
        yield made


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def rows(gateway: Gateway) -> list[Any]:
    found: list[Any] = await gateway.pool.fetch("SELECT * FROM fhirgw.break_glass")
    return found


def part(parameters: list[dict[str, Any]], name: str) -> Any:
    (found,) = [each for each in parameters if each["name"] == name]
    return next(value for key, value in found.items() if key != "name")


async def test_a_practitioner_with_the_role_gets_a_grant(gateway: Gateway, lines: list[Any]) -> None:
    answered = await gateway.break_glass()
    assert answered.status_code == 200
    (row,) = await rows(gateway)
    parameters = answered.json()["parameter"]
    assert part(parameters, "grant") == row["id"]
    assert part(parameters, "banner") == break_glass.BANNER == answered.headers[break_glass.BANNER_HEADER]
    assert answered.headers["cache-control"] == "no-store"
    assert (row["person"], row["practitioner"], row["organisation"], row["reason"]) == ("p1", "w1", "RAB", WHY)
    warned = [line for line in lines if line["event"] == "break-glass"]
    known = {"event": "break-glass", "log_level": "warning", "organisation": "RAB", "practitioner": "w1"}
    assert warned == [known | {"grant": row["id"][:8]}]
    assert "X-Break-Glass" in part(parameters, "use")


async def test_it_is_audited_with_whose_record(gateway: Gateway) -> None:
    await gateway.break_glass()
    body = orjson.loads(await gateway.pool.fetchval("SELECT body FROM fhirgw.audited"))
    assert "break-glass" in orjson.dumps(body["subtype"]).decode()
    assert "Patient/p1" in orjson.dumps(body["entity"]).decode()


async def test_whether_there_is_such_a_person_is_not_told(gateway: Gateway) -> None:
    here, nowhere = await gateway.break_glass("p1"), await gateway.break_glass("nobody")
    assert (here.status_code, here.headers.keys()) == (nowhere.status_code, nowhere.headers.keys())
    assert [each["name"] for each in here.json()["parameter"]] == [each["name"] for each in nowhere.json()["parameter"]]
    assert (await gateway.break_glass("no_id")).status_code == 404


@pytest.mark.parametrize(
    ("permit", "roles"),
    [
        (USER, frozenset()),
        (USER, frozenset({"safeguarding"})),
        (replace(USER, scopes=scopes("system/*.rs")), frozenset({"break-glass"})),
        (replace(USER, scopes=scopes("system/*.rs"), practitioner=None), frozenset({"break-glass"})),
        (replace(USER, purpose="emergency", patient="p1", grant="g1"), frozenset({"break-glass"})),
        (replace(USER, purpose="research", agreement="a1"), frozenset({"break-glass"})),
    ],
)
async def test_nobody_else_gets_one(gateway: Gateway, permit: Permit, roles: frozenset[str]) -> None:
    gateway.permit, gateway.roles = permit, roles
    assert (await gateway.break_glass()).status_code == 403
    assert await rows(gateway) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        ({}, 400),
        ({**BODY, "resourceType": "Bundle"}, 400),
        ({**BODY, "parameter": []}, 400),
        ({**BODY, "parameter": [*BODY["parameter"], *BODY["parameter"]]}, 400),
        ({**BODY, "parameter": [{"name": "why", "valueString": WHY}]}, 400),
        ({**BODY, "parameter": [{"name": "reason", "valueString": "urgent"}]}, 400),
        ({**BODY, "parameter": [{"name": "reason", "valueCode": WHY}]}, 400),
        ({**BODY, "parameter": ["reason"]}, 400),
        (b" " * 20_000, 413),
    ],
)
async def test_without_a_written_reason_there_is_none(gateway: Gateway, body: Any, status: int) -> None:
    answered = await gateway.break_glass(body=body)
    assert (answered.status_code, answered.json()["resourceType"]) == (status, "OperationOutcome")
    assert await rows(gateway) == []


async def test_only_json_is_read(gateway: Gateway) -> None:
    assert (await gateway.break_glass(**{"content-type": "text/plain"})).status_code == 415
    assert (await gateway.http.get("/fhir/Patient/p1/$break-glass")).status_code == 405


async def test_a_sixth_grant_is_throttled(gateway: Gateway) -> None:
    answered = [await gateway.break_glass(f"p{number}") for number in range(6)]
    assert [each.status_code for each in answered] == [200] * 5 + [429]
    assert answered[-1].headers["retry-after"] == "300"


def test_an_emergency_shows_its_banner() -> None:
    emergency = replace(USER, purpose="emergency", patient="p1", grant="g1")
    assert break_glass.banner(emergency) == {break_glass.BANNER_HEADER: break_glass.BANNER}
    assert break_glass.BANNER.isascii()
    assert [(each.severity, each.diagnostics) for each in break_glass.notes(emergency)] == [
        ("warning", break_glass.BANNER)
    ]
    assert (break_glass.banner(USER), break_glass.notes(USER)) == ({}, [])


# $explain


def explained(answered: httpx.Response, kind: str) -> list[dict[str, Any]]:
    assert answered.status_code == 200, answered.text
    every = [each["part"] for each in answered.json()["parameter"] if each["name"] == "explanation"]
    (found,) = [(each, its) for each in every for its in types(each) if its["code"] == kind]
    return [*found[0], *({"name": name, "value": found[1][name]} for name in ("held", "seen"))]


def types(explanation: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The types that an explanation is about, with how many there are of each."""
    parts = [each["part"] for each in explanation if each["name"] == "type"]
    return [{name: part(each, name) for name in ("code", "held", "seen")} for each in parts]


async def test_an_auditor_is_told_what_an_organisation_sees(gateway: Gateway) -> None:
    gateway.permit = AUDITOR
    found = explained(await gateway.explain(organisation="A81001"), "Patient")
    assert (part(found, "held"), part(found, "seen")) == (1, 1)
    assert part(found, "reason") == [
        {"name": "allows", "valueBoolean": True},
        {"name": "text", "valueString": "A surgery is the person's GP practice."},
        {"name": "restsOn", "valueReference": {"reference": "Patient/p1"}},
    ]
    hidden = explained(await gateway.explain(organisation="RAB", type="Patient"), "Patient")
    assert (part(hidden, "held"), part(hidden, "seen")) == (1, 0)
    assert part(hidden, "wouldChange").startswith("the record named them")


async def test_an_auditor_is_told_as_what_an_organisation_is_taken(gateway: Gateway) -> None:
    gateway.permit = AUDITOR
    for asked, sector, supposed in (
        ({"organisation": AUDITOR.organisation}, "council", True),
        ({"who": "A81001"}, "nhs", True),
        ({"organisation": "A81001", "sector": "voluntary"}, "voluntary", False),
    ):
        answered = (await gateway.explain(**asked)).json()["parameter"]
        assert part(answered, "sector") == sector
        assert ("supposed" in {each["name"] for each in answered}) is supposed
    for wrong, told in (
        ({"organisation": "A81001", "sector": "bogus"}, "one of nhs, care-provider, voluntary, council"),
        ({"organization": "A81001"}, "Did you mean organisation?"),
    ):
        refused = await gateway.explain(**wrong)
        assert (refused.status_code, told in refused.json()["issue"][0]["diagnostics"]) == (400, True)


async def test_an_auditor_is_told_what_an_application_sees(gateway: Gateway) -> None:
    gateway.permit = AUDITOR
    async with gateway.pool.acquire() as connection:
        await add(connection, Registration("surgery", "A81001", "system/Patient.rs", purposes=("direct-care",)))
        await add(connection, Registration("portal", "Z99", "patient/*.rs", purposes=("person",)))
        await add(connection, Registration("stopped", "A81001", "system/Patient.rs", active=False))
    assert part(explained(await gateway.explain(app="surgery"), "Patient"), "seen") == 1
    themselves = explained(await gateway.explain(app="portal"), "Patient")
    assert (part(themselves, "seen"), part(part(themselves, "reason"), "text")) == (1, "It is the person's own record.")
    for app, purpose, told in (
        ("surgery", "research", "may not ask for the purpose research: it is registered for direct-care"),
        ("surgery", "emergency", "with the role break-glass"),
        ("stopped", "direct-care", "no longer active"),
    ):
        answered = await gateway.explain(app=app, purpose=purpose)
        assert told in part(answered.json()["parameter"], "refused")
    assert (await gateway.explain(app="unheard-of")).status_code == 404


async def test_an_emergency_is_explained_by_its_grant(gateway: Gateway) -> None:
    await put(gateway.url, {"resourceType": "Practitioner", "id": "w1", "active": True})
    assert (await gateway.break_glass()).status_code == 200
    gateway.permit = AUDITOR
    asked = {"organisation": "RAB", "practitioner": "w1", "purpose": "emergency"}
    found = explained(await gateway.explain(**asked), "Patient")
    assert part(found, "seen") == 1
    refused = await gateway.explain("p2", **asked)
    assert "There is no break-glass grant in force" in part(refused.json()["parameter"], "refused")
    refused = await gateway.explain(**asked | {"purpose": "safeguarding"})
    assert "no safeguarding case" in part(refused.json()["parameter"], "refused")


@pytest.mark.parametrize(
    "permit",
    [
        USER,
        replace(AUDITOR, scopes=scopes("system/*.rs")),
        replace(AUDITOR, scopes=scopes("system/AuditEvent.s")),
        replace(AUDITOR, organisation="RAB"),
        replace(AUDITOR, scopes=scopes("user/AuditEvent.r"), practitioner="w1"),
        replace(AUDITOR, scopes=scopes("system/Patient.rs")),
    ],
)
async def test_everybody_else_is_told_that_it_is_for_auditors(gateway: Gateway, permit: Permit) -> None:
    gateway.permit = permit
    here, nowhere = await gateway.explain(app="x"), await gateway.explain("nobody", app="x")
    assert (here.status_code, here.content) == (403, nowhere.content)
    assert "AuditEvent" in here.text or "auditors" in here.text
    gateway.permit = AUDITOR
    assert (await gateway.explain("nobody", organisation="RAB")).status_code == 404


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"app": "a", "organisation": "RAB"},
        {"organisation": "RAB", "type": "Patients"},
        {"organisation": "RAB", "purpose": "curiosity"},
        {"organisation": "RAB", "why": "x"},
        {"organisation": ""},
    ],
)
async def test_a_question_that_is_none_is_refused(gateway: Gateway, asked: dict[str, str]) -> None:
    gateway.permit = AUDITOR
    assert (await gateway.explain(**asked)).status_code == 400
