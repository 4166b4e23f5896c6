"""`Patient/$explain`: may this caller see this of a person, by which rule, and what would change it.

For auditors of the organisation that runs the gateway alone (fhirgw.api.auditor), as what explains a refusal tells what
was refused. Types of which the same is decided for the same reasons are told together.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.facts import Reason
from fhirgw.access.permit import Permit
from fhirgw.api.answer import ID, answer, interactions
from fhirgw.api.asker import Question, asked_by
from fhirgw.api.audit import entry
from fhirgw.api.auditor import auditing, throughout
from fhirgw.api.context import context, permitted
from fhirgw.api.parameters import posted
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import HELD
from fhirgw.store.explain import Explained, explain, together
from fhirgw.store.resources import absent

PARAMETERS = ("who", "app", "organisation", "practitioner", "purpose", "sector", "type")
Part = dict[str, Any]


async def explain_to(request: Request) -> Response:
    """GET [base]/Patient/[id]/$explain?app=… or organisation=… (or who=…, either), with purpose, sector, type …"""
    person = _person(request, permitted(request))
    question, types = _asked(request, person)
    overseer: Permit = request.app.state.overseer
    async with context(request).searcher(overseer) as connection:
        try:
            asking = await asked_by(connection, overseer, question)
            asker, roles, *_ = asking
        except FhirError as refusal:
            if refusal.issues[0].code not in ("forbidden", "login"):
                raise
            return answer(encode(_parameters([_text("refused", str(refusal))])))
        days = request.app.state.opt_out_days
        found = await explain(connection, overseer, asker, person, types, days, roles)
    if not found:
        raise absent("Patient")
    entry(request).saw("Patient", person, person)
    who = [_text("purpose", asker.purpose), _text("sector", asking.sector)]
    supposed = [_text("supposed", asking.supposed)] if asking.supposed else []
    return answer(encode(_parameters([*who, *supposed, *map(_told, together(found))])))


def routes() -> list[Route]:
    """To be put before those of types and instances."""
    return [interactions("/fhir/Patient/{id:name}/$explain", GET=explain_to, POST=posted(explain_to))]


def _person(request: Request, permit: Permit) -> str:
    """Whose record it is about. Raises FhirError: forbidden for whoever is no auditor, not-found for what is no id."""
    throughout(auditing(request, permit))
    person: str = request.path_params["id"]
    if not ID.fullmatch(person):
        raise absent("Patient")
    return person


def _asked(request: Request, person: str) -> tuple[Question, tuple[str, ...]]:
    """The question. Raises FhirError(invalid) naming the parameter that is wrong."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in PARAMETERS and name not in given and value:
            given[name] = value
        elif name not in ("_format", "_pretty"):
            told = f"$explain takes, once each and not blank: {', '.join(PARAMETERS)}"
            near = [] if name in PARAMETERS else get_close_matches(name, PARAMETERS, 1)
            raise FhirError(Issue("invalid", f"{told}{f'. Did you mean {near[0]}?' if near else ''}"))
    types = tuple(given["type"].split(",")) if "type" in given else ()
    if not set(types) <= set(HELD):
        raise FhirError(Issue("invalid", "type is malformed: it takes types held here, with commas"))
    question = Question(
        person,
        given.get("app"),
        given.get("organisation"),
        given.get("practitioner"),
        given.get("purpose"),
        given.get("sector"),
        given.get("who"),
    )
    return question, types


def _told(group: Sequence[Explained]) -> Part:
    """Types of which the same is decided for the same reasons."""
    first = group[0]
    parts: list[Part] = [
        {"name": "decision", "valueCode": first.decision},
        *map(_type, group),
        *map(_reason, first.reasons),
        *(_text("wouldChange", each) for each in first.remedies),
    ]
    return {"name": "explanation", "part": parts}


def _type(found: Explained) -> Part:
    counts = [{"name": name, "valueUnsignedInt": getattr(found, name)} for name in ("held", "seen")]
    return {"name": "type", "part": [{"name": "code", "valueCode": found.type}, *counts]}


def _reason(reason: Reason) -> Part:
    parts: list[Part] = [{"name": "allows", "valueBoolean": reason.allows}, _text("text", reason.text)]
    if reason.rests_on:
        parts.append({"name": "restsOn", "valueReference": {"reference": reason.rests_on}})
    return {"name": "reason", "part": parts}


def _text(name: str, value: str) -> Part:
    return {"name": name, "valueString": value}


def _parameters(parameters: list[Part]) -> Part:
    return {"resourceType": "Parameters", "parameter": parameters}
