"""Every answer is audited before it leaves, permitted or refused; and the person is told who has looked."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from fhirgw.access.audit_event import Seen
from fhirgw.access.audit_facets import facets
from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.api import fhir, who_looked
from fhirgw.api.audit import Entry, interactions
from fhirgw.api.audit import access as access_of
from fhirgw.api.context import Context
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.nhs import NHS_NUMBER, ODS_ORGANISATION
from fhirgw.fhir.validate import check
from fhirgw.store.audit import Auditor, record_now
from fhirgw.store.audit_chain import verify
from fhirgw.store.database import readers
from fhirgw.store.looked import listed
from tests.put import put
from tests.store.test_store_audit import access

ANNE, BERT = "0f8fad5b-d9cb-469f-a165-70867728950e", "1f8fad5b-d9cb-469f-a165-70867728950e"
PLAN, HIDDEN = "0f811111-d9cb-569f-a165-70867728950e", "0f822222-d9cb-569f-a165-70867728950e"
NUMBER, FAMILY, POSTCODE = "9000000009", "Canarybird", "ZZ99 3WZ"


def permit(*scopes: str, organisation: str = "Z99", purpose: str = "direct-care", **others: Any) -> Permit:
    return Permit(organisation, purpose, tuple(map(Scope.parse, scopes)), **others)


PERMITS = {
    "care": permit("system/*.rs", registration="demo-ics"),
    "narrow": permit("system/CarePlan.rs"),
    "elsewhere": permit("system/*.rs", organisation="Z00"),
    "anne": permit("patient/*.rs", purpose="person", patient=ANNE, registration="demo-person"),
    "bert": permit("patient/*.rs", purpose="person", patient=BERT),
    "delegate": permit("patient/*.rs", purpose="person", patient=ANNE, delegate="RelatedPerson/d1"),
    "auditor": permit("system/AuditEvent.rs"),
    "their auditor": permit("system/AuditEvent.rs", organisation="Z00"),
    "searcher": permit("system/AuditEvent.s"),
}
DIRECTORY = permit("system/Organization.rs", purpose="operations")
PEOPLE = [
    {
        "resourceType": "Patient",
        "id": id,
        "identifier": [{"system": NHS_NUMBER, "value": NUMBER}],
        "name": [{"family": FAMILY}],
        "address": [{"postalCode": POSTCODE}],
    }
    for id in (ANNE, BERT)
]
OTHERS = [
    {"resourceType": "CarePlan", "id": PLAN, "status": "active", "intent": "plan", "subject": PEOPLE[0]["id"]},
    {
        "resourceType": "Organization",
        "id": "2f8fad5b-d9cb-469f-a165-70867728950e",
        "identifier": [{"system": ODS_ORGANISATION, "value": "Z99"}],
        "name": "Meadow County Council",
    },
]
OTHERS[0]["subject"] = {"reference": f"Patient/{ANNE}"}


@dataclass(frozen=True)
class World:
    """The gateway's own routes, with a gate that believes the header X-Permit."""

    http: httpx.AsyncClient
    connection: asyncpg.Connection

    async def get(self, who: str | None, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(f"/fhir/{path}", headers={"x-permit": who or ""} | headers)

    async def events(self) -> list[Resource]:
        """The audit, the newest first."""
        return [orjson.loads(each.body) for each in await listed(self.connection, count=10_000)]

    async def newest(self) -> Resource:
        return (await self.events())[0]


async def gate(request: Request) -> Permit:
    if known := PERMITS.get(request.headers["x-permit"]):
        return known
    raise FhirError(Issue("login", "Who are you?"))


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    await put(database, *PEOPLE, *OTHERS)
    app = Starlette(routes=[*who_looked.routes(), *fhir.routes()])
    async with AsyncExitStack() as owned:
        pool = await owned.enter_async_context(readers(database))
        app.state.auditor = await owned.enter_async_context(Auditor(database))
        app.state.controller, app.state.directory = "Z99", DIRECTORY
        app.state.context = Context(pool, pool, gate, "https://gateway.example/fhir", "0", "2026-01-01T00:00:00Z")
        transport = httpx.ASGITransport(app)
        http = await owned.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://gateway"))
        connection = await asyncpg.connect(database)
        owned.push_async_callback(connection.close)
        yield World(http, connection)


def people(response: httpx.Response) -> list[str]:
    return [each["resource"]["id"] for each in response.json()["entry"] if each["search"]["mode"] == "match"]


def sentences(response: httpx.Response) -> list[str]:
    found = [each["resource"] for each in response.json()["entry"] if each["search"]["mode"] == "match"]
    assert [check(each) for each in found] == [[] for _ in found]
    return [re.sub(r"<[^>]+>|^On .*?, ", "", re.sub(r"<[^>]+>", "", each["text"]["div"])) for each in found]


async def test_a_read_is_in_the_audit_before_it_is_answered(world: World) -> None:
    response = await world.get("care", f"Patient/{ANNE}")
    assert response.status_code == 200
    [made] = await world.events()
    assert made["entity"][0]["what"]["identifier"]["value"] == response.headers["x-request-id"]
    assert facets(made)[1:] == ((ANNE,), "demo-ics", "Z99", "direct-care", "0")
    assert made["entity"][1]["detail"] == [{"type": "Patient", "valueString": ANNE}]


async def test_a_search_tells_whose_records_were_in_the_answer(world: World) -> None:
    response = await world.get("care", f"Patient?family={FAMILY}&_count=10")
    assert set(people(response)) == {ANNE, BERT}
    made = await world.newest()
    assert set(facets(made).persons) == {ANNE, BERT}
    assert made["entity"][0]["query"] == "L2ZoaXIve3R5cGV9P2ZhbWlseSZfY291bnQ="  # /fhir/{type}?family&_count


@pytest.mark.parametrize(
    ("path", "interaction"),
    [
        (f"CarePlan/{PLAN}/_history/1", "vread"),
        (f"CarePlan/{PLAN}/_history", "history-instance"),
        (f"Patient/{ANNE}/$everything", "operation"),
    ],
)
async def test_each_interaction_tells_the_person(world: World, path: str, interaction: str) -> None:
    assert (await world.get("care", path)).status_code == 200
    made = await world.newest()
    assert made["subtype"][0]["code"] == interaction
    assert facets(made).persons == (ANNE,)


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        (None, f"Patient/{ANNE}", 401),
        ("narrow", f"Patient/{ANNE}", 403),
        ("bert", f"Patient/{ANNE}", 404),
        ("elsewhere", f"Patient/{ANNE}", 404),
        ("care", f"Patient/{HIDDEN}", 404),
        ("care", f"Patient/{ANNE}/$who-looked", 404),
    ],
)
async def test_a_refusal_is_audited_with_whom_it_asked_for(world: World, who: str, path: str, status: int) -> None:
    response = await world.get(who, path)
    assert response.status_code == status
    made = await world.newest()
    assert (made["outcome"], made["outcomeDesc"]) == ("4", f"refused: {status}")
    assert facets(made).persons == (path.split("/")[1],)
    assert made["entity"][0]["what"]["identifier"]["value"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("Patient?nonsense=1", {}, 400),
        ("Patient", {"accept": "text/html"}, 406),
        ("Nonsense/1", {}, 404),
        (f"CarePlan/{PLAN}", {"if-none-match": 'W/"1"'}, 304),
    ],
)
async def test_other_ends_are_audited_too(world: World, path: str, headers: dict[str, str], status: int) -> None:
    assert (await world.get("care", path, **headers)).status_code == status
    assert (await world.newest())["outcome"] == ("0" if status == 304 else "4")


