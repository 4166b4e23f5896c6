"""POST [base]: a batch, whose entries have nothing to do with one another.

Each is done, answered and audited by itself, and what one comes to says nothing about the next. Sent again under the
same X-Request-ID, those that were done are answered as they were, and the others are done.
https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response

from fhirgw.access.audit_event import Access, Seen
from fhirgw.api import bundled
from fhirgw.api.answer import answer
from fhirgw.api.audit import access, entry
from fhirgw.api.bundled import Told
from fhirgw.api.change import KINDS, change_of
from fhirgw.api.context import base, bases, permitted
from fhirgw.api.limits import CHARGE
from fhirgw.api.writers import preferred, request_id, writers
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.entries import ID, OWN, Entry
from fhirgw.fhir.entries import entry as read_entry
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.references import references
from fhirgw.store import audit, replay
from fhirgw.store.audit import Auditor
from fhirgw.store.database import Connection
from fhirgw.store.replay import About, Answer
from fhirgw.store.writing import VERBS, Change, Written, apply

ROUTE = "/fhir"
HISTORIES = {1: "history-system", 2: "history-type"}
"""By the steps of the address; else of an instance."""


async def batch(request: Request, given: Resource) -> Response:
    """The answers, in the order of the entries. Raises FhirError for what is no batch at all."""
    found = given.get("entry", [])
    most = writers(request).entries
    if not isinstance(found, list) or len(found) > most:
        raise FhirError(Issue("too-long", f"entry is a list of at most {most}: send it in parts", "Bundle.entry"))
    id = request_id(request)
    if len(found) > 1 and (charge := request.scope.get(CHARGE)):
        charge(len(found) - 1)
    told = [await _told(request, number, each, id) for number, each in enumerate(found)]
    return answer(bundled.answered("batch-response", told).encode())


async def _told(request: Request, number: int, given: Any, id: str | None) -> Told:
    """What one entry is answered with, refused or not."""
    asked = None
    try:
        asked = read_entry(number, given, base(request))
        if asked.reads:
            return await bundled.read(request, asked)
        return await _written(request, asked, f"{id}#{number}" if id else None)
    except FhirError as error:
        if asked is not None:
            auditor = cast(Auditor, request.app.state.auditor)
            await auditor.record(accessed(request, asked, error.status))
        return bundled.failed(error)


async def _written(request: Request, asked: Entry, id: str | None) -> Told:
    """One entry that writes, with its answer and its audit, in a transaction of its own."""
    permit, here = permitted(request), writers(request)
    permit.require(VERBS[KINDS[asked.method]], asked.kind)
    _alone(asked)
    digest = sha256(encode(_said(asked))).digest() if id else b""
    async with here.transaction() as connection:
        kept = await replay.claimed(connection, permit, id, digest) if id else None
        if kept is not None:
            told, about = cast(Told, orjson.loads(kept.body)), kept.about
        else:
            done = await _done(request, asked, connection)
            about = ((done.type, done.id, done.person),) if done else ()
            told = bundled.responded(done, base(request), preferred(request) or "minimal")
            if id:
                response = orjson.dumps({"response": told["response"]}, option=orjson.OPT_UTC_Z).decode()
                await replay.store(connection, permit, id, digest, Answer(200, {}, response, about=about))
        status = int(told["response"]["status"][:3])
        await audit.append(connection, [audit.row(accessed(request, asked, status, about))])
    return told


async def _done(request: Request, asked: Entry, connection: Connection) -> Written | None:
    permit = permitted(request)
    change = await change_of(connection, permit, asked, bases(request))
    if not isinstance(change, Change):
        return change
    (done,) = await apply(connection, permit, [change], writers(request).now())
    return done


def _alone(asked: Entry) -> None:
    """Raises FhirError(invalid) for a reference to another entry: in a batch there is none to refer to."""
    for path, text in references(asked.given):
        if text.startswith(OWN):
            told = "The entries of a batch do not refer to one another: send a transaction"
            raise FhirError(Issue("invalid", told, f"{asked.place}.resource.{path}"))


def _said(asked: Entry) -> dict[str, Any]:
    conditions = [asked.match, asked.none_match, asked.none_exist]
    return {"entry": [asked.method, "/".join(asked.path), asked.query, asked.given, conditions]}


def accessed(request: Request, asked: Entry, status: int, about: Sequence[About] = ()) -> Access:
    """One entry, as the audit has it."""
    known = asked.kind if asked.kind in HELD else None
    id = asked.id if asked.id and ID.fullmatch(asked.id) else None
    return replace(
        access(request, ROUTE, status, entry(request)),
        interaction=_reading(asked.path) if asked.reads else KINDS[asked.method],
        type=known,
        asked=f"{known}/{id}" if known and id else None,
        seen=[Seen(*each) for each in about],
    )


def _reading(path: Sequence[str]) -> str:
    """FHIR's name of what an entry asks to read. https://hl7.org/fhir/R4/valueset-restful-interaction.html"""
    if any(each.startswith("$") for each in path):
        return "operation"
    if "_history" in path:
        return "vread" if path[-1] != "_history" else HISTORIES.get(len(path), "history-instance")
    return "read" if len(path) > 1 else "search-type"
