"""Notifications of the Subscriptions R5 Backport guide in R4: history Bundles, of which the
first entry is the subscription's status.

Bodies go in byte for byte as they are stored. https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

import orjson

from fhirgw.fhir.issue import Resource

GUIDE = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
STATUS = f"{GUIDE}backport-subscription-status-r4"
PROFILE = f"{GUIDE}backport-subscription-notification-r4"


class Happening(NamedTuple):
    """One event: its `number` in the subscription, when it was, and what happened (`kind`) to which resource."""

    number: int
    moment: datetime
    kind: str
    type: str
    id: str


class Shown(NamedTuple):
    """A focus as its subscriber may see it now; `body` None: it was deleted."""

    version: int
    body: str | None
    person: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """What a notification says of its subscription. `number`: of all events there were; `error`: what went wrong."""

    base: str
    id: str
    topic: str
    status: str
    number: int
    content: str
    error: str | None = None


Foci = Mapping[tuple[str, str], Shown]
"""What may be shown, by type and id: an event whose focus is not among it is told by its number alone."""


def parameters(told: Status, kind: str, events: Iterable[Happening] = (), foci: Foci | None = None) -> Resource:
    """The SubscriptionStatus as Parameters; `kind` is handshake, heartbeat, event-notification, query-status …"""
    listed: list[Any] = [
        {"name": "subscription", "valueReference": {"reference": f"{told.base}/Subscription/{told.id}"}},
        *([{"name": "topic", "valueCanonical": told.topic}] if told.content != "empty" else ()),
        {"name": "status", "valueCode": told.status},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(told.number)},
        *(_event(told, each, foci or {}) for each in events),
        *([{"name": "error", "valueCodeableConcept": {"text": told.error}}] if told.error else ()),
    ]
    return {"resourceType": "Parameters", "id": str(uuid4()), "meta": {"profile": [STATUS]}, "parameter": listed}


def bundle(
    told: Status, kind: str, moment: datetime, events: Sequence[Happening] = (), foci: Foci | None = None
) -> bytes:
    """A notification, of as much as the subscription's content lets it say."""
    status = parameters(told, kind, events, foci)
    asked = {"method": "GET", "url": f"Subscription/{told.id}/$status"}
    first = {"fullUrl": f"urn:uuid:{status['id']}", "resource": status, "request": asked, "response": {"status": "200"}}
    shown = foci if foci and told.content == "full-resource" else {}
    named = dict.fromkeys((each.type, each.id) for each in events if (each.type, each.id) in shown)
    kinds = {(each.type, each.id): each.kind for each in events}
    made = {
        "resourceType": "Bundle",
        "id": str(uuid4()),
        "meta": {"profile": [PROFILE]},
        "type": "history",
        "timestamp": _instant(moment),
        "entry": [first, *(_entry(told.base, each, shown[each], kinds[each]) for each in named)],
    }
    return orjson.dumps(made)


def _event(told: Status, event: Happening, foci: Foci) -> Resource:
    part = [
        {"name": "event-number", "valueString": str(event.number)},
        {"name": "timestamp", "valueInstant": _instant(event.moment)},
    ]
    if told.content != "empty" and (event.type, event.id) in foci:
        reference = {"reference": f"{told.base}/{event.type}/{event.id}", "type": event.type}
        part.append({"name": "focus", "valueReference": reference})  # type: ignore[dict-item]
    return {"name": "notification-event", "part": part}


def _entry(base: str, name: tuple[str, str], shown: Shown, kind: str) -> dict[str, Any]:
    """The focus as it is now, with the interaction that the last of its events was."""
    where = "/".join(name)
    if shown.body is None:
        method, status = "DELETE", "204"
    else:
        method, status = ("POST", "201") if kind == "create" else ("PUT", "200")
    asked = {"method": method, "url": name[0] if method == "POST" else where}
    answered = {"status": status, "etag": f'W/"{shown.version}"'}
    entry: dict[str, Any] = {"fullUrl": f"{base}/{where}", "request": asked, "response": answered}
    return entry if shown.body is None else entry | {"resource": orjson.Fragment(shown.body)}


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
