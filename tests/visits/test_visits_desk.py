"""Alerts over HTTP: who sees them, who takes them in hand, and that a screen hears of each at once."""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from fhirgw.access.label import SEALED
from fhirgw.store import alerts as store
from fhirgw.store import looked
from fhirgw.store import registration as registrations
from fhirgw.store.registration import Registration
from fhirgw.store.visits import Provider
from tests.gateway import Gateway
from tests.journeys.command import Place
from tests.put import put
from tests.visits.test_visits_alert import RULES
from tests.visits.visiting import COUNCIL, HERON, A, B, care, organisation, visit
from tests.visits.watching import KESTREL as KESTREL_SENDS
from tests.visits.watching import look, send

ALERTS = "/homecare/alerts"
STREAM = f"{ALERTS}/stream"
NOW = datetime.now(UTC).replace(microsecond=0)
"""Of the machine, because the gateway's own watch looks by that: nothing here waits for it to pass."""
ELSEWHERE = Registration("elsewhere", "Q99", "system/*.rs", rate=1_000_000)
GANNET = Registration("gannet", "G01", "system/*.cruds", sector="care-provider", rate=1_000_000)
GANNETS = Provider("G01", ("Organization/gannet",), "Z99")
BLIND = Registration("blind", "Z99", "system/Patient.rs", sector="council", rate=1_000_000)


@pytest.fixture(scope="module")
def configured() -> dict[str, Any]:
    """Nobody works but whom a test starts."""
    return {"worker_in_serve": False}


async def missed(connection: asyncpg.Connection, id: str, since: datetime = NOW, by: Provider = KESTREL_SENDS) -> str:
    """A visit to Mrs A that nobody began, and the id of its alert."""
    start = since - timedelta(minutes=20)
    planned = {"start": start.isoformat(), "end": (start + timedelta(minutes=30)).isoformat()}
    said = {name: value for name, value in visit(id).items() if name in ("visit", "version", "person")}
    await send(connection, start - timedelta(hours=1), said | {"planned": planned}, by=by)
    await look(connection, since)
    found: str = await connection.fetchval(
        "SELECT a.id FROM fhirgw.visit_alert a JOIN fhirgw.visit USING (key) WHERE visit = $1 AND kind = $2",
        *(id, "visit-not-started"),
    )
    return found


def listed(client: httpx.Client) -> dict[str, Any]:
    answer = client.get(ALERTS)
    assert answer.status_code == 200, answer.text
    return {each["id"]: each for each in answer.json()["alerts"]}


async def test_the_provider_sees_the_alerts_of_its_visits(
    connection: asyncpg.Connection, council: httpx.Client, kestrel: httpx.Client
) -> None:
    id = await missed(connection, "its-own")
    assert listed(kestrel)[id] == listed(council)[id]


async def test_another_provider_of_the_same_person_sees_none_of_them(
    gateway: Gateway, connection: asyncpg.Connection, places: str, council: httpx.Client, kestrel: httpx.Client
) -> None:
    """Two look after Mrs A: whose visit was missed is between its own care provider and the council."""
    await put(places, care("care-of-both", A, "Organization/gannet"), organisation("gannet", "G01"))
    with gateway.client(GANNET) as gannet:
        id, own = await missed(connection, "one-of-two"), await missed(connection, "other-of-two", by=GANNETS)
        assert own in listed(gannet) and own not in listed(kestrel), "each sees its own"
        assert id in listed(kestrel) and id not in listed(gannet)
        assert get(gannet, f"/fhir/Task/{own}").status_code == get(kestrel, f"/fhir/Task/{id}").status_code == 200
        assert get(gannet, f"/fhir/Task/{own}/_history").status_code == 200
        for path in (f"/fhir/Task/{id}", f"/fhir/Task/{id}/_history", f"/fhir/Task/{id}/_history/1"):
            assert get(gannet, path).status_code == 404, path
        assert post(gannet, f"{ALERTS}/{id}/$acknowledge").status_code == 404
        everything = get(gannet, f"/fhir/Patient/{A}/$everything", params={"_type": "Task"}).text
        assert own in everything and id not in everything
        assert post(gannet, f"{ALERTS}/{own}/$acknowledge").status_code == 200
    assert {id, own} <= listed(council).keys()


