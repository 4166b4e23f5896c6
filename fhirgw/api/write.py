"""The FHIR interactions that write one resource: create, update, patch, delete, each also on a condition.

https://hl7.org/fhir/R4/http.html#create. Who updates or patches by id says which version they mean (If-Match; of an
update also the body's meta.versionId): 428 without, 412 where it is an older one. Ids are the gateway's to give: PUT
creates nothing (405).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from fhirgw.access.audit_event import Seen
from fhirgw.access.permit import Permit
from fhirgw.api import asked, conditions, received
from fhirgw.api.answer import ID
from fhirgw.api.audit import access, entry
from fhirgw.api.change import on_condition, there
from fhirgw.api.context import base, bases, permitted
from fhirgw.api.together import Together
from fhirgw.api.writers import preferred, request_id, sent, told_of, writers, written
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.store.audit import Row
from fhirgw.store.audit import row as audit_row
from fhirgw.store.database import Connection
from fhirgw.store.replay import Answer
from fhirgw.store.writing import UNIQUE, Change, Written, apply

INSTANCE = "/fhir/{type}/{id}"
TYPE = "/fhir/{type}"
Making = Callable[[Connection, Permit], Awaitable[Change | Written | None]]
"""Makes the change; what is there already instead; or None, where there is nothing to do."""


async def create(request: Request) -> Response:
    """POST [base]/[type], with If-None-Exist on a condition"""
    kind = asked.type_of(request)
    permitted(request).require("c", kind)
    body, resource = await received.resource(request, writers(request).longest)
    _is_a(resource, kind)
    condition, address = request.headers.get("if-none-exist"), base(request)
    plain = condition is None and kind != UNIQUE and request_id(request) is None
    if plain and (done := await _in_company(request, kind, resource)):
        return sent(told_of(done, address, preferred(request) or "representation"))

    async def making(connection: Connection, permit: Permit) -> Change | Written | None:
        if condition is not None:
            criteria = condition.rpartition("?")[2]
            id = await conditions.found(connection, permit, kind, criteria, address)
            if id is not None:
                return await there(connection, permit, kind, id)
        return Change("create", kind, "", resource)

    return await _changed(request, TYPE, "create", body, making)


async def _in_company(request: Request, kind: str, resource: Resource) -> Written | None:
    """What was created together with others'; None where it is to be created alone."""
    noted = entry(request)
    noted.interaction = "create"

    def row(done: Written) -> Row:
        told = replace(access(request, TYPE, 201, noted), seen=[Seen(done.type, done.id, done.person)])
        return audit_row(told)

    together = cast(Together, request.app.state.together)
    change = Change("create", kind, "", resource, bases=bases(request))
    done = await together.create(writers(request), permitted(request), change, row)
    if done is not None:
        noted.durable = True
        noted.saw(done.type, done.id, done.person)
    return done


async def update(request: Request) -> Response:
    """PUT [base]/[type]/[id]"""
    kind, id = asked.type_of(request), request.path_params["id"]
    permitted(request).require("u", kind)
    body, resource = await received.resource(request, writers(request).longest)
    _is_a(resource, kind)
    if resource.get("id") != id:
        raise FhirError(Issue("invalid", f"The id of the {kind} is not that of the address: they must be the same"))
    match = conditions.meant(request.headers.get("if-match"), resource)

    async def making(connection: Connection, permit: Permit) -> Change:
        return Change("update", kind, id, resource, match)

    return await _changed(request, INSTANCE, "update", body, making)


async def patch(request: Request) -> Response:
    """PATCH [base]/[type]/[id]"""
    kind, id = asked.instance(request)
    permitted(request).require("u", kind)
    body, operations = await received.operations(request, writers(request).longest)
    match = conditions.versions(request.headers.get("if-match"))

    async def making(connection: Connection, permit: Permit) -> Change:
        return Change("patch", kind, id, operations, match)

    return await _changed(request, INSTANCE, "patch", body, making)


async def delete(request: Request) -> Response:
    """DELETE [base]/[type]/[id]"""
    kind, id = asked.instance(request)
    permitted(request).require("d", kind)
    match = conditions.versions(request.headers.get("if-match"))

    async def making(connection: Connection, permit: Permit) -> Change:
        return Change("delete", kind, id, None, match)

    return await _changed(request, INSTANCE, "delete", b"", making)


async def conditional_update(request: Request) -> Response:
    """PUT [base]/[type]?criteria: what matches is updated; where nothing does, the resource is created."""
    kind = asked.type_of(request)
    permitted(request).require("u", kind)
    body, resource = await received.resource(request, writers(request).longest)
    _is_a(resource, kind)
    return await _changed(request, TYPE, "update", body, _conditional(request, "update", kind, resource))


async def conditional_patch(request: Request) -> Response:
    """PATCH [base]/[type]?criteria"""
    kind = asked.type_of(request)
    permitted(request).require("u", kind)
    body, operations = await received.operations(request, writers(request).longest)
    return await _changed(request, TYPE, "patch", body, _conditional(request, "patch", kind, operations))


async def conditional_delete(request: Request) -> Response:
    """DELETE [base]/[type]?criteria: one match is deleted; several are not."""
    kind = asked.type_of(request)
    permitted(request).require("d", kind)
    return await _changed(request, TYPE, "delete", b"", _conditional(request, "delete", kind, None))


def _conditional(request: Request, interaction: str, kind: str, given: Any) -> Making:
    criteria, address = request.scope["query_string"].decode("latin-1"), base(request)
    match = conditions.versions(request.headers.get("if-match"))

    async def making(connection: Connection, permit: Permit) -> Change | Written | None:
        id = await conditions.found(connection, permit, kind, criteria, address)
        return on_condition(interaction, kind, id, given, match)

    return making


async def _changed(request: Request, template: str, interaction: str, body: bytes, making: Making) -> Response:
    """The change made, told and answered in one transaction."""
    address, wish = base(request), preferred(request) or "representation"

    async def work(connection: Connection, permit: Permit, moment: datetime) -> Answer:
        made = await making(connection, permit)
        if isinstance(made, Change):
            (made,) = await apply(connection, permit, [made._replace(bases=bases(request))], moment)
        if made is None:
            return Answer(204, {})
        return told_of(made, address, wish)._replace(about=((made.type, made.id, made.person),))

    return await written(request, template, interaction, body, work)


def _is_a(resource: Resource, kind: str) -> None:
    """Raises FhirError(invalid) for a resource of another type, or with an id that cannot be one."""
    if resource.get("resourceType") != kind:
        raise FhirError(Issue("invalid", f"The resource is no {kind}, as the address says: send it to its own type"))
    id = resource.get("id")
    if id is not None and not (isinstance(id, str) and ID.fullmatch(id)):
        raise FhirError(
            Issue("value", "An id has 1 to 64 characters: letters, digits, hyphens, full stops", f"{kind}.id")
        )
