"""`Patient/$summary`: what matters most of a person's record, as one document that stands by itself.

It is made of what `$everything` would answer the caller, by the same condition.
https://hl7.org/fhir/uv/ips/STU1.1/OperationDefinition-summary.html
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.api import asked
from fhirgw.api.answer import answer, interactions
from fhirgw.api.audit import entry
from fhirgw.api.context import base, context, permitted
from fhirgw.api.parameters import addressed, posted
from fhirgw.fhir.canonical import decode
from fhirgw.fhir.ips import TYPES, document
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.everything import SHARED, Asked, everything
from fhirgw.store.include import Found

PAGES = 5
"""Pages of a record that are read for a summary of it."""


async def summary(request: Request) -> Response:
    """GET [base]/Patient/[id]/$summary"""
    _, id = asked.instance(request, "Patient")
    addressed(request, ())
    known = {f"{each.type}/{each.id}": each for each in await _held(request, id)}
    patient = known.pop(f"Patient/{id}")
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    read = [(name, decode(each.body)) for name, each in known.items()]
    address = base(request)
    bundle, following = document((f"Patient/{id}", decode(patient.body)), read, f"{address}/", moment)
    stored = [{f"Patient/{id}": patient, **known}[each] for each in following]
    entry(request).saw_all((each.type, each.id, each.person) for each in stored)
    for each in stored:
        body = orjson.Fragment(each.body)
        bundle["entry"].append({"fullUrl": f"{address}/{each.type}/{each.id}", "resource": body})
    return answer(orjson.dumps(bundle))


def routes() -> list[Route]:
    """To be put before those of types and instances."""
    return [interactions("/fhir/Patient/{id:name}/$summary", GET=summary, POST=posted(summary))]


async def _held(request: Request, id: str) -> list[Found]:
    """What the caller may see of the record, of the types a summary has. Raises FhirError (404, 410, too-costly)."""
    permit, found = permitted(request), list[Found]()
    wanted = Asked(id, types=tuple(sorted({*TYPES, *SHARED})))
    async with context(request).reader(permit) as connection:  # one person's: one plan for all
        page, cursor = await everything(connection, permit, wanted)
        found += page
        for _ in range(PAGES):
            if cursor is None:
                return found
            page, cursor = await everything(connection, permit, Asked(id, types=wanted.types, cursor=cursor))
            found += page
    raise FhirError(Issue("too-costly", "This record is too long to be summed up here: ask for $everything"))
