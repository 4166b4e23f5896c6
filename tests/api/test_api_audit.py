"""Every answer is audited before it leaves, permitted or refused; and the person is told who has looked."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
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
from fhirgw.api import audit_events, context, fhir, who_looked
from fhirgw.api.audit import Entry, interactions
from fhirgw.api.audit import access as access_of
from fhirgw.api.context import Context
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.nhs import NHS_NUMBER, ODS_ORGANISATION
from fhirgw.store import alike
from fhirgw.store.audit import Auditor, record_now
from fhirgw.store.audit_chain import verify
from fhirgw.store.database import readers
from fhirgw.store.looked import listed
from tests.judged import check
from tests.put import put
from tests.store.test_store_audit import CARE, access

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
    "audits": permit("system/AuditEvent.rs"),
    "of refusals": permit("system/AuditEvent.rs?outcome=4"),
    "of either": permit("system/AuditEvent.rs?outcome=4", "system/AuditEvent.rs?subtype=export"),
    "of places": permit("system/AuditEvent.rs?altid=x"),
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
    app = Starlette(routes=[*who_looked.routes(), *fhir.routes(), *audit_events.routes()])
    async with AsyncExitStack() as owned:
        pool = await owned.enter_async_context(readers(database, standing=True))
        searchers = await owned.enter_async_context(readers(database, replan=True, standing=True))
        app.state.auditor = await owned.enter_async_context(Auditor(database))
        app.state.controller, app.state.directory = "Z99", DIRECTORY
        app.state.context = Context(pool, searchers, gate, "https://gateway.example/fhir", "0", "2026-01-01T00:00:00Z")
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
        ("care", f"Patient/{ANNE}/$who-looked", 403),
        ("bert", f"Patient/{ANNE}/$who-looked", 404),
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


async def test_who_searches_at_the_same_time_gets_their_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one shape they share a statement; never a permit, and what comes along is each one's own."""
    sizes = []

    async def counted(connection: asyncpg.Connection, asked: Sequence[Any], *more: Any) -> Any:
        sizes.append(len(asked))
        return await alike.found(connection, asked, *more)

    monkeypatch.setattr(context, "found", counted)
    asked = [(who, id) for who in ("care", "elsewhere", "narrow", "anne", "bert") for id in (ANNE, BERT)] * 3
    query = "CarePlan?patient={}&_include=CarePlan:subject"
    answers = await asyncio.gather(*(world.get(who, query.format(id)) for who, id in asked))
    plan, person = f"CarePlan/{PLAN}", f"Patient/{ANNE}"
    shown = {("care", ANNE): {plan, person}, ("narrow", ANNE): {plan}, ("anne", ANNE): {plan, person}}
    for (who, id), response in zip(asked, answers, strict=True):
        found = [each.get("fullUrl", "").partition("/fhir/")[2] for each in response.json()["entry"]]
        assert {each for each in found if each} == shown.get((who, id), set()), (who, id)
        assert response.json()["total"] == ((who, id) in shown)
    assert len(sizes) < len(asked)  # some were answered together
    assert len(await world.events()) == len(asked)


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
    assert sentences(await world.get("anne", f"Patient/{ANNE}/$who-looked")) == told
    again = sentences(await world.get("anne", f"Patient/{ANNE}/$who-looked?own=true"))
    assert again == [
        "you through Meadow County Council (with the application demo-person) looked at the list of who has looked at"
        " your record, 2 times. Why: so that the person, or somebody who acts for them, can read it.",
        *told,
    ]


