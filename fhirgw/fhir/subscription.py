"""A Subscription to a topic, as the Subscriptions R5 Backport guide spells it in R4: what it asks, read from its JSON.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/StructureDefinition-backport-subscription.html. Its shape has been
judged before (fhirgw.validation); here is what the gateway can do of what R4 lets be said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.topics import Topic, Trigger, known, narrowed

GUIDE = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
PROFILE = f"{GUIDE}backport-subscription"
FILTER, CONTENT, HEARTBEAT, TIMEOUT, MOST = (
    f"{GUIDE}backport-{each}"
    for each in ("filter-criteria", "payload-content", "heartbeat-period", "timeout", "max-count")
)
CONTENTS = ("empty", "id-only", "full-resource")
MEDIA = "application/fhir+json"
STATUSES = ("requested", "active", "error", "off")
SENT = ("requested", "active", "off")
"""What who subscribes may say: `active` is as `requested`, unless it is so already."""

NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,4094}[\x21-\x7e])?")
OURS = {
    *("host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "te", "upgrade"),
    *("trailer", "expect", "accept-encoding", "x-request-id", "x-jws-signature", "proxy-authorization", "cookie"),
}
"""Headers that are the gateway's to say."""

MOST_HEADERS, MOST_FILTERS = 10, 10
MOST_ENTRIES, FEW_SECONDS, MOST_SECONDS, LEAST_HEARTBEAT = 100, 10, 60, 30


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody subscribes to and how they are to be told.

    `headers` are `Name: value` lines that go with each notification, None where the body does not speak of them.
    `most`: events of one notification; `seconds`: how long an endpoint may take; `heartbeat` in seconds, None for none.
    `body` is the resource as it is kept: without its headers, which are secrets, and what the gateway says of it.
    """

    status: str
    topic: str
    filters: tuple[str, ...]
    endpoint: str
    headers: tuple[str, ...] | None
    content: str
    most: int
    seconds: int
    heartbeat: int | None
    ends: datetime | None
    body: Resource

    @property
    def asks(self) -> tuple[Any, ...]:
        """What has to be tried anew when it is another."""
        return self.topic, self.filters, self.endpoint, self.content


def read(resource: Resource, base: str) -> tuple[Wanted, tuple[Trigger, ...]]:
    """What a Subscription asks, and the triggers of its topic as it narrows them. `base` is our own FHIR address.

    Raises FhirError with an issue for each fault: where, by which rule, and what to do. None quotes a value.
    """
    channel = resource["channel"]
    faults: list[Issue] = []

    def tried(look: Callable[[], Any], otherwise: Any = None) -> Any:
        try:
            return look()
        except FhirError as error:
            faults.extend(error.issues)
            return otherwise

    topic: Topic | None = tried(lambda: known(resource["criteria"]))
    filters = tried(lambda: tuple(_filters(resource)), ())
    triggers = tried(lambda: narrowed(topic, filters, base), ()) if topic else ()
    found = Wanted(
        status=tried(lambda: _status(resource["status"]), ""),
        topic=topic.url if topic else "",
        filters=filters,
        endpoint=tried(lambda: _endpoint(channel), ""),
        headers=tried(lambda: _headers(channel)),
        content=tried(lambda: _content(channel), ""),
        most=tried(lambda: _number(channel, MOST, "valuePositiveInt", 1, 1000), None) or MOST_ENTRIES,
        seconds=tried(lambda: _number(channel, TIMEOUT, "valueUnsignedInt", 1, MOST_SECONDS), None) or FEW_SECONDS,
        heartbeat=tried(lambda: _number(channel, HEARTBEAT, "valueUnsignedInt", LEAST_HEARTBEAT, 7 * 86400)),
        ends=tried(lambda: _ends(resource.get("end"))),
        body=_kept(resource),
    )
    if faults:
        raise FhirError(*faults, status=400)
    return found, tuple(triggers)


def _kept(resource: Resource) -> Resource:
    """The resource as it is kept: what the gateway says of it is added when it is served."""
    ours = ("id", "meta", "status", "_status", "error", "_error", "channel")
    body = {name: value for name, value in resource.items() if name not in ours}
    channel = {name: value for name, value in resource["channel"].items() if name not in ("header", "_header")}
    tags = {name: value for name, value in resource.get("meta", {}).items() if name in ("profile", "tag")}
    return {**body, "channel": channel, **({"meta": tags} if tags else {})}


def _status(status: Any) -> str:
    if status not in SENT:
        told = "A Subscription is sent as requested, or off to have it rest: error is for the gateway to say"
        raise _fault("value", told, "status")
    return str(status)


def _filters(resource: Resource) -> Iterator[str]:
    listed = _extensions(resource.get("_criteria"), FILTER)
    if len(listed) > MOST_FILTERS:
        told = f"More than {MOST_FILTERS} filters: one may hold several parameters, with & between them"
        raise _fault("too-costly", told, "criteria.extension")
    for at, each in enumerate(listed):
        if not isinstance(each.get("valueString"), str):
            told = "backport-filter-criteria has a valueString: parameter=value, as in a search"
            raise _fault("value", told, f"criteria.extension[{at}]")
        yield each["valueString"]


def _endpoint(channel: Resource) -> str:
    """Where notifications go. What its host resolves to is seen when one is sent (fhirgw.jobs.hook)."""
    if channel["type"] != "rest-hook":
        raise _fault("not-supported", "Notifications go to a rest-hook alone: no other channel", "channel.type")
    endpoint = channel.get("endpoint")
    if not isinstance(endpoint, str) or len(endpoint) > 2000:
        told = "A rest-hook has an endpoint: the https address that notifications are posted to"
        raise _fault("required", told, "channel.endpoint")
    return endpoint


def _headers(channel: Resource) -> tuple[str, ...] | None:
    listed = channel.get("header")
    if listed is None:
        return None
    if len(listed) > MOST_HEADERS:
        raise _fault("too-costly", f"A channel has at most {MOST_HEADERS} headers", "channel.header")
    for at, each in enumerate(listed):
        name, colon, value = each.partition(":") if isinstance(each, str) else ("", "", "")
        if not colon or not NAME.fullmatch(name) or not VALUE.fullmatch(value.strip(" ")):
            told = "A header is written Name: value, in ASCII, with no line break"
            raise _fault("value", told, f"channel.header[{at}]")
        if name.lower() in OURS:
            told = "This header is for the gateway to say: Authorization, or one of your own, may be given"
            raise _fault("value", told, f"channel.header[{at}]")
    return tuple(listed)


def _content(channel: Resource) -> str:
    if str(channel.get("payload", "")).partition(";")[0].strip() not in (MEDIA, "application/json"):
        told = f"The payload is {MEDIA}; how much is in it the extension backport-payload-content says"
        raise _fault("not-supported", told, "channel.payload")
    found = [each.get("valueCode") for each in _extensions(channel.get("_payload"), CONTENT)]
    if len(found) != 1 or found[0] not in CONTENTS:
        told = f"The extension backport-payload-content is needed once, with a valueCode of {', '.join(CONTENTS)}"
        raise _fault("required", told, "channel.payload.extension")
    return str(found[0])


def _number(channel: Resource, url: str, value: str, least: int, most: int) -> int | None:
    found = [each.get(value) for each in _extensions(channel, url)]
    if not found:
        return None
    if len(found) > 1 or isinstance(found[0], bool) or not isinstance(found[0], int) or not least <= found[0] <= most:
        told = f"{url.rpartition('/')[2]} is given once, with a {value} of {least} to {most}"
        raise _fault("value", told, "channel.extension")
    return found[0]


def _ends(text: Any) -> datetime | None:
    """The instant of `end`, which was judged to be one; of a year that Python has not, none that anybody waits for."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")) if text is not None else None
    except ValueError:
        raise _fault("value", "The end is an instant with a time zone: 2027-01-31T12:00:00Z", "end") from None


def _extensions(holder: Any, url: str) -> Sequence[Resource]:
    return [each for each in (holder or {}).get("extension", ()) if each.get("url") == url]


def _fault(code: str, told: str, place: str) -> FhirError:
    return FhirError(Issue(code, told, f"Subscription.{place}"))
