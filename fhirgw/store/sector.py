"""What consents call an organisation that has not said so: by its registrations, or by what records say of it."""

from __future__ import annotations

from collections.abc import Sequence

from fhirgw.store.database import Connection

REGISTERED = """
SELECT sector FROM fhirgw.registration WHERE organisation = $1 ORDER BY active DESC, id LIMIT 1"""
PROVIDING = """
SELECT true FROM fhirgw.relationship WHERE party = ANY ($1) AND kind IN ('care-provider', 'late-visits') LIMIT 1"""


async def supposed(
    connection: Connection, organisation: str, parties: Sequence[str], controller: str
) -> tuple[str, str]:
    """The sector of an ODS code known as `parties`, and why it is supposed to be that one."""
    if organisation == controller:
        return "council", "it is the controller of these records"
    if sector := await connection.fetchval(REGISTERED, organisation):
        return str(sector), "an application of its is registered as such"
    if await connection.fetchval(PROVIDING, list(parties)):
        return "care-provider", "records name it in packages of care"
    return "nhs", "nothing here says otherwise"
