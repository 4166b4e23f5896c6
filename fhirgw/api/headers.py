"""The headers that the NHS sends along with a request, and those it is answered with.

`X-Request-ID` and `X-Correlation-ID` come back as they were sent; a request id that is a UUID is also the one the
audit has, any other stays out of it, for anything may be written there. `NHSD-End-User-Organisation-ODS` says whose
staff will read the answer, for an application that serves several organisations: it goes into the audit and empowers
nobody.
https://digital.nhs.uk/developer/api-catalogue/personal-demographics-service-fhir
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from fhirgw.api.audit import entry
from fhirgw.fhir.issue import FhirError, Issue

REQUEST_ID = "x-request-id"
CORRELATION_ID = "x-correlation-id"
END_USER = "nhsd-end-user-organisation-ods"
TOLD = (b"x-request-id", b"x-correlation-id", b"nhsd-end-user-organisation-ods")

FOUND = "fhirgw.found"
"""Where in a request's scope its headers are by name."""

TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+=-]{0,127}")
UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
ODS = re.compile(r"[A-Za-z0-9]{3,10}")


def header(request: Request, name: bytes) -> str | None:
    """The header of that name, in small letters; the first of several. They are looked through once a request."""
    found = request.scope.get(FOUND)
    if found is None:
        found = request.scope[FOUND] = dict(reversed(request.scope["headers"]))
    value = found.get(name)
    return None if value is None else value.decode("latin-1")


def put(response: Response, told: Mapping[str, str]) -> None:
    """Puts headers on a response, over those that it has."""
    have = {name for name, _ in response.raw_headers}
    for name, value in told.items():
        if (coded := name.encode()) in have:
            response.headers[name] = value
        else:
            response.raw_headers.append((coded, value.encode("latin-1")))


def sent(request: Request) -> dict[str, str]:
    """Those of the headers that the request has, by name."""
    return {name.decode(): value for name in TOLD if (value := header(request, name)) is not None}


def mirrored(given: dict[str, str]) -> dict[str, str]:
    """What goes back as it came: nothing that could not stand in a header."""
    return {name: given[name] for name in (REQUEST_ID, CORRELATION_ID) if TOKEN.fullmatch(given.get(name, ""))}


def noted(request: Request, given: dict[str, str]) -> None:
    """Notes them for the audit. Raises FhirError(invalid) for one that is malformed."""
    for name in (REQUEST_ID, CORRELATION_ID):
        if name in given and not TOKEN.fullmatch(given[name]):
            raise FhirError(Issue("invalid", f"{name} is malformed: send a UUID, or a word of at most 128 characters"))
    if UUID.fullmatch(given.get(REQUEST_ID, "")):
        entry(request).request = given[REQUEST_ID]
    if END_USER in given:
        if not ODS.fullmatch(given[END_USER]):
            raise FhirError(Issue("invalid", f"{END_USER} is malformed: it is an ODS code, as RRE"))
        entry(request).behalf = given[END_USER].upper()
