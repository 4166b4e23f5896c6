"""What a write is conditional upon: versions that If-Match names, and what a search finds.

The search is the caller's own: it finds what they may see. Those who write on the same condition at the same time take
turns, so that of two creates one finds what the other made. https://hl7.org/fhir/R4/http.html#ccreate
"""

from __future__ import annotations

import re
from dataclasses import replace

from fhirgw.access.permit import Permit
from fhirgw.api import asked
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.query import Query
from fhirgw.store import search, write
from fhirgw.store.database import Connection

TAG = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"')


def versions(header: str | None) -> frozenset[int] | None:
    """The versions an If-Match allows; None without one, and none for `*` or what is no version of ours."""
    if header is None:
        return None
    found = (TAG.fullmatch(each.strip()) for each in header.split(","))
    return frozenset(int(each[1]) for each in found if each)


async def found(connection: Connection, permit: Permit, resource_type: str, criteria: str, base: str) -> str | None:
    """The id of the one resource that matches; None for none. Raises FhirError: 400, 403, 412 where several do."""
    permit.require("s", resource_type)
    query = Query.parse(resource_type, asked.decoded(criteria), False, base)
    if not query.criteria:
        raise FhirError(Issue("invalid", "A condition names what to look for: identifier=system|value, say"))
    await write.alone(connection, f"{resource_type}?{'&'.join(sorted(f'{n}={v}' for n, v in query.applied))}")
    page = await search.search(connection, permit, replace(query, count=2, total="none", include=(), revinclude=()))
    if len(page.matches) > 1:
        told = f"Several {resource_type} resources match the condition: name one by its identifier"
        raise FhirError(Issue("processing", told), status=412)
    return page.matches[0].id if page.matches else None
