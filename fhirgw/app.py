"""The composition root of the server: settings in, an app that owns its database connections out.

Long, because it is the one place that knows every part, and the order in which they open and close.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from fhirgw import packages, shipped
from fhirgw.access.permit import directory, operations
from fhirgw.api import (
    alerts,
    audit_events,
    break_glass,
    bulk,
    desk,
    explain,
    fhir,
    health,
    imports,
    landing,
    measure,
    smart,
    subscriptions,
    terminology,
    visit_certify,
    visit_guide,
    visit_ledger,
    visit_quality,
    visit_status,
    visit_upload,
    visits,
    who_looked,
)
from fhirgw.api.alert_stream import Streams
from fhirgw.api.answer import not_routed
from fhirgw.api.context import Context
from fhirgw.api.gate import Gate
from fhirgw.api.origins import allowing
from fhirgw.api.packed import Packed
from fhirgw.api.smart import Smart, assembled
from fhirgw.api.subscribing import permits, signer
from fhirgw.api.terminology import Terminology
from fhirgw.api.terminology_server import connected
from fhirgw.api.together import Together
from fhirgw.api.visit_company import Company
from fhirgw.api.visit_rows import Rows
from fhirgw.api.visit_sweep import sweeping
from fhirgw.api.writers import Writers
from fhirgw.fhir.issue import Resource
from fhirgw.jobs.engine import PROCRASTINATE
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.jobs.hook import made_reach
from fhirgw.jobs.import_jobs import ImportJobs
from fhirgw.jobs.notify import Notifier
from fhirgw.jobs.place import places
from fhirgw.jobs.projects import Projects
from fhirgw.jobs.workers import made_importer, made_watch
from fhirgw.log import configure_log
from fhirgw.mapping import concept_map
from fhirgw.mapping.load import MappingFaults, load
from fhirgw.settings import Settings
from fhirgw.store.audit import Auditor
from fhirgw.store.database import Engine, Readers, connect, direct, readers
from fhirgw.store.migrate import check
from fhirgw.store.runs import skew
from fhirgw.store.server import database
from fhirgw.visits.certify import cases
from fhirgw.visits.layout import layouts
from fhirgw.visits.quality import standard
from fhirgw.visits.reading import Reader
from fhirgw.visits.rules import rules

EXPORTING = 10
"""Connections that write: for exports that run in this process and how far they are, for tokens and grants."""

STREAMING = 2
"""Connections of the streams of alerts: each looks for a few milliseconds."""


def create_app(settings: Settings) -> FastAPI:
    """The gateway. The database is reached when it starts up; its tables are `fhirgw migrate`'s business."""
    configure_log(settings)
    app = _Gateway(title="fhirgw", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan(settings))
    # The commonest first: each route that is tried before the right one costs four microseconds.
    app.router.routes[:] = [
        *(*fhir.routes(), *smart.routes(), *bulk.routes(), *imports.routes()),
        *(*who_looked.routes(), *break_glass.routes(), *explain.routes(), *audit_events.routes()),
        *(*terminology.routes(), *visits.routes(), *visit_ledger.routes(), *measure.routes()),
        *(*alerts.routes(), *desk.routes(), *subscriptions.routes(), *health.routes(), *landing.routes()),
        *(
            *visit_status.routes(),
            *visit_quality.routes(),
            *visit_certify.routes(),
            *visit_upload.routes(),
            *visit_guide.routes(),
        ),
    ]
    app.router.redirect_slashes = False
    app.middleware_stack = allowing(Packed(_routed(app.router)), settings.origins)
    return app


class _Gateway(FastAPI):
    """FastAPI without what no route here has (dependencies, form limits, telemetry): a sixth of what a read costs."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        assert self.middleware_stack is not None
        await self.middleware_stack(scope, receive, send)


def _routed(router: Router) -> ASGIApp:
    """The routes. What a handler raises is answered where it is raised (fhirgw.api.answer); here is what none gets."""

    apart = _apart(router)

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await router(scope, receive, send)
            return
        path = scope["path"]
        if path.endswith("/") and path.startswith("/fhir/"):  # some libraries end addresses so
            scope["path"] = path = path[:-1]
        try:
            await Router.app(apart.get(_first(path), router), scope, receive, send)
        except HTTPException as error:
            response = await not_routed(Request(scope, receive, send), error)
            await response(scope, receive, send)

    return answered


def _apart(router: Router) -> dict[str, Router]:
    """The routes by the first step of their path, in their order: nobody's are tried before those of another."""
    found: dict[str, Router] = {}
    for each in router.routes:
        if isinstance(each, Route):
            found.setdefault(_first(each.path), Router(redirect_slashes=False)).routes.append(each)
    return found


def _first(path: str) -> str:
    return path[1:].partition("/")[0]