async def test_it_is_for_the_person_and_auditors_alone(world: World) -> None:
    absent = await world.get("care", f"Patient/{HIDDEN}")
    others = await world.get("bert", f"Patient/{ANNE}/$who-looked")
    assert (others.status_code, others.content) == (404, absent.content)
    for who, why in (
        ("care", "This is for auditors: an application registered for system/AuditEvent.r, by name"),
        ("their auditor", "auditors of the organisation that runs the gateway"),
        ("delegate", "told to the person alone"),
        ("narrow", "No scope of this token allows read on AuditEvent"),
        ("searcher", "No scope of this token allows read on AuditEvent"),
    ):
        here, nowhere = [await world.get(who, f"Patient/{each}/$who-looked") for each in (ANNE, HIDDEN)]
        assert (here.status_code, here.content) == (403, nowhere.content), who
        assert why in here.text
    for who in ("anne", "auditor"):
        assert len(people(await world.get(who, f"Patient/{ANNE}/$who-looked"))) > 0


async def test_what_they_may_not_see_is_not_told(world: World) -> None:
    secret = permit("user/*.rs", purpose="safeguarding", practitioner="pr1", case="f1")
    seen = [Seen("Flag", HIDDEN, ANNE), Seen("CarePlan", PLAN, ANNE)]
    await record_now(world.connection, access(1, seen=seen))
    await record_now(world.connection, access(2, permit=secret))
    own = await world.get("anne", f"Patient/{ANNE}/$who-looked?own=true")
    assert len(people(own)) == 1
    assert HIDDEN not in own.text
    assert "looked at your care plan." in own.text
    assert "safeguarding" not in own.text
    for_auditor = await world.get("auditor", f"Patient/{ANNE}/$who-looked?own=true")
    assert len(people(for_auditor)) == 3
    assert HIDDEN in for_auditor.text
    assert "looked at alerts in your record and your care plan." in for_auditor.text
    assert "to keep somebody safe (safeguarding)" in for_auditor.text


async def test_pages_follow_one_another(world: World) -> None:
    for number in range(25):
        await record_now(world.connection, access(number, permit=replace(CARE, registration=f"app-{number}")))
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
    "query",
    [
        "_count=0",
        "_count=x",
        "_count=",
        "other=1",
        "own=yes",
        "_cursor=x",
        "_cursor=",
        "_cursor=WzEsMl0",
        "_cursor=e30",
    ],
)
async def test_what_cannot_be_read_is_refused(world: World, query: str) -> None:
    assert (await world.get("anne", f"Patient/{ANNE}/$who-looked?{query}")).status_code == 400
    assert (await world.get("bert", f"Patient/{ANNE}/$who-looked?{query}")).status_code == 404


async def test_what_happened_again_is_told_once_and_sent_along(world: World) -> None:
    for number in range(4):
        await record_now(world.connection, access(number))
    page = (await world.get("anne", f"Patient/{ANNE}/$who-looked")).json()
    found = [each for each in page["entry"] if each["resource"]["resourceType"] == "AuditEvent"]
    assert [each["search"]["mode"] for each in found] == ["match", *["include"] * 3]
    texts = [each["resource"]["text"]["div"] for each in found]
    assert "On 3 March 2026 between 00:00 and 00:03, " in texts[0]
    assert "4 times" in texts[0]
    assert not any("times" in each for each in texts[1:])
    assert "next" not in {each["relation"] for each in page["link"]}


async def test_every_look_is_told_on_some_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhirgw.api.who_looked.ROWS", 7)
    for number in range(30):
        await record_now(world.connection, access(number, permit=replace(CARE, registration=f"app-{number % 3}")))
    address, seen = f"Patient/{ANNE}/$who-looked?_count=2", []
    while address:
        page = (await world.get("anne", address)).json()
        seen += [each["resource"]["id"] for each in page["entry"] if each["search"]["mode"] != "outcome"]
        links = {each["relation"]: each["url"] for each in page["link"]}
        address = links.get("next", "").removeprefix("https://gateway.example/fhir/")
    assert len(seen) == len(set(seen)) == 30


# AuditEvent as a resource


async def asked(world: World, who: str, query: str = "") -> list[str]:
    """The ids that a search finds."""
    response = await world.get(who, f"AuditEvent{query}")
    assert response.status_code == 200, response.text
    return people(response)