async def test_the_council_sees_it_and_no_stranger_does(
    gateway: Gateway, connection: asyncpg.Connection, council: httpx.Client
) -> None:
    id = await missed(connection, "seen")
    shown = listed(council)[id]
    assert (shown["display"], shown["status"], shown["patient"]) == ("Visit not started", "requested", f"Patient/{A}")
    assert (shown["owner"], shown["provider"], shown["open"]) == ("Care provider's on-call", "K01", True)
    assert get(council, f"/fhir/{shown['visit']}").json()["status"] == "booked", "the focus is the visit as FHIR has it"
    for stranger in (HERON, ELSEWHERE):
        with gateway.client(stranger) as client:
            assert id not in listed(client)
            assert get(client, f"/fhir/Task/{id}").status_code == 404
            assert post(client, f"{ALERTS}/{id}/$acknowledge").status_code in (403, 404)
    with gateway.client(BLIND) as client:
        assert get(client, ALERTS).status_code == 403
        assert get(client, STREAM).status_code == 403
    assert get(council, f"/fhir/Task/{id}").status_code == 200
    code = "https://fhirgw.uk/fhir/CodeSystem/visit-alert|visit-not-started"
    found = get(council, "/fhir/Task", params={"code": code, "patient": A}).json()
    assert id in [each["resource"].get("id") for each in found["entry"]], [each["resource"] for each in found["entry"]][
        -1
    ]


async def test_acknowledged_it_climbs_no_further_and_twice_is_once(
    connection: asyncpg.Connection, council: httpx.Client
) -> None:
    id = await missed(connection, "taken")
    answer = post(council, f"{ALERTS}/{id}/$acknowledge", json={"note": "Calling the carer"})
    assert (answer.status_code, answer.json()["status"]) == (200, "accepted"), answer.text
    assert answer.json()["steps"][-1]["text"] == "Acknowledged: Calling the carer"
    again = post(council, f"{ALERTS}/{id}/$acknowledge")
    assert (again.status_code, again.json()["version"]) == (200, answer.json()["version"])
    await look(connection, NOW + timedelta(hours=2))
    assert listed(council)[id]["rung"] == "provider-on-call"
    task = get(council, f"/fhir/Task/{id}").json()
    assert task["note"][-1]["authorString"] == "council-system"
    audited = await connection.fetchval(
        "SELECT count(*) FROM fhirgw.audited WHERE registration = 'council-system' AND body LIKE '%acknowledge%'"
        " AND body LIKE $1",
        f"%{id}%",
    )
    assert audited == 2, "each that asked"


async def test_the_council_closes_one_by_fhir_and_changes_nothing_else_of_it(
    connection: asyncpg.Connection, council: httpx.Client, kestrel: httpx.Client
) -> None:
    id = await missed(connection, "closed")
    path, kind = f"/fhir/Task/{id}", {"content-type": "application/json-patch+json"}
    tag = get(council, path).headers["etag"]

    def patched(client: httpx.Client, *operations: dict[str, Any]) -> httpx.Response:
        return patch(client, path, content=json.dumps(operations), headers=kind | {"if-match": tag})

    moved = {"op": "replace", "path": "/focus/reference", "value": "Appointment/other"}
    close = {"op": "replace", "path": "/status", "value": "completed"}
    assert [patched(council, moved).status_code, delete(council, path).status_code] == [403, 403]
    assert patched(council, {"op": "replace", "path": "/status", "value": "draft"}).status_code == 403
    unjudged = {"op": "remove", "path": "/meta/profile"}
    urgent = {"op": "replace", "path": "/priority", "value": "routine"}
    assert [patched(council, each).status_code for each in (unjudged, urgent)] == [403, 403]
    assert patched(council, {"op": "remove", "path": "/owner"}).status_code == 422, "by its profile"
    assert patched(kestrel, close).status_code in (403, 404), "a provider acknowledges, and closes nothing"
    task = get(council, path).json()
    made = post(council, "/fhir/Task", json={name: task[name] for name in task if name not in ("id", "meta")})
    assert made.status_code == 403, "nobody raises an alert by hand"
    assert patched(council, close).status_code == 200
    assert id not in listed(council)
    ended = post(council, f"{ALERTS}/{id}/$acknowledge")
    assert (ended.status_code, ended.json()["issue"][0]["code"]) == (409, "conflict")