def from_environment() -> FastAPI:
    """The gateway of the environment's settings: for one of several processes that serve together."""
    return create_app(Settings())  # type: ignore[call-arg]


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What the app owns while it runs: the embedded database if there is one, connections, running exports."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as owned:
            url = await owned.enter_async_context(database(settings.database_url, settings.postgres))
            reading, searching = [
                await owned.enter_async_context(
                    readers(
                        url,
                        size=settings.connections,
                        seconds=settings.statement_seconds,
                        replan=replan,
                        standing=True,
                    )
                )
                for replan in (False, True)
            ]
            writing = await owned.enter_async_context(
                readers(url, size=settings.writers, seconds=settings.statement_seconds, writing=True)
            )
            engine = connect(url, size=EXPORTING)
            owned.push_async_callback(engine.dispose)
            await check(engine)
            async with direct(engine) as connection:
                app.state.together = Together()
                app.state.writers = Writers(writing, settings.longest_body, settings.entries, await skew(connection))
                app.state.visits = await owned.enter_async_context(_visits(settings, url, app.state.writers))
            app.state.auditor = await owned.enter_async_context(Auditor(url))
            app.state.exports = await owned.enter_async_context(_exports(settings, engine))
            app.state.imports = await owned.enter_async_context(_imports(settings, engine))
            app.state.alerts = Streams(await owned.enter_async_context(readers(url, size=STREAMING)))
            if settings.worker_in_serve or settings.executor != PROCRASTINATE:  # Dask's workers do not watch
                await owned.enter_async_context(made_watch(engine).watching())
            app.state.controller, app.state.controllers = settings.controller, settings.controllers
            app.state.directory = directory(settings.controller)
            app.state.smart = _smart(settings, engine, reading)
            await owned.enter_async_context(_notifying(settings, app, engine))
            app.state.overseer, app.state.opt_out_days = operations(settings.controller), settings.opt_out_days
            gate = Gate(app.state.smart.gatekeeper, app.state.smart.connect, settings.opt_out_days)
            app.state.terminology = await owned.enter_async_context(_terminology(settings))
            app.state.context = _context(settings, reading, searching, gate)
            packages.load(settings.data)
            gc.set_threshold(20_000, 20, 20)
            gc.freeze()  # what exists now is never garbage: later collections need not look at it
            yield

    return lifespan


def _exports(settings: Settings, engine: Engine) -> ExportJobs:
    return ExportJobs(
        engine,
        places(settings.export_folder, settings.export_store, settings.signed_for),
        working=settings.worker_in_serve,
        lease=timedelta(seconds=settings.lease_seconds),
        part=int(settings.part_megabytes * 1e6),
        gzip=settings.gzip_exports,
        projects=Projects(settings.project_folder),
        moved=settings.executor,
    )


def _imports(settings: Settings, engine: Engine) -> ImportJobs:
    importer = made_importer(settings, engine)
    return ImportJobs(importer, working=settings.worker_in_serve, moved=settings.executor)


@asynccontextmanager
async def _visits(settings: Settings, url: str, writers: Writers) -> AsyncIterator[visits.Visits]:
    """Homecare visits, by connections of their own: nothing else that is written keeps them waiting."""
    size, seconds = settings.visit_writers, settings.statement_seconds
    async with readers(url, size=size, seconds=seconds, writing=True) as pool:
        mappings = shipped.path("mappings")
        reader = Reader(rules(mappings))
        rows = Rows(reader, layouts(mappings, reader.shapes))
        own = replace(writers, pool=pool)
        async with sweeping(own):
            yield visits.Visits(
                own, rows, settings.controller, Company(own, rows.reader.rules), standard(mappings), cases(mappings)
            )


@asynccontextmanager
async def _notifying(settings: Settings, app: FastAPI, engine: Engine) -> AsyncIterator[None]:
    """Telling subscribers, if this process works on what nobody waits for, or if no `fhirgw worker` does."""
    app.state.reach = made_reach(settings)
    auditor, keyring = app.state.auditor, app.state.smart.keyring
    notifier = Notifier(engine, auditor, permits(settings.controllers), signer(keyring), app.state.reach)
    working = settings.worker_in_serve or settings.executor != PROCRASTINATE
    async with notifier.working() if working else nullcontext():
        yield


def _context(settings: Settings, reading: Readers, searching: Readers, gate: Gate) -> Context:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return Context(reading, searching, gate, settings.base_url, _version(), started, gate.assumed)


@asynccontextmanager
async def _terminology(settings: Settings) -> AsyncIterator[Terminology]:
    """What the mappings define is carried besides; and the terminology server, if there is one."""
    async with AsyncExitStack() as owned:
        server = None
        if settings.terminology_url:
            token = settings.terminology_token.get_secret_value() if settings.terminology_token else None
            server = await owned.enter_async_context(connected(settings.terminology_url, token))
        yield Terminology(_mapped, server)


def _mapped() -> Iterator[Resource]:
    """The code maps of the systems of record, as ConceptMaps and CodeSystems; none of mappings that have faults."""
    try:
        known = load(shipped.path("mappings"))
    except MappingFaults:
        structlog.get_logger("fhirgw").error("the mappings have faults: `fhirgw check` shows them")
        return iter(())
    systems = [(name, system.codes.values()) for name, system in known.systems.items()]
    return concept_map.definitions(systems, known.concepts.values())


def _smart(settings: Settings, engine: Engine, reading: Readers) -> Smart:
    """Tokens and who has them."""

    return assembled(
        settings.key_folder,
        settings.issuers,
        lambda: direct(engine),
        reading.acquire,
        settings.controllers,
        loopback=settings.loopback_jwks,
        processes=settings.processes,
    )


def _version() -> str:
    try:
        return version("fhirgw")
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return "0"
