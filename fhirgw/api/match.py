"""`Patient/$match`: who of the people held here a person may be, the likeliest first, with how sure that is.

https://hl7.org/fhir/R4/patient-operation-match.html
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.api import bundle
from fhirgw.api.answer import answer, interactions
from fhirgw.api.audit import entry
from fhirgw.api.context import base, context, permitted
from fhirgw.api.parameters import parameters
from fhirgw.fhir.canonical import decode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.likeness import Facts, Likeness, facts, graded, likeness
from fhirgw.store.identify import candidates, sought
from fhirgw.store.include import Found

GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
NAMES = ("onlyCertainMatches", "count")
MOST = 50

Matches = list[tuple[Found, Likeness]]


async def match(request: Request) -> Response:
    """POST [base]/Patient/$match: Parameters with resource, onlyCertainMatches, count; or a Patient"""
    sent = await parameters(request, NAMES)
    if sent.resource is None or sent.resource.get("resourceType") != "Patient":
        raise FhirError(Issue("required", "Send the Patient to look for: by itself, or as the parameter resource"))
    asked, certain, count = facts(sent.resource), sent.one("onlyCertainMatches"), sent.one("count")
    _check(certain, count)
    if not sought(asked):
        told = (
            "Too little to look for: give an NHS number or another identifier with its system, a date of birth with a"
            " family or given name, or a family name with a postcode"
        )
        raise FhirError(Issue("required", told, "Patient"))
    permit = permitted(request)
    async with context(request).searcher(permit) as connection:
        found = _ranked(asked, await candidates(connection, permit, asked))
    shown = [each for each in found if each[1].grade == "certain" or not certain][: count or MOST]
    entry(request).saw_all((each.type, each.id, each.person) for each, _ in shown)
    rows = [(each.type, each.id, each.body, _search(alike)) for each, alike in shown]
    address = f"{base(request)}/Patient/$match"
    return answer(bundle.graded(base(request), rows, [("self", address)]))


def routes() -> list[Route]:
    """To be put before those of types and instances."""
    return [interactions("/fhir/Patient/$match", POST=match)]


def _ranked(asked: Facts, found: list[Found]) -> Matches:
    """Those who may be the person, the likeliest first; what a candidate is served as is all that is compared."""
    alike = [(each, how) for each in found if (how := likeness(asked, facts(decode(each.body))))]
    grades = graded([how for _, how in alike])
    both = zip((each for each, _ in alike), grades, strict=True)
    return sorted(both, key=lambda each: (each[1].grade != "certain", -each[1].score, each[0].id))


def _check(certain: Any, count: Any) -> None:
    if certain is not None and not isinstance(certain, bool):
        raise FhirError(Issue("invalid", "onlyCertainMatches is a valueBoolean"))
    if count is not None and (type(count) is not int or not 0 < count <= MOST):
        raise FhirError(Issue("invalid", f"count is a valueInteger from 1 to {MOST}"))


def _search(how: Likeness) -> dict[str, Any]:
    return {"extension": [{"url": GRADE, "valueCode": how.grade}], "mode": "match", "score": how.score}
