"""A week of homecare as a MeasureReport, for who reads FHIR and not our ledger.

    GET [base]/Measure/homecare-week/$evaluate-measure?periodStart=2026-09-28&periodEnd=2026-10-04&subject=Patient/…

`subject` makes it of one person, `reporter` (an Organization, by its id here or its ODS code) of one care provider;
without either it is of all whom the caller may see. It is the ledger of fhirgw.api.visit_ledger, under the same permit.
https://hl7.org/fhir/R4/measure-operation-evaluate-measure.html
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.api.answer import ID, answer, interactions
from fhirgw.api.context import context, permitted
from fhirgw.api.definitions import identified, ready
from fhirgw.api.parameters import addressed, posted
from fhirgw.api.visit_ledger import made_reckoning, saw, whose
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.store.package_lines import ods_codes
from fhirgw.store.reconciliation import Asked
from fhirgw.visits import measure
from fhirgw.visits.ledger import Row

PARAMETERS = ("periodStart", "periodEnd", "subject", "reporter", "reportType")


async def evaluate(request: Request) -> Response:
    """GET [base]/Measure/[id]/$evaluate-measure"""
    await ready(request)
    known = identified("Measure", request.path_params["id"])
    if known["id"] != measure.ID:
        raise FhirError(Issue("not-supported", f"The Measure that is evaluated here is {measure.ID}"))
    given = addressed(request, PARAMETERS)
    week = measure.period(given.one("periodStart"), given.one("periodEnd"))
    person, reporter = _subject(given.one("subject")), given.one("reporter")
    _checked(given.one("reportType"), person)
    reckoning = made_reckoning(request)
    code = await _code(request, reporter) if reporter else None
    wanted = Asked(week, whose(permitted(request), code), person)
    rows: list[Row] = []
    async with context(request).searcher(permitted(request)) as connection:
        async for some in reckoning.pages(connection, wanted):
            rows += some
    saw(request, rows)
    about: dict[str, Any] = {"subject": {"reference": f"Patient/{person}"}} if person else {}
    if wanted.provider:
        identifier = {"system": ODS_ORGANISATION, "value": wanted.provider}
        about["reporter"] = {"type": "Organization", "identifier": identifier}
    return answer(encode(measure.report(known, week, rows, reckoning.now, about)))


def routes() -> list[Route]:
    """The operation."""
    path = "/fhir/Measure/{id:name}/$evaluate-measure"
    return [interactions(path, GET=evaluate, POST=posted(evaluate))]


def _subject(reference: str | None) -> str | None:
    """The id of the Patient whom a report is of. Raises FhirError(invalid) for what is no Patient's."""
    if reference is None:
        return None
    id = reference.removeprefix("Patient/")
    if not ID.fullmatch(id):
        raise FhirError(Issue("invalid", "subject is a reference to a Patient: Patient/[id]", "subject"))
    return id


def _checked(kind: str | None, person: str | None) -> None:
    """Raises FhirError(invalid) for a type of report that the other parameters do not make."""
    made = "subject" if person else "summary"
    if kind is not None and kind != made:
        told = "reportType is subject where a subject is given, and summary elsewhere; lists of subjects are not made"
        raise FhirError(Issue("invalid", told, "reportType"))


async def _code(request: Request, reporter: str) -> str:
    """The ODS code of an Organization. Raises FhirError(invalid) for one that is none, or has no code."""
    id = reporter.removeprefix("Organization/")
    if not ID.fullmatch(id):
        raise FhirError(Issue("invalid", "reporter is an Organization, by its id or its ODS code", "reporter"))
    directory = request.app.state.directory
    async with context(request).searcher(directory) as connection:
        named = f"Organization/{id}"
        found = (await ods_codes(connection, directory, [named])).get(named)
    if found is None and id != reporter:
        raise FhirError(Issue("invalid", "reporter has no ODS code here: give the code itself", "reporter"))
    return found or id
