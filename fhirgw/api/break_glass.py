"""`Patient/$break-glass`: a practitioner says why they must see one person's record now, and may for half an hour.

Whoever runs the gateway is told at once, and the grant waits for a review. What is then asked with the header
`X-Break-Glass: <grant>` is asked in an emergency: one person's record, and never an export.
"""

from __future__ import annotations

from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.api.answer import ID, answer, interactions
from fhirgw.api.audit import entry
from fhirgw.api.authenticate import ROLES, Refusal, unmet
from fhirgw.api.context import permitted
from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import break_glass
from fhirgw.store.break_glass import Grant
from fhirgw.store.resources import absent

ROLE = "break-glass"
LONGEST_BODY = 16 * 1024
RETRY_AFTER = "300"
"""Seconds after which one who has too many grants may ask again: some of them may have ended."""

JSON = ("application/fhir+json", "application/json", "text/json")

BANNER = (
    "EMERGENCY ACCESS (break-glass): you see this record for the reason you wrote. Each access is recorded and will be"
    " reviewed; the person may be told. Sealed information is still withheld."
)
USE = "Send the grant along in the header X-Break-Glass, with requests for this person's record"
SHOWN = 8
"""Characters of a grant that the alert tells."""

BANNER_HEADER = "x-break-glass-banner"
"""The header every answer carries that an emergency permit got."""

log = structlog.get_logger("fhirgw.break_glass")


def routes() -> list[Route]:
    """To be put before those of types and instances."""
    return [interactions("/fhir/Patient/{id:name}/$break-glass", POST=break_the_glass)]


async def break_the_glass(request: Request) -> Response:
    """POST [base]/Patient/[id]/$break-glass, with Parameters: reason"""
    permit = _may(request)
    person: str = request.path_params["id"]
    if not ID.fullmatch(person):
        raise absent("Patient")
    why = break_glass.reason(_reason(decode(await _body(request))))
    async with request.app.state.smart.connect() as connection:
        try:
            made = await break_glass.grant(connection, permit, person, why, _alert)
        except FhirError as error:
            raise Refusal(error.issues[0], {"retry-after": RETRY_AFTER}) from None
    entry(request).saw("Patient", person, person)
    return answer(encode(_told(made)), headers={BANNER_HEADER: BANNER, "cache-control": "no-store"})


def banner(permit: Permit) -> dict[str, str]:
    """The headers that an answer for this permit carries; none but in an emergency."""
    return {BANNER_HEADER: BANNER} if permit.purpose == Purpose.EMERGENCY else {}


def notes(permit: Permit) -> list[Issue]:
    """What a searchset tells besides, for this permit."""
    return [Issue("security", BANNER, severity="warning")] if permit.purpose == Purpose.EMERGENCY else []


def _may(request: Request) -> Permit:
    """The permit of a practitioner who may break the glass. Raises FhirError(forbidden) by the token alone."""
    permit = permitted(request)
    in_person = permit.practitioner and any(scope.context == "user" for scope in permit.scopes)
    if lacking := unmet(ROLE in request.scope.get(ROLES, ()), bool(in_person)):
        raise FhirError(Issue("forbidden", lacking))
    if permit.purpose != Purpose.DIRECT_CARE:
        raise FhirError(Issue("forbidden", "Break-glass is asked for by those who give direct care"))
    return permit


def _reason(body: dict[str, Any]) -> Any:
    """The reason of the Parameters. Raises FhirError(invalid) for anything else in them."""
    given = body.get("parameter")
    if body.get("resourceType") == "Parameters" and isinstance(given, list) and len(given) == 1:
        (only,) = given
        if isinstance(only, dict) and only.get("name") == "reason":
            return only.get("valueString")
    raise FhirError(Issue("invalid", "Send Parameters with one parameter: reason, a valueString", "Parameters"))


async def _body(request: Request) -> bytes:
    """The body. Raises FhirError for one that is not JSON, and while it arrives for one that is too long."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in JSON:
        raise FhirError(Issue("not-supported", f"Send the body as {JSON[0]}"), status=415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise FhirError(Issue("too-long", f"A reason has at most {LONGEST_BODY} bytes"))
    return bytes(body)


def _alert(made: Grant) -> None:
    """The person, and what was written about them, stay out of the log: the review queue shows them.

    Of the grant only what it can be found by there: whoever has the whole of it could try to use it.
    """
    log.warning("break-glass", organisation=made.organisation, practitioner=made.practitioner, grant=made.id[:SHOWN])


def _told(made: Grant) -> dict[str, Any]:
    expires = made.expires.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "grant", "valueId": made.id},
            {"name": "expires", "valueInstant": expires},
            {"name": "use", "valueString": USE},
            {"name": "banner", "valueString": BANNER},
        ],
    }
