"""Who may ask what explains a decision, or who looked: auditors of the organisation that runs the gateway.

An auditor's token names `system/AuditEvent.r`, and so does the application's registration: a wildcard is no role. That
is decided by the token alone, so whoever is refused is told why.
"""

from __future__ import annotations

from starlette.requests import Request

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError, Issue


def auditing(request: Request, permit: Permit, verb: str = "r") -> tuple[Scope, ...]:
    """The scopes that make the caller an auditor. Raises FhirError(forbidden) for whoever is none."""
    scopes = permit.require(verb, "AuditEvent")
    exactly = tuple(each for each in scopes if each.context == "system" and each.type == "AuditEvent")
    if not exactly:
        told = f"This is for auditors: an application registered for system/AuditEvent.{verb}, by name and not by *"
        raise FhirError(Issue("forbidden", told))
    if permit.organisation != request.app.state.controller:
        raise FhirError(Issue("forbidden", "This is for auditors of the organisation that runs the gateway"))
    return exactly


def throughout(scopes: tuple[Scope, ...]) -> None:
    """Raises FhirError(forbidden) where the scopes show but a part of the audit, which no operation keeps to."""
    if all(scope.constraint for scope in scopes):
        told = "The scopes of this token show a part of the audit: this needs AuditEvent.r without a constraint"
        raise FhirError(Issue("forbidden", told))


def themselves(permit: Permit) -> str | None:
    """The id of the person who asks about their own record; None where it is nobody's own.

    Raises FhirError(forbidden) for a delegate: who may act for somebody is not always who should know whom they have
    turned to.
    """
    if permit.purpose != Purpose.PERSON:
        return None
    permit.require("r", "AuditEvent")
    if permit.delegate is not None:
        raise FhirError(Issue("forbidden", "Who looked at a record is told to the person alone, to nobody for them"))
    return permit.patient
