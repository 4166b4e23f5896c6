"""Break-glass: one person's record for one practitioner, for a written reason, for half an hour at most.

A grant says nothing about whether there is such a person, or whether the caller could see them anyway: it is given for
any id, and whoever uses it finds what an emergency may see there, or nothing. Every grant waits for a review.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.database import Connection

MINUTES = 30
SHORTEST, LONGEST = 10, 2000
"""Characters of a reason: too few say nothing, and a reason is no place for a record."""

AT_ONCE = 5
"""Grants one practitioner may have at a time: emergencies come one by one, and a list of people is not one."""

FINDINGS = ("appropriate", "inappropriate")


class Grant(NamedTuple):
    """A grant as the review sees it."""

    id: str
    person: str
    practitioner: str
    organisation: str
    registration: str
    reason: str
    granted: datetime
    expires: datetime
    reviewed: datetime | None = None
    finding: str | None = None
    reviewer: str | None = None


NAMES = ", ".join(Grant._fields)


def reason(text: Any) -> str:
    """A reason as it is kept, its blanks made one each. Raises FhirError(invalid) for one that cannot be one."""
    written = " ".join(text.split()) if isinstance(text, str) else ""
    if not SHORTEST <= len(written) <= LONGEST or not written.isprintable() or len(set(written)) < SHORTEST // 2:
        rule = f"write in {SHORTEST} to {LONGEST} characters why you must see this record now"
        raise FhirError(Issue("invalid", f"Break-glass needs a reason: {rule}", "Parameters.parameter"))
    return written


async def grant(connection: Connection, permit: Permit, person: str, why: str, tell: Callable[[Grant], None]) -> Grant:
    """Lets the permit's practitioner see one person's record in an emergency, for MINUTES from now.

    `tell` raises the alert. It comes first: what nobody can be told of is not granted.
    Raises FhirError(throttled) for one who has AT_ONCE grants in force.
    """
    async with connection.transaction():
        # One at a time for each practitioner, or many requests at once would each find room for one more.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 6))", permit.practitioner)
        held = "SELECT count(*) FROM fhirgw.break_glass WHERE practitioner = $1 AND expires > clock_timestamp()"
        if await connection.fetchval(held, permit.practitioner) >= AT_ONCE:
            raise FhirError(Issue("throttled", f"{AT_ONCE} grants are in force already: wait until one has ended"))
        row = await connection.fetchrow(
            "INSERT INTO fhirgw.break_glass"
            " (id, person, practitioner, organisation, registration, reason, granted, expires, alerted)"
            f" SELECT $1, $2, $3, $4, $5, $6, now, now + interval '{MINUTES} minutes', now"
            f" FROM clock_timestamp() AS now RETURNING {NAMES}",
            secrets.token_urlsafe(24),
            person,
            permit.practitioner,
            permit.organisation,
            permit.registration,
            why,
        )
        made = Grant(*row)
        tell(made)
    return made


async def held_by(connection: Connection, person: str, practitioner: str | None) -> str | None:
    """The practitioner's grant for a person that is longest in force, if there is one."""
    query = (
        "SELECT id FROM fhirgw.break_glass WHERE person = $1 AND practitioner = $2"
        " AND expires > statement_timestamp() ORDER BY expires DESC LIMIT 1"
    )
    found: str | None = await connection.fetchval(query, person, practitioner)
    return found


async def queue(connection: Connection, *, reviewed: bool = False) -> list[Grant]:
    """The grants that wait for a review, or with `reviewed` all, the oldest first."""
    which = "" if reviewed else " WHERE reviewed IS NULL"
    rows = await connection.fetch(f"SELECT {NAMES} FROM fhirgw.break_glass{which} ORDER BY granted, id")
    return [Grant(*row) for row in rows]


async def review(connection: Connection, id: str, finding: str, reviewer: str) -> Grant:
    """Writes down what a review found. An inappropriate grant ends at once.

    Raises FhirError: not-found, or business-rule for one that has been reviewed: a finding is not changed.
    """
    row = await connection.fetchrow(
        "UPDATE fhirgw.break_glass SET reviewed = clock_timestamp(), finding = $2, reviewer = $3,"
        " expires = CASE WHEN $2 = 'inappropriate' THEN least(expires, clock_timestamp()) ELSE expires END"
        f" WHERE id = $1 AND reviewed IS NULL RETURNING {NAMES}",
        id,
        finding,
        reviewer,
    )
    if row is not None:
        return Grant(*row)
    if await connection.fetchval("SELECT true FROM fhirgw.break_glass WHERE id = $1", id):
        raise FhirError(Issue("business-rule", "This grant has been reviewed already; its finding stands"), status=409)
    raise FhirError(Issue("not-found", "There is no such grant: `fhirgw break-glass list` shows them"))
