"""The ledger of a week of homecare: what was commissioned, planned, delivered and claimed (fhirgw.visits.ledger).

    GET /homecare/ledger?week=2026-W40&provider=&person=      rows: JSON in pages, or all of it as text/csv
    GET /homecare/ledger/visits?week=2026-W40&person=         the visits and lines that a person's rows were made of

The council sees all of its own, a care provider its own people and lines; nobody whom a permit hides is in a row or in
a total. `_since`: of those alone of whom a visit or a line has been changed since that moment, for who keeps a copy up
to date: it costs what was changed, and not the county. What has been hidden, deleted or become late by itself it does
not tell: such a copy is made anew now and then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.permit import COUNCIL, Permit
from fhirgw.access.purpose import Purpose
from fhirgw.api import asked, homecare_asked
from fhirgw.api.answer import ID, PRIVATE, interactions
from fhirgw.api.audit import MOST_NAMED, entry
from fhirgw.api.context import context, permitted
from fhirgw.api.headers import header
from fhirgw.api.homecare_asked import malformed, parameters
from fhirgw.api.visits import CARE_PROVIDER
from fhirgw.fhir.csv_rows import written
from fhirgw.fhir.dates import LONDON, span
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.reconciliation import Asked, Reckoning, expecting
from fhirgw.store.visit_facts import NO_LINE
from fhirgw.visits.batch import placed
from fhirgw.visits.commission import expected
from fhirgw.visits.ledger import COLUMNS, Row, totals
from fhirgw.visits.line import Line
from fhirgw.visits.spelling import spelt
from fhirgw.visits.stay import Stay
from fhirgw.visits.week import Week

LEDGER = "/homecare/ledger"
READ = ("ServiceRequest", "Appointment", "Encounter")
"""What the ledger tells of: who asks for it may search all of these."""
PARAMETERS = ("week", "provider", "person", "_since", "_count", "_cursor", "_format")
CSV = ("csv", "text/csv")
PAGE, MOST = 200, 1000
"""People of a page."""


async def ledger(request: Request) -> Response:
    """GET /homecare/ledger"""
    given = parameters(request, *PARAMETERS)
    wanted = _wanted(request, given)
    reckoning = made_reckoning(request)
    if _is_csv(request, given):
        return await _csv(request, reckoning, wanted)
    count = asked.count(given.get("_count", str(PAGE)), MOST)
    after = given.get("_cursor", "")
    async with context(request).searcher(permitted(request)) as connection:
        page = await reckoning.page(connection, wanted, after, count)
    saw(request, page.rows)
    whole = page.last is None and not after
    told: dict[str, Any] = {**_week(wanted.week), "rows": [each.told() for each in page.rows]}
    told |= {"totals": totals(page.rows)} if whole else {}
    told |= {"next": _next(given, page.last)} if page.last else {}
    return _json(told)


async def visits(request: Request) -> Response:
    """GET /homecare/ledger/visits"""
    given = parameters(request, *PARAMETERS)
    wanted = _wanted(request, given)
    if wanted.person is None:
        raise FhirError(Issue("invalid", "person is the id of a Patient: a trace is of one person's week", "person"))
    async with context(request).searcher(permitted(request)) as connection:
        known, found = await made_reckoning(request).visits(connection, wanted)
    lines = [_line(line, provider) for line, provider in known.lines]
    for told, (_, line, stays) in zip(lines, expecting(known), strict=True):
        told["expected"] = list(_expected(wanted.week, line, stays))
        entry(request).saw("ServiceRequest", line.id, line.patient)
    told_visits = [_visit(each, known.lines) for each in found]
    for each in told_visits:
        entry(request).saw("Encounter", each["id"], wanted.person)
    return _json({**_week(wanted.week), "person": wanted.person, "lines": lines, "visits": told_visits})


def routes() -> list[Route]:
    """The ledger, and what it is made of."""
    return [
        interactions(LEDGER, formats=CSV, GET=ledger),
        interactions(f"{LEDGER}/visits", GET=visits),
    ]


def made_reckoning(request: Request) -> Reckoning:
    """What reckons for the caller, by the rules of the gateway."""
    state = request.app.state
    return Reckoning(permitted(request), state.directory, state.visits.rows.reader.rules, state.visits.writers.now())


def whose(permit: Permit, provider: str | None) -> str | None:
    """Of which care provider the caller's ledger is, None for all. Raises FhirError(forbidden).

    A claim is between the council and the care provider who makes it: nobody else's business, whatever they may read.
    """
    for kind in READ:
        if all(scope.constraint for scope in permit.require("s", kind)):
            told = f"The scopes of this token show a part of {kind}: the ledger needs them without a constraint"
            raise FhirError(Issue("forbidden", told))
    if permit.patient is None and CARE_PROVIDER in permit.parties and permit.purpose == Purpose.DIRECT_CARE:
        if provider not in (None, permit.organisation):
            raise FhirError(Issue("forbidden", "A care provider sees its own ledger: leave provider out"))
        return permit.organisation
    counting = permit.purpose in (Purpose.DIRECT_CARE, Purpose.PLANNING)
    if permit.patient is None and permit.controls and COUNCIL in permit.parties and counting:
        return provider
    raise FhirError(Issue("forbidden", "The ledger is for the council and the care providers whose visits are in it"))


def saw(request: Request, rows: Iterable[Row]) -> None:
    """The audit names whoever is in an answer, or says that it was a copy of very many."""
    seen = {(each.line or each.person, each.person): each for each in rows if each.person}
    if len({person for _, person in seen}) > MOST_NAMED:
        entry(request).everybody(READ)
        return
    for (id, person), each in seen.items():
        entry(request).saw("ServiceRequest" if each.line else "Patient", id or "", person)


async def _csv(request: Request, reckoning: Reckoning, wanted: Asked) -> Response:
    """All rows, for a finance system: of one snapshot."""
    rows: list[Row] = []
    async with context(request).searcher(permitted(request)) as connection:
        async for some in reckoning.pages(connection, wanted):
            rows += some
    saw(request, rows)
    name = f"homecare-{wanted.week}.csv"
    told = {"content-type": "text/csv; charset=utf-8", "content-disposition": f'attachment; filename="{name}"'}
    return Response(written([COLUMNS, *(each.cells() for each in rows)]), 200, told | PRIVATE)


def _wanted(request: Request, given: Mapping[str, str]) -> Asked:
    if "_cursor" in given and not ID.fullmatch(given["_cursor"]):
        raise malformed()
    person = homecare_asked.person(given)
    if "_since" in given and person:
        raise FhirError(Issue("invalid", "_since finds people, and person names one: leave out either", "_since"))
    since = span(given["_since"])[0] if "_since" in given else None
    provider = whose(permitted(request), homecare_asked.provider(given))
    week = homecare_asked.week(given, request.app.state.visits.writers.now())
    return Asked(week, provider, person, since)


def _is_csv(request: Request, given: Mapping[str, str]) -> bool:
    if "_format" in given:
        return given["_format"] in CSV
    accepted = (header(request, b"accept") or "").partition(",")[0].partition(";")[0].strip().lower()
    return accepted == CSV[1]


def _next(given: Mapping[str, str], last: str) -> str:
    return f"{LEDGER}?{urlencode({**given, '_cursor': last})}"


def _week(week: Week) -> dict[str, Any]:
    return {"week": str(week), "from": _local(week.starts), "to": _local(week.ends)}


def _line(line: Line, provider: str) -> dict[str, Any]:
    told = {"line": line.id, "order": line.names[0], "provider": provider, "status": line.status}
    return told | {"minutes": line.minutes, "carers": line.carers}


def _expected(week: Week, line: Line, stays: Iterable[Stay]) -> Iterator[dict[str, Any]]:
    for each in expected(line, week, [stay.span for stay in stays]):
        when = {"start": _local(each.start)} if each.start else {"day": each.day.isoformat()}
        yield when | ({"suspended": True} if each.suspended else {})


def _visit(row: Mapping[str, Any], lines: list[tuple[Line, str]]) -> dict[str, Any]:
    """A visit of a trace: whatever counts in a figure."""
    moments = {name: _local(row[at]) for name, at in TIMES.items() if row[at]}
    told = {
        "id": placed(row["key"], row["patient"]),
        "visit": row["visit"],
        "provider": row["provider"],
        "line": lines[row["n"]][0].id if row["n"] != NO_LINE else None,
        "order": row["ordered"],
        "outcome": row["outcome"],
        "came": row["came"],
        "planned_minutes": row["planned_minutes"],
        "delivered_minutes": row["minutes"],
        "delivered_carer_minutes": row["carer_minutes"],
        "claimed_minutes": row["claimed"],
        "carers": row["carers"],
        "timed": row["timed"],
        "punctual": row["punctual"],
        "single_handed": row["single_handed"],
    }
    return moments | {name: value for name, value in told.items() if value is not None}


TIMES = {"start": "start", "end": "finish", "began": "began", "ended": "ended"}


def _local(moment: datetime) -> str:
    return moment.astimezone(LONDON).isoformat()


def _json(told: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(spelt(told)), 200, {"content-type": "application/json"} | PRIVATE)