async def several(world: World) -> dict[str, Resource]:
    """AuditEvents of each kind by a name for it."""
    staff = replace(CARE, organisation="RAB", registration="trust", practitioner="pr1")
    secret = permit("user/*.rs", purpose="safeguarding", practitioner="pr1", case="f1")
    made = {
        "plan": access(1, seen=[Seen("CarePlan", PLAN, ANNE)]),
        "flag": access(2, seen=[Seen("Flag", HIDDEN, ANNE)], permit=staff),
        "both": access(3, interaction="search-type", seen=[Seen("Patient", each, each) for each in (ANNE, BERT)]),
        "bert": access(4, BERT),
        "refused": access(5, seen=(), status=404, type="Patient", asked=f"Patient/{ANNE}"),
        "copy": access(6, None, interaction="operation", operation="export", everybody=True),
        "secret": access(7, permit=secret, seen=[Seen("CarePlan", PLAN, ANNE)]),
        "nobody": access(8, None, permit=None, status=401),
    }
    for each in made.values():
        await record_now(world.connection, each)
    return dict(zip(made, reversed(await world.events()), strict=True))


async def test_an_auditor_reads_what_was_written_byte_for_byte(world: World) -> None:
    for name, each in (await several(world)).items():
        response = await world.get("auditor", f"AuditEvent/{each['id']}")
        assert response.status_code == 200, name
        stored = "SELECT body FROM fhirgw.audited WHERE body LIKE '%' || $1 || '%' ORDER BY sequence LIMIT 1"
        assert response.text == await world.connection.fetchval(stored, each["id"])


async def test_an_auditor_searches_all_of_it_the_newest_first(world: World) -> None:
    events = await several(world)
    assert await asked(world, "audits", "?_count=8") == [each["id"] for each in reversed(events.values())]
    page = await world.get("audits", "AuditEvent?_summary=count")
    assert (page.json()["total"], [each["search"]["mode"] for each in page.json()["entry"]]) == (9, ["outcome"])


SEARCHES: list[tuple[str, str]] = [
    (f"patient={ANNE}", "secret refused both flag plan"),
    (f"patient=Patient/{BERT},Patient/{HIDDEN}", "bert both"),
    ("date=2026-03-03T00:02Z", "flag"),
    ("date=lt2026-03-03T00:02Z", "plan"),
    ("date=ge2026-03-03T00:07Z", "nobody secret"),
    ("date=2026-03-02,2026-03-03T00:08Z", "nobody"),
    ("date=ne2026-03-03", ""),
    ("date=ap2026-03-03T00:02Z", "both flag plan"),
    ("outcome=4", "nobody refused"),
    ("outcome=http://hl7.org/fhir/audit-event-outcome|4", "nobody refused"),
    ("outcome=http://example.org|4", ""),
    ("outcome:not=0", "nobody refused"),
    ("action=E", "copy both"),
    ("action:not=R,E", ""),
    ("action=http://hl7.org/fhir/audit-event-action|E", "copy both"),
    ("type=rest", "nobody secret copy refused bert both flag plan"),
    ("type=http://example.org|rest", ""),
    ("subtype=export", "copy"),
    ("subtype=http://hl7.org/fhir/restful-interaction|search-type", "both"),
    ("agent=Practitioner/pr1", "secret flag"),
    ("agent=pr1", "secret flag"),
    ("agent:Practitioner=pr1", "secret flag"),
    ("agent:Patient=pr1", ""),
    ("agent:identifier=https://fhirgw.uk/fhir/Id/registration|trust", "flag"),
    ("agent:identifier=https://fhir.nhs.uk/Id/ods-organization-code|RAB", "flag"),
    ("agent:identifier=https://example.org|x", ""),
    (f"entity=CarePlan/{PLAN}", "secret plan"),
    (f"entity=Patient/{BERT}", "bert both"),
    (f"entity:Flag={HIDDEN}", "flag"),
    (f"entity=CarePlan/{HIDDEN}", ""),
    (f"patient={ANNE}&action=R&outcome=0&date=ge2026-03-03T00:02Z", "secret flag"),
    ("_sort=-date&_count=2", "nobody secret"),
]


