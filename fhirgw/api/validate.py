"""`$validate`: what is wrong with a resource, as an OperationOutcome; 200 whether or not anything is.

https://hl7.org/fhir/R4/resource-operation-validate.html
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.doubt import doubts
from fhirgw.api import asked
from fhirgw.api.answer import answer, interactions
from fhirgw.api.audit import entry
from fhirgw.api.context import context, permitted
from fhirgw.api.parameters import Parameters, addressed, parameters
from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.elements import is_resource
from fhirgw.fhir.issue import FhirError, Issue, Resource, outcome
from fhirgw.store import resources
from fhirgw.validation import validate

NAMES = ("mode", "profile")
MODES = ("create", "update", "delete", "profile")
SOUND = Issue("informational", "Nothing wrong was found", severity="information")
DELETABLE = Issue("informational", "This may be asked to be deleted", severity="information")


async def of_type(request: Request) -> Response:
    """POST [base]/[type]/$validate, of any type of R4: a resource, or Parameters with resource, mode and profile"""
    resource_type: str = request.path_params["type"]
    if not is_resource(resource_type):
        raise asked.not_held(resource_type)
    return _judged(resource_type, None, await parameters(request, NAMES))


async def of_instance(request: Request) -> Response:
    """POST [base]/[type]/[id]/$validate: whether the resource could replace this one, or be deleted"""
    resource_type, id = asked.instance(request)
    sent = await parameters(request, NAMES)
    if sent.resource is None:
        sent.resource = await _stored(request, resource_type, id)
    if _mode(sent) == "delete":
        permitted(request).require("d", resource_type)
        await _stored(request, resource_type, id)
        return answer(encode(outcome([DELETABLE])))
    return _judged(resource_type, id, sent)


async def of_stored(request: Request) -> Response:
    """GET [base]/[type]/[id]/$validate?profile=: what is stored"""
    resource_type, id = asked.instance(request)
    sent = addressed(request, ("profile",))
    sent.resource = await _stored(request, resource_type, id)
    return _judged(resource_type, id, sent)


def routes() -> list[Route]:
    """To be put before those of types and instances."""
    return [
        interactions("/fhir/{type}/$validate", POST=of_type),
        interactions("/fhir/{type:name}/{id:name}/$validate", GET=of_stored, POST=of_instance),
    ]


async def _stored(request: Request, resource_type: str, id: str) -> Resource:
    permit = permitted(request)
    async with context(request).reader(permit) as connection:
        found = await resources.read(connection, permit, resource_type, id)
    entry(request).saw(resource_type, id, found.person)
    return decode(found.body)


def _judged(resource_type: str, id: str | None, sent: Parameters) -> Response:
    """The outcome. Raises FhirError(invalid) where nothing was sent, or a mode there is none of."""
    if sent.resource is None:
        raise FhirError(Issue("required", "Send the resource to validate: by itself, or as the parameter resource"))
    mode = _mode(sent)
    found = [*_fits(resource_type, id, mode, sent.resource), *_validated(resource_type, sent)]
    return answer(encode(outcome(found or [SOUND])))


def _validated(resource_type: str, sent: Parameters) -> list[Issue]:
    if sent.resource is None or sent.resource.get("resourceType") != resource_type:
        return []
    found = validate(sent.resource, [_url(each) for each in sent.given.get("profile", ())])
    return [*found, *doubts(sent.resource)]


def _fits(resource_type: str, id: str | None, mode: str | None, sent: Resource) -> list[Issue]:
    """What is wrong about the resource at this address, whatever is in it."""
    if sent.get("resourceType") != resource_type:
        return [Issue("invalid", f"This address takes resources of the type {resource_type}", "resourceType")]
    if mode == "update" and id is not None and sent.get("id") != id:
        return [Issue("invalid", "An update has the id of its address", f"{resource_type}.id")]
    return []


def _mode(sent: Parameters) -> str | None:
    mode: Any = sent.one("mode")
    if mode is None or mode in MODES:
        return mode and str(mode)
    raise FhirError(Issue("invalid", f"mode is one of {', '.join(MODES)}"))


def _url(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise FhirError(Issue("invalid", "profile is the canonical url of a profile"))
