"""The one answer to who is asking and what they may do: asked once per request, used by every path that reads."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from fhirgw.access.purpose import BOUND, Purpose
from fhirgw.access.scope import Scope, told
from fhirgw.fhir.issue import FhirError, Issue

OPERATOR = "operator"
"""Whoever runs the gateway, in the place of a registration."""

GATEWAY = "gateway"
"""The gateway itself, in the place of a registration."""

OWN = (OPERATOR, GATEWAY)
"""Names that no application has: it would pass for these in the audit."""

COUNCIL = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing|council"
"""The party that every application of a council is."""

PSEUDONYMS = "This application's agreement is for pseudonymised data alone: ask $export for it, with _pseudonymise"
WORDS = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}


class Asking(NamedTuple):
    """Who asks and is refused before there is a Permit, for the audit: it allows nothing.

    Its elements are those of a Permit, as far as they are known (empty: not), by a token that its issuer has signed.
    """

    registration: str
    organisation: str = ""
    purpose: str = ""
    practitioner: str | None = None
    patient: str | None = None
    delegate: str | None = None


class _Hashed:
    """A hash made once: whatever is kept by permit, as a row of the audit, asks for it at every request."""

    __slots__ = ("_hash",)
    _hash: int


@dataclass(frozen=True, slots=True)
class Permit(_Hashed):
    """Who asks, what for, and with which scopes.

    `organisation` is an ODS code; `patient` the id of the Patient whose record the permit is bound to; `practitioner`
    the id of the Practitioner who asks. `parties` are the references and identifiers (`Organization/…`,
    `Practitioner/…`, `system|value`) by which records name whoever asks: relationships and consents are matched with
    them. `clearance` is the set of classes (fhirgw.access.label) it may see. `delegate` is the party who looks for the
    person; `grant` the id of a break-glass; `case` the id of a safeguarding Flag; `agreement` what allows planning or
    research. `pseudonymous` are the scopes of one whose agreement is of pseudonymised data alone: `scopes` is empty
    then, so that nothing is shown to it, but in an export with pseudonyms. `registration` names the application;
    `controls` is true for the council whose gateway this is, `shares` for another that controls records here: queries
    of the others need not ask what is their own. `moment` is when to judge at, None for the time of the statement.

    A scope that names a patient or practitioner needs one: the condition `patient = null` would become
    `patient IS NULL` and show everything that is nobody's. Such a permit raises FhirError when it is built.
    """

    organisation: str
    purpose: str
    scopes: tuple[Scope, ...]
    patient: str | None = None
    practitioner: str | None = None
    parties: tuple[str, ...] = ()
    clearance: int = 0
    delegate: str | None = None
    grant: str | None = None
    case: str | None = None
    agreement: str | None = None
    pseudonymous: tuple[Scope, ...] = ()
    registration: str = ""
    controls: bool = True
    shares: bool = False
    moment: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(tuple(getattr(self, each.name) for each in fields(self))))
        contexts = {scope.context for scope in self.scopes}
        if not self.organisation or self.purpose not in {each.value for each in Purpose}:
            raise _refusal("A permit names the organisation that asks and its purpose of use")
        if "patient" in contexts and not self.patient:
            raise _refusal("A patient scope needs the patient it was launched for")
        if "user" in contexts and not self.practitioner:
            raise _refusal("A user scope needs the practitioner who is using it")
        if self.delegate and self.purpose != Purpose.PERSON:
            raise _refusal("A delegate asks for the person they act for, and for no other purpose")
        for element in BOUND[Purpose(self.purpose)]:
            if not getattr(self, element):
                raise _refusal(f"The purpose {self.purpose} needs {'an' if element[0] in 'aeiou' else 'a'} {element}")

    def __hash__(self) -> int:
        return self._hash

    @property
    def themselves(self) -> bool:
        """Whether it is the person who asks, and nobody for them."""
        return self.purpose == Purpose.PERSON and self.delegate is None

    @property
    def in_person(self) -> bool:
        """Whether somebody asks whom the token names, and not an application by itself: whatever the scopes' context.

        Which scopes a token has its application chooses, so that they do not say who asks.
        """
        return self.practitioner is not None or any(scope.context == "user" for scope in self.scopes)

    @property
    def keeps(self) -> bool:
        """Whether a council cares for people by its own records, if it controls any.

        A dissent that names nobody is from sharing them, and not about who keeps them.
        """
        return self.purpose == Purpose.DIRECT_CARE and self.controls and COUNCIL in self.parties

    @property
    def owns(self) -> bool:
        """Whether its organisation may control records here."""
        return self.controls or self.shares

    @property
    def broad(self) -> bool:
        """Whether it may be all of a controller's people that it shows, and not few of them."""
        shared = self.purpose in (Purpose.DIRECT_CARE, Purpose.PLANNING, Purpose.RESEARCH)
        return shared and self.owns and not self.in_person

    def covering(self, verb: str, resource_type: str) -> tuple[Scope, ...]:
        """The scopes that allow the verb on the type; none is an answer here."""
        return _covering(self, verb, resource_type)

    def require(self, verb: str, resource_type: str) -> tuple[Scope, ...]:
        """The scopes that allow the verb (a letter of `cruds`) on the type. Raises FhirError(forbidden), a 403."""
        if scopes := self.covering(verb, resource_type):
            return scopes
        if self.pseudonymous and not self.scopes:
            raise _refusal(PSEUDONYMS)
        needed = f"{self.scopes[0].context if self.scopes else 'system'}/{resource_type}.{verb}"
        why = f"it has {told(self.scopes)}; get one with {needed}, if the application is registered for that"
        raise _refusal(f"No scope of this token allows {WORDS[verb]} on {resource_type}: {why}")

    def among(self, controller: str, others: Collection[str]) -> Permit:
        """The permit in the gateway of the council `controller`, where `others` control records too."""
        if self.organisation == controller:
            return self
        return replace(self, controls=False, shares=self.organisation in others)

    def exporting(self, project: str | None) -> Permit:
        """The permit an export is made with, or asked about: one for pseudonyms alone has its scopes for a project's.

        Raises FhirError(forbidden) where it asks for records as they are.
        """
        if self.pseudonymous and project is None:
            raise _refusal(PSEUDONYMS)
        return replace(self, scopes=self.pseudonymous) if self.pseudonymous else self


@lru_cache(maxsize=4096)
def _covering(permit: Permit, verb: str, resource_type: str) -> tuple[Scope, ...]:
    return tuple(scope for scope in permit.scopes if scope.covers(verb, resource_type))


def operations(controller: str) -> Permit:
    """The permit of whoever runs the gateway, on its own machine: all of the controller's records, to read.

    For the command line and the composition root alone: no token has it.
    """
    return Permit(controller, Purpose.OPERATIONS, (Scope.parse("system/*.rs"),), registration=OPERATOR)


def directory(controller: str) -> Permit:
    """The gateway's own permit to look up who organisations and practitioners are."""
    scopes = tuple(Scope.parse(f"system/{each}.rs") for each in ("Organization", "Practitioner", "PractitionerRole"))
    return Permit(controller, Purpose.OPERATIONS, scopes, registration=GATEWAY)


def _refusal(diagnostics: str) -> FhirError:
    return FhirError(Issue("forbidden", diagnostics))
