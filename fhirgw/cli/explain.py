"""The command that explains a decision: what somebody may see of a person, by which rule, what would change it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Annotated, Any, NamedTuple

import typer

from fhirgw.access.facts import SECTORS as CALLED
from fhirgw.access.facts import Reason
from fhirgw.access.permit import Permit, operations
from fhirgw.access.purpose import GRANTED, Purpose
from fhirgw.access.who_looked import WHY
from fhirgw.api.answer import ID
from fhirgw.api.asker import Asking, Question, asked_by
from fhirgw.cli.audited import audited, patients
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.nhs import ODS_ORGANISATION, is_nhs_number, unspaced
from fhirgw.fhir.parameters import HELD
from fhirgw.store.called import called
from fhirgw.store.database import Connection, declared, direct
from fhirgw.store.explain import Explained, together
from fhirgw.store.explain import explain as explained
from fhirgw.store.identity import holders
from fhirgw.store.registration import SECTORS


@dataclass(frozen=True, slots=True)
class Told:
    """What somebody sees of a person, `who` by name; or why nothing at all (`refused`)."""

    who: str
    purpose: str = ""
    found: Sequence[Explained] = ()
    refused: str = ""
    sector: str = ""
    supposed: str = ""


def explain(
    *,
    who: Annotated[str | None, typer.Option(help="An application's name, or an organisation's ODS code.")] = None,
    app: Annotated[str | None, typer.Option(help="The same, for an application alone.")] = None,
    organisation: Annotated[str | None, typer.Option(help="The same, for an ODS code alone.")] = None,
    person: Annotated[str, typer.Option(help="The id of the person's Patient; - to read it, or an NHS number.")],
    purpose: Annotated[str | None, typer.Option(help=f"One of {', '.join(GRANTED)}.")] = None,
    types: Annotated[list[str], typer.Option("--type", help="Only this type; may be repeated.")] = [],  # noqa: B006
    practitioner: Annotated[str | None, typer.Option(help="The id of who of the organisation asks.")] = None,
    sector: Annotated[
        str | None, typer.Option(help=f"What consents call an organisation: {', '.join(SECTORS)}; else supposed.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell what somebody may see of a person, by which rule, and what would change it."""
    console, given, whose = Console(json), settings(), _whose(person)
    _check_types(types)
    question = _question(app, organisation, practitioner, purpose, sector, who)
    overseer = operations(given.controller)

    async def work() -> Told:
        async with opened(given) as (_, engine), direct(engine) as connection:
            async with declared(connection, overseer):
                id = await _patient(connection, whose)
                told = await _told(connection, overseer, replace(question, person=id), types, given.opt_out_days)
            await audited(connection, given.controller, "explain", seen=patients([id]))
            return told

    told = run(work())
    _say(console, told)
    console.document({"refused": told.refused} if told.refused else _document(told))


