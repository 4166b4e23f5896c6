"""The AuditEvent of the commonest access, one resource read, without making its like anew each time.

What differs from one such access to the next of the same application are a moment and a few ids: the rest of its JSON
is made once, by `event`, and taken apart where they stand.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from fhirgw.access.audit_event import Access, Seen, event, instant
from fhirgw.access.audit_facets import Facets, facets
from fhirgw.access.permit import Permit
from fhirgw.fhir.canonical import encode

MOMENT = datetime(1815, 12, 10, 1, 2, 3, 456789, UTC)
MARKS = {
    "!event!": "event",
    "!request!": "request",
    "!resource!": "resource",
    "!person!": "person",
    instant(MOMENT): "moment",
}
"""What stands for each of those that differ: nothing that could be an id, a code or an address."""


class Written(NamedTuple):
    """The AuditEvent's JSON, and what it is found by."""

    body: str
    facets: Facets


class _Parts(NamedTuple):
    """The JSON as texts between names of what differs, beginning and ending with a text."""

    pieces: tuple[str, ...]
    facets: Facets


def of_read(access: Access, id: str) -> Written | None:
    """The AuditEvent of a permitted read of somebody's resource, under its id; None for any other access."""
    if access.permit is None or len(access.seen) != 1 or not _alone(access):
        return None
    kind, resource, person = access.seen[0]
    if person is None or (kind == "Patient") != (resource == person) or access.asked != f"{kind}/{resource}":
        return None
    parts = _parts(access.interaction, access.route, kind, access.permit)
    ids = {"event": id, "request": access.request, "resource": resource, "person": person}
    ids["moment"] = instant(access.moment)
    body = "".join([ids[each] if at % 2 else each for at, each in enumerate(parts.pieces)])
    return Written(body, parts.facets._replace(recorded=access.moment, persons=(person,)))


def _alone(access: Access) -> bool:
    """Whether there is no more to tell of it than what was read."""
    more = (access.operation, access.parameters, access.types, access.behalf, access.application, access.tried)
    as_usual = access.permitted and not access.everybody and access.times == 1 and access.type == access.seen[0].type
    return as_usual and not any(more)


@lru_cache(maxsize=4096)
def _parts(interaction: str, route: str, kind: str, permit: Permit) -> _Parts:
    resource = "!resource!"
    person = resource if kind == "Patient" else "!person!"
    seen = Seen(kind, resource, person)
    asked = f"{kind}/{resource}"
    access = Access(interaction, route, MOMENT, "!request!", type=kind, asked=asked, seen=(seen,), permit=permit)
    made = event(access, "!event!")
    marked = re.split(f"({'|'.join(map(re.escape, MARKS))})", encode(made).decode())
    return _Parts(tuple(MARKS[each] if at % 2 else each for at, each in enumerate(marked)), facets(made))