def test_a_parameter_that_is_none_is_refused_and_not_left_out_of_account(council: httpx.Client) -> None:
    assert get(council, ALERTS).status_code == 200
    assert [council.get(each, params={"knd": "x"}).status_code for each in (ALERTS, STREAM)] == [400, 400]


@pytest.mark.parametrize(
    ("id", "body", "status"),
    [
        ("a1b00000-0000-5000-8000-00000000ffff", b"", 404),
        ("!", b"", 404),
        ("x", b'{"note": 1}', 400),
        ("x", b'{"other": "x"}', 400),
        ("x", b'["x"]', 400),
        ("x", b"{", 400),
        ("x", b'{"note": "%s"}' % (b"x" * 501), 400),
        ("x", b'{"note": "%s"}' % (b"x" * 20_000), 413),
    ],
)
def test_what_cannot_be_acknowledged_is_told_so(council: httpx.Client, id: str, body: bytes, status: int) -> None:
    headers = {"content-type": "application/json"}
    answer = council.post(f"{ALERTS}/{id}/$acknowledge", content=body, headers=headers)
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")


async def test_an_acknowledgement_sent_again_tells_nothing_that_is_hidden_by_then(
    connection: asyncpg.Connection, council: httpx.Client
) -> None:
    id, headers = await missed(connection, "told-once"), {"x-request-id": str(uuid4())}
    place = f"{ALERTS}/{id}/$acknowledge"
    first = post(council, place, headers=headers)
    assert first.status_code == 200 and first.json()["patient"] == f"Patient/{A}"
    await connection.execute("UPDATE fhirgw.resource SET labels = $1 WHERE type = 'Task' AND id = $2", SEALED, id)
    assert post(council, place).status_code == get(council, f"/fhir/Task/{id}").status_code == 404
    again = post(council, place, headers=headers)
    assert (again.status_code, again.json()) == (200, {"id": id, "version": 2, "open": True, "status": "accepted"})


def get(client: httpx.Client, path: str, **more: Any) -> httpx.Response:
    return client.get(path, **more)


def post(client: httpx.Client, path: str, **more: Any) -> httpx.Response:
    return client.post(path, **more)


def patch(client: httpx.Client, path: str, **more: Any) -> httpx.Response:
    return client.patch(path, **more)


def delete(client: httpx.Client, path: str) -> httpx.Response:
    return client.delete(path)


class Screen:
    """A stream of alerts as a screen reads it."""

    def __init__(self, answer: httpx.Response) -> None:
        self.lines = answer.aiter_lines()
        self.place = ""

    async def next(self) -> tuple[str, Any]:
        """The next event, and what it tells."""
        given: dict[str, str] = {}
        async with asyncio.timeout(60):
            async for line in self.lines:
                name, _, value = line.partition(": ")
                if line:
                    given[name] = value
                elif "event" in given:
                    self.place = given.get("id", self.place)
                    return given["event"], json.loads(given["data"])
                else:
                    given = {}
        raise AssertionError("the stream has ended")

    async def placed(self) -> set[str]:
        """The alerts that are told until there is a place to go on from."""
        found: set[str] = set()
        while not self.place:
            event, data = await self.next()
            found |= {data["id"]} if event == "alert" else set()
        return found

    async def until(self, id: str, status: str = "requested") -> Any:
        """What is told of an alert when it has that status; others are passed over."""
        while True:
            event, data = await self.next()
            if event == "alert" and (data["id"], data["status"]) == (id, status):
                return data


@pytest.fixture
async def hasty(gateway: Gateway) -> AsyncIterator[None]:
    """Looks are as often as the machine likes, so that nobody waits for one."""
    streams = gateway.app.state.alerts
    before = streams.looked, streams.reauthorised
    streams.looked, streams.reauthorised = 0.01, 0.01
    yield
    streams.looked, streams.reauthorised = before


def streaming(gateway: Gateway, client: httpx.Client) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.root, timeout=60, headers=dict(client.headers))


