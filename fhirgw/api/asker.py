"""Who would ask: the permit that an application or an organisation would be given, to explain what it sees.

Made as those of real requests are (fhirgw.api.authenticate). What only a request can bring (a
break-glass grant, a safeguarding case, who a token is launched for) is looked up, or taken as the best it could be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import NamedTuple

from fhirgw.access.label import EVERY, SEALED
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import GRANTED, Purpose
from fhirgw.access.scope import Scope
from fhirgw.access.token import readable
from fhirgw.api.authenticate import SECTOR, as_registered
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.nhs import is_ods_code
from fhirgw.store.break_glass import held_by
from fhirgw.store.database import Connection
from fhirgw.store.explain import case_of
from fhirgw.store.registration import SECTORS, Asker, caller, find, listed
from fhirgw.store.sector import supposed

BY_HEADER = {Purpose.EMERGENCY: "break-glass", Purpose.SAFEGUARDING: "safeguarding"}
"""Purposes that a request names by a header, and the role that lets it."""

NEEDS = {
    Purpose.PERSON: ", with the person's id (--patient)",
    **dict.fromkeys((Purpose.PLANNING, Purpose.RESEARCH), ", with the agreement that allows it (--agreement)"),
}
"""What a registration for a purpose names besides."""


@dataclass(frozen=True, slots=True)
class Question:
    """Who would ask, and what for: an `application` by its registration, or an `organisation` by its ODS code; `who` is
    either.

    Of an organisation, `practitioner` is who of its people asks, and `sector` what consents call it, where that is not
    to be supposed (fhirgw.store.sector).
    """

    person: str
    application: str | None = None
    organisation: str | None = None
    practitioner: str | None = None
    purpose: str | None = None
    sector: str | None = None
    who: str | None = None

    def __post_init__(self) -> None:
        if [self.application, self.organisation, self.who].count(None) != 2:
            raise FhirError(Issue("invalid", "Name either an application or an organisation"))
        if self.purpose is not None and self.purpose not in GRANTED:
            raise FhirError(Issue("invalid", f"The purpose is one of {', '.join(GRANTED)}"))
        if self.sector is not None and self.sector not in SECTORS:
            raise FhirError(Issue("invalid", f"The sector is one of {', '.join(SECTORS)}"))
        if self.sector is not None and self.application is not None:
            raise FhirError(Issue("invalid", "An application is of the sector it is registered with: leave it out"))


class Asking(NamedTuple):
    """The permit somebody would ask with, their roles, and what consents call them: why, where it is supposed."""

    permit: Permit
    roles: tuple[str, ...]
    sector: str
    supposed: str = ""


async def asked_by(connection: Connection, overseer: Permit, question: Question) -> Asking:
    """What they would ask with; `overseer` sees the person's record.

    Raises FhirError: not-found, or forbidden or login saying why they would get no permit.
    """
    if question.who is not None:
        question = replace(question, who=None, **await _named(connection, question.who))
    purpose = Purpose(question.purpose) if question.purpose else None
    plain = None if purpose in BY_HEADER else purpose
    asking = _application if question.application is not None else _organisation
    found = await asking(connection, overseer, question, plain)
    permit, roles, *_ = found
    if purpose not in BY_HEADER:
        return found
    if BY_HEADER[purpose] not in roles:
        remedy = f"it could if it were registered with the role {BY_HEADER[purpose]}, for a practitioner"
        raise _refusal(f"It may not ask for the purpose {purpose}: {remedy}")
    if purpose == Purpose.SAFEGUARDING:
        case = await _case(connection, overseer, question.person)
        return found._replace(permit=replace(permit, purpose=purpose, case=case))
    return found._replace(permit=await _emergency(connection, question.person, permit))


async def _named(connection: Connection, who: str) -> dict[str, str]:
    """An application if one has that name. Raises FhirError(not-found)."""
    if await find(connection, who) is not None:
        return {"application": who}
    if is_ods_code(who):
        return {"organisation": who}
    near = get_close_matches(who, [each.id for each in await listed(connection)], 1)
    meant = f": did you mean {near[0]}?" if near else " (`fhirgw app list` shows those)"
    raise FhirError(Issue("not-found", f"This is neither an ODS code nor a registered application{meant}"))


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


async def _application(connection: Connection, overseer: Permit, question: Question, purpose: Purpose | None) -> Asking:
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
    return Asking(permit, found.roles, found.sector)


async def _organisation(
    connection: Connection, overseer: Permit, question: Question, purpose: Purpose | None
) -> Asking:
    """By its ODS code, as if an application of its own had every scope, and no clearance."""
    known = await caller(connection, Asker(None, None, question.organisation, question.practitioner))
    if question.practitioner and not known.practitioners:
        raise FhirError(Issue("not-found", "There is no such practitioner, or they are no longer active"))
    code = question.organisation or ""
    sector, why = question.sector or "", ""
    if not sector:
        sector, why = await supposed(connection, code, known.parties, overseer.organisation)
    permit = Permit(
        organisation=code,
        purpose=purpose or Purpose.DIRECT_CARE,
        scopes=(Scope("user" if question.practitioner else "system", "*", "rs"),),
        patient=question.person,
        practitioner=question.practitioner,
        parties=(*known.parties, SECTOR.format(sector)),
        agreement="(supposed)",
    )
    return Asking(permit, tuple(BY_HEADER.values()), sector, why)


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