def _check_types(types: Sequence[str]) -> None:
    for each in types:
        if each not in HELD:
            near = get_close_matches(each, HELD, 1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise CommandError(f"No resources of the type {each!r} are held here.{meant}", 2)


def _question(*parts: str | None) -> Question:
    """The question, of whom it is left open. Raises CommandError for one that is none."""
    try:
        return Question("", *parts)
    except FhirError as error:
        raise CommandError(f"{error}.", 2) from None


def _whose(text: str) -> str:
    """An id, or what is read from standard input: everybody on the machine sees arguments. Raises CommandError."""
    given = sys.stdin.readline().strip() if text == "-" else text
    if text != "-" and is_nhs_number(unspaced(text)):
        raise CommandError("Everybody on this machine sees arguments: say --person - and type the NHS number.", 2)
    if not is_nhs_number(unspaced(given)) and not ID.fullmatch(given):
        raise CommandError("--person is the id of a Patient, as in its address, or - to type it or an NHS number.", 2)
    return given


async def _patient(connection: Connection, whose: str) -> str:
    """The Patient's id. Raises FhirError for an NHS number that nobody has, or more than one."""
    number = unspaced(whose)
    if not is_nhs_number(number):
        return whose
    found = (await holders(connection, [number])).get(number, [])
    if len(found) != 1:
        raise FhirError(Issue("not-found", f"{len(found) or 'No'} Patients have this NHS number: give the id of one"))
    return found[0]


async def _told(
    connection: Connection, overseer: Permit, question: Question, types: Sequence[str], days: float
) -> Told:
    try:
        asking = await asked_by(connection, overseer, question)
    except FhirError as refusal:
        if refusal.issues[0].code not in ("forbidden", "login"):
            raise CommandError(f"{refusal}.", 2) from None
        return Told(question.who or question.application or question.organisation or "", refused=str(refusal))
    permit, roles, sector, supposed = asking
    found = await explained(connection, overseer, permit, question.person, types, days, roles)
    return Told(await _who(connection, overseer, question, asking), permit.purpose, found, "", sector, supposed)


async def _who(connection: Connection, overseer: Permit, question: Question, asking: Asking) -> str:
    code = asking.permit.organisation
    party = f"{ODS_ORGANISATION}|{code}"
    at = (await called(connection, overseer, [party])).get(party, code)
    return f"{asking.permit.registration} ({at})" if asking.permit.registration else at


def _say(console: Console, told: Told) -> None:
    if told.refused:
        console.line(f"{told.who} sees nothing. {told.refused}.")
    elif not told.found:
        console.line("The record of this person is empty, or there is no such person.")
    else:
        held, seen = (sum(getattr(each, name) for each in told.found) for name in ("held", "seen"))
        console.line(f"{told.who}, {WHY[Purpose(told.purpose)]}: sees {seen:,} of {held:,}.")
        why = f": {told.supposed}; --sector says otherwise" if told.supposed else ""
        console.line(f"Consents count it among {CALLED[told.sector]} ({told.sector}{why}).")
    groups = together(told.found)
    alike = _alike([group[0] for group in groups if group[0].held])
    if alike.reasons:
        console.line()
        console.line("Of all there are:")
        _say_why(console, alike.reasons, alike.remedies)
    for group in groups:
        _say_group(console, group, alike)


class _Why(NamedTuple):
    """Reasons, and remedies, that several groups have in common."""

    reasons: tuple[Reason, ...] = ()
    remedies: tuple[str, ...] = ()


def _alike(groups: Sequence[Explained]) -> _Why:
    """What is to be said once, as every one of several groups would say it again."""
    if len(groups) < 2:
        return _Why()
    first, *others = groups
    reasons = tuple(each for each in first.reasons if all(each in one.reasons for one in others))
    remedies = tuple(each for each in first.remedies if all(each in one.remedies for one in others))
    return _Why(reasons, remedies if reasons else ())


def _say_group(console: Console, group: Sequence[Explained], alike: _Why) -> None:
    first = group[0]
    console.line()
    if not first.held:
        console.line(f"There are none: {', '.join(each.type for each in group)}")
        return
    how = {"all": "Sees all", "some": "Sees some", "none": "Sees none"}[first.decision]
    counts = (f"{each.seen:,} of {each.held:,}" if each.decision == "some" else f"{each.held:,}" for each in group)
    console.line(f"{how}: {', '.join(f'{each.type} ({count})' for each, count in zip(group, counts, strict=True))}")
    reasons = [each for each in first.reasons if each not in alike.reasons]
    _say_why(console, reasons, [each for each in first.remedies if each not in alike.remedies])


def _say_why(console: Console, reasons: Sequence[Reason], remedies: Sequence[str]) -> None:
    for reason in reasons:
        rests_on = f" [{reason.rests_on}]" if reason.rests_on else ""
        console.line(f"  {'+' if reason.allows else '-'} {reason.text}{rests_on}")
    if remedies:
        console.line(f"  It would be seen if {'; or if '.join(remedies)}.")


def _document(told: Told) -> dict[str, Any]:
    types = [
        {
            "type": each.type,
            "held": each.held,
            "seen": each.seen,
            "reasons": [reason._asdict() for reason in each.reasons],
            "would_change": each.remedies,
        }
        for each in told.found
    ]
    about = {"who": told.who, "purpose": told.purpose, "sector": told.sector, "supposed": told.supposed or None}
    return {**about, "types": types}
