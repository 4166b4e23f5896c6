"""Reads the audit: what was looked at in one person's record, and what was looked at at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    LargeBinary,
    Select,
    Text,
    all_,
    bindparam,
    case,
    cast,
    not_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from fhirgw.access.audit_event import EVERYBODY, RECIPIENT
from fhirgw.access.purpose import Purpose
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import Resource
from fhirgw.store.database import Connection, once
from fhirgw.store.schema import audited

FIRST = 2**63 - 1
"""Comes after every sequence: where the newest page begins."""

TIPPING_OFF = (Purpose.SAFEGUARDING.value,)
"""Purposes that are not told to the person: whoever has a hold over them may be reading along."""


class Listed(NamedTuple):
    """A row of the audit by its place in the chain; `body` is the AuditEvent's JSON."""

    sequence: int
    body: str


class Looked(NamedTuple):
    """A row by its place in time, for the person: a number in the chain would tell how much others are looked at."""

    recorded: datetime
    digest: bytes
    body: str


async def looked(
    connection: Connection,
    person: str,
    *,
    after: Looked | None = None,
    count: int = 50,
    hidden: Sequence[str] = (),
    own: bool = True,
) -> list[Looked]:
    """Accesses to a person's record and bulk copies of everybody's, the newest first; none of the `hidden` purposes.

    `after` is the last one of the page before; `own`: with what they asked for themselves.
    """
    made = once(("audit looked", after is None, own), lambda: _looked(after is None, own))
    values: dict[str, Any] = {"whom": [person, EVERYBODY], "count": count, "hidden": list(hidden)}
    values["themselves"] = encode({"agent": [{"type": {"coding": [RECIPIENT]}, "who": _patient(person)}]}).decode()
    if after is not None:
        values |= {"recorded": after.recorded, "digest": after.digest}
    return [Looked(*each) for each in await connection.fetch(made.sql, *made.arguments(values))]


async def listed(
    connection: Connection,
    *,
    person: str | None = None,
    registration: str | None = None,
    since: datetime | None = None,
    before: int = FIRST,
    count: int = 50,
) -> list[Listed]:
    """Accesses of any kind, the newest first."""
    narrowed = (person is not None, registration is not None, since is not None)
    made = once(("audit listed", narrowed), lambda: _listed(*narrowed))
    values = {"before": before, "count": count, "registration": registration, "since": since}
    arguments = made.arguments(values | {"whom": [person, EVERYBODY]})
    return [Listed(*each) for each in await connection.fetch(made.sql, *arguments)]


def _patient(person: str) -> Resource:
    return {"reference": f"Patient/{person}"}


def _looked(first: bool, own: bool) -> Select[Any]:
    hidden = bindparam("hidden", type_=ARRAY(Text), required=False)
    found = select(audited.c.recorded, audited.c.digest, audited.c.body).where(
        _whom(), audited.c.purpose != all_(hidden)
    )
    if not own:
        asked = cast(audited.c.body, JSONB).contains(cast(bindparam("themselves", type_=Text, required=False), JSONB))
        found = found.where(case((audited.c.purpose == Purpose.PERSON.value, not_(asked)), else_=True))
    place = tuple_(audited.c.recorded, audited.c.digest)
    if not first:
        recorded = bindparam("recorded", type_=TIMESTAMP(timezone=True), required=False)
        found = found.where(place < tuple_(recorded, bindparam("digest", type_=LargeBinary, required=False)))
    return found.order_by(audited.c.recorded.desc(), audited.c.digest.desc()).limit(_count())


def _listed(person: bool, registration: bool, since: bool) -> Select[Any]:
    found = select(audited.c.sequence, audited.c.body)
    if person:
        found = found.where(_whom())
    if registration:
        found = found.where(audited.c.registration == bindparam("registration", type_=Text, required=False))
    if since:
        found = found.where(audited.c.recorded >= bindparam("since", type_=TIMESTAMP(timezone=True), required=False))
    before = bindparam("before", type_=BigInteger, required=False)
    # Without the `+ 0` PostgreSQL may walk the whole audit backwards for one person's few rows.
    order = audited.c.sequence + 0 if person else audited.c.sequence
    return found.where(audited.c.sequence < before).order_by(order.desc()).limit(_count())


def _whom() -> ColumnElement[bool]:
    found: ColumnElement[bool] = audited.c.persons.overlap(bindparam("whom", type_=ARRAY(Text), required=False))
    return found


def _count() -> BindParameter[int]:
    return bindparam("count", type_=BigInteger, required=False)
