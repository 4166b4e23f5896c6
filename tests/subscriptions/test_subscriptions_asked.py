"""What may be subscribed to, by whom, and how a Subscription is asked about: over HTTP alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from fhirgw.fhir.topics import read, topics
from fhirgw.jobs.hook import Reach, Untold
from fhirgw.store.registration import Registration
from tests.api.writing import OWN_APP
from tests.judged import check
from tests.subscriptions.subscribing import GUIDE, RECORD, TOPICS, World, subscription

OPERATOR = Registration("operator", "Z99", "system/*.cruds", sector="council", roles=("operator",), rate=1_000_000)
ELSEWHERE = Registration("elsewhere", "E99", "system/*.cruds", roles=("operator",), rate=1_000_000)
READER = Registration("only-reads", "Z99", "system/*.rs", sector="council", rate=1_000_000)
SUBSCRIBER = Registration("only-subscribes", "Z99", "system/Subscription.cruds", sector="council", rate=1_000_000)
HOOK = "https://rota.example/hook"


def place(id: str) -> str:
    return f"/fhir/Subscription/{id}"


def told(answered: httpx.Response) -> tuple[int, str, str]:
    (issue,) = answered.json()["issue"]
    return answered.status_code, issue["code"], issue.get("expression", [""])[0]


def without(*path: str) -> Any:
    made: Any = subscription(HOOK)
    at = made
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    return made


def channel(**more: Any) -> Any:
    made = subscription(HOOK)
    return {**made, "channel": {**made["channel"], **more}}


FAULTS: dict[str, tuple[Any, tuple[int, str, str]]] = {
    "no such topic": (subscription(HOOK, f"{TOPICS}weather"), (400, "not-supported", "Subscription.criteria")),
    "an older kind of criteria": (
        {**subscription(HOOK), "criteria": "Observation?code=1"},
        (400, "not-supported", "Subscription.criteria"),
    ),
    "a filter the topic has not": (
        subscription(HOOK, RECORD, "code=1"),
        (400, "not-supported", "Subscription.criteria.extension[0].valueString"),
    ),
    "a filter of another type": (
        subscription(HOOK, f"{TOPICS}homecare-alert", "Patient?_id=1"),
        (400, "value", "Subscription.criteria.extension[0].valueString"),
    ),
    "a filter that is malformed": (
        subscription(HOOK, f"{TOPICS}homecare-alert", "patient=Patient/1", "status:hot=1"),
        (400, "not-supported", "Subscription.criteria.extension[1].valueString"),
    ),
    "another channel": (channel(type="email"), (400, "not-supported", "Subscription.channel.type")),
    "no endpoint": (without("channel", "endpoint"), (400, "required", "Subscription.channel.endpoint")),
    "XML": (channel(payload="application/fhir+xml"), (400, "not-supported", "Subscription.channel.payload")),
    "no content": (without("channel", "_payload"), (400, "required", "Subscription.channel.payload.extension")),
    "no such content": (
        subscription(HOOK, content="all"),
        (400, "required", "Subscription.channel.payload.extension"),
    ),
    "too many at once": (subscription(HOOK, most=100_000), (400, "value", "Subscription.channel.extension")),
    "too slow": (subscription(HOOK, seconds=3600), (400, "value", "Subscription.channel.extension")),
    "a heartbeat a second": (subscription(HOOK, heartbeat=1), (400, "value", "Subscription.channel.extension")),
    "a header of ours": (subscription(HOOK, header=["Host: other"]), (400, "value", "Subscription.channel.header[0]")),
    "two headers in one": (
        subscription(HOOK, header=["X-A: 1", "X-B: 1\r\nX-C: 2"]),
        (400, "value", "Subscription.channel.header[1]"),
    ),
    "in error already": ({**subscription(HOOK), "status": "error"}, (400, "value", "Subscription.status")),
    "past": (subscription(HOOK, end="2020-01-01T00:00:00Z"), (400, "value", "Subscription.end")),
    "not encrypted": (subscription("http://rota.example/hook"), (400, "value", "Subscription.channel.endpoint")),
    "with a password": (subscription("https://a:b@rota.example/"), (400, "value", "Subscription.channel.endpoint")),
    "no address": (subscription("https:///hook"), (400, "value", "Subscription.channel.endpoint")),
    "no name": (subscription("https://rota..example/"), (400, "value", "Subscription.channel.endpoint")),
    "a name too long": (
        subscription(f"https://{'a' * 64}.example/"),
        (400, "value", "Subscription.channel.endpoint"),
    ),
    "no reason": (without("reason"), (422, "required", "Subscription.reason")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_had_is_told_with_its_place(clients: Any, fault: str) -> None:
    sent, expected = FAULTS[fault]
    answered = clients[0].post("/fhir/Subscription", json=sent)
    assert told(answered) == expected, answered.text
    assert "rota.example" not in answered.text


def test_several_faults_are_told_at_once(clients: Any) -> None:
    sent = {**subscription("mailto:x", f"{TOPICS}weather", content="all"), "status": "error"}
    issues = clients[0].post("/fhir/Subscription", json=sent).json()["issue"]
    places = [each["expression"][0].removeprefix("Subscription.") for each in issues]
    assert places == ["criteria", "status", "channel.payload.extension"]


async def test_one_is_kept_as_it_was_sent(world: World) -> None:
    sent = subscription(HOOK, RECORD, "patient=Patient/cared-for", heartbeat=60, most=5, header=["X-Key: secret"])
    sent["contact"] = [{"system": "email", "value": "rota@provider.example"}]
    made = world.council.post("/fhir/Subscription", json=sent)
    assert (made.status_code, made.headers["etag"]) == (201, 'W/"1"')
    id = made.json()["id"]
    assert made.headers["location"] == f"{world.gateway.base}/Subscription/{id}"
    kept = world.at(world.council, id)
    assert check(kept) == []
    meta = kept.pop("meta")
    assert meta["versionId"] == "1" and kept.pop("id") == id
    del sent["channel"]["header"]
    assert kept == sent and kept["status"] == "requested"


async def test_it_is_its_subscribers_alone(world: World) -> None:
    id = world.asked(world.provider, subscription(HOOK))
    nobodys = place("00000000-0000-4000-8000-000000000000")
    for way in ("", "/$status", "/$events"):
        hidden, absent = (world.council.get(each + way) for each in (place(id), nobodys))
        assert (hidden.status_code, hidden.json()) == (absent.status_code, absent.json()) == (404, absent.json())
        assert world.provider.get(place(id) + way).status_code == 200
    changed = {**world.at(world.provider, id), "status": "off"}
    assert world.council.put(place(id), json=changed).status_code == 404
    assert world.council.delete(place(id)).status_code == 404
    assert [each.get("/fhir/Subscription").json()["total"] for each in (world.council, world.provider)] == [0, 1]
    assert world.provider.delete(place(id)).status_code == 204
    assert world.provider.get(place(id)).status_code == 404


async def test_a_person_who_comes_by_the_application_has_none_of_its_subscriptions(world: World) -> None:
    """A filter may name whomever, and events tell how much happens: they are the application's, and nobody's who uses
    it.
    """
    by_itself = Registration("of-both", "Z99", "system/*.cruds", sector="council", rate=1_000_000)
    of_one = replace(by_itself, scopes="patient/*.cruds", purposes=("person",), patient="cared-for")
    with world.gateway.client(by_itself) as application:
        id = world.asked(application, subscription(HOOK, RECORD, "patient=Patient/stranger"))
        assert application.get(place(id)).status_code == 200
        assert application.get("/fhir/Subscription").json()["total"] == 1
        mine = world.at(application, id)
    with world.gateway.client(of_one, "person") as person:
        for way in ("", "/$status", "/$events"):
            hidden, absent = (person.get(place(each) + way) for each in (id, "00000000-0000-4000-8000-000000000000"))
            assert (hidden.status_code, hidden.json()) == (404, absent.json()), way
        for way in ("", "/$status"):
            assert id not in person.get(f"/fhir/Subscription{way}").text
        assert person.delete(place(id)).status_code == 404
        assert person.put(place(id), json={**mine, "status": "off"}).status_code == 403
    assert await world.sql("SELECT status FROM fhirgw.subscription WHERE id = $1", id) == [("requested",)]


async def test_operators_of_the_council_may_look_and_delete(world: World) -> None:
    id = world.asked(world.provider, subscription(HOOK))
    with world.gateway.client(OPERATOR) as operator, world.gateway.client(ELSEWHERE) as elsewhere:
        assert [each.get(place(id)).status_code for each in (operator, elsewhere)] == [200, 404]
        assert [each.get("/fhir/Subscription").json()["total"] for each in (operator, elsewhere)] == [1, 0]
        assert operator.get(f"{place(id)}/$events").status_code == 404  # what there was to tell is not theirs
        assert operator.put(place(id), json={**world.at(world.provider, id), "status": "off"}).status_code == 404
        assert [each.delete(place(id)).status_code for each in (elsewhere, operator)] == [404, 204]


async def test_who_subscribes_needs_the_scopes(world: World) -> None:
    with world.gateway.client(READER) as reader, world.gateway.client(SUBSCRIBER) as subscriber:
        assert told(reader.post("/fhir/Subscription", json=subscription(HOOK)))[:2] == (403, "forbidden")
        refused = subscriber.post("/fhir/Subscription", json=subscription(HOOK))
        assert told(refused) == (403, "forbidden", "Subscription.criteria")
        assert reader.get("/fhir/Subscription").status_code == 200
    with world.gateway.client(OWN_APP, "person") as person:
        assert told(person.post("/fhir/Subscription", json=subscription(HOOK)))[:2] == (403, "forbidden")
    with world.gateway.stranger() as stranger:
        assert stranger.get("/fhir/Subscription").status_code == 401
    world.asked(world.council, subscription(HOOK))


async def test_a_version_is_changed_once(world: World) -> None:
    id = world.asked(world.council, subscription(HOOK))
    first = world.at(world.council, id)
    unsaid = {name: value for name, value in first.items() if name != "meta"}
    assert world.council.put(place(id), json=unsaid).status_code == 428
    off = world.council.put(place(id), json={**first, "status": "off"})
    assert (off.status_code, off.json()["status"], off.headers["etag"]) == (200, "off", 'W/"2"')
    assert world.council.put(place(id), json=first).status_code == 412
    again = world.council.put(place(id), json={**unsaid, "status": "requested"}, headers={"if-match": 'W/"2"'})
    assert (again.status_code, again.json()["status"]) == (200, "requested")
    assert world.council.delete(place(id), headers={"if-match": 'W/"2"'}).status_code == 412
    assert world.council.delete(place(id), headers={"if-match": 'W/"3"'}).status_code == 204


async def test_what_rests_is_not_told_and_another_endpoint_shakes_hands_first(world: World) -> None:
    id = await world.subscribed(world.council, header=["X-Key: secret"])
    changed = world.council.put(place(id), json={**world.at(world.council, id), "reason": "Another"})
    assert changed.json()["status"] == "active"  # nothing of it needs trying
    moved = {**changed.json(), "channel": {**changed.json()["channel"], "endpoint": f"{world.receiver.url}/moved"}}
    answered = world.council.put(place(id), json=moved)
    assert answered.json()["status"] == "requested"
    await world.turn()
    last = world.receiver.got[-1]
    assert (last.path, last.kind, last.headers["x-key"]) == ("/moved", "handshake", "secret")
    world.council.put(place(id), json={**world.at(world.council, id), "status": "off"})
    world.observe()
    await world.turn()
    assert world.told("/moved") == []


async def test_secrets_go_to_no_other_origin(world: World) -> None:
    id = world.asked(world.council, subscription(HOOK, header=["Authorization: Bearer secret"]))
    kept = world.at(world.council, id)
    kept["channel"]["endpoint"] = f"{world.receiver.url}/hook"
    assert world.council.put(place(id), json=kept).status_code == 200
    await world.turn()
    (shaken,) = world.receiver.got
    assert "authorization" not in shaken.headers


async def test_how_it_stands(world: World) -> None:
    id = await world.subscribed(world.council)
    other = world.asked(world.council, subscription(HOOK))
    world.observe()
    await world.turn()
    answered = world.council.get(f"{place(id)}/$status").json()
    assert check(answered) == [] and answered["type"] == "searchset"
    status = answered["entry"][0]["resource"]
    values = {each["name"]: next(v for k, v in each.items() if k.startswith("value")) for each in status["parameter"]}
    assert values | {"subscription": ""} == {
        "subscription": "",
        "topic": RECORD,
        "status": "active",
        "type": "query-status",
        "events-since-subscription-start": "1",
    }
    for query, ids in (("", {id, other}), (f"?id={id}", {id}), ("?status=requested", {other}), ("?status=off", set())):
        listed = world.council.get(f"/fhir/Subscription/$status{query}").json().get("entry", [])
        found = [each["resource"] for each in listed if each["resource"]["resourceType"] == "Parameters"]
        assert {each["parameter"][0]["valueReference"]["reference"].rpartition("/")[2] for each in found} == ids
    assert world.council.get("/fhir/Subscription/$status?status=hot").status_code == 400


def numbers(answered: httpx.Response) -> list[int]:
    listed = answered.json()["entry"][0]["resource"]["parameter"]
    return [int(each["part"][0]["valueString"]) for each in listed if each["name"] == "notification-event"]


async def test_events_may_be_asked_for_again(world: World) -> None:
    id = await world.subscribed(world.provider, content="empty")
    flags = [world.flag() for _ in range(4)]
    await world.turn()
    events = f"{place(id)}/$events"
    assert numbers(world.provider.get(events)) == [1, 2, 3, 4]
    assert numbers(world.provider.get(f"{events}?eventsSinceNumber=2&eventsUntilNumber=3")) == [2, 3]
    whole = world.provider.get(f"{events}?eventsSinceNumber=4&content=full-resource")
    assert check(whole.json()) == [] and whole.json()["type"] == "history"
    assert whole.json()["entry"][1]["resource"]["id"] == flags[3]
    sent = {"resourceType": "Parameters", "parameter": [{"name": "eventsSinceNumber", "valueString": "3"}]}
    assert numbers(world.provider.post(events, json=sent)) == [3, 4]
    for fault in ("eventsSinceNumber=x", "content=all", "since=1"):
        assert world.provider.get(f"{events}?{fault}").status_code == 400
    await world.sql("UPDATE fhirgw.notice SET noted = noted - interval '8 days' WHERE number < 3")
    world.notifier.sweeps()
    await world.turn()
    late = world.provider.get(f"{events}?eventsSinceNumber=1")
    assert numbers(late) == [3, 4] and "Events before number 3 are no longer kept" in late.text
    assert "no longer kept" not in world.provider.get(f"{events}?eventsSinceNumber=3").text


async def test_events_are_sent_again_from_a_number_on(world: World) -> None:
    id = await world.subscribed(world.provider, most=1)
    flags = [world.flag() for _ in range(3)]
    await world.turn(3)
    assert [each.numbers for each in world.told()] == [[1], [2], [3]]
    again = f"{place(id)}/$resend"
    answered = world.provider.post(f"{again}?eventsSinceNumber=2")
    assert (answered.status_code, answered.json()["resourceType"]) == (200, "OperationOutcome"), answered.text
    await world.turn(3)
    assert [each.numbers for each in world.told()[3:]] == [[2], [3]]
    assert world.told()[3].foci == [f"Flag/{flags[1]}"]
    for fault, status in (("", 400), ("?eventsSinceNumber=4", 400), ("?eventsSinceNumber=x", 400), ("?since=1", 400)):
        assert world.provider.post(f"{again}{fault}").status_code == status, fault
    assert world.council.post(f"{again}?eventsSinceNumber=2").status_code == 404, "it is another's"
    await world.sql("UPDATE fhirgw.subscription SET status = 'off' WHERE id = $1", id)
    assert world.provider.post(f"{again}?eventsSinceNumber=2").status_code == 409
    await world.sql("UPDATE fhirgw.notice SET noted = noted - interval '8 days' WHERE number < 3")
    world.notifier.sweeps()
    await world.turn()
    assert "no longer kept" in world.provider.post(f"{again}?eventsSinceNumber=2").text


async def test_events_show_what_may_be_seen_when_they_are_asked_for(world: World) -> None:
    id = await world.subscribed(world.provider)
    seen = world.flag()
    await world.turn()
    asked = f"{place(id)}/$events?content=full-resource"
    assert seen in world.provider.get(asked).text
    ended = {"since": "clock_timestamp()"}["since"]
    await world.sql(f"UPDATE fhirgw.relationship SET ends = {ended} WHERE person = 'cared-for'")
    try:
        hidden = world.provider.get(asked)
        assert numbers(hidden) == [1] and seen not in hidden.text
    finally:
        await world.sql("UPDATE fhirgw.relationship SET ends = 'infinity' WHERE person = 'cared-for'")


async def test_they_are_searched_by_what_they_say(world: World) -> None:
    ids = [world.asked(world.council, subscription(each)) for each in (HOOK, "https://other.example/")]
    for query, found in (
        (f"url={HOOK}", ids[:1]),
        (f"_id={','.join(ids)}", ids),
        ("status=active", []),
        (f"status=requested,off&criteria={RECORD}", ids),
    ):
        listed = world.council.get(f"/fhir/Subscription?{query}").json()
        assert [each["resource"]["id"] for each in listed["entry"] if each["search"]["mode"] == "match"] == found
    assert world.council.get("/fhir/Subscription?colour=red").status_code == 400
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert world.council.post("/fhir/Subscription/_search", content=f"url={HOOK}", headers=form).json()["total"] == 1


def test_the_capability_statement_lists_the_topics(clients: Any) -> None:
    told = clients[0].get("/fhir/metadata").json()
    (found,) = (each for each in told["rest"][0]["resource"] if each["type"] == "Subscription")
    url = f"{GUIDE}capabilitystatement-subscriptiontopic-canonical"
    assert [(each["url"], each["valueCanonical"]) for each in found["extension"]] == [(url, each) for each in topics()]
    assert f"{GUIDE}backport-subscription" in found["supportedProfile"]
    assert {each["name"] for each in found["operation"]} == {"status", "events"}


@pytest.mark.parametrize(
    "endpoint",
    [
        *("https://127.0.0.1:1/", "https://[::1]:1/", "https://169.254.169.254/", "https://10.0.0.1/", "https://0/"),
        *("https://[fec0::1]/", "https://192.0.0.192/", "https://168.63.129.16/"),
    ],
)
async def test_nothing_is_posted_into_a_network_that_is_not_public(endpoint: str) -> None:
    with pytest.raises(Untold, match="leads to a network that is not public"):
        await Reach(loopback=True).post(endpoint, b"{}", {}, 2)


async def test_a_private_network_is_reached_where_its_origin_is_vouched_for() -> None:
    """Nobody answers there, but it is tried; and the very same address of another port is not."""
    reach = Reach(vouched=frozenset(["https://10.255.255.1:444"]))
    with pytest.raises(Untold, match=r"did not answer|cannot be reached"):
        await reach.post("https://10.255.255.1:444/", b"{}", {}, 0.2)
    with pytest.raises(Untold, match="not public"):
        await reach.post("https://10.255.255.1:445/", b"{}", {}, 0.2)


TOPIC = "topics:\n  - {{name: alike, title: A, triggers: [{{resource: {0}, when: [create], {1}}}], filters: [{2}]}}\n"


@pytest.mark.parametrize(
    ("resource", "criteria", "filters", "fault"),
    [
        ("Task", "current: status=draft", "status", None),
        ("Weather", "current: status=draft", "status", "Weather is no type that is held here"),
        ("Task", "current: colour=red", "status", "Task has no search parameter"),
        ("Task", "current: status=draft", "colour", "no type of it has the search parameter colour"),
        ("Task", 'previous: "authored-on=2025"', "status", "previous: is about codes and references alone"),
        ("Task", "current: _sort=status", "status", "narrowed by search parameters"),
        ("Task", "after: status=draft", "status", "Extra inputs are not permitted"),
    ],
)
def test_a_fault_in_the_topics_is_told(tmp_path: Any, resource: str, criteria: str, filters: str, fault: str) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(TOPIC.format(resource, criteria, filters))
    if fault is None:
        assert list(read(path)) == [f"{TOPICS}alike"]
        return
    with pytest.raises(ValueError, match=fault):
        read(path)
