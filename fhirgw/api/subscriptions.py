"""Subscriptions to topics over HTTP: create, read, update, delete, search, `$status`, `$events`,
`$resend`.

A Subscription is its subscriber's alone: for any other application it does not exist, but for the operators of the
organisation that runs the gateway, who may look at it and delete it. No headers are shown of one: they are secrets.
https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/

Long, because each interaction and operation of the guide is here, and who may ask it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol, cast
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.permit import OPERATOR, Permit
from fhirgw.api import asked, bundle, conditions, received
from fhirgw.api.answer import answer, interactions, versioned
from fhirgw.api.audit import entry
from fhirgw.api.authenticate import ROLES
from fhirgw.api.context import base, permitted
from fhirgw.api.parameters import addressed, posted
from fhirgw.api.smart import smart
from fhirgw.api.subscribing import permits, subscribing
from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.capability import SUBSCRIBED
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.notification import Status, parameters
from fhirgw.fhir.notification import bundle as notification
from fhirgw.fhir.subscription import CONTENTS, STATUSES, Wanted
from fhirgw.fhir.subscription import read as understood
from fhirgw.fhir.topics import Trigger
from fhirgw.store import notices, registration, subscription
from fhirgw.store.database import Connection
from fhirgw.store.resources import absent
from fhirgw.store.subscription import Subscription
from fhirgw.validation import validate

KIND = "Subscription"
LARGEST = 64 * 1024
"""Bytes of a Subscription."""

MOST_EVENTS = 1000
"""Events that are answered at once."""

Asker = tuple[str, str, str]


class Reaching(Protocol):
    """Where notifications may go: see fhirgw.jobs.hook."""

    def origin(self, endpoint: str) -> str: ...


async def create(request: Request) -> Response:
    """POST [base]/Subscription"""
    permit = permitted(request)
    subscribing(permit)
    wanted, origin = await _wanted(request, permit)
    async with smart(request).connect() as connection:
        asker = await _asker(request, connection, permit)
        made = await subscription.add(connection, str(uuid4()), asker, base(request), wanted, origin)
    entry(request).saw(KIND, made.id, None)
    there = f"{base(request)}/{KIND}/{made.id}"
    return answer(_body(made), 201, {"location": there, "etag": f'W/"{made.version}"'})


async def read(request: Request) -> Response:
    """GET [base]/Subscription/[id]"""
    permitted(request).require("r", KIND)
    async with smart(request).connect() as connection:
        found = await _found(request, connection)
    return versioned(request, _body(found).decode(), found.version, found.updated, fixed=False)


async def update(request: Request) -> Response:
    """PUT [base]/Subscription/[id]: what it asks, or with status off that it rests, with requested that it goes on"""
    permit = permitted(request)
    subscribing(permit, "u")
    _, resource = await received.resource(request, LARGEST)
    if resource.get("id") != request.path_params["id"]:
        raise FhirError(Issue("invalid", "The id is not that of the address: they must be the same", f"{KIND}.id"))
    match = conditions.meant(request.headers.get("if-match"), resource)
    wanted, origin = _read(request, permit, resource)
    async with smart(request).connect() as connection:
        found = await _found(request, connection, own=True)
        if match is None:
            told = 'Say which version is meant: If-Match: W/"…", or the meta.versionId of the one you read in the body'
            raise FhirError(Issue("required", told), status=428)
        if found.version not in match:
            told = "It has been changed since the version that is meant: read it again"
            raise FhirError(Issue("conflict", told), status=412)
        asker = await _asker(request, connection, permit)
        made = await subscription.change(connection, found, asker, wanted, origin)
    return answer(_body(made), 200, {"etag": f'W/"{made.version}"'})


async def delete(request: Request) -> Response:
    """DELETE [base]/Subscription/[id]: nothing more is sent, and its events are forgotten"""
    permitted(request).require("d", KIND)
    match = conditions.versions(request.headers.get("if-match"))
    async with smart(request).connect() as connection:
        found = await _found(request, connection)
        if not await subscription.remove(connection, found.id, match):
            told = "It has been changed since the version that is meant: read it again"
            raise FhirError(Issue("conflict", told), status=412)
    return Response(status_code=204)


async def search(request: Request) -> Response:
    """GET [base]/Subscription?parameters: of one's own"""
    return await _searched(request, asked.pairs(request))


async def search_form(request: Request) -> Response:
    """POST [base]/Subscription/_search: the parameters of the address and of the form together"""
    return await _searched(request, await asked.search_pairs(request))


async def status(request: Request) -> Response:
    """GET [base]/Subscription/[id]/$status: how it stands, as Parameters in a searchset"""
    permitted(request).require("r", KIND)
    addressed(request, ("id", "status"))
    async with smart(request).connect() as connection:
        found = await _found(request, connection)
    return _statuses(request, [found])