async def test_what_tells_nothing_of_anybody_is_not(world: World) -> None:
    assert (await world.get("care", "metadata")).status_code == 200
    assert await world.events() == []


async def test_without_an_audit_there_is_no_answer(world: World) -> None:
    await world.connection.execute("ALTER FUNCTION fhirgw.audit_append RENAME TO gone")
    response = await world.get("care", f"Patient/{ANNE}")
    assert response.status_code == 503
    assert response.json()["issue"][0]["code"] == "transient"
    assert FAMILY not in response.text
    assert not {"etag", "last-modified"} & set(response.headers)
    await world.connection.execute("ALTER FUNCTION fhirgw.gone RENAME TO audit_append")
    assert FAMILY in (await world.get("care", f"Patient/{ANNE}")).text
    assert len(await world.events()) == 1


async def test_nothing_personal_gets_into_the_audit(world: World) -> None:
    for path in (
        f"Patient?identifier={NHS_NUMBER}|{NUMBER}",
        f"Patient?{NUMBER}=1&{FAMILY}={FAMILY}&address:{POSTCODE}=x&family:{FAMILY}=1",
        f"Patient?address-postalcode={POSTCODE}",
        f"Patient?_cursor={FAMILY}",
        *(f"{kind}/{each}" for kind in ("Patient", FAMILY, "CarePlan") for each in (NUMBER, FAMILY, POSTCODE)),
        *(f"Patient/{each}/$everything" for each in (NUMBER, FAMILY)),
        *(f"Patient/{each}/$who-looked?{FAMILY}" for each in (NUMBER, FAMILY, ANNE)),
        f"CarePlan/{NUMBER}/_history/{FAMILY}",
    ):
        for who in ("care", "anne", "auditor", None):
            await world.get(who, path, **{"x-request-id": FAMILY, "user-agent": FAMILY})
    form = {"family": FAMILY, FAMILY: NUMBER}
    await world.http.post("/fhir/Patient/_search", data=form, headers={"x-permit": "care"})
    events = await world.events()
    assert len(events) == 19 * 4 + 1
    text = orjson.dumps(events).decode()
    for canary in (NUMBER, FAMILY, POSTCODE, POSTCODE.replace(" ", "")):
        assert canary not in text
    assert ANNE in text
    assert (await verify(world.connection)).sound


