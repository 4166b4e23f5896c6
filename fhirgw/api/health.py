"""Whether this process lives, and whether it can serve: for whatever restarts it and whatever sends it requests."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fhirgw.api.context import context
from fhirgw.api.open import opened
from fhirgw.store.database import away
from fhirgw.store.migrate import serves

NO_STORE = {"cache-control": "no-store"}


async def live(request: Request) -> Response:
    """The process answers: nothing else is asked."""
    return JSONResponse({"status": "live"}, headers=NO_STORE)


async def ready(request: Request) -> Response:
    """The database answers and has the tables this code needs; 503 with what is missing otherwise."""
    try:
        async with context(request).readers.acquire(timeout=2) as connection:
            found = await connection.fetchval("SELECT version_num FROM fhirgw.alembic_version", timeout=2)
    except Exception as error:
        return _unready("the database does not answer" if away(error) else "it has no tables: run fhirgw migrate")
    if not serves(found):
        return _unready("its tables are older than this code: run fhirgw migrate")
    return JSONResponse({"status": "ready"}, headers=NO_STORE)


def routes() -> list[Route]:
    """Both probes."""
    return [opened("/health/live", live), opened("/health/ready", ready)]


def _unready(reason: str) -> Response:
    return JSONResponse({"status": "unready", "reason": reason}, 503, headers=NO_STORE)
