"""Who would ask: the permit that an application or an organisation would be given, to explain what it sees.

Made as those of real requests are (fhirgw.api.authenticate). What only a request can bring (a
break-glass grant, a safeguarding case, who a token is launched for) is looked up, or taken as the best it could be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from fhirgw.access.label import EVERY, SEALED
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import GRANTED, Purpose
from fhirgw.access.scope import Scope
from fhirgw.access.token import readable
from fhirgw.api.authenticate import SECTOR, as_registered
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.break_glass import held_by
from fhirgw.store.database import Connection
from fhirgw.store.explain import case_of
from fhirgw.store.registration import SECTORS, Asker, caller, find

BY_HEADER = {Purpose.EMERGENCY: "break-glass", Purpose.SAFEGUARDING: "safeguarding"}
"""Purposes that a request names by a header, and the role that lets it."""

NEEDS = {
    Purpose.PERSON: ", with the person's id (--patient)",
    **dict.fromkeys((Purpose.PLANNING, Purpose.RESEARCH), ", with the agreement that allows it (--agreement)"),
}
"""What a registration for a purpose names besides."""


@dataclass(frozen=True, slots=True)
class Question:
    """Who would ask, and what for: an `application` by its registration, or an `organisation` by its ODS code.

    Of an organisation, `practitioner` is who of its people asks, and `sector` what consents call it.
    """

    person: str
    application: str | None = None
    organisation: str | None = None
    practitioner: str | None = None
    purpose: str | None = None
    sector: str = SECTORS[0]

    def __post_init__(self) -> None:
        if (self.application is None) == (self.organisation is None):
            raise FhirError(Issue("invalid", "Name either an application or an organisation"))
        if self.purpose is not None and self.purpose not in GRANTED:
            raise FhirError(Issue("invalid", f"The purpose is one of {', '.join(GRANTED)}"))


class Asking(NamedTuple):
    """The permit somebody would ask with, and their roles."""

    permit: Permit
    roles: tuple[str, ...]


async def asked_by(connection: Connection, overseer: Permit, question: Question) -> Asking:
    """What they would ask with; `overseer` sees the person's record.

    Raises FhirError: not-found, or forbidden or login saying why they would get no permit.
    """
    purpose = Purpose(question.purpose) if question.purpose else None
    plain = None if purpose in BY_HEADER else purpose
    asking = _application if question.application is not None else _organisation
    permit, roles = await asking(connection, question, plain)
    if purpose not in BY_HEADER:
        return Asking(permit, roles)
    if BY_HEADER[purpose] not in roles:
        remedy = f"it could if it were registered with the role {BY_HEADER[purpose]}, for a practitioner"
        raise _refusal(f"It may not ask for the purpose {purpose}: {remedy}")
    if purpose == Purpose.SAFEGUARDING:
        case = await _case(connection, overseer, question.person)
        return Asking(replace(permit, purpose=purpose, case=case), roles)
    return Asking(await _emergency(connection, question.person, permit), roles)


async def _emergency(connection: Connection, person: str, permit: Permit) -> Permit:
    """The permit of one who has broken the glass. Raises FhirError(forbidden) where they have not."""
    grant = await _grant(connection, person, permit.practitioner)
    scopes = tuple(each for each in permit.scopes if each.context == "user")
    return replace(
        permit,
        purpose=Purpose.EMERGENCY,
        scopes=scopes,
        patient=person,
        grant=grant,
        delegate=None,
        clearance=EVERY & ~SEALED,
    )


async def _application(
    connection: Connection, question: Question, purpose: Purpose | None
) -> tuple[Permit, tuple[str, ...]]:
    """By its registration. One that serves many people is taken to be launched for this one."""
    found = await find(connection, question.application or "")
    if found is None:
        raise FhirError(Issue("not-found", "There is no such application: `fhirgw app list` shows them"))
    if purpose is not None and purpose not in found.purposes:
        remedy = f"it is registered for {', '.join(found.purposes)}, and could if it were registered for that too"
        raise _refusal(f"{found.id} may not ask for the purpose {purpose}: {remedy}{NEEDS.get(purpose, '')}")
    launched = any(scope.context == "patient" for scope in readable(found.scopes)) or Purpose.PERSON in found.purposes
    patient = question.person if launched and found.patient is None else None
    practitioner = question.practitioner if found.practitioner is None else None
    permit = await as_registered(connection, found, purpose, patient=patient, practitioner=practitioner)
    return permit, found.roles


async def _organisation(
    connection: Connection, question: Question, purpose: Purpose | None
) -> tuple[Permit, tuple[str, ...]]:
    """By its ODS code, as if an application of its own had every scope, and no clearance."""
    known = await caller(connection, Asker(None, None, question.organisation, question.practitioner))
    if question.practitioner and not known.practitioners:
        raise FhirError(Issue("not-found", "There is no such practitioner, or they are no longer active"))
    permit = Permit(
        organisation=question.organisation or "",
        purpose=purpose or Purpose.DIRECT_CARE,
        scopes=(Scope("user" if question.practitioner else "system", "*", "rs"),),
        patient=question.person,
        practitioner=question.practitioner,
        parties=(*known.parties, SECTOR.format(question.sector)),
        agreement="(supposed)",
    )
    return permit, tuple(BY_HEADER.values())


async def _grant(connection: Connection, person: str, practitioner: str | None) -> str:
    found = await held_by(connection, person, practitioner)
    if found is None:
        remedy = "it would see this if a practitioner with the role broke the glass, with a reason"
        raise _refusal(f"There is no break-glass grant in force for this person: {remedy}")
    return found


async def _case(connection: Connection, overseer: Permit, person: str) -> str:
    found = await case_of(connection, overseer, person)
    if found is None:
        raise _refusal("The person has no safeguarding case: nobody sees them for safeguarding")
    return found


def _refusal(diagnostics: str) -> FhirError:
    return FhirError(Issue("forbidden", diagnostics))
