"""`Patient/$who-looked`: who has looked at a person's record, told to them in plain English.

For the person themselves, and for auditors of the organisation that runs the gateway (fhirgw.api.auditor). The person
is not told what they may not see: kinds of record hidden from them, and looks for safeguarding, as somebody with a hold
over them may be reading along.

What happened again on one day is told once: the newest AuditEvent, a match, tells of all of them, and the others are
included. With `own=true` the person's own looks are there too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.audit_facets import facets
from fhirgw.access.permit import Permit
from fhirgw.access.who_looked import Shown, about, groups, mentioned, told
from fhirgw.api import bundle
from fhirgw.api.answer import ID, answer, interactions
from fhirgw.api.audit import entry
from fhirgw.api.auditor import auditing, themselves, throughout
from fhirgw.api.context import base, context, permitted
from fhirgw.api.parameters import posted
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.store.called import called
from fhirgw.store.database import Connection
from fhirgw.store.include import fetch
from fhirgw.store.looked import TIPPING_OFF, Looked, looked
from fhirgw.store.resources import absent

PAGE = 50
ROWS = 200
"""AuditEvents of one page at most, however few groups they make."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How many groups, after which AuditEvent, and whether with what the person asked for themselves."""

    count: int = PAGE
    after: Looked | None = None
    own: bool = False


async def who_looked(request: Request) -> Response:
    """GET [base]/Patient/[id]/$who-looked"""
    person, permit = request.path_params["id"], permitted(request)
    own = _own(request, permit, person)
    asked = _asked(request)
    here = context(request)
    async with here.searcher(permit) as connection:
        hidden = TIPPING_OFF if own else ()
        rows = await looked(connection, person, after=asked.after, count=ROWS + 1, hidden=hidden, own=asked.own)
        told_of = groups([orjson.loads(each.body) for each in rows[:ROWS]], person, asked.count)
        events = [each for group in told_of for each in group]
        shown = await showing(connection, permit, events, person) if own else None
    directory: Permit = request.app.state.directory
    async with here.searcher(directory) as connection:
        names = await organisations(connection, directory, events)
    entry(request).saw_all(("AuditEvent", each["id"], person) for each in events)
    entries = [each for group in told_of for each in _entries(group, person, names, shown)]
    following = rows[len(events) - 1] if len(rows) > len(events) else None
    return answer(bundle.searchset(base(request), entries, None, _links(request, person, asked, following)))


def routes() -> list[Route]:
    """To be put before those of types and instances."""
    return [interactions("/fhir/Patient/{id:name}/$who-looked", GET=who_looked, POST=posted(who_looked))]


def _own(request: Request, permit: Permit, person: str) -> bool:
    """Whether it is the person who asks, not an auditor. Raises FhirError: forbidden, or not-found for another's."""
    if (asking := themselves(permit)) is None:
        throughout(auditing(request, permit))
    else:
        throughout(permit.require("r", "AuditEvent"))
    if asking not in (None, person) or not ID.fullmatch(person):
        raise absent("Patient")
    return asking is not None


def _entries(
    group: Sequence[Resource], person: str, names: Mapping[str, str], shown: Shown | None
) -> Iterator[tuple[str, str, str, str]]:
    """The newest of a group tells of all of them, and the others, sent along, each of itself."""
    newest, *others = group
    yield "AuditEvent", newest["id"], orjson.dumps(told(newest, person, names, shown, others)).decode(), "match"
    for each in others:
        yield "AuditEvent", each["id"], orjson.dumps(told(each, person, names, shown)).decode(), "include"


def _asked(request: Request) -> Asked:
    """What is asked for. Raises FhirError(invalid) naming the parameter that is wrong."""
    asked = Asked()
    for name, value in request.query_params.multi_items():
        if name == "_count" and value.isascii() and value.isdigit() and int(value[:9]) > 0:
            asked = replace(asked, count=min(int(value[:9]), ROWS))
        elif name == "own" and value in ("true", "false"):
            asked = replace(asked, own=value == "true")
        elif name == "_cursor":
            asked = replace(asked, after=_read(value))
        elif name == "_count":
            raise FhirError(Issue("invalid", "_count is malformed: it is a number above 0"))
        elif name == "own":
            raise FhirError(Issue("invalid", "own is true or false: whether the person's own looks are told too"))
        elif name not in ("_format", "_pretty"):
            raise FhirError(Issue("not-supported", "$who-looked takes _count and own"))
    return asked


async def showing(connection: Connection, permit: Permit, events: Sequence[Resource], person: str) -> Shown:
    """What of all that the AuditEvents name the person may see now. AuditEvents of theirs they are being shown."""
    named = {each for event in events for each in mentioned(about(event, person, None))}
    seen = {(each.type, each.id) for each in await fetch(connection, permit, named)}
    return lambda kind, id: kind == "AuditEvent" or (kind, id) in seen


async def organisations(connection: Connection, directory: Permit, events: Sequence[Resource]) -> dict[str, str]:
    """The names of the organisations that AuditEvents speak of, by ODS code.

    They are public knowledge: `directory` is the gateway's own permit for organisations and nothing else, so that the
    person is told names where their token shows no organisations.
    """
    codes = {each: f"{ODS_ORGANISATION}|{each}" for event in events if (each := facets(event).organisation)}
    names = await called(connection, directory, sorted(codes.values()))
    return {code: names[party] for code, party in codes.items() if party in names}


def _links(request: Request, person: str, asked: Asked, following: Looked | None) -> list[tuple[str, str]]:
    first = f"{base(request)}/Patient/{person}/$who-looked?_count={asked.count}{'&own=true' if asked.own else ''}"
    here = request.query_params.get("_cursor")
    known = [("self", f"{first}&_cursor={quote(here)}" if here else first), ("first", first)]
    return [*known, ("next", f"{first}&_cursor={_write(following)}")] if following else known


def _write(last: Looked) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([last.recorded, last.digest.hex()])).rstrip(b"=").decode()


def _read(cursor: str) -> Looked:
    try:
        recorded, digest = orjson.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
        moment = datetime.fromisoformat(recorded)
        if moment.tzinfo is None:
            raise ValueError
        return Looked(moment.astimezone(UTC), bytes.fromhex(digest), "")
    except (ValueError, TypeError, OverflowError):
        raise FhirError(Issue("invalid", "_cursor is not one of this operation: begin again without it")) from None
