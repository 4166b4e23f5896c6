"""Bulk Data export over HTTP: kick-off, status, files, and DELETE.

https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-export-operation-request-flow
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Protocol, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.permit import Permit
from fhirgw.api.answer import PRIVATE, answer, interactions, refused
from fhirgw.api.audit import entry
from fhirgw.api.context import base, permitted
from fhirgw.api.kick_off import selection
from fhirgw.api.patience import Patience, Standstill
from fhirgw.api.served_file import file_answer
from fhirgw.api.served_object import Stored, object_answer
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.views import views
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job

PATIENCE = 10
"""Seconds: the longest a caller is told to wait before asking again."""

STUCK = 15
"""Seconds after which it is told that nobody works on an export."""

ENDING = "; only its end waits: see the gateway's log"
"""What is told of a job that has no more to do and runs."""

FILES = (
    *("application/ndjson", "application/x-ndjson", "application/octet-stream", "application/vnd.apache.parquet"),
    *("text/csv", "text/plain", "text/*"),
)
"""What the Accept of who fetches a file may name besides FHIR's own: what it is was chosen when it was asked for."""

SILENT = "; its worker is silent: another in {} s"
STANDING = 20
"""Seconds after which it is told that nothing comes though a worker is at it: of a lock, a disk, a network."""

NOTHING = "; nothing has come for {} s"
PATIENT = Patience()
STANDSTILL = Standstill()


