"""The headers that the NHS sends along with a request, and those it is answered with.

`X-Request-ID` and `X-Correlation-ID` come back as they were sent; a request id that is a UUID is also the one the
audit has, any other stays out of it, for anything may be written there. `NHSD-End-User-Organisation-ODS` says whose
staff will read the answer, for an application that serves several organisations: it goes into the audit and empowers
nobody.
https://digital.nhs.uk/developer/api-catalogue/personal-demographics-service-fhir
"""

from __future__ import annotations

import re

from starlette.requests import Request

from fhirgw.api.audit import entry
from fhirgw.fhir.issue import FhirError, Issue

REQUEST_ID = "x-request-id"
CORRELATION_ID = "x-correlation-id"
END_USER = "nhsd-end-user-organisation-ods"
TOLD = (b"x-request-id", b"x-correlation-id", b"nhsd-end-user-organisation-ods")

TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+=-]{0,127}")
UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
ODS = re.compile(r"[A-Za-z0-9]{3,10}")


def sent(request: Request) -> dict[str, str]:
    """Those of the headers that the request has, by name."""
    return {name.decode(): value.decode("latin-1") for name, value in request.scope["headers"] if name in TOLD}


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
