"""One entry of a Bundle as a change to be made, once its condition has been looked up."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from fhirgw.access.permit import Permit
from fhirgw.api import conditions
from fhirgw.fhir.entries import Entry
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import resources
from fhirgw.store.database import Connection
from fhirgw.store.writing import Change, NotAllowed, Written

KINDS = {"DELETE": "delete", "POST": "create", "PUT": "update", "PATCH": "patch"}


async def change_of(
    connection: Connection, permit: Permit, asked: Entry, bases: tuple[str, ...]
) -> Change | Written | None:
    """The change; what is there already, for a create that finds it; None where there is nothing to delete.

    What is created has no id yet. `bases` are the gateway's own, its name in links first. Raises FhirError.
    """
    kind, match = KINDS[asked.method], conditions.versions(asked.match)
    if asked.condition is None:
        match = conditions.meant(asked.match, asked.given) if kind == "update" else match
        return Change(kind, asked.kind, asked.id or "", asked.given, match, place=asked.place, bases=bases)
    id = await conditions.found(connection, permit, asked.kind, asked.condition, bases[0])
    if kind == "create" and id is not None:
        return await there(connection, permit, asked.kind, id)
    made = on_condition(kind, asked.kind, id, asked.given, match, asked.place)
    return made and made._replace(bases=bases)


def on_condition(
    kind: str, resource_type: str, id: str | None, given: Any, match: Container[int] | None, place: str = ""
) -> Change | None:
    """The change where a condition found `id` (None: nothing). Raises FhirError: 400, 404, 405."""
    own = given.get("id") if kind == "update" else None
    if id is not None:
        if own not in (None, id):
            raise FhirError(Issue("invalid", f"The id of the {resource_type} is not that of the one that matches"))
        return Change(kind, resource_type, id, given, match, found=True, place=place)
    if kind == "delete":
        return None
    if kind == "patch":
        raise resources.absent(resource_type)
    if own is not None:
        told = f"Nothing matches, and ids are the gateway's to give: leave the id of the {resource_type} out"
        raise NotAllowed(Issue("not-supported", told), status=405)
    return Change("create", resource_type, "", given, place=place)


async def there(connection: Connection, permit: Permit, resource_type: str, id: str) -> Written:
    """What a create found instead. Raises FhirError where the permit may find but not read it."""
    held = await resources.read(connection, permit, resource_type, id)
    return Written("unchanged", resource_type, id, held.version, held.updated, held.person, held.body)