class File(Protocol):
    """See fhirgw.jobs.export_jobs."""

    @property
    def path(self) -> Path | Stored: ...
    @property
    def type(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def packed(self) -> bool: ...
    @property
    def types(self) -> tuple[str, ...]: ...
    @property
    def media(self) -> str: ...


class Exports(Protocol):
    """What runs exports for callers: see fhirgw.jobs.export_jobs."""

    kept: timedelta
    lease: timedelta

    async def kick_off(self, permit: Permit, selection: Selection, request: str) -> str: ...
    async def status(self, permit: Permit, id: str) -> Job: ...
    async def cancel(self, permit: Permit, id: str) -> None: ...
    async def file(self, permit: Permit, id: str, name: str) -> File: ...


def exports(request: Request) -> Exports:
    """What runs the exports of the app that got the request."""
    return cast(Exports, request.app.state.exports)


async def system(request: Request) -> Response:
    """GET or POST [base]/$export"""
    return await _kick_off(request, of_patients=False)


async def patients(request: Request) -> Response:
    """GET or POST [base]/Patient/$export"""
    return await _kick_off(request, of_patients=True)


async def group(request: Request) -> Response:
    """GET or POST [base]/Group/[id]/$export"""
    return await _kick_off(request, of_patients=True, group=request.path_params["id"])


async def status(request: Request) -> Response:
    """GET of the polling address: 202 while it runs (and the first time, always), then the manifest."""
    job = await exports(request).status(permitted(request), request.path_params["job"])
    if job.state == "running" or not job.polled:
        progress = _progress(job, exports(request).lease)
        if wait := PATIENT.seconds(job.id):
            told = f"The export is asked after too often: wait {wait} seconds, as Retry-After says"
            return refused(FhirError(Issue("throttled", told)), {"retry-after": str(wait)})
        return Response(status_code=202, headers=PRIVATE | progress)
    if job.state == "failed":
        return answer(encode(job.result), 500)
    assert job.finished is not None
    expires = format_datetime(job.finished.astimezone(UTC) + exports(request).kept, usegmt=True)
    listed = _manifest(job, base(request), _page(request, job))
    return Response(orjson.dumps(listed), 200, PRIVATE | {"expires": expires}, "application/json")


async def cancel(request: Request) -> Response:
    """DELETE of the polling address."""
    await exports(request).cancel(permitted(request), request.path_params["job"])
    return Response(status_code=202)


async def file(request: Request) -> Response:
    """GET of one file, whole or a Range of it, packed or not; or where it is to be had for some minutes."""
    asked = request.path_params
    found = await exports(request).file(permitted(request), asked["job"], asked["name"])
    entry(request).everybody(found.types)
    return await sent(request, found)


async def sent(request: Request, found: File) -> Response:
    """The answer with a file, wherever it is kept. Raises FhirError."""
    told = found.bytes, found.sha256, found.packed, found.media
    if isinstance(found.path, Path):
        return file_answer(request, found.path, *told)
    return await object_answer(request, found.path, *told)


def routes() -> list[Route]:
    """To be put before those of types and instances, which would take `$export` for a name."""
    return [
        interactions("/fhir/$export", head=False, GET=system, POST=system),
        interactions("/fhir/Patient/$export", head=False, GET=patients, POST=patients),
        interactions("/fhir/Group/{id}/$export", head=False, GET=group, POST=group),
        interactions("/fhir/$export-status/{job}", GET=status, DELETE=cancel),
        interactions("/fhir/$export-file/{job}/{name}", formats=FILES, GET=file),
    ]


async def _kick_off(request: Request, of_patients: bool, group: str | None = None) -> Response:
    asked = replace(await selection(request, of_patients), group=group)
    try:
        job = await exports(request).kick_off(permitted(request), asked, _address(request))
    except FhirError as error:
        return refused(error, {"retry-after": str(PATIENCE)} if error.status == 429 else None)
    entry(request).everybody(asked.types)
    return Response(status_code=202, headers={"content-location": f"{base(request)}/$export-status/{job}"})


def _page(request: Request, job: Job) -> int:
    """Which page of the manifest is asked for. Raises FhirError(not-found) for one that there is not."""
    asked = request.query_params.get("page", "1")
    if asked not in map(str, range(1, job.result.get("pages", 1) + 1)):
        raise FhirError(Issue("not-found", "There is no such page of this manifest: follow the links of the first one"))
    return int(asked)


def _manifest(job: Job, base: str, page: int) -> dict[str, Any]:
    """The manifest with absolute addresses, and what the specification names; `page` of it where it has several.

    What tells of deletions and of what went wrong is on the first page.
    """
    organized = "outputOrganizedBy" in job.result

    def addressed(name: str) -> list[dict[str, Any]]:
        files = [each for each in job.result.get(name, []) if each.get("page", 1) == page]
        typed = [{} if organized and name == "output" else {"type": each["type"]} for each in files]
        place = f"{base}/$export-file/{job.id}"
        return [
            {**kind, "url": f"{place}/{each['url']}", "count": each["count"]}
            | ({"extension": {"view": found.url}} if (found := views().get(each.get("view", ""))) else {})
            for kind, each in zip(typed, files, strict=True)
        ]

    told = {name: value for name, value in job.result.items() if name != "pages"}
    told |= {name: addressed(name) for name in ("output", "deleted", "error")}
    if page < job.result.get("pages", 1):
        told["link"] = [{"relation": "next", "url": f"{base}/$export-status/{job.id}?page={page + 1}"}]
    return told


def _progress(job: Job, lease: timedelta) -> dict[str, str]:
    """X-Progress, and when to ask again: the longer it takes, the later."""
    age = (datetime.now(UTC) - job.created).total_seconds()
    share = f"{100 * job.done // job.parts}% of its parts, " if job.parts else ""
    told = f"{share}{job.rows:,} resources, {job.bytes / 1e6:,.1f} MB"
    still = STANDSTILL.seconds(job.id, (job.rows, job.bytes, job.done))
    if job.state == "running" and not job.running and age > STUCK and job.done < max(job.parts, 1):
        told += "; no worker is at it"
    elif job.state == "running" and job.believed is not None and job.believed < lease.total_seconds() / 2:
        told += SILENT.format(max(job.believed, 0))
    elif age > STUCK and 0 < job.parts == job.done:
        told += ENDING
    elif job.state == "running" and still >= STANDING:
        told += NOTHING.format(still)
    return {"x-progress": told, "retry-after": str(min(PATIENCE, 1 + int(age) // 10))}


def _address(request: Request) -> str:
    """The request's full address, as the caller may repeat it."""
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{base(request)}{request.url.path.removeprefix('/fhir')}{query}"
