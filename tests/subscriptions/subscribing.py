"""What tests of subscriptions say: what is subscribed to, and what then happens."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from fhirgw.jobs.notify import Notifier
from tests.api.writing import observation
from tests.gateway import Gateway
from tests.put import connected, put
from tests.subscriptions.receiving import Notification, Receiver

GUIDE = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
TOPICS = "https://fhirgw.uk/fhir/SubscriptionTopic/"
RECORD = f"{TOPICS}record"


def subscription(endpoint: str, topic: str = RECORD, *filters: str, content: str = "id-only", **more: Any) -> Any:
    """A Subscription; `most`, `heartbeat`, `header` and `end` besides."""
    channel: dict[str, Any] = {
        "type": "rest-hook",
        "endpoint": endpoint,
        "payload": "application/fhir+json",
        "_payload": {"extension": [{"url": f"{GUIDE}backport-payload-content", "valueCode": content}]},
    }
    extension = [{"url": f"{GUIDE}backport-max-count", "valuePositiveInt": more["most"]}] if "most" in more else []
    if "heartbeat" in more:
        extension.append({"url": f"{GUIDE}backport-heartbeat-period", "valueUnsignedInt": more["heartbeat"]})
    if "seconds" in more:
        extension.append({"url": f"{GUIDE}backport-timeout", "valueUnsignedInt": more["seconds"]})
    channel |= ({"extension": extension} if extension else {}) | (
        {"header": more["header"]} if "header" in more else {}
    )
    made: dict[str, Any] = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "A test",
        "criteria": topic,
        "channel": channel,
    }
    listed = [{"url": f"{GUIDE}backport-filter-criteria", "valueString": each} for each in filters]
    made |= {"_criteria": {"extension": listed}} if listed else {}
    return made | ({"end": more["end"]} if "end" in more else {})


def alone(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, for who is in another thread than the test's."""
    return asyncio.run(work)


@dataclass
class World:
    gateway: Gateway
    url: str
    council: httpx.Client
    provider: httpx.Client
    receiver: Receiver
    notifier: Notifier

    async def sql(self, query: str, *arguments: Any) -> list[Any]:
        connection = await connected(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    async def overdue(self) -> None:
        """Time goes by: whatever waits for its next attempt is due."""
        await self.sql("UPDATE fhirgw.subscription SET due = clock_timestamp() WHERE status IN ('requested', 'active')")

    async def turn(self, times: int = 1) -> None:
        """So many looks, and what comes of them."""
        for _ in range(times):
            await self.notifier.turn()
            await self.notifier.idle()

    async def subscribed(self, client: httpx.Client, *args: Any, path: str = "/hook", **more: Any) -> str:
        """The id of a Subscription that has shaken hands."""
        id = self.asked(client, subscription(self.receiver.url + path, *args, **more))
        await self.turn()
        assert self.at(client, id)["status"] == "active"
        return id

    def asked(self, client: httpx.Client, wanted: Any) -> str:
        """The id of a Subscription that was taken."""
        made = client.post("/fhir/Subscription", json=wanted)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def keys(self) -> dict[str, Any]:
        """The keys that the gateway publishes."""
        return dict(httpx.get(f"{self.gateway.base}/.well-known/jwks.json").json())

    def at(self, client: httpx.Client, id: str) -> dict[str, Any]:
        answered = client.get(f"/fhir/Subscription/{id}")
        assert answered.status_code == 200, answered.text
        return dict(answered.json())

    def observe(self, patient: str = "cared-for", **elements: Any) -> str:
        """Writes an Observation through the front door; its id."""
        return self.write(observation(patient, **elements))

    def flag(self, patient: str = "cared-for") -> str:
        """The same of a Flag, which a care provider may see too."""
        subject = {"reference": f"Patient/{patient}"}
        return self.write({"resourceType": "Flag", "status": "active", "code": {"text": "Dog"}, "subject": subject})

    async def stored(self, resource: dict[str, Any]) -> str:
        """Stores a resource as it is, with its line in the change log, whatever profiles say of it; its reference."""
        made = {**resource, "id": str(uuid4())}
        await put(self.url, made)
        query = "INSERT INTO fhirgw.change (type, id, version, kind, origin) VALUES ($1, $2, 1, 'create', 'test')"
        await self.sql(query, made["resourceType"], made["id"])
        return f"{made['resourceType']}/{made['id']}"

    def write(self, resource: dict[str, Any]) -> str:
        made = self.council.post(f"/fhir/{resource['resourceType']}", json=resource)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def told(self, path: str = "/hook") -> list[Notification]:
        return self.receiver.events(path)