async def test_a_search_finds_by_r4s_parameters(world: World) -> None:
    """In one database: making one takes longer than all of these."""
    names = {each["id"]: name for name, each in (await several(world)).items()}
    for query, expected in SEARCHES:
        found = await asked(world, "audits", f"?{query}&date=lt2026-03-04")
        assert " ".join(names[each] for each in found) == expected, query
        counted = await world.get("audits", f"AuditEvent?{query}&_summary=count&date=lt2026-03-04")
        assert counted.json()["total"] == (8 if "_sort" in query else len(expected.split())), query


async def test_by_ids(world: World) -> None:
    events = await several(world)
    ids = [events[name]["id"] for name in ("plan", "copy")]
    assert await asked(world, "audits", f"?_id={','.join(ids)}") == ids[::-1]
    assert await asked(world, "audits", f"?_id={HIDDEN}") == []
    assert await asked(world, "audits", f"?_id={ids[0]}&outcome=4") == []


async def test_a_form_is_a_search(world: World) -> None:
    events = await several(world)
    form = {"subtype": "export"}
    response = await world.http.post("/fhir/AuditEvent/_search", data=form, headers={"x-permit": "audits"})
    assert people(response) == [events["copy"]["id"]]


async def test_pages_of_the_audit_follow_one_another(world: World) -> None:
    for number in range(25):
        await record_now(world.connection, access(number))
    for query in ("?_count=10&date=lt2026-03-04", f"?_count=10&patient={ANNE}&date=lt2026-03-04"):
        address, found = f"AuditEvent{query}", []
        while address:
            page = await world.get("audits", address)
            found += people(page)
            links = {each["relation"]: each["url"] for each in page.json()["link"]}
            assert links["self"].removeprefix("https://gateway.example/fhir/") == address
            address = links.get("next", "").removeprefix("https://gateway.example/fhir/")
        assert len(found) == len(set(found)) == 25


async def test_the_person_reads_their_own_part_of_what_is_about_them(world: World) -> None:
    events = await several(world)
    names = {each["id"]: name for name, each in events.items()}
    page = await world.get("anne", "AuditEvent?_count=2")
    assert page.json()["link"][2]["url"].endswith(f"_cursor={events['refused']['id']}")  # no number in the chain
    response = await world.get("anne", "AuditEvent?date=lt2026-03-04")
    assert [names[each] for each in people(response)] == ["copy", "refused", "both", "flag", "plan"]
    assert BERT not in response.text
    assert HIDDEN not in response.text
    for name, each in events.items():
        one = await world.get("anne", f"AuditEvent/{each['id']}")
        assert one.status_code == (200 if name in ("copy", "refused", "both", "flag", "plan") else 404), name
        assert BERT not in one.text
        assert HIDDEN not in one.text


async def test_a_person_is_not_told_with_whom_they_were_seen(world: World) -> None:
    """By themselves they find all that is theirs; by somebody who is in one of them too, nothing."""
    await several(world)
    before = "AuditEvent?date=lt2026-03-04"
    assert len(people(await world.get("anne", f"{before}&patient={ANNE}"))) == 4
    assert people(await world.get("anne", f"{before}&patient={BERT}")) == []
    assert len(people(await world.get("anne", f"{before}&patient={BERT},{ANNE}"))) == 4


async def test_what_was_told_answers_at_its_address(world: World) -> None:
    await several(world)
    for who in ("anne", "auditor"):
        page = (await world.get(who, f"Patient/{ANNE}/$who-looked?own=true")).json()
        for each in page["entry"][:-1]:
            one = await world.get(who, each["fullUrl"].removeprefix("https://gateway.example/fhir/"))
            assert one.status_code == 200
            assert one.json()["id"] == each["resource"]["id"]