@pytest.mark.parametrize(
    ("method", "template", "expected"),
    [
        ("GET", "/fhir/{type}/{id}", ("read", None)),
        ("HEAD", "/fhir/{type}/{id}", ("read", None)),
        ("GET", "/fhir/{type}", ("search-type", None)),
        ("POST", "/fhir/{type}/_search", ("search-type", None)),
        ("GET", "/fhir/{type}/{id}/_history", ("history-instance", None)),
        ("GET", "/fhir/{type}/{id}/_history/{vid}", ("vread", None)),
        ("POST", "/fhir/{type}", ("create", None)),
        ("PUT", "/fhir/{type}/{id}", ("update", None)),
        ("DELETE", "/fhir/{type}/{id}", ("delete", None)),
        ("BREW", "/fhir/{type}/{id}", ("operation", None)),
        ("GET", "/fhir/Patient/{id}/$everything", ("operation", "everything")),
        ("DELETE", "/fhir/$export-status/{job}", ("operation", "export-status")),
        ("POST", "/fhir/oauth/token", ("operation", "token")),
    ],
)
def test_interactions_have_fhirs_names(method: str, template: str, expected: tuple[str, str | None]) -> None:
    assert interactions(method, template) == expected


def test_parameters_are_told_by_names_that_are_known() -> None:
    query = b"subject:Patient.family=a&_has:Flag:patient:code=b&Canarybird=c&_count=1&family:Canarybird=d&_count=2"
    scope = {"type": "http", "method": "POST", "query_string": query, "path_params": {"type": "Goal"}, "headers": []}
    found = Entry()
    found.asked(["birthdate", "9000000009"])
    made = access_of(Request(scope), "/fhir/{type}/_search", 200, found)
    assert made.parameters == ("subject:Patient.family", "_has:Flag:patient:code", "?", "_count", "birthdate")
    assert (made.type, made.asked) == ("Goal", None)


