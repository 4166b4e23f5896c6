"""`Patient/$everything`: the record of one person, and the people, organisations and places it names.

First the compartment in the order of types and ids; then, once each, the reference data that any of it refers to,
directly or through other reference data. Other people's records are never followed into.
https://hl7.org/fhir/R4/patient-operation-everything.html
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from fhirgw.access.permit import Permit
from fhirgw.fhir.dates import BEGINNING, END, span
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import HELD, dates
from fhirgw.store import resources, visibility
from fhirgw.store.criterion import IDS
from fhirgw.store.database import Connection, once
from fhirgw.store.include import Found, fetch
from fhirgw.store.schema import DATE_SLOTS, RENDERED_AS, held
from fhirgw.store.visibility import visible

SHARED = ("HealthcareService", "Location", "Organization", "Practitioner", "PractitionerRole", "Questionnaire")
"""Reference data: nobody's record, so it comes along with every record that names it."""

CARE_DATES = (
    *("date", "effective-time", "sent", "period", "occurrence", "start-date", "onset-date", "event-date"),
    *("authored", "authored-on", "recorded-date", "recorded"),
)
"""The parameters that say when care took place, the best first."""

NAMED = re.compile(rf'"reference":\s*"((?:{"|".join(SHARED)})/[A-Za-z0-9\-.]{{1,64}})', re.ASCII)
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the record: `types` (none: all), changed `since`, `count` at once, and from where on (`cursor`).

    `start` and `end` are when the care took place: what says when, and was not then, is left out.
    """

    patient: str
    types: tuple[str, ...] = ()
    since: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None
    count: int = BATCH
    cursor: str | None = None


async def everything(connection: Connection, permit: Permit, asked: Asked) -> tuple[list[Found], str | None]:
    """One page of a person's record, and the cursor of the next.

    Raises FhirError: forbidden, not-found, deleted; invalid for a cursor this did not write.
    """
    await resources.read(connection, permit, "Patient", asked.patient)
    shared, place = _read(asked.cursor)
    own = [] if shared else await _compartment(connection, permit, asked, place, asked.count + 1)
    if len(own) > asked.count:
        return own[: asked.count], _write(False, own[asked.count - 1])
    whole = own if asked == Asked(asked.patient, count=asked.count) else None
    rest = [each for each in await _shared(connection, permit, asked, whole) if not shared or each[:2] > place]
    taken = rest[: asked.count - len(own)]
    if len(taken) == len(rest):
        return own + taken, None
    return own + taken, _write(True, taken[-1] if taken else Found("", "", ""))


async def _compartment(
    connection: Connection, permit: Permit, asked: Asked, place: tuple[str, str], most: int
) -> list[Found]:
    """What is the person's own, after a place (type, id). Their Patient is in it too."""
    dated = asked.start is not None or asked.end is not None
    rendered = frozenset(RENDERED_AS.values()).intersection(asked.types)
    shape = ("everything", bool(asked.types), rendered, asked.since is not None, dated, visibility.shape(permit))
    made = once(shape, lambda: _own(permit, asked))
    values = visibility.values(permit) | {
        "person": asked.patient,
        "types": list(asked.types),
        "since": asked.since,
        "start": asked.start or BEGINNING,
        "end": asked.end or END,
        "type": place[0],
        "id": place[1],
        "most": most,
    }
    return [Found(*row) for row in await connection.fetch(made.sql, *made.arguments(values))]


def _own(permit: Permit, asked: Asked) -> Select[Any]:
    """Of each table as much as a page may need; a type that is not asked for is not looked into."""
    tables = [each for each in held(None) if not asked.types or RENDERED_AS.get(each, asked.types[0]) in asked.types]
    every = union_all(*(_own_in(permit, asked, each).subquery().select() for each in tables)).subquery("every")
    most = bindparam("most", type_=Integer, required=False)
    return select(every).order_by(every.c.type, every.c.id).limit(most)


