"""How well visits are sent, by week: to a care provider its own, to the council each of its care providers'.

    GET /homecare/quality?week=2026-W13

What a score is made of, and what it costs, is fhirgw.visits.quality. Care providers see no other's, nor where among
others they stand: the score is there to help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.permit import COUNCIL, Permit
from fhirgw.access.purpose import Purpose
from fhirgw.api import asked, homecare_asked
from fhirgw.api.answer import interactions
from fhirgw.api.context import context, permitted
from fhirgw.api.homecare_asked import malformed, parameters
from fhirgw.api.visit_status import here, sender, told
from fhirgw.api.visits import Visits
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.nhs import is_ods_code
from fhirgw.store import visits_sent
from fhirgw.store.database import Connection
from fhirgw.visits.quality import Quality, Standard, quality
from fhirgw.visits.week import Week

QUALITY = "/homecare/quality"
PAGE, MOST = 20, 100
"""Care providers of a page: each is counted when it is asked for."""


async def of_week(request: Request) -> Response:
    """GET /homecare/quality?week="""
    permit, visits = permitted(request), here(request)
    if _oversees(permit, visits):
        return await _council(request, permit, visits)
    own = sender(request)
    given = parameters(request, "week", "provider", "_count", "_cursor")
    if homecare_asked.provider(given) not in (None, permit.organisation):
        raise FhirError(Issue("forbidden", "A care provider sees its own quality: leave provider out"))
    asked_for = homecare_asked.week(given, visits.writers.now())
    async with context(request).searcher(own) as connection:
        return told({"week": str(asked_for), **await _provider(connection, own, visits, own.organisation, asked_for)})


def _oversees(permit: Permit, visits: Visits) -> bool:
    """Whether it is the council whose package lines these are, and not one of its people, nor for a part of them."""
    whole = permit.organisation == visits.controller and permit.purpose == Purpose.DIRECT_CARE and not permit.in_person
    every = any(not each.constraint for each in permit.covering("s", "Encounter"))
    return whole and COUNCIL in permit.parties and permit.patient is None and every


async def _council(request: Request, permit: Permit, visits: Visits) -> Response:
    """Every care provider, in the order of their codes, page by page; or the one that is asked for."""
    given = parameters(request, "week", "provider", "_count", "_cursor")
    asked_for, one = homecare_asked.week(given, visits.writers.now()), homecare_asked.provider(given)
    count = asked.count(given.get("_count", str(PAGE)), MOST)
    if "_cursor" in given and not is_ods_code(given["_cursor"]):
        raise malformed()
    async with context(request).searcher(permit) as connection:
        if one:
            codes = [one]
        else:
            times = (asked_for.starts, asked_for.ends)
            codes = await visits_sent.providers(connection, given.get("_cursor", ""), *times, count + 1)
        document: dict[str, Any] = {
            "week": str(asked_for),
            "providers": [await _provider(connection, permit, visits, each, asked_for) for each in codes[:count]],
        }
    if len(codes) > count:
        document["next"] = f"{QUALITY}?week={asked_for}&_count={count}&_cursor={codes[count - 1]}"
    return told(document)


async def _provider(
    connection: Connection, permit: Permit, visits: Visits, code: str, asked_for: Week
) -> dict[str, Any]:
    times = (asked_for.starts, asked_for.ends)
    sent = await visits_sent.of_week(connection, permit, code, *times)
    rows, refused, reasons = await visits_sent.rows_of_week(connection, code, *times)
    rules, now, standard = visits.rows.reader.rules, visits.writers.now(), visits.standard

    def scored() -> Quality:
        return quality(visits_sent.read(sent), rows, reasons, refused, standard, rules, now)

    told = document(await asyncio.to_thread(scored), standard)
    return {"provider": code, **told, "rows": {"sent": rows, "refused": refused}}


def document(found: Quality, standard: Standard) -> Mapping[str, Any]:
    """A score as it is told, with what costs most first."""
    told: dict[str, Any] = {"score": found.score, "visits": found.visits}
    told |= {"median_delay_minutes": found.delay} if found.delay is not None else {}
    told["measures"] = [
        {
            "measure": each.name,
            "title": standard.measures[each.name].title,
            "count": each.found,
            "of": each.of,
            "share_of": standard.measures[each.name].of,
            "share": round(each.share, 4),
            "points": round(each.points, 1),
        }
        for each in found.measures
    ]
    told["next"] = [standard.measures[each.name].next for each in found.measures if each.found]
    told["incomplete"] = [{"field": name, "visits": count} for name, count in found.fields]
    return told | {"refused": [{"reason": name, "rows": count} for name, count in found.reasons]}


def routes() -> list[Route]:
    """How well visits are sent."""
    return [interactions(QUALITY, GET=of_week)]