async def test_a_screen_hears_of_each_and_goes_on_where_it_was(
    gateway: Gateway, connection: asyncpg.Connection, council: httpx.Client, hasty: None
) -> None:
    first = await missed(connection, "first")
    async with streaming(gateway, council) as http:
        async with http.stream("GET", STREAM, headers={"accept": "text/event-stream"}) as answer:
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            screen = Screen(answer)
            assert (await screen.next())[0] == "reset"
            await screen.until(first)
            second = await missed(connection, "second")
            await screen.until(second)
        while_away = await missed(connection, "while-away")
        async with http.stream("GET", STREAM, headers={"last-event-id": screen.place}) as answer:
            screen = Screen(answer)
            event, data = await screen.next()
            assert (event, data["id"]) == ("alert", while_away), "what was told is not told again"
            event, data = await screen.next()
            assert (event, {first, second, while_away} <= set(data["ids"])) == ("standing", True)
            assert post(council, f"{ALERTS}/{second}/$acknowledge").status_code == 200
            assert (await screen.until(second, "accepted"))["open"] is True
        bad = await http.get(STREAM, headers={"last-event-id": f"{int(NOW.timestamp())}-2:1:5"})
        worse = await http.get(STREAM, headers={"last-event-id": "'; --"})
        assert (bad.status_code, worse.status_code) == (400, 400)


async def test_each_event_is_audited_before_it_leaves(
    gateway: Gateway, connection: asyncpg.Connection, council: httpx.Client, hasty: None
) -> None:
    id = await missed(connection, "audited")
    async with streaming(gateway, council) as http, http.stream("GET", STREAM) as answer:
        await Screen(answer).until(id)
        found = await connection.fetchval(
            "SELECT count(*) FROM fhirgw.audited WHERE body LIKE $1 AND persons @> ARRAY[$2] AND body LIKE $3",
            *(f"%{b64encode(STREAM.encode()).decode()}%", A, f"%{id}%"),
        )
    assert found >= 1


async def test_who_may_not_see_it_any_more_has_it_taken_off_the_screen(
    gateway: Gateway, connection: asyncpg.Connection, council: httpx.Client, hasty: None
) -> None:
    id, other = await missed(connection, "parted"), await missed(connection, "stays")
    async with streaming(gateway, council) as http, http.stream("GET", STREAM) as answer:
        screen = Screen(answer)
        await screen.until(id)
        await connection.execute("UPDATE fhirgw.resource SET labels = $1 WHERE type = 'Task' AND id = $2", SEALED, id)
        gone: set[str] = set()
        while id not in gone:
            event, data = await screen.next()
            gone |= {data["id"]} if event == "gone" else set()
    assert gone == {id} and other in listed(council)


async def test_a_stream_ends_with_its_token_and_the_audit_says_so(
    gateway: Gateway, connection: asyncpg.Connection, hasty: None
) -> None:
    id, dashboard = await missed(connection, "ended"), replace(COUNCIL, id="dashboard")
    with gateway.client(dashboard) as client:
        async with streaming(gateway, client) as http, http.stream("GET", STREAM) as answer:
            screen = Screen(answer)
            await screen.until(id)
            await registrations.revoke_all(connection, dashboard.id)
            event, data = await screen.next()
            while event != "end":
                event, data = await screen.next()
    assert data == {"status": 401}
    (newest,) = await looked.listed(connection, registration=dashboard.id, count=1)
    assert json.loads(newest.body)["outcomeDesc"] == "refused: 401"


async def test_what_was_hidden_while_a_screen_was_away_is_taken_off_it(
    gateway: Gateway, connection: asyncpg.Connection, council: httpx.Client, hasty: None
) -> None:
    """Its id is in no answer, for nobody here knows whether it was on that screen."""
    hidden, other = await missed(connection, "hidden-while-away"), await missed(connection, "stays-on")
    async with streaming(gateway, council) as http:
        async with http.stream("GET", STREAM) as answer:
            screen = Screen(answer)
            assert {hidden, other} <= await screen.placed()
        await connection.execute(
            "UPDATE fhirgw.resource SET labels = $1 WHERE type = 'Task' AND id = $2", SEALED, hidden
        )
        async with http.stream("GET", STREAM, headers={"last-event-id": screen.place}) as answer:
            screen = Screen(answer)
            event, data = await screen.next()
            while event != "standing":
                assert data.get("id") != hidden
                event, data = await screen.next()
    assert (other in data["ids"], hidden in data["ids"]) == (True, False)