def _own_in(permit: Permit, asked: Asked, table: FromClause) -> Select[Any]:
    place = tuple_(bindparam("type", type_=Text, required=False), bindparam("id", type_=Text, required=False))
    shown = visibility.body(permit, None, table).label("body")
    found = select(table.c.type, table.c.id, shown, table.c.patient).where(
        table.c.patient == bindparam("person", type_=Text, required=False),
        tuple_(table.c.type, table.c.id) > place,
        visible(permit, "r", None, table),
    )
    if asked.types:
        found = found.where(table.c.type == any_(bindparam("types", type_=IDS, required=False)))
    if asked.since is not None:
        since = bindparam("since", type_=TIMESTAMP(timezone=True), required=False)
        found = found.where(table.c.updated >= since)
    if asked.start is not None or asked.end is not None:
        found = found.where(*_then(table))
    most = bindparam("most", type_=Integer, required=False)
    return found.order_by(table.c.type, table.c.id).limit(most)


def _then(table: FromClause) -> Iterator[ColumnElement[bool]]:
    """What took place between start and end, by the date column of each type; what says no date is kept."""
    start = bindparam("start", type_=TIMESTAMP(timezone=True), required=False)
    end = bindparam("end", type_=TIMESTAMP(timezone=True), required=False)
    for slot in range(1, DATE_SLOTS + 1):
        types = [each for each in HELD if _care_slot(each) == slot]
        low, high = table.c[f"date{slot}_low"], table.c[f"date{slot}_high"]
        then = or_(low.is_(None), and_(high > start, low < end))
        if types:
            yield or_(table.c.type.not_in(types), then)


def _care_slot(resource_type: str) -> int | None:
    """The date column that says when care took place; none of a type that says who somebody is."""
    slots = {each.name: slot for slot, each in dates(resource_type).items()}
    return next((slots[name] for name in CARE_DATES if name in slots), None)


async def _shared(connection: Connection, permit: Permit, asked: Asked, whole: Sequence[Found] | None) -> list[Found]:
    """The reference data the whole record names (`whole`, where it has been read), in the order of types and ids.

    Worked out again for each of its pages: a record is some thousands of resources at most, and a stateless page
    cannot remember what earlier ones named.
    """
    known: dict[tuple[str, str], Found] = {}
    named = _names(whole or ())
    if whole is None:
        async for batch in _batches(connection, permit, asked.patient):
            named |= _names(batch)
    while wanted := named - known.keys():
        found = await fetch(connection, permit, sorted(wanted))
        known |= {(each.type, each.id): each for each in found}
        named = _names(found)
        if not found:
            break
    return sorted(each for each in known.values() if _fits(each, asked))


def _fits(found: Found, asked: Asked) -> bool:
    """What the statement decides for the person's own, for reference data fetched by name."""
    if asked.types and found.type not in asked.types:
        return False
    return asked.since is None or span(orjson.loads(found.body)["meta"]["lastUpdated"])[0] >= asked.since


async def _batches(connection: Connection, permit: Permit, patient: str) -> AsyncIterator[Sequence[Found]]:
    place = ("", "")
    while batch := await _compartment(connection, permit, Asked(patient), place, BATCH):
        yield batch
        if len(batch) < BATCH:
            break
        place = batch[-1][:2]


def _names(found: Iterable[Found]) -> set[tuple[str, str]]:
    """The reference data that bodies name, extensions and all, found without parsing them."""
    spelt = {name for each in found for name in NAMED.findall(each.body)}
    return {(kind, id) for kind, _, id in (name.partition("/") for name in spelt)}


def _write(shared: bool, last: Found) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([shared, last.type, last.id])).rstrip(b"=").decode()


def _read(cursor: str | None) -> tuple[bool, tuple[str, str]]:
    """Whether the page is of reference data, and the type and id it begins after."""
    if cursor is None:
        return False, ("", "")
    try:
        shared, kind, id = orjson.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
        if not (isinstance(shared, bool) and isinstance(kind, str) and isinstance(id, str)) or "\0" in kind + id:
            raise ValueError
    except (ValueError, TypeError):
        raise FhirError(Issue("invalid", "_cursor is not one of this operation: begin again without it")) from None
    return shared, (kind, id)
