"""`Patient/$who-looked`: who has looked at a person's record, told to them in plain English.

For the person themselves, and for auditors of the organisation that runs the gateway: those whose token names
`system/AuditEvent.r`, for a wildcard is no role. The person is not told what they may not see: kinds of record hidden
from them, and looks for safeguarding, as somebody with a hold over them may be reading along.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.audit_facets import facets
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.access.who_looked import Shown, about, mentioned, told
from fhirgw.api import bundle
from fhirgw.api.answer import ID, answer, interactions
from fhirgw.api.audit import entry
from fhirgw.api.context import base, context, permitted
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.fhir.query import Query
from fhirgw.store.database import Connection
from fhirgw.store.include import fetch
from fhirgw.store.looked import TIPPING_OFF, Looked, looked
from fhirgw.store.resources import absent
from fhirgw.store.search import search

PAGE = 50
MOST = 200


async def who_looked(request: Request) -> Response:
    """GET [base]/Patient/[id]/$who-looked"""
    person, permit = request.path_params["id"], permitted(request)
    own = _own(request, permit, person)
    count, after = _asked(request)
    here = context(request)
    async with here.searcher(permit) as connection:
        hidden = TIPPING_OFF if own else ()
        found = await looked(connection, person, after=after, count=count + 1, hidden=hidden)
        events: list[Resource] = [orjson.loads(each.body) for each in found[:count]]
        shown = await showing(connection, permit, events, person) if own else None
    directory: Permit = request.app.state.directory
    async with here.searcher(directory) as connection:
        names = await organisations(connection, directory, events)
    entry(request).saw_all(("AuditEvent", each["id"], person) for each in events)
    entries = [
        ("AuditEvent", each["id"], orjson.dumps(told(each, person, names, shown)).decode(), "match") for each in events
    ]
    following = found[count - 1] if len(found) > count else None
    return answer(bundle.searchset(base(request), entries, None, _links(request, person, count, following)))


def routes() -> list[Route]:
    """To be put before those of types and instances."""
    return [interactions("/fhir/Patient/{id:name}/$who-looked", GET=who_looked)]


def _own(request: Request, permit: Permit, person: str) -> bool:
    """Whether it is the person who asks, not an auditor. Raises FhirError: forbidden, not-found for everybody else.

    A delegate does not see it: who may act for somebody is not always who should know whom they have turned to.
    """
    scopes = permit.require("r", "AuditEvent")
    if permit.purpose == Purpose.PERSON:
        if permit.patient == person and permit.delegate is None:
            return True
        raise absent("Patient")
    exactly = any(each.context == "system" and each.type == "AuditEvent" for each in scopes)
    if exactly and permit.organisation == request.app.state.controller and ID.fullmatch(person):
        return False
    raise absent("Patient")


def _asked(request: Request) -> tuple[int, Looked | None]:
    """How many, and after which. Raises FhirError(invalid) naming the parameter that is wrong."""
    count, after = PAGE, None
    for name, value in request.query_params.multi_items():
        if name == "_count" and value.isascii() and value.isdigit() and int(value[:9]) > 0:
            count = min(int(value[:9]), MOST)
        elif name == "_cursor":
            after = _read(value)
        elif name == "_count":
            raise FhirError(Issue("invalid", "_count is malformed: it is a number above 0"))
        elif name != "_format":
            raise FhirError(Issue("not-supported", "$who-looked takes _count"))
    return count, after


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
    codes = sorted({facets(each).organisation for each in events} - {""})
    if not codes:
        return {}
    spelt = ",".join(f"{ODS_ORGANISATION}|{each}" for each in codes)
    page = await search(connection, directory, Query.parse("Organization", [("identifier", spelt), ("_count", "1000")]))
    found = [orjson.loads(each.body) for each in page.matches]
    return {
        identifier["value"]: each["name"]
        for each in found
        for identifier in each.get("identifier", ())
        if identifier.get("system") == ODS_ORGANISATION and "name" in each
    }


def _links(request: Request, person: str, count: int, following: Looked | None) -> list[tuple[str, str]]:
    first = f"{base(request)}/Patient/{person}/$who-looked?_count={count}"
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
