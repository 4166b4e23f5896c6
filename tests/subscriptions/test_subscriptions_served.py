"""The topics do what they say; and whoever serves or works sends, without being asked to."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.cli.conftest import started
from tests.gateway import serving
from tests.jobs.working import until
from tests.subscriptions.receiving import verified
from tests.subscriptions.subscribing import TOPICS, World, subscription

OURS = "https://fhirgw.uk/fhir"
PERSON = {"reference": "Patient/cared-for"}
LINE = {"profile": [f"{OURS}/StructureDefinition/package-line"]}


def coded(system: str, code: str) -> dict[str, Any]:
    return {"code": {"coding": [{"system": f"{OURS}/CodeSystem/{system}", "code": code}]}}


def task(system: str, code: str) -> dict[str, Any]:
    return {"resourceType": "Task", "status": "requested", "intent": "order", "for": PERSON, **coded(system, code)}


def request(**elements: Any) -> dict[str, Any]:
    made = {"resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": PERSON}
    return made | {"code": {"text": "Something"}} | elements


def encounter(code: str) -> dict[str, Any]:
    kind = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code}
    return {"resourceType": "Encounter", "status": "finished", "class": kind, "subject": PERSON}


EXAMPLES = {
    "homecare-alert": (task("visit-alert", "not-started"), task("task-code", "discharge-notice")),
    "discharge-notice": (task("task-code", "discharge-notice"), task("visit-alert", "not-started")),
    "homecare-visit": (encounter("HH"), encounter("IMP")),
    "package-line": (request(meta=LINE), request()),
    "referral": (request(**coded("request-code", "contact")), request(meta=LINE)),
}
"""Of each topic what it is about, and what is of the same type and none of its business."""


async def test_each_topic_is_about_what_it_says(world: World) -> None:
    for topic in EXAMPLES:
        await world.subscribed(world.council, TOPICS + topic, path=f"/{topic}")
    expected = {}
    for topic, (about, _) in EXAMPLES.items():
        expected[topic] = await world.stored(about)
    for _, beside in EXAMPLES.values():
        await world.stored(beside)
    await world.turn()
    told = {topic: {name for each in world.told(f"/{topic}") for name in each.foci} for topic in EXAMPLES}
    for topic, name in expected.items():
        assert name in told[topic], topic
        others = {each for other, each in expected.items() if other != topic}
        assert told[topic] & others == set(), topic


async def test_who_serves_sends_by_itself(world: World) -> None:
    settings = world.gateway.settings.model_copy(update={"worker_in_serve": True})
    with serving(settings):
        world.asked(world.council, subscription(f"{world.receiver.url}/hook"))
        await asyncio.to_thread(until, lambda: world.receiver.got)
        seen = world.observe()
        await asyncio.to_thread(until, world.told)
    assert world.told()[0].foci == [f"Observation/{seen}"]


async def test_a_worker_sends_signed_as_by_who_serves(world: World) -> None:
    given = world.gateway.settings
    environment = {"FHIRGW_DATABASE_URL": world.url, "FHIRGW_DATA": str(given.data), "FHIRGW_CONTROLLER": "Z99"}
    worker = started("worker", FHIRGW_LOOPBACK_HOOKS="true", **environment)
    try:
        world.asked(world.council, subscription(f"{world.receiver.url}/hook"))
        await asyncio.to_thread(until, lambda: world.receiver.got or worker.poll() is not None)
        assert worker.poll() is None, worker.communicate()
    finally:
        worker.terminate()
        worker.communicate(timeout=30)
    assert verified(world.receiver.got[0], world.keys())["typ"] == "fhir-notification"
