"""The national data opt-out: who does not want their record used beyond their own care, by a list with an age.

It is no consent and never on a Patient: a list is fetched (MESH, "Check for National Data Opt-outs"), loaded whole in
place of the one before, and counts for so many days. Where it is older, or there is none, planning and research see
nobody. https://digital.nhs.uk/services/national-data-opt-out
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.nhs import NHS_NUMBER, is_nhs_number, unspaced
from fhirgw.store.database import Connection


class Loaded(NamedTuple):
    """What loading a list came to: how many are on it, were added to it, are no longer on it."""

    rows: int
    added: int
    removed: int


def numbers(lines: Iterable[str]) -> Iterator[str]:
    """The NHS numbers of a list, one a line. Raises FhirError(value) naming the first line that is none.

    A file that is not what it should be is refused whole: a list half understood would open somebody's record.
    """
    for at, line in enumerate(lines, 1):
        written = unspaced(line.strip().removeprefix("\ufeff").rstrip(","))
        if written and not is_nhs_number(written):
            raise FhirError(Issue("value", f"Line {at} is no NHS number: the list has one a line, and nothing else"))
        if written:
            yield written


async def load(connection: Connection, listed: Iterable[str], produced: datetime) -> Loaded:
    """Puts a list in place of the one before, or leaves that as it was.

    Raises FhirError: value for an empty list, business-rule for one that is older than the one in force.
    """
    rows = {(each,) for each in listed}
    if not rows:
        raise FhirError(Issue("value", "The list is empty: somebody has opted out, so it is not whole"))
    async with connection.transaction():
        await connection.execute("LOCK TABLE fhirgw.opt_out_list IN SHARE ROW EXCLUSIVE MODE")
        if await connection.fetchval("SELECT true FROM fhirgw.opt_out_list WHERE produced > $1", produced):
            raise FhirError(
                Issue("business-rule", "A newer list is in force: load that one again, or a newer one still")
            )
        await connection.execute('CREATE TEMP TABLE listed (nhs_number text COLLATE "C" PRIMARY KEY) ON COMMIT DROP')
        await connection.copy_records_to_table("listed", records=rows)
        added, removed = await _replace(connection)
        await connection.execute(
            "INSERT INTO fhirgw.opt_out_list (produced, rows) VALUES ($1, $2) ON CONFLICT (one)"
            " DO UPDATE SET produced = excluded.produced, rows = excluded.rows, loaded = clock_timestamp()",
            produced,
            len(rows),
        )
    return Loaded(len(rows), added, removed)


async def _replace(connection: Connection) -> tuple[int, int]:
    """Only what differs, so that readers wait for nobody; who is new on it may be seen by fewer from now on."""
    removed = await connection.fetchval(
        "WITH gone AS (DELETE FROM fhirgw.opt_out o WHERE NOT EXISTS"
        " (SELECT FROM listed l WHERE l.nhs_number = o.nhs_number) RETURNING 1) SELECT count(*) FROM gone"
    )
    added = await connection.fetchval(
        "WITH made AS (INSERT INTO fhirgw.opt_out SELECT nhs_number FROM listed ON CONFLICT DO NOTHING"
        " RETURNING nhs_number), told AS (INSERT INTO fhirgw.narrowed (person) SELECT DISTINCT i.patient FROM made m"
        " JOIN fhirgw.identifier i ON i.system = $1 AND i.value = m.nhs_number) SELECT count(*) FROM made",
        NHS_NUMBER,
    )
    return added, removed


class Listed(NamedTuple):
    """The list in force: how many are on it, when it was produced and loaded, when it is too old to count."""

    rows: int
    produced: datetime
    loaded: datetime
    until: datetime
    fresh: bool


async def in_force(connection: Connection, days: float) -> Listed | None:
    """The list that counts for so many days; None where there is none."""
    query = (
        "SELECT rows, produced, loaded, produced + $1 * interval '1 day' AS until,"
        " produced > statement_timestamp() - $1 * interval '1 day' AS fresh FROM fhirgw.opt_out_list"
    )
    row = await connection.fetchrow(query, float(days))
    return None if row is None else Listed(*row)


async def size(connection: Connection) -> int:
    """How many are on the list in force; 0 where there is none."""
    return await connection.fetchval("SELECT rows FROM fhirgw.opt_out_list") or 0


async def fresh(connection: Connection, days: float) -> bool:
    """Whether there is a list, and it is not older than so many days."""
    found = await in_force(connection, days)
    return found is not None and found.fresh


async def check_fresh(connection: Connection, days: float) -> None:
    """Raises FhirError(transient), a 503, where planning and research cannot be told whom to leave out."""
    found = await in_force(connection, days)
    if found is None or not found.fresh:
        of = f"is of {found.produced:%Y-%m-%d}, and counts for {days:g} days" if found else "is missing"
        raise FhirError(Issue("transient", f"The list of national data opt-outs {of}: its operators load a newer one"))
