"""What went wrong with the database, in words that name no row: PostgreSQL's own messages may quote one."""

from __future__ import annotations

import asyncpg
from sqlalchemy.exc import DBAPIError

from fhirgw.store.database import away

REFUSED = {
    "28000": "it does not let this account in: correct FHIRGW_DATABASE_URL, or pg_hba.conf",
    "28P01": "the password is wrong: correct FHIRGW_DATABASE_URL, or the password file",
    "3D000": "there is no such database: create it, or correct FHIRGW_DATABASE_URL",
    "42501": "this account may not do that: grant it the right, or use the account that owns the tables",
    "53100": "its disk is full: make room",
    "53300": "it has no connection to spare: lower FHIRGW_CONNECTIONS, or raise max_connections",
    "55P03": "another process holds what is needed: run the same again later",
    "57014": "a statement took too long: run the same again when it has less to do",
}
"""What to do, by SQLSTATE. https://www.postgresql.org/docs/18/errcodes-appendix.html"""

MISSING = "it is away: start it, or correct FHIRGW_DATABASE_URL, and run the same again"


def trouble(error: BaseException) -> str | None:
    """What to tell people about the database; None for an error that did not come from it."""
    if isinstance(error, DBAPIError):
        return trouble(error.orig.__cause__ or error.orig) if error.orig else None
    state = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError) and state in REFUSED:
        return f"The database refuses: {REFUSED[state]}."
    if away(error) or isinstance(error, asyncpg.InternalClientError):
        return f"The database cannot be reached: {MISSING} ({type(error).__name__})."
    if isinstance(error, asyncpg.PostgresError):
        return f"The database refuses ({type(error).__name__}, SQLSTATE {state}): run `fhirgw migrate` if it is older."
    return None