async def status_of_all(request: Request) -> Response:
    """GET [base]/Subscription/$status?id=&status=: the same, of one's own"""
    permitted(request).require("r", KIND)
    given = addressed(request, ("id", "status")).given
    async with smart(request).connect() as connection:
        every = await _own(request, connection)
    alternatives = {name: {each for value in values for each in value.split(",")} for name, values in given.items()}
    ids, wanted = alternatives.get("id"), alternatives.get("status")
    if wanted and wanted - {*STATUSES}:
        raise FhirError(Issue("invalid", f"status is one of {', '.join(STATUSES)}"))
    found = [each for each in every if (not ids or each.id in ids) and (not wanted or each.status in wanted)]
    return _statuses(request, found)


async def events(request: Request) -> Response:
    """GET [base]/Subscription/[id]/$events: what there was to tell, as the caller may see it now"""
    permit = permitted(request)
    permit.require("r", KIND)
    given = addressed(request, ("eventsSinceNumber", "eventsUntilNumber", "content"))
    since, until = (_number(given.one(name), name) for name in ("eventsSinceNumber", "eventsUntilNumber"))
    async with smart(request).connect() as connection:
        found = await _found(request, connection, own=True)
        content = given.one("content") or found.content
        if content not in CONTENTS:
            raise FhirError(Issue("invalid", f"content is one of {', '.join(CONTENTS)}"))
        listed = await notices.waiting(connection, found.id, (since or 1) - 1, MOST_EVENTS + 1, until)
        if len(listed) > MOST_EVENTS:
            told = f"That is more than {MOST_EVENTS} events: ask in parts, by eventsSinceNumber and eventsUntilNumber"
            raise FhirError(Issue("too-costly", told))
        oldest = await notices.oldest(connection, found.id)
        foci = await notices.foci(connection, permit, listed, content == "full-resource") if content != "empty" else {}
    entry(request).saw_all((*name, shown.person) for name, shown in foci.items())
    standing = _told(found, content, _forgotten(found, since or 1, oldest))
    return answer(notification(standing, "query-event", datetime.now(UTC), listed, foci))


async def resend(request: Request) -> Response:
    """POST [base]/Subscription/[id]/$resend: its events from a number on are sent again, to its endpoint

    https://hl7.org/fhir/uv/subscriptions-backport/2024Jan/OperationDefinition-backport-subscription-resend.html
    """
    subscribing(permitted(request), "u")
    since = _number(addressed(request, ("eventsSinceNumber",)).one("eventsSinceNumber"), "eventsSinceNumber")
    if not since:
        raise FhirError(Issue("required", "Say from which event on: eventsSinceNumber; all from there are sent again"))
    async with smart(request).connect() as connection, connection.transaction():
        found = await _found(request, connection, own=True)
        oldest = await notices.oldest(connection, found.id)
        if told := _forgotten(found, since, oldest):
            raise FhirError(Issue("invalid", told))
        if since > found.events:
            raise FhirError(Issue("invalid", "There is no event of this number yet"))
        if not await subscription.rewound(connection, found, since):
            told = "It is not active, so nothing is sent: ask for it with status requested first"
            raise FhirError(Issue("conflict", told))
    told = f"Events {since} to {found.events} are sent again, under the same numbers"
    issue = {"severity": "information", "code": "informational", "diagnostics": told}
    return answer(encode({"resourceType": "OperationOutcome", "issue": [issue]}))


def routes() -> list[Route]:
    """Those of types in general do not take this one: see the convertor `name` of fhirgw.api.fhir."""
    one = f"/fhir/{KIND}/{{id:name}}"
    return [
        interactions(one, GET=read, PUT=update, DELETE=delete),
        interactions(f"/fhir/{KIND}", GET=search, POST=create),
        interactions(f"/fhir/{KIND}/_search", POST=search_form),
        interactions(f"{one}/$status", GET=status, POST=posted(status)),
        interactions(f"/fhir/{KIND}/$status", GET=status_of_all, POST=posted(status_of_all)),
        interactions(f"{one}/$events", GET=events, POST=posted(events)),
        interactions(f"{one}/$resend", POST=posted(resend)),
    ]


async def _wanted(request: Request, permit: Permit) -> tuple[Wanted, str]:
    _, resource = await received.resource(request, LARGEST)
    return _read(request, permit, resource)


def _read(request: Request, permit: Permit, resource: dict[str, object]) -> tuple[Wanted, str]:
    """What a Subscription asks, and the origin of its endpoint. Raises FhirError: 400, 403, 422."""
    if resource.get("resourceType") != KIND:
        raise FhirError(Issue("invalid", f"The resource is no {KIND}, as the address says: send it to its own type"))
    if faults := [each for each in validate(resource) if each.severity == "error"]:
        raise FhirError(*faults, status=422)
    wanted, triggers = understood(resource, base(request))
    _may_read(permit, triggers)
    if wanted.ends and wanted.ends <= datetime.now(UTC):
        told = "The end is past: leave it out, or say one that is to come"
        raise FhirError(Issue("value", told, f"{KIND}.end"))
    return wanted, cast(Reaching, request.app.state.reach).origin(wanted.endpoint)


