"""What a write is conditional upon: versions that If-Match names, and what a search finds.

The search is the caller's own: it finds what they may see. Those who write on the same condition at the same time take
turns, so that of two creates one finds what the other made. https://hl7.org/fhir/R4/http.html#ccreate
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import replace

from fhirgw.access.permit import Permit
from fhirgw.api import asked
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.query import Query
from fhirgw.store import search, write
from fhirgw.store.database import Connection

TAG = re.compile(r'(?:W/)?"([!#-~]*)"')
VERSION = re.compile(r"[1-9][0-9]{0,8}")
ANY = range(1, 2**31)


def versions(header: str | None) -> Container[int] | None:
    """The versions an If-Match allows: of `*` any, of what is no version of ours none; None without one.

    Raises FhirError(invalid) for what is no entity tag. https://www.rfc-editor.org/rfc/rfc9110#section-13.1.1
    """
    if header is None:
        return None
    if header.strip() == "*":
        return ANY
    tags = [TAG.fullmatch(each.strip()) for each in header.split(",")]
    if not all(tags):
        raise FhirError(Issue("invalid", 'If-Match is malformed: write W/"1", with the number of the version, or *'))
    return frozenset(int(each[1]) for each in tags if each and VERSION.fullmatch(each[1]))


def meant(header: str | None, resource: Resource) -> Container[int] | None:
    """The versions an update is meant for: what If-Match says, else the version that its body was read as."""
    if header is not None:
        return versions(header)
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return frozenset([int(version)]) if isinstance(version, str) and VERSION.fullmatch(version) else None


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
