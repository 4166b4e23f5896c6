"""What became of what a care provider sent, for its own system and for whoever keeps its spreadsheet.

| request | what it answers |
|---|---|
| `GET /homecare/visits/{visit}` | one visit, by the care provider's own id |
| `GET /homecare/submissions` | what was sent, the newest first: how many rows came to what |
| `GET /homecare/submissions/{submission}` | the receipts of those with something to mend |
| `GET /homecare/submissions/{submission}/receipts.csv` | the same, for a spreadsheet |

A care provider is told of its own alone: another's is a 404, as what there is not. Of a visit it is told its own words,
while it may see them: what others know of the person is in no answer.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.permit import Permit
from fhirgw.api import asked
from fhirgw.api.answer import PRIVATE, interactions
from fhirgw.api.audit import entry
from fhirgw.api.context import context, permitted
from fhirgw.api.homecare_asked import malformed, parameters
from fhirgw.api.visits import Visits, makes_visits
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import submissions, visit_stays, visits_sent
from fhirgw.store.database import Connection
from fhirgw.store.submissions import Cursor, Submission
from fhirgw.store.visit_lines import LINELESS
from fhirgw.store.visit_whose import UNKNOWN, UNNAMED
from fhirgw.visits.batch import key, met
from fhirgw.visits.field import ID
from fhirgw.visits.outcome import came
from fhirgw.visits.quality import missing
from fhirgw.visits.reading import Fault
from fhirgw.visits.spelling import spelt

SUBMISSIONS = "/homecare/submissions"
PAGE, MOST = 50, 1000
"""Submissions of a page, if nobody says; and at most."""
RECEIPTS = 1000
"""Receipts of a page."""
JSON = {"content-type": "application/json", **PRIVATE}
SHEET = {"content-type": "text/csv; charset=utf-8", "content-disposition": 'attachment; filename="receipts.csv"'}
HEADER = ("Row", "Visit", "Status", "Column", "Reason", "What is wrong", "What to do")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula at the beginning of a cell. https://owasp.org/www-community/attacks/CSV_Injection"""
NEVER = "There is no visit with this id among those that you have sent"
WITHHELD = (
    "The visit is kept. What it says is shown while the package of care runs, to tokens that may read Encounters"
    " (system/Encounter.r), unless the person does not want it"
)


def told(document: Mapping[str, Any]) -> Response:
    """A document of ours."""
    return Response(encode(spelt(dict(document))), 200, JSON)


def here(request: Request) -> Visits:
    """What the app that got the request knows of visits."""
    return cast(Visits, request.app.state.visits)


def sender(request: Request) -> Permit:
    """The permit of a care provider, that may write visits or read them. Raises FhirError(forbidden)."""
    permit = permitted(request)
    if not makes_visits(permit):
        raise FhirError(Issue("forbidden", "What became of visits is told to the care provider who sent them"))
    if not permit.covering("c", "Encounter"):
        permit.require("r", "Encounter")
    return permit


async def status(request: Request) -> Response:
    """GET /homecare/visits/{visit}"""
    permit, name = sender(request), request.path_params["visit"]
    parameters(request)
    if not ID.fullmatch(name):  # what can be no id is the id of nothing
        raise FhirError(Issue("not-found", NEVER))
    async with context(request).reader(permit) as connection:
        found = await visits_sent.kept(connection, permit, name)
        mend = await submissions.last(connection, permit.organisation, name)
        issues = [each async for each in _issues(request, connection, permit, name, found)] if found else []
    if found is None and mend is None:
        raise FhirError(Issue("not-found", NEVER))
    document: dict[str, Any] = {"visit": name, "state": "refused"}
    if found is not None:
        document |= _of(here(request), found) | ({"issues": [each._asdict() for each in issues]} if issues else {})
        if found.id and found.facts is not None:
            entry(request).saw("Encounter", found.id, found.patient)
    if mend is not None and (found is None or mend[0] > found.updated):
        refused = [each for each in mend[1] if each["status"] == "refused"]
        document |= {"refused": {"received": _moment(mend[0]), "receipts": refused}} if refused else {}
    return told(document)


async def _issues(
    request: Request, connection: Connection, permit: Permit, name: str, found: visits_sent.Kept
) -> AsyncIterator[Fault]:
    """What is to be mended of a visit that is kept, as far as it is known by now: on a receipt it may not have been."""
    if found.facts is None:
        return
    own, state = permit.organisation, request.app.state
    for other in await visit_stays.meeting(connection, own, key(own, name), found.facts):
        yield met(other)
    order, known = (found.facts.get("line") or {}).get("order"), (state.directory, state.visits.rows.reader.rules)
    if order and found.patient and await visits_sent.lineless(connection, permit, *known, found.patient, order):
        yield LINELESS