def _may_read(permit: Permit, triggers: tuple[Trigger, ...]) -> None:
    """Raises FhirError(forbidden) for a topic of which the token may read no type, whatever is in the payload."""
    types = tuple(dict.fromkeys(each.type for each in triggers))
    if not any(permit.covering("r", each) for each in types):
        listed = " or ".join(f"system/{each}.r" for each in types[:3])
        told = f"This topic is about what the token may not read: ask for a scope of it too, as {listed}"
        raise FhirError(Issue("forbidden", told, f"{KIND}.criteria"))


async def _asker(request: Request, connection: Connection, permit: Permit) -> Asker:
    """Who subscribes, as they will be asked for later. Raises FhirError(forbidden) where that would be another."""
    asker = _Asker(permit.registration, " ".join(map(str, permit.scopes)), permit.purpose)
    later = await permits(request.app.state.controllers)(connection, asker)
    same = later.organisation == permit.organisation and {*later.parties} == {*permit.parties}
    if not same or later.clearance & ~permit.clearance:
        told = "Subscriptions are for applications registered here that ask for themselves: not for another's token"
        raise FhirError(Issue("forbidden", told))
    return asker.registration, asker.scopes, asker.purpose


class _Asker:
    """What is asked for a permit with, before there is a Subscription."""

    def __init__(self, registration: str, scopes: str, purpose: str) -> None:
        self.registration, self.scopes, self.purpose = registration, scopes, purpose


def _operating(request: Request) -> bool:
    """Whether the caller is an operator of the organisation that runs the gateway."""
    own = permitted(request).organisation == request.app.state.controller
    return own and OPERATOR in request.scope.get(ROLES, ())


async def _application(request: Request, connection: Connection) -> str | None:
    """The registration that asks by itself; None for a person who comes by it, and for another organisation's token."""
    permit = permitted(request)
    if permit.in_person or permit.patient or permit.delegate:
        return None
    found = await registration.find(connection, permit.registration)
    return found.id if found and found.organisation == permit.organisation else None


async def _found(request: Request, connection: Connection, *, own: bool = False) -> Subscription:
    """The one of the address, for who may know of it; `own`: for its subscriber alone. Raises FhirError(not-found)."""
    _, id = asked.instance(request, KIND)
    found = await subscription.find(connection, id)
    theirs = found is not None and found.registration == await _application(request, connection)
    if found is None or not (theirs or (_operating(request) and not own)):
        raise absent(KIND)
    entry(request).saw(KIND, found.id, None)
    return found


async def _own(request: Request, connection: Connection) -> list[Subscription]:
    """All that the caller may know of."""
    operating, whose = _operating(request), await _application(request, connection)
    found = await subscription.of(connection, None if operating else whose) if operating or whose else []
    entry(request).saw_all((KIND, each.id, None) for each in found)
    return found


async def _searched(request: Request, pairs: asked.Pairs) -> Response:
    permitted(request).require("s", KIND)
    given = [(name, value) for name, value in pairs if name not in ("_format", "_count", "_total")]
    if any(name not in SUBSCRIBED for name, _ in given):
        told = f"{KIND} has no such search parameter: it is searched by {', '.join(SUBSCRIBED)}, without modifiers"
        raise FhirError(Issue("not-supported", told))
    async with smart(request).connect() as connection:
        every = await _own(request, connection)
    found = [each for each in every if all(_value(each, name) in value.split(",") for name, value in given)]
    entries = [(KIND, each.id, _body(each).decode(), "match") for each in found]
    links = asked.links(f"{base(request)}/{KIND}", given, None, None)
    return answer(bundle.searchset(base(request), entries, len(entries), links))


def _value(found: Subscription, name: str) -> str:
    known = {"_id": found.id, "criteria": found.topic, "status": found.status, "url": found.endpoint}
    return known.get(name, "rest-hook")


def _body(found: Subscription) -> bytes:
    """The resource as it is served: with its status, and what went wrong last."""
    kept = decode(found.body)
    updated = found.updated.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    meta = {"versionId": str(found.version), "lastUpdated": updated, **kept.pop("meta", {})}
    first = {"resourceType": KIND, "id": found.id, "meta": meta, "status": found.status}
    return encode(first | {name: value for name, value in kept.items() if name != "resourceType"} | _error(found))


def _error(found: Subscription) -> dict[str, str]:
    return {"error": found.reason} if found.reason else {}


def _told(found: Subscription, content: str, error: str | None = None) -> Status:
    told = error or found.reason
    return Status(found.base, found.id, found.topic, found.status, found.events, content, told)


def _statuses(request: Request, found: list[Subscription]) -> Response:
    every = [parameters(_told(each, "id-only"), "query-status") for each in found]
    entries = [("Parameters", each["id"], encode(each).decode(), "match") for each in every]
    links = asked.links(f"{base(request)}/{KIND}/$status", [], None, None)
    return answer(bundle.searchset(base(request), entries, len(entries), links))


def _number(value: str | None, name: str) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and 0 < len(value) <= 18):
        raise FhirError(Issue("invalid", f"{name} is malformed: it is the number of an event"))
    return int(value)


def _forgotten(found: Subscription, since: int, oldest: int | None) -> str | None:
    """What is to be said where events that are asked for are not kept any more."""
    first = found.events + 1 if oldest is None else oldest
    return f"Events before number {first} are no longer kept" if since < first and since <= found.events else None
