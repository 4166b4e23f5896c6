"""`fhirgw export`: to a folder at once; or as a job, in parts that any number of workers share and that can resume.

Long, because it is six commands, each with its options declared and explained.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import orjson
import typer

from fhirgw.access.permit import Permit, operations
from fhirgw.cli import steps
from fhirgw.cli.commands import PLAIN
from fhirgw.cli.console import Console, Stage
from fhirgw.cli.data import Json
from fhirgw.cli.export_asked import (
    Asked,
    Associated,
    Elements,
    Filters,
    Group,
    Organized,
    Patients,
    People,
    Since,
    Types,
    Until,
)
from fhirgw.cli.permits import permit_of
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.jobs import apart
from fhirgw.jobs.alive import gone
from fhirgw.jobs.cluster import reachable
from fhirgw.jobs.conclusion import cleared
from fhirgw.jobs.engine import executor
from fhirgw.jobs.export import instant
from fhirgw.jobs.export_folder import Exported
from fhirgw.jobs.export_jobs import check_people
from fhirgw.jobs.files import MANIFEST
from fhirgw.jobs.place import Folder, Place, ready
from fhirgw.jobs.projects import Projects
from fhirgw.jobs.segments import policy
from fhirgw.jobs.workers import made_worker
from fhirgw.private import private_text
from fhirgw.settings import Settings
from fhirgw.store import export_job, ledger
from fhirgw.store.audit import record_now
from fhirgw.store.database import Engine, direct
from fhirgw.store.export_job import Job
from fhirgw.store.locked import Waiting, locked
from fhirgw.store.opt_out import check_fresh

TICK = 0.5
"""Seconds between two looks at how far a job is."""

app = typer.Typer(**PLAIN, help="Write resources as NDJSON: `export --to FOLDER`, or `export run` for a job in parts.")

Application = Annotated[
    str | None, typer.Option("--app", help="Only what this registered application may see; all of it if left out.")
]
Id = Annotated[str, typer.Argument(help="The job, as `fhirgw export run` and `fhirgw export ls` name it.")]


@app.callback(invoke_without_command=True)
def export(
    context: typer.Context,
    to: Annotated[
        Path | None, typer.Option(help="The folder to write to; an earlier export there is replaced.")
    ] = None,
    types: Types = [],  # noqa: B006
    patients: Patients = [],  # noqa: B006
    people: People = False,
    since: Since = None,
    application: Application = None,
    json: Json = False,
) -> None:
    """Write resources as NDJSON, a file for each type, and a manifest; or a job in parts, with the commands below."""
    if context.invoked_subcommand is not None:
        return
    if to is None:
        raise CommandError("Say where to: fhirgw export --to FOLDER; or fhirgw export run.", 2)
    console, given, selection = Console(json), settings(), Asked(types, patients, people, since=since).selection()

    async def work() -> Exported:
        async with opened(given) as (_, engine):
            permit = await _permit(engine, given, application)
            return await steps.exported(console, engine, permit, selection, to)

    done = run(work())
    steps.show_export(console, done, to)
    console.document(done.manifest)


# Long, because each option is declared and explained.
@app.command("run")
def run_job(
    to: Annotated[Path | None, typer.Option(help="An empty folder; else one below FHIRGW_EXPORTS.")] = None,
    types: Types = [],  # noqa: B006
    patients: Patients = [],  # noqa: B006
    people: People = False,
    group: Group = None,
    since: Since = None,
    until: Until = None,
    filters: Filters = [],  # noqa: B006
    elements: Elements = [],  # noqa: B006
    organize: Organized = None,
    associated: Associated = [],  # noqa: B006
    application: Application = None,
    gzip: Annotated[bool, typer.Option("--gzip", help="Keep the files as gzip.")] = False,
    form: Annotated[str, typer.Option("--format", help="ndjson; or the rows of views as csv or parquet.")] = "ndjson",
    views: Annotated[list[str], typer.Option("--view", help="Only this view; may be repeated.")] = [],  # noqa: B006
    project: Annotated[
        str | None,
        typer.Option("--pseudonymise", help="Pseudonyms of this project, for planning or research: see --app."),
    ] = None,
    purpose: Annotated[str | None, typer.Option(help="The purpose the application asks for.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it to workers, and do not wait.")] = False,
    json: Json = False,
) -> None:
    """Export as a job, in parts: this process does its share, and so does every worker."""
    console, given = Console(json), settings()
    kept = {"gzip": gzip or given.gzip_exports, "part": int(given.part_megabytes * 1e6)}
    asked = Asked(types, patients, people, group, since, until, filters, elements, organize, associated)
    selection = asked.selection(form=form, views=tuple(views), project=project, **kept)
    if project is not None and application is None:
        raise CommandError("Pseudonyms are for an application that plans or researches: name it with --app.", 2)
    if to is not None and to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise CommandError(f"{to} is not an empty folder: name another, or one that is not there yet.", 6)

    async def work() -> Job:
        async with opened(given) as (url, engine):
            permit, id = await _permit(engine, given, application, purpose, project), uuid4().hex
            if to is not None:
                await ready(Folder(to.absolute()))  # said now, not by a worker when the job has been written down
            if project is not None:
                Projects(given.project_folder).begin(permit, selection)
                async with direct(engine) as connection:
                    await check_fresh(connection, given.opt_out_days)
            chosen = replace(selection, job=id)
            async with direct(engine) as connection:
                if group is not None:
                    await check_people(connection, permit, chosen)
                await apart.check(connection, permit, chosen)
            async with direct(engine) as connection, connection.transaction():
                await record_now(connection, steps.copied(permit, chosen))
                request = f"fhirgw export run --to {to}" if to else "fhirgw export run"
                place = str(to.absolute()) if to else None
                await export_job.accept(connection, id, permit, chosen, request, policy=policy(), place=place)
            console.note(f"Export {id}; if it is interrupted: fhirgw export resume {id}")
            return await _followed(console, given, url, engine, id, detach)

    _end(console, given, run(work()))


@app.command()
def resume(id: Id, json: Json = False) -> None:
    """Go on with an export that was interrupted, or that failed: what is done is not done again."""
    console, given = Console(json), settings()

    async def work() -> Job:
        async with opened(given) as (url, engine):
            async with direct(engine) as connection:
                await _found(connection, id)
                await ledger.resume(connection, id)
                held = [each for each in await ledger.parts(connection, id) if each["worker"]]
                await ledger.disbelieve(connection, id, [each["worker"] for each in held if gone(each["worker"])])
                for each in held:
                    if gone(each["worker"]):
                        console.note(f"Part {each['number']} was {each['worker']}'s, who has gone: it is begun again")
                    else:
                        told = f"Part {each['number']} is {each['worker']}'s for {each['lease']} s more"
                        console.note(f"{told}: if that has gone, another takes it then")
            return await _followed(console, given, url, engine, id, detach=False)

    _end(console, given, run(work()))


@app.command()
def status(id: Id, json: Json = False) -> None:
    """Say how far an export is, part by part, and what it waits for."""
    console, given = Console(json), settings()

    async def work() -> tuple[Job, list[Any], list[Waiting]]:
        async with opened(given) as (_, engine), direct(engine) as connection:
            job, parts = await _found(connection, id), await ledger.parts(connection, id)
            return job, parts, await locked(connection) if job.state == "running" else []

    job, parts, waiting = run(work())
    console.line(f"{job.id}: {_told(job)}")
    named = ("number", "kind", "type", "state", "attempts", "rows")
    rows = [[*(each[name] for name in named), _why(each)] for each in parts]
    console.table("Parts", ["part", "what", "type", "state", "attempts", "resources", "why"], rows)
    for each in waiting:
        behind = " and ".join(map(str, each.behind))
        console.line(f"PostgreSQL's process {each.pid} has waited {each.seconds} s for a lock that {behind} holds")
    console.document(_as_json(job) | {"parts": [dict(each) for each in parts], "locked": list(map(asdict, waiting))})


@app.command()
def cancel(id: Id, json: Json = False) -> None:
    """End an export and remove its files."""
    console, given = Console(json), settings()

    async def work() -> None:
        async with opened(given) as (_, engine), direct(engine) as connection:
            job = await _found(connection, id)
            if job.place is None:  # forgotten when its files are sure to be gone: see ExportJobs
                await export_job.cancel(connection, id)
                await made_worker(given, engine).place(job).clear()
            else:
                ended = await export_job.end(connection, id, "cancelled")  # whoever works on it notices in a second
                await cleared(made_worker(given, engine).place(job))
                if not ended:
                    await export_job.forget(connection, id)

    run(work())
    console.line(f"{id} is cancelled.")
    console.document({"id": id, "state": "cancelled"})


@app.command()
def ls(json: Json = False) -> None:
    """Say which exports there are."""
    console = Console(json)

    async def work() -> list[Job]:
        async with opened(settings()) as (_, engine), direct(engine) as connection:
            return await export_job.listed(connection)

    found = run(work())
    rows = [[each.id, each.permit.registration, instant(each.created), each.state, _told(each)] for each in found]
    console.table("Exports", ["job", "of", "since", "state", "how far"], rows)
    if not found:
        console.line("There is no export: fhirgw export run")
    console.document([_as_json(each) for each in found])


async def _permit(
    engine: Engine, given: Settings, application: str | None, purpose: str | None = None, project: str | None = None
) -> Permit:
    if application is None:
        return operations(given.controller)
    return (await permit_of(engine, given, application, purpose)).exporting(project)


async def _found(connection: Any, id: str) -> Job:
    job = await export_job.find(connection, id)
    if job is None or job.state == "cancelled" or job.local:
        raise CommandError(f"There is no export {id[:40]!r}: `fhirgw export ls` names them.", 2)
    return job


async def _followed(console: Console, given: Settings, url: str, engine: Engine, id: str, detach: bool) -> Job:
    """The job when it has ended; this process works on it too, as one of those who are asked."""
    worker = made_worker(given, engine)
    await reachable(given.executor)
    async with executor(given.executor, url, worker).opened() as queue, AsyncExitStack() as working:
        await queue.ask(id)
        if not detach:
            await working.enter_async_context(queue.working())
        with console.stage("export", "resources") as stage:
            while True:
                async with direct(engine) as connection:
                    job = await _found(connection, id)
                _show(stage, job)
                if job.state == "done":
                    await _keep_manifest(worker.place(job), job)
                if detach or job.state != "running":
                    return job
                await asyncio.sleep(TICK)


def _show(stage: Stage, job: Job) -> None:
    stage.detail = f"{job.done} of {job.parts} parts, {job.bytes / 1e6 / max(stage.seconds, 0.1):,.0f} MB/s"
    stage.update(job.rows, max(job.rows, job.expected) if job.expected else None)


def _told(job: Job) -> str:
    """How far it is, in words; and what it waits for."""
    far = f"{job.done} of {job.parts} parts, {job.rows:,} resources, {job.bytes / 1e6:,.1f} MB"
    if job.reused:
        far += f", {job.reused:,} resources as an earlier export had them"
    if job.state == "running" and not job.running and (job.done < job.parts or not job.snapshot):
        return f"{far}; it waits for a worker: fhirgw worker, or fhirgw export resume {job.id}"
    return far


def _why(part: Any) -> str:
    """What kept a part from being done; or who is at it, until when, so that a worker that was killed is seen."""
    if part["state"] != "running":
        return part["reason"] or ""
    return f"{part['worker']} has it; after {part['lease']} s without a sign of life another takes it"


async def _keep_manifest(place: Place, job: Job) -> None:
    """Puts its manifest beside its files, with their names for addresses."""
    output = [{k: v for k, v in each.items() if k != "key"} | {"url": each["key"]} for each in job.result["output"]]
    with private_text(await ready(place) / MANIFEST) as file:
        file.write(orjson.dumps({**job.result, "output": output}, option=orjson.OPT_INDENT_2).decode() + "\n")
    await place.keep(MANIFEST)


def _end(console: Console, given: Settings, job: Job) -> None:
    """What came of it."""
    root = given.export_store or given.export_folder
    if job.state == "failed":
        reasons = "\n".join(each["diagnostics"] for each in job.result["issue"])
        raise CommandError(f"{reasons}\nWhen that is put right: fhirgw export resume {job.id}", 6)
    if job.state == "running":
        console.line(f"Workers have it: fhirgw export status {job.id}")
    else:
        rows = [[each["type"], each["count"], each["bytes"], each["key"]] for each in job.result["output"]]
        console.table(f"Exported to {job.place or f'{root}/{job.id}'}", ["type", "resources", "bytes", "file"], rows)
        if not rows:
            console.line("Nothing matched: the manifest lists no file.")
    console.document(_as_json(job))


def _as_json(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "rows": job.rows,
        "bytes": job.bytes,
        "parts": job.parts,
        "done": job.done,
        "reused": job.reused,
        "result": job.result,
    }