async def test_a_constrained_auditor_sees_what_it_is_constrained_to(world: World) -> None:
    events = await several(world)
    for who, expected in (("of refusals", ["nobody", "refused"]), ("of either", ["nobody", "copy", "refused"])):
        assert await asked(world, who) == [events[name]["id"] for name in expected]
    assert (await world.get("of refusals", f"AuditEvent/{events['plan']['id']}")).status_code == 404
    assert (await world.get("of refusals", f"AuditEvent/{events['refused']['id']}")).status_code == 200
    assert await asked(world, "of places") == []


async def test_nobody_else_reads_the_audit(world: World) -> None:
    known = (await several(world))["plan"]["id"]
    for who in ("care", "elsewhere", "delegate", "their auditor", "narrow"):
        for path in (f"AuditEvent/{known}", f"AuditEvent/{HIDDEN}", "AuditEvent", "AuditEvent?patient=x"):
            assert (await world.get(who, path)).status_code == 403, (who, path)
    invisible, absent = [await world.get("bert", f"AuditEvent/{each}") for each in (known, HIDDEN)]
    assert (invisible.status_code, invisible.content) == (404, absent.content)
    for id in ("x", "0", "9000000009", "01a201ac-2415-741f-823d-232441b5b93b", "ffffffff-ffff-7fff-bfff-ffffffffffff"):
        assert (await world.get("auditor", f"AuditEvent/{id}")).status_code == 404


async def test_nobody_writes_it(world: World) -> None:
    known = (await several(world))["plan"]["id"]
    before = await world.connection.fetchval("SELECT count(*) FROM fhirgw.audit")
    asked_for = [
        (each, path) for each in ("POST", "PUT", "PATCH", "DELETE") for path in (f"AuditEvent/{known}", "AuditEvent")
    ]
    for method, path in asked_for:
        response = await world.http.request(method, f"/fhir/{path}", headers={"x-permit": "audits"})
        assert response.status_code == 405
    assert await world.connection.fetchval("SELECT count(*) FROM fhirgw.audit") == before + len(asked_for)


async def test_reading_the_audit_is_audited(world: World) -> None:
    events = await several(world)
    await world.get("auditor", f"AuditEvent/{events['both']['id']}")
    made = await world.newest()
    assert facets(made).persons == (ANNE, BERT)
    assert made["entity"][1]["detail"] == [{"type": "AuditEvent", "valueString": events["both"]["id"]}]
    await world.get("audits", "AuditEvent?subtype=export")
    made = await world.newest()
    assert (made["subtype"][0]["code"], facets(made).persons) == ("search-type", ())


REFUSED: list[tuple[str, str]] = [
    *(("audits", each) for each in ("altid=x", "_lastUpdated=2026", "agent.name=x", "agent:missing=true")),
    *(("audits", each) for each in ("nonsense=1", "date=yesterday", "_sort=date", "_include=AuditEvent:agent")),
    *(("audits", each) for each in ("entity=x", "entity=Nothing/1", "patient=a|b", "agent:identifier=x", "_id=a b")),
    *(("audits", each) for each in ("_cursor=x", "_cursor=MA", "_cursor=e30", "_cursor=LTE", "_cursor=dHJ1ZQ")),
    *(("anne", each) for each in ("agent=Practitioner/pr1", f"entity=Flag/{HIDDEN}")),
]


async def test_a_search_that_cannot_be_honoured_is_refused(world: World) -> None:
    for who, query in REFUSED:
        response = await world.get(who, f"AuditEvent?{query}")
        assert (response.status_code, response.json()["resourceType"]) == (400, "OperationOutcome"), query


async def test_lenient_leaves_out_what_cannot_be_honoured(world: World) -> None:
    await several(world)
    response = await world.get("audits", "AuditEvent?altid=x&outcome=4", prefer="handling=lenient")
    assert len(people(response)) == 2
    assert "altid" in response.text
