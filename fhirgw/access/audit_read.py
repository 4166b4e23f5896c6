"""The AuditEvents of the commonest accesses, a resource read and what a search found, without making their like anew.

What differs from one such access to the next of the same application are a moment and ids: the rest of the JSON is made
once, by `event`, and taken apart where they stand. What was found follows at the end, by person.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from fhirgw.access.audit_event import PERSON, Access, Seen, event, instant
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

IN_RECORD = f'"}},{encode(PERSON).decode()[1:-1]}'
"""What follows a person's id in the entity of their record."""

END = "}]}"
"""The end of an AuditEvent that is of a request alone: of its one entity, of all entities, and of itself."""


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
    return _usual(access) and not access.parameters and access.type == access.seen[0].type


def _usual(access: Access) -> bool:
    """Whether nothing is to be told but the request, who sent it, and what was in the answer."""
    more = (access.operation, access.types, access.behalf, access.application, access.tried)
    return access.permitted and not access.everybody and access.times == 1 and not any(more)


def of_found(access: Access, id: str) -> Written | None:
    """The AuditEvent of a permitted access that no one resource was named for, as a search; None for any other."""
    if access.permit is None or access.asked is not None or not _usual(access):
        return None
    held: dict[str | None, dict[str, list[str]]] = {}
    for kind, resource, person in access.seen:
        held.setdefault(person, {}).setdefault(kind, []).append(resource)
    nobodys = held.pop(None, None)
    if "" in held or not _plain("".join([each.id for each in access.seen]) + "".join(map(str, held))):
        return None
    parts = _request(access.interaction, access.route, access.type, tuple(access.parameters), access.permit)
    ids = {"event": id, "request": access.request, "moment": instant(access.moment)}
    body = [ids[each] if at % 2 else each for at, each in enumerate(parts.pieces)]
    body += [_details(nobodys) if nobodys else "", "}"]
    persons = tuple(map(str, held))
    for person in persons:
        body += (',{"what":{"reference":"Patient/', person, IN_RECORD, _details(held[person]), "}")
    body.append("]}")
    return Written("".join(body), parts.facets._replace(recorded=access.moment, persons=persons))


def _plain(text: str) -> bool:
    """Whether JSON spells the text as it is: ids are of such characters, and nothing here relies on it."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _details(types: dict[str, list[str]]) -> str:
    """The ids by type."""
    held = '"},{"type":"'.join([f'{kind}","valueString":"{" ".join(ids)}' for kind, ids in types.items()])
    return f',"detail":[{{"type":"{held}"}}]'


@lru_cache(maxsize=4096)
def _parts(interaction: str, route: str, kind: str, permit: Permit) -> _Parts:
    resource = "!resource!"
    person = resource if kind == "Patient" else "!person!"
    seen = Seen(kind, resource, person)
    asked = f"{kind}/{resource}"
    access = Access(interaction, route, MOMENT, "!request!", type=kind, asked=asked, seen=(seen,), permit=permit)
    return _apart(access, "")


@lru_cache(maxsize=4096)
def _request(interaction: str, route: str, kind: str | None, parameters: tuple[str, ...], permit: Permit) -> _Parts:
    """All but what was found, up to where that goes on."""
    request = Access(interaction, route, MOMENT, "!request!", type=kind, parameters=parameters, permit=permit)
    return _apart(request, END)


def _apart(access: Access, end: str) -> _Parts:
    """Its AuditEvent without the end, taken apart."""
    made = event(access, "!event!")
    marked = re.split(f"({'|'.join(map(re.escape, MARKS))})", encode(made).decode().removesuffix(end))
    return _Parts(tuple(MARKS[each] if at % 2 else each for at, each in enumerate(marked)), facets(made))