async def test_alerts_are_listed_page_by_page_and_by_what_is_asked(
    connection: asyncpg.Connection, council: httpx.Client, kestrel: httpx.Client
) -> None:
    ids = [await missed(connection, f"page-{n}") for n in range(3)]
    assert get(council, f"{ALERTS}/{ids[0]}").status_code == 404, "the Task is read as FHIR"
    whole, page, found = list(listed(council)), {"next": f"{ALERTS}?_count=2"}, []
    while "next" in page:
        page = get(council, page["next"]).json()
        assert len(page["alerts"]) <= 2
        found += [each["id"] for each in page["alerts"]]
    assert found == whole
    shown = listed(council)[ids[0]]
    start = NOW - timedelta(minutes=20)
    assert shown["visitId"] == "page-0"
    moments = [datetime.fromisoformat(shown[name]) for name in ("plannedStart", "plannedEnd")]
    assert moments == [start, start + timedelta(minutes=30)]
    assert post(council, f"{ALERTS}/{ids[1]}/$acknowledge").status_code == 200

    def by(**asked: str) -> set[str]:
        return {each["id"] for each in get(council, ALERTS, params=asked).json()["alerts"]} & set(ids)

    assert by(status="accepted") == {ids[1]}
    assert by(status="requested", kind="visit-not-started", provider="K01", person=A) == {ids[0], ids[2]}
    assert by(person=f"Patient/{A}") == set(ids)
    for asked in ({"kind": "nobody-checked-out"}, {"provider": "H01"}, {"person": B}):
        assert by(**asked) == set(), asked
    for wrong in ("status=completed", "kind=missed", "provider=!", "person=%21", "_cursor=x", "_count=0", "kynd=x"):
        assert get(council, f"{ALERTS}?{wrong}").status_code == 400, wrong


