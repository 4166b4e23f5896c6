"""Who does the work of exports and of imports, and who watches over visits: for every process that works on them."""

from __future__ import annotations

from datetime import timedelta

from fhirgw import shipped
from fhirgw.jobs.import_work import Importer
from fhirgw.jobs.place import places
from fhirgw.jobs.projects import Projects
from fhirgw.jobs.sources import Sources
from fhirgw.jobs.watch import Watch
from fhirgw.jobs.work import Worker
from fhirgw.settings import Settings
from fhirgw.store.database import Engine
from fhirgw.visits.rules import rules


def made_worker(given: Settings, engine: Engine) -> Worker:
    """Who works on exports, of these settings."""
    projects = Projects(given.project_folder)
    kept = places(given.export_folder.absolute(), given.export_store, given.signed_for)
    return Worker(engine, kept, timedelta(seconds=given.lease_seconds), projects)


def made_importer(given: Settings, engine: Engine) -> Importer:
    """Who works on imports, of these settings."""
    sources = Sources.of(given.import_folder, given.import_origins, given.import_gigabytes)
    lease = timedelta(seconds=given.lease_seconds)
    return Importer(engine, given.import_spool.absolute(), sources, given.longest_body, lease)


def made_watch(engine: Engine) -> Watch:
    """Who watches over homecare visits, by the rules of the mappings."""
    return Watch(engine, rules(shipped.path("mappings")))
