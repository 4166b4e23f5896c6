"""The one answer to who is asking and what they may do: asked once per request, used by every path that reads."""

from __future__ import annotations

from dataclasses import dataclass

from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError, Issue

WORDS = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}


@dataclass(frozen=True, slots=True)
class Permit:
    """Who asks (`organisation`, an ODS code), what for, and with which scopes; `patient` is the launch context.

    A scope that names a patient or practitioner needs one: the condition `patient = null` would become
    `patient IS NULL` and show everything that is nobody's. Such a permit raises FhirError when it is built.
    """

    organisation: str
    purpose: str
    scopes: tuple[Scope, ...]
    patient: str | None = None
    practitioner: str | None = None

    def __post_init__(self) -> None:
        contexts = {scope.context for scope in self.scopes}
        if not self.organisation or not self.purpose:
            raise FhirError(Issue("forbidden", "A permit names the organisation that asks and its purpose of use"))
        if "patient" in contexts and not self.patient:
            raise FhirError(Issue("forbidden", "A patient scope needs the patient it was launched for"))
        if "user" in contexts and not self.practitioner:
            raise FhirError(Issue("forbidden", "A user scope needs the practitioner who is using it"))

    def covering(self, verb: str, resource_type: str) -> tuple[Scope, ...]:
        """The scopes that allow the verb on the type; none is an answer here."""
        return tuple(scope for scope in self.scopes if scope.covers(verb, resource_type))

    def require(self, verb: str, resource_type: str) -> tuple[Scope, ...]:
        """The scopes that allow the verb (a letter of `cruds`) on the type. Raises FhirError(forbidden), a 403."""
        if scopes := self.covering(verb, resource_type):
            return scopes
        raise FhirError(Issue("forbidden", f"No scope of this token allows {WORDS[verb]} on {resource_type}"))