async def test_more_than_a_page_of_alerts_leaves_none_out(
    connection: asyncpg.Connection,
    gateway: Gateway,
    council: httpx.Client,
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither those that are open nor those that changed at once: nor if the stream is cut off between two of them."""
    monkeypatch.setattr(store, "PAGE", 2)
    ids = [await missed(connection, f"many-{n}") for n in range(3)]
    async with streaming(gateway, council) as http:
        async with http.stream("GET", STREAM) as answer:
            screen = Screen(answer)
            assert set(ids) <= await screen.placed(), "no place before all has been told"
        await look(connection, NOW + timedelta(minutes=15))  # all of them climb
        async with http.stream("GET", STREAM, headers={"last-event-id": screen.place}) as answer:
            told, event, data = set(), "", {}
            screen = Screen(answer)
            while event != "standing":
                event, data = await screen.next()
                told |= {data["id"]} if event == "alert" else set()
    assert set(ids) <= told


async def test_a_token_that_is_taken_back_ends_the_stream(
    gateway: Gateway, connection: asyncpg.Connection, hasty: None
) -> None:
    fleeting = Registration("fleeting", "Z99", "system/*.rs", sector="council", rate=1_000_000)
    with gateway.client(fleeting) as client:
        async with streaming(gateway, client) as http, http.stream("GET", STREAM) as answer:
            screen = Screen(answer)
            assert (await screen.next())[0] == "reset"
            await connection.execute("UPDATE fhirgw.registration SET active = false WHERE id = 'fleeting'")
            event, data = await screen.next()
            while event != "end":
                event, data = await screen.next()
            assert data == {"status": 401}


async def test_a_worker_tells_a_screen_of_a_missed_visit(
    gateway: Gateway, places: str, tmp_path: Path, council: httpx.Client, kestrel: httpx.Client
) -> None:
    """Nothing is helped along: a visit is sent over HTTP, another process watches, and the screen hears of it."""
    start = datetime.now(UTC) - timedelta(minutes=14, seconds=58)
    planned = {"start": start.isoformat(), "end": (start + timedelta(minutes=30)).isoformat()}
    row = {"visit": "for-real", "version": 1, "person": {"id": A}, "planned": planned}
    async with streaming(gateway, council) as http, http.stream("GET", STREAM) as answer:
        screen = Screen(answer)
        assert (await screen.next())[0] == "reset"
        (receipt,) = post(kestrel, "/homecare/visits", json=[row]).json()["receipts"]
        with Place(tmp_path / "data", places).running("worker") as working:
            while True:
                event, data = await screen.next()
                if event == "alert" and data.get("visit") == f"Appointment/{receipt['id']}":
                    break
            ended = working.stop()
    assert (data["kind"], ended.code) == ("visit-not-started", 0)
    late = datetime.fromisoformat(data["raised"]) - datetime.fromisoformat(data["since"])
    assert timedelta() <= late, "it was raised when it was so, and not before"


async def test_streams_are_few(gateway: Gateway, council: httpx.Client) -> None:
    streams = gateway.app.state.alerts
    streams.open[COUNCIL.id] += 1000
    try:
        answer = get(council, STREAM)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    finally:
        streams.open[COUNCIL.id] -= 1000


def test_the_desk_is_a_page_that_loads_nothing_from_elsewhere(gateway: Gateway) -> None:
    with gateway.stranger() as stranger:
        page, script, style = (stranger.get(f"/homecare/desk{end}") for end in ("", ".js", ".css"))
    assert [each.status_code for each in (page, script, style)] == [200] * 3
    for each in (page, script, style):
        policy = each.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert each.headers["x-content-type-options"] == "nosniff"
    assert "https://" not in page.text + style.text and 'lang="en-GB"' in page.text
    assert "innerHTML" not in script.text and "localStorage" not in script.text and "sessionStorage" not in script.text
    assert "crypto.subtle.sign" in script.text and 'false, ["sign"]' in script.text, "a key that cannot be told again"
    assert "<script>" not in page.text and " style=" not in page.text and " onclick=" not in page.text


PALETTES = re.compile(r"--(ink|paper|line|strong|button|on): (#[0-9a-f]{3,6})")
PAIRS = (("ink", "paper", 7), ("strong", "paper", 7), ("on", "button", 7), ("line", "paper", 3), ("button", "paper", 3))
"""What stands on what, and the contrast it needs: text 7 to 1, what bounds a control 3 to 1 (WCAG 2.2)."""


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return sum(share * each for share, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_desk_can_be_read_and_worked_by_anybody(gateway: Gateway) -> None:
    """What can be told without a browser: names of controls, references that lead somewhere, contrast of colours."""
    with gateway.stranger() as stranger:
        page, style = stranger.get("/homecare/desk").text, stranger.get("/homecare/desk.css").text
    ids = set(re.findall(r' id="([^"]+)"', page))
    named = [each for text in re.findall(r' (?:for|aria-\w+by)="([^"]+)"', page) for each in text.split()]
    assert set(named) | set(re.findall(r'href="#([^"]+)"', page)) <= ids
    assert set(re.findall(r'<input id="([^"]+)"', page)) <= set(re.findall(r'<label for="([^"]+)"', page))
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in page and "user-scalable" not in page
    assert len(re.findall(r"<h1", page)) == 1 and "<main>" in page and 'role="status"' in page
    found = PALETTES.findall(style)
    light, dark = dict(found[:6]), dict(found[6:])
    assert len(light) == len(dark) == 6
    for palette in (light, dark):
        for one, other, least in PAIRS:
            high, low = sorted((luminance(palette[one]), luminance(palette[other])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (one, other)


def test_the_ladder_and_the_kinds_have_a_code_system(gateway: Gateway, council: httpx.Client) -> None:
    def codes(name: str) -> dict[str, str]:
        found = council.get(f"/fhir/CodeSystem/{name}").json()
        return {each["code"]: each["display"] for each in found["concept"]}

    assert codes("visit-alert") == {kind: each.display for kind, each in RULES.alerts.items()}
    assert codes("visit-alert-rung") == {each.rung: each.display for each in RULES.ladder}
    assert set(codes("visit-alert-end")) == {"over", "never", "moved", "gone"}
