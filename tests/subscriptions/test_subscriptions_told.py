"""Who subscribes is told what happens: of what they may see, once, in its order, signed, and audited before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from cryptography.exceptions import InvalidSignature

from tests.api.test_api_dissent import dissent
from tests.judged import check
from tests.put import put, supersede
from tests.subscriptions.receiving import Notification, taken, verified
from tests.subscriptions.subscribing import RECORD, TOPICS, World, alone

LATER = datetime(2026, 2, 3, tzinfo=UTC)
CONSENT = dissent()


async def test_a_change_is_told_after_a_handshake(world: World) -> None:
    id = await world.subscribed(world.council)
    (handshake,) = world.receiver.got
    assert (handshake.kind, handshake.status["status"], handshake.numbers) == ("handshake", "requested", [])
    seen = world.observe()
    await world.turn()
    (told,) = world.told()
    assert told.numbers == [1] and told.foci == [f"Observation/{seen}"]
    assert told.status["subscription"] == {"reference": f"{world.gateway.base}/Subscription/{id}"}
    assert told.bundle["type"] == "history" and told.status["events-since-subscription-start"] == "1"
    await world.turn(2)
    assert len(world.told()) == 1


async def test_what_happens_while_the_handshake_is_answered_is_told(world: World) -> None:
    """Whoever has the handshake need not look for what came between it and their answer."""
    seen: list[str] = []

    def answer(given: Notification) -> tuple[int, dict[str, str]]:
        seen.extend([world.observe()] if given.kind == "handshake" else [])
        return taken(given)

    world.receiver.answer = answer
    await world.subscribed(world.council)
    await world.turn()
    assert [each.foci for each in world.told()] == [[f"Observation/{each}"] for each in seen]


async def test_a_receiver_verifies_it_by_the_published_keys(world: World) -> None:
    await world.subscribed(world.council)
    world.observe()
    await world.turn()
    keys = world.keys()
    (told,) = world.told()
    header = verified(told, keys)
    assert header["url"] == f"{world.receiver.url}/hook" and header["typ"] == "fhir-notification"
    with pytest.raises(InvalidSignature):
        verified(told, keys, told.body.replace(b"Observation", b"Conditions "))


async def test_as_much_is_told_as_was_asked_for(world: World) -> None:
    for content in ("empty", "id-only", "full-resource"):
        await world.subscribed(world.council, path=f"/{content}", content=content)
    seen = world.observe(valueQuantity={"value": 1.10})
    stored = world.council.get(f"/fhir/Observation/{seen}").text
    await world.turn()
    (empty,), (named,), (whole,) = (world.told(f"/{each}") for each in ("empty", "id-only", "full-resource"))
    assert (empty.numbers, empty.foci, len(empty.bundle["entry"])) == ([1], [None], 1)
    assert "topic" not in empty.status and named.status["topic"] == RECORD
    assert (named.numbers, named.foci, len(named.bundle["entry"])) == ([1], [f"Observation/{seen}"], 1)
    assert whole.foci == named.foci and stored.encode() in whole.body
    assert [each["request"]["method"] for each in whole.bundle["entry"]] == ["GET", "POST"]
    assert [each["response"]["status"] for each in whole.bundle["entry"]] == ["200", "201"]


async def test_notifications_are_r4(world: World) -> None:
    await world.subscribed(world.council, content="full-resource")
    world.observe()
    await world.turn()
    for each in world.receiver.got:
        assert [issue for issue in check(each.bundle) if issue] == []


async def test_an_update_and_a_deletion_are_told(world: World) -> None:
    await world.subscribed(world.council, content="full-resource")
    seen = world.observe()
    place = f"/fhir/Observation/{seen}"
    changed = {**world.council.get(place).json(), "status": "amended"}
    assert world.council.put(place, json=changed).status_code == 200
    await world.turn()
    (first,) = world.told()
    assert first.numbers == [1, 2] and first.foci == [f"Observation/{seen}"] * 2
    assert [each["resource"].get("status") for each in first.bundle["entry"][1:]] == ["amended"]
    assert world.council.delete(place).status_code == 204
    await world.turn()
    last = world.told()[-1]
    assert (last.numbers, last.foci) == ([3], [f"Observation/{seen}"])
    assert last.bundle["entry"][1]["request"]["method"] == "DELETE" and "resource" not in last.bundle["entry"][1]


async def test_a_topic_is_narrowed_by_searches(world: World) -> None:
    await world.subscribed(world.council, RECORD, "patient=Patient/cared-for")
    world.observe("stranger")
    mine = world.observe("cared-for")
    await world.turn()
    assert [each.foci for each in world.told()] == [[f"Observation/{mine}"]]


async def test_what_something_was_before_counts(world: World) -> None:
    """A line of a package that was active is so no more: neither one that begins, nor one that never was."""
    await world.subscribed(world.council, f"{TOPICS}package-line-ended")
    line = {
        "resourceType": "ServiceRequest",
        "meta": {"profile": ["https://fhirgw.uk/fhir/StructureDefinition/package-line"]},
        "status": "active",
        "intent": "order",
        "code": {"text": "Homecare"},
        "subject": {"reference": "Patient/cared-for"},
    }
    ids = [str(uuid4()) for _ in range(3)]
    begun, ended, never = ({**line, "id": each} for each in ids)
    await put(world.url, begun, {**ended}, {**never, "status": "draft"})
    changes = [
        (ended, {**ended, "status": "completed"}),
        ({**never, "status": "draft"}, {**never, "status": "revoked"}),
    ]
    changes.append((begun, {**begun, "status": "active", "priority": "urgent"}))
    for old, new in changes:
        await supersede(world.url, old, new, 2, LATER)
        await world.sql(
            "INSERT INTO fhirgw.change (type, id, version, kind, origin)"
            " VALUES ('ServiceRequest', $1, 2, 'update', 'test')",
            old["id"],
        )
    await world.turn()
    assert [each.foci for each in world.told()] == [[f"ServiceRequest/{ended['id']}"]]


async def test_nothing_is_told_of_whom_the_subscriber_may_not_see(world: World) -> None:
    """Nor counted: numbers have no gap where something is hidden."""
    await world.subscribed(world.provider, path="/provider")
    await world.subscribed(world.council, path="/council")
    hidden, mine = world.flag("stranger"), world.flag("cared-for")
    await world.turn()
    assert [(each.numbers, each.foci) for each in world.told("/provider")] == [([1], [f"Flag/{mine}"])]
    assert [set(each.foci) for each in world.told("/council")] == [{f"Flag/{hidden}", f"Flag/{mine}"}]
    assert not any(hidden.encode() in each.body for each in world.receiver.got if each.path == "/provider")


async def test_who_dissents_before_it_is_sent_is_not_told_of(world: World) -> None:
    """The event had its number when it was noted: that is told, and no more."""
    await world.subscribed(world.provider, path="/provider", content="full-resource")
    await world.subscribed(world.council, path="/council", content="full-resource")
    world.receiver.answer = lambda _: (503, {})
    seen = world.flag()
    await world.turn()
    assert [each.foci for each in world.told("/provider")] == [[f"Flag/{seen}"]]
    dissent = world.council.post("/fhir/Consent", json=CONSENT)
    assert dissent.status_code == 201, dissent.text
    try:
        world.receiver.got.clear()
        world.receiver.answer = taken
        await world.overdue()
        await world.turn()
        first, *_ = world.told("/provider")
        assert (first.numbers, first.foci, len(first.bundle["entry"])) == ([1], [None], 1)
        assert not any(seen.encode() in each.body for each in world.receiver.got if each.path == "/provider")
        assert f"Flag/{seen}" in world.told("/council")[0].foci
    finally:
        place = f"/fhir/Consent/{dissent.json()['id']}"
        assert world.council.delete(place).status_code == 204


async def test_it_is_in_the_audit_before_it_leaves(world: World) -> None:
    """Whoever receives one finds it there already, with whom it told of; under the id that came with it."""
    await world.subscribed(world.provider)
    found: list[int] = []

    def look(notification: Notification) -> tuple[int, dict[str, str]]:
        found.append(alone(world.sql("SELECT count(*) FROM fhirgw.audited WHERE body LIKE '%\"notify\"%'"))[0][0])
        return 200, {}

    world.receiver.answer = look
    (before,) = (await world.sql("SELECT count(*) FROM fhirgw.audited WHERE body LIKE '%\"notify\"%'"))[0]
    seen = world.flag()
    await world.turn()
    assert found == [before + 1]
    (told,) = world.told()
    query = "SELECT persons, registration, body FROM fhirgw.audited WHERE body LIKE '%' || $1 || '%'"
    ((persons, registration, body),) = await world.sql(query, told.headers["x-request-id"])
    assert (persons, registration) == (["cared-for"], "home-care") and seen in body


async def test_an_audit_that_cannot_be_written_keeps_it_back(world: World) -> None:
    await world.subscribed(world.council)
    world.observe()
    await world.sql("ALTER TABLE fhirgw.audit RENAME TO away")
    try:
        await world.turn()
        assert world.told() == []
    finally:
        await world.sql("ALTER TABLE fhirgw.away RENAME TO audit")
    await world.overdue()
    await world.turn()
    assert [each.numbers for each in world.told()] == [[1]]


async def test_an_application_that_was_stopped_is_told_nothing_more(world: World) -> None:
    id = await world.subscribed(world.provider)
    await world.sql("UPDATE fhirgw.registration SET active = false WHERE id = 'home-care'")
    try:
        world.flag()
        await world.turn(2)
        assert world.told() == []
        ((status,),) = await world.sql("SELECT status FROM fhirgw.subscription WHERE id = $1", id)
        assert status == "error"
    finally:
        await world.sql("UPDATE fhirgw.registration SET active = true WHERE id = 'home-care'")


async def test_a_scope_that_was_taken_away_shows_nothing_more(world: World) -> None:
    await world.subscribed(world.provider)
    narrow = "system/Subscription.cruds system/Patient.rs"
    await world.sql("UPDATE fhirgw.registration SET scopes = $1 WHERE id = 'home-care'", narrow)
    try:
        world.flag()
        await world.turn()
        assert world.told() == []
    finally:
        await world.sql("UPDATE fhirgw.registration SET scopes = 'system/*.cruds' WHERE id = 'home-care'")
    world.flag()
    await world.turn()
    assert [each.numbers for each in world.told()] == [[1]]


async def test_many_events_go_in_parts_and_in_order(world: World) -> None:
    await world.subscribed(world.council, most=2)
    seen = [world.observe() for _ in range(5)]
    await world.turn(3)
    assert [each.numbers for each in world.told()] == [[1, 2], [3, 4], [5]]
    assert [name for each in world.told() for name in each.foci] == [f"Observation/{each}" for each in seen]


async def test_a_heartbeat_says_that_nothing_happened(world: World) -> None:
    id = await world.subscribed(world.council, heartbeat=60)
    await world.turn()
    assert [each.kind for each in world.receiver.got] == ["handshake"]
    await world.sql("UPDATE fhirgw.subscription SET beat = beat - interval '61 s' WHERE id = $1", id)
    await world.turn(2)
    assert [each.kind for each in world.receiver.got] == ["handshake", "heartbeat"]


async def test_what_ends_by_its_date_is_off(world: World) -> None:
    end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    id = await world.subscribed(world.council, end=end)
    await world.sql("UPDATE fhirgw.subscription SET ends = clock_timestamp() WHERE id = $1", id)
    world.notifier.sweeps()
    world.observe()
    await world.turn()
    assert world.at(world.council, id)["status"] == "off" and world.told() == []


async def test_headers_go_along_and_are_never_shown(world: World) -> None:
    id = await world.subscribed(world.council, header=["Authorization: Bearer s3cret", "X-Tenant: a b"])
    (shaken,) = world.receiver.got
    assert (shaken.headers["authorization"], shaken.headers["x-tenant"]) == ("Bearer s3cret", "a b")
    assert "s3cret" not in world.council.get(f"/fhir/Subscription/{id}").text
