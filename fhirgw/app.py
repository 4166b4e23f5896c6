"""The composition root of the server: settings in, an app that owns its database connections out."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.api import bulk, fhir, health, landing
from fhirgw.api.answer import not_routed
from fhirgw.api.context import Context
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.settings import Settings
from fhirgw.store.database import Readers, connect, readers
from fhirgw.store.migrate import check
from fhirgw.store.server import database

EXPORTING = 5
"""Connections for exports that run in this process: one for each, and some to note how far they are."""


def create_app(settings: Settings) -> FastAPI:
    """The gateway. The database is reached when it starts up; its tables are `fhirgw migrate`'s business."""
    configure_log(settings)
    app = FastAPI(title="fhirgw", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan(settings))
    # The commonest first: each route that is tried before the right one costs four microseconds.
    app.router.routes[:] = [*fhir.routes(), *bulk.routes(), *health.routes(), *landing.routes()]
    app.router.redirect_slashes = False
    app.add_exception_handler(HTTPException, not_routed)
    return app


def system_wide(settings: Settings) -> Permit:
    """The permit every caller has while there are no tokens: all of one organisation's records, to read."""
    return Permit(settings.controller, "direct-care", (Scope.parse("system/*.rs"),))


def configure_log(settings: Settings) -> None:
    """One line of JSON for each thing worth saying, or plain text for people.

    uvicorn's access log is off: it writes whole addresses, and a search's address may name a person.
    """
    logging.getLogger("uvicorn.access").disabled = True
    shown = structlog.processors.JSONRenderer() if settings.log == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            shown,
        ]
    )


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What the app owns while it runs: the embedded database if there is one, connections, running exports."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as owned:
            url = await owned.enter_async_context(database(settings.database_url, settings.postgres))
            reading, searching = [
                await owned.enter_async_context(
                    readers(url, size=settings.connections, seconds=settings.statement_seconds, replan=replan)
                )
                for replan in (False, True)
            ]
            engine = connect(url, size=EXPORTING)
            owned.push_async_callback(engine.dispose)
            await check(engine)
            app.state.exports = await owned.enter_async_context(ExportJobs(engine, settings.data / "exports"))
            app.state.context = _context(settings, reading, searching)
            gc.freeze()  # what exists now is never garbage: later collections need not look at it
            yield

    return lifespan


def _context(settings: Settings, reading: Readers, searching: Readers) -> Context:
    permit = system_wide(settings)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return Context(reading, searching, lambda request: permit, settings.base_url, _version(), started)


def _version() -> str:
    try:
        return version("fhirgw")
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return "0"