async def test_the_person_is_told_in_plain_english(world: World) -> None:
    await world.get("care", f"CarePlan/{PLAN}")
    await world.get("elsewhere", f"Patient/{ANNE}")
    await world.get("care", f"Patient/{BERT}")
    await record_now(world.connection, access(1, None, everybody=True))
    told = sentences(await world.get("anne", f"Patient/{ANNE}/$who-looked"))
    assert told == [
        "the organisation Z00 asked for your record and was not given it. Why: to give or arrange care (direct care).",
        "Meadow County Council (with the application demo-ics) looked at your care plan."
        " Why: to give or arrange care (direct care).",
        "a bulk copy of records was made for the organisation Z9C01 (with the application demo-ics), and may have"
        " included all of your record. Why: to give or arrange care (direct care).",
    ]
    again = sentences(await world.get("anne", f"Patient/{ANNE}/$who-looked"))
    assert again == [
        "you through Meadow County Council (with the application demo-person) looked at the list of who has looked at"
        " your record. Why: so that the person, or somebody who acts for them, can read it.",
        *told,
    ]


async def test_it_is_for_the_person_and_auditors_alone(world: World) -> None:
    absent = await world.get("care", f"Patient/{HIDDEN}")
    for who in ("care", "elsewhere", "bert", "delegate", "their auditor"):
        response = await world.get(who, f"Patient/{ANNE}/$who-looked")
        assert (response.status_code, response.content) == (404, absent.content), who
    for who in ("narrow", "searcher"):
        assert (await world.get(who, f"Patient/{ANNE}/$who-looked")).status_code == 403
    for who in ("anne", "auditor"):
        assert len(people(await world.get(who, f"Patient/{ANNE}/$who-looked"))) > 0


async def test_what_they_may_not_see_is_not_told(world: World) -> None:
    secret = permit("user/*.rs", purpose="safeguarding", practitioner="pr1", case="f1")
    seen = [Seen("Flag", HIDDEN, ANNE), Seen("CarePlan", PLAN, ANNE)]
    await record_now(world.connection, access(1, seen=seen))
    await record_now(world.connection, access(2, permit=secret))
    own = await world.get("anne", f"Patient/{ANNE}/$who-looked")
    assert len(people(own)) == 1
    assert HIDDEN not in own.text
    assert "looked at your care plan." in own.text
    assert "safeguarding" not in own.text
    for_auditor = await world.get("auditor", f"Patient/{ANNE}/$who-looked")
    assert len(people(for_auditor)) == 3
    assert HIDDEN in for_auditor.text
    assert "looked at alerts in your record and your care plan." in for_auditor.text
    assert "to keep somebody safe (safeguarding)" in for_auditor.text


async def test_pages_follow_one_another(world: World) -> None:
    for number in range(25):
        await record_now(world.connection, access(number))
    found: list[str] = []
    address = f"Patient/{ANNE}/$who-looked?_count=10"
    lengths = []
    while address:
        page = await world.get("anne", address)
        lengths.append(len(people(page)))
        found += people(page)
        links = {each["relation"]: each["url"] for each in page.json()["link"]}
        assert links["self"].removeprefix("https://gateway.example/fhir/") == address
        address = links.get("next", "").removeprefix("https://gateway.example/fhir/")
    assert lengths == [10, 10, 5]
    assert len(set(found)) == 25


@pytest.mark.parametrize(
    "query", ["_count=0", "_count=x", "_count=", "other=1", "_cursor=x", "_cursor=", "_cursor=WzEsMl0", "_cursor=e30"]
)
async def test_what_cannot_be_read_is_refused(world: World, query: str) -> None:
    assert (await world.get("anne", f"Patient/{ANNE}/$who-looked?{query}")).status_code == 400
    assert (await world.get("bert", f"Patient/{ANNE}/$who-looked?{query}")).status_code == 404
