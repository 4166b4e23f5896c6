"""What an export holds that its permit no longer shows: of persons whom somebody may see less of since it began.

Whatever narrows a person's record (a dissent, a label, an ended relationship, a visit that is another's now) notes the
person, in its transaction (fhirgw.store.rules). A job remembers how far it has looked, as the oldest transaction that
was still running then: what that one or a later one notes is looked at.
https://www.postgresql.org/docs/18/functions-info.html#FUNCTIONS-INFO-SNAPSHOT

What begins or ends by its own date (a package of care, a consent's period, a delegation) nobody notes: a job remembers
the moment as well, and those whose rules have begun or ended since are looked at too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Text,
    any_,
    bindparam,
    cast,
    except_,
    func,
    literal,
    or_,
    select,
    union,
)
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.permit import Permit
from fhirgw.fhir.tokens import plain_reference
from fhirgw.mapping.identity import PLACEMENT
from fhirgw.store import visibility
from fhirgw.store.basis import LISTS, NOBODYS
from fhirgw.store.database import Connection, declared, statement
from fhirgw.store.schema import both, held, visit_left
from fhirgw.store.visibility import visible

VISIT = ("Appointment", "Encounter")
"""What a visit is, with one id: that of the record it is in (fhirgw.visits.batch)."""

NARROWED = """
WITH job AS (SELECT narrowed, looked FROM fhirgw.export_job WHERE id = $1)
SELECT array(
    SELECT n.person FROM fhirgw.narrowed n, job WHERE n.transaction::text::bigint >= job.narrowed
    UNION SELECT r.person FROM fhirgw.relationship r, job WHERE r.ends > job.looked AND r.ends <= statement_timestamp()
    UNION SELECT d.person FROM fhirgw.delegation d, job WHERE d.ends > job.looked AND d.ends <= statement_timestamp()
    UNION SELECT d.person FROM fhirgw.directive d, job WHERE d.ends > job.looked AND d.ends <= statement_timestamp()
    UNION SELECT d.person FROM fhirgw.directive d, job WHERE d.starts > job.looked AND d.starts <= statement_timestamp()
) AS persons, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS transaction, statement_timestamp() AS moment"""


WITHHELD = """
WITH job AS (
    UPDATE fhirgw.export_job
    SET narrowed = $4, looked = $5, result = $6::jsonb, state = 'failed',
        finished = coalesce(finished, clock_timestamp())
    WHERE id = $1 AND state = $2 AND looked = $3 RETURNING id)
UPDATE fhirgw.export_part p SET state = 'failed', reason = $7, rows = 0, bytes = 0
FROM job WHERE p.job = job.id AND p.kind = 'output' AND p.state = 'done'"""
"""All parts of it are to be made anew, if it is ever gone on with: lines have been taken out of some."""

LOOKED = """
UPDATE fhirgw.export_job
SET narrowed = $4, looked = $5, result = $6::jsonb, state = 'done', finished = coalesce(finished, clock_timestamp())
WHERE id = $1 AND state = $2 AND looked = $3"""


class Looked(NamedTuple):
    """How far a job has been looked through: the oldest transaction that was running then, and when that was."""

    transaction: int
    moment: datetime


async def narrowed(connection: Connection, job: str) -> tuple[list[str], Looked]:
    """The persons to be looked at for a job, and what to remember when that is done."""
    found = await connection.fetchrow(NARROWED, job)
    return list(found["persons"]), Looked(int(found["transaction"]), found["moment"])


async def withheld(
    connection: Connection, permit: Permit, resource_type: str, persons: Sequence[str]
) -> dict[str, bytes | None]:
    """What the permit does not show of the persons' resources of a type, by id: None, or what it shows in its place.

    Of resources of now or before. A Patient who is shown without their whereabouts is shown as they are now.
    """
    hidden, shortened = statement(_hidden(permit, resource_type)), statement(_shortened(permit, resource_type))
    named = [plain_reference("member", f"Patient/{each}") for each in persons]
    asked = visibility.values(permit) | {"persons": persons, "named": named}
    async with declared(connection, permit):
        found: dict[str, bytes | None] = {
            row["id"]: None for row in await connection.fetch(hidden.sql, *hidden.arguments(asked))
        }
        for row in await connection.fetch(shortened.sql, *shortened.arguments(asked)):
            found[row["id"]] = row["body"].encode()
    return found


async def looked(connection: Connection, job: str, state: str, since: datetime, until: Looked, result: Any) -> bool:
    """Remembers how far a job has been looked at, and what is left in its files; a job that ran is done with that.

    `state` and `since` are what it was when the look began. False: it is not any more, somebody else has looked.
    """
    status = await connection.execute(LOOKED, job, state, since, *until, orjson.dumps(result).decode())
    return bool(status == "UPDATE 1")


async def withhold(
    connection: Connection, job: str, state: str, since: datetime, until: Looked, told: Any, reason: str
) -> bool:
    """As `looked`, of a job that comes to nothing by what was taken out: it has failed, as `told`."""
    arguments = job, state, since, *until, orjson.dumps(told).decode(), reason
    status = await connection.execute(WITHHELD, *arguments)
    return bool(status != "UPDATE 0")


async def forget(connection: Connection, age: timedelta) -> None:
    """Forgets what no export can be about any more."""
    await connection.execute("DELETE FROM fhirgw.narrowed WHERE recorded < clock_timestamp() - $1::interval", age)


def _hidden(permit: Permit, resource_type: str) -> Any:
    theirs: list[Any] = [select(table.c.id).where(*_theirs(resource_type, table)) for table in both(resource_type)]
    theirs += _left(resource_type)
    shown = [
        select(table.c.id).where(*_theirs(resource_type, table), visible(permit, "r", resource_type, table))
        for table in held(resource_type)
    ]
    return except_(union(*theirs), *shown)


def _left(resource_type: str) -> Iterator[Any]:
    """The ids under which visits were in one of the persons' records, and are no more."""
    if resource_type in VISIT:
        key = func.substr(cast(visit_left.c.key, Text), PLACEMENT + 1)
        persons = bindparam("persons", type_=ARRAY(Text), required=False)
        id = func.concat(func.left(visit_left.c.patient, PLACEMENT), key)
        yield select(id).where(visit_left.c.patient == any_(persons))


def _shortened(permit: Permit, resource_type: str) -> Any:
    """Those that are shown, but not whole: of what is rendered nothing is withheld in part."""
    (resource, *_) = held(resource_type)
    whole = visibility.whole(permit, resource, resource_type)
    return select(resource.c.id, visibility.body(permit, resource_type)).where(
        *_theirs(resource_type, resource), visible(permit, "r", resource_type), ~whole
    )


def _theirs(resource_type: str, table: FromClause) -> Iterator[ColumnElement[bool]]:
    """Of a type, and of one of the persons or telling of them; lists that name one of them; what is noted by its id."""
    persons = bindparam("persons", type_=ARRAY(Text), required=False)
    yield table.c.type == literal(resource_type, Text, literal_execute=True)
    if resource_type in LISTS:
        named = bindparam("named", type_=ARRAY(BigInteger), required=False)
        yield or_(table.c.tokens.overlap(named), table.c.id == any_(persons))
    elif resource_type in NOBODYS:
        yield table.c.id == any_(persons)
    else:
        yield or_(table.c.patient == any_(persons), table.c.also == any_(persons))