def _of(here: Visits, found: visits_sent.Kept) -> dict[str, Any]:
    """What there is to tell of a visit that is kept."""
    document: dict[str, Any] = {"state": "allocated" if found.id else "unallocated"}
    document |= {"id": found.id} if found.id else {}
    document |= {"since": _moment(found.moved)} if found.moved else {}
    document |= {"said": found.said, "received": _moment(found.updated)}
    document |= {"changed": _moment(found.changed)} if found.changed else {}
    if found.facts is None:
        return document | {"withheld": WITHHELD}
    rules, now = here.rows.reader.rules, here.writers.now()
    lacking = missing(found.facts, here.standard, rules, now)
    if not found.id:
        lacking.insert(0, UNKNOWN if found.facts.get("person") else UNNAMED)
    outcome = came(found.facts, rules, now)._asdict()
    shown = {name: value for name, value in outcome.items() if value not in (None, ())}
    return document | {"missing": [each._asdict() for each in lacking], "outcome": shown, "held": dict(found.facts)}


async def listing(request: Request) -> Response:
    """GET /homecare/submissions"""
    permit = sender(request)
    given = parameters(request, "_count", "_cursor")
    count = min(asked.count(given.get("_count", str(PAGE)), MOST), MOST)
    after = _cursor(given["_cursor"]) if "_cursor" in given else None
    async with context(request).reader(permit) as connection:
        found = await submissions.listed(connection, permit.organisation, after, count + 1)
    document: dict[str, Any] = {"submissions": [_summary(each) for each in found[:count]]}
    if len(found) > count:
        end = found[count - 1]
        document["next"] = f"{SUBMISSIONS}?_count={count}&_cursor={end.received:%Y%m%dT%H%M%S.%f}_{end.id}"
    return told(document)


def _summary(each: Submission) -> dict[str, Any]:
    shown: dict[str, Any] = {"submission": each.id, "received": _moment(each.received), "way": each.way}
    shown |= {"until": _moment(each.until)} if each.until > each.received else {}
    shown |= {"file": each.file} if each.file else {}
    shown |= {**each.counts, "kept_until": _moment(submissions.kept_until(each))}
    return shown | ({"mend": each.mend, "receipts": f"{SUBMISSIONS}/{each.id}"} if each.mend else {})


def _cursor(text: str) -> Cursor:
    received, _, id = text.partition("_")
    try:
        return Cursor(datetime.strptime(f"{received}+0000", "%Y%m%dT%H%M%S.%f%z"), UUID(id))
    except ValueError:
        raise malformed() from None


class _Whole(NamedTuple):
    submission: Submission
    receipts: Sequence[Mapping[str, Any]]


async def _whole(request: Request) -> _Whole:
    """A submission of who asks, and its receipts. Raises FhirError(not-found) for another's, as for none."""
    permit = sender(request)
    try:
        id = UUID(request.path_params["submission"])
    except ValueError:
        raise _absent() from None
    async with context(request).reader(permit) as connection:
        found = await submissions.one(connection, permit.organisation, id)
        if found is None:
            raise _absent()
        return _Whole(found, await submissions.receipts(connection, permit.organisation, id))


def _absent() -> FhirError:
    told = f"There is no such submission of yours: each is kept for {submissions.DAYS} days"
    return FhirError(Issue("not-found", told))


async def submission(request: Request) -> Response:
    """GET /homecare/submissions/{submission}: the receipts with something to mend, page by page."""
    given = parameters(request, "_count", "_cursor")
    count = asked.count(given.get("_count", str(RECEIPTS)), RECEIPTS)
    first = asked.count(given["_cursor"], 10**9) if "_cursor" in given else 0
    found = await _whole(request)
    document = _summary(found.submission) | {"receipts": found.receipts[first : first + count]}
    if len(found.receipts) > first + count:
        document["next"] = f"{SUBMISSIONS}/{found.submission.id}?_count={count}&_cursor={first + count}"
    return told(document)


async def sheet(request: Request) -> Response:
    """GET /homecare/submissions/{submission}/receipts.csv: a line for each thing to mend, as Excel opens it."""
    parameters(request)
    found = await _whole(request)
    made = io.StringIO(newline="")
    writer = csv.writer(made)
    writer.writerow(HEADER)
    writer.writerows(_lines(found.receipts))
    return Response(made.getvalue().encode("utf-8-sig"), 200, SHEET | PRIVATE)


def _lines(receipts: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    for each in receipts:
        for issue in each["issues"]:
            fault = Fault(**issue)
            cells = (str(each["row"]), each.get("visit", ""), each["status"], *fault)
            yield [f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells]


def _moment(moment: datetime) -> str:
    """As people in the United Kingdom read it, with its offset."""
    return moment.astimezone(LONDON).isoformat(timespec="seconds")


def routes() -> list[Route]:
    """What became of what was sent."""
    return [
        interactions(SUBMISSIONS, GET=listing),
        interactions(f"{SUBMISSIONS}/{{submission}}", GET=submission),
        interactions(f"{SUBMISSIONS}/{{submission}}/receipts.csv", GET=sheet),
        interactions("/homecare/visits/{visit:path}", GET=status),
    ]
