"""Sample visits that a care provider's system is to send, and which of them have arrived right: its own alone.

    GET /homecare/certification?since=2026-11-22T09:00Z

It is asked of a sandbox, whose people are made up: the samples are visits like any other.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.api.answer import interactions
from fhirgw.api.context import context
from fhirgw.api.homecare_asked import parameters
from fhirgw.api.visit_status import here, sender, told
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.mapping.refusal import Refusal
from fhirgw.store import visits_sent
from fhirgw.visits.certify import verdicts
from fhirgw.visits.moment import instant, moment

CERTIFICATION = "/homecare/certification"
RECENT = timedelta(days=7)
"""How long ago a sample may have come, if nobody says."""


async def certification(request: Request) -> Response:
    """GET /homecare/certification"""
    permit, visits = sender(request), here(request)
    now, rules = visits.writers.now(), visits.rows.reader.rules
    given = parameters(request, "since")
    since = _since(given["since"]) if "since" in given else now - RECENT
    async with context(request).reader(permit) as connection:
        arrived = await visits_sent.arrived(connection, permit.organisation, visits.cases.starts, since)
        reasons, repeated = await visits_sent.sent_since(connection, permit.organisation, since)
    found = verdicts(visits.cases, arrived, reasons, repeated, rules, now)
    passes = all(each.state == "right" for each in found)
    return told({"passes": passes, "cases": [each.as_json() for each in found]})


def _since(text: str) -> datetime:
    try:
        return instant(moment(text))
    except Refusal as refusal:
        raise FhirError(Issue("invalid", f"since: {refusal.rule}", "since")) from None


def routes() -> list[Route]:
    """The sample visits."""
    return [interactions(CERTIFICATION, GET=certification)]
