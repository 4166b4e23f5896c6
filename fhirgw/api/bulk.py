"""Bulk Data export over HTTP: kick-off, status, files, and DELETE.

https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-export-operation-request-flow
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Protocol, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.permit import Permit
from fhirgw.api.answer import answer, interactions, refused
from fhirgw.api.audit import entry
from fhirgw.api.context import base, permitted
from fhirgw.api.kick_off import selection
from fhirgw.api.patience import Patience
from fhirgw.api.served_file import file_answer
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.views import views
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job

PATIENCE = 10
"""Seconds: the longest a caller is told to wait before asking again."""

STUCK = 15
"""Seconds after which it is told that nobody works on an export."""

PATIENT = Patience()


class File(Protocol):
    """See fhirgw.jobs.export_jobs."""

    @property
    def path(self) -> Path: ...
    @property
    def type(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def packed(self) -> bool: ...
    @property
    def media(self) -> str: ...


class Exports(Protocol):
    """What runs exports for callers: see fhirgw.jobs.export_jobs."""

    kept: timedelta

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


async def status(request: Request) -> Response:
    """GET of the polling address: 202 while it runs (and the first time, always), then the manifest."""
    job = await exports(request).status(permitted(request), request.path_params["job"])
    if job.state == "running" or not job.polled:
        progress = _progress(job)
        if wait := PATIENT.seconds(job.id):
            told = f"The export is asked after too often: wait {wait} seconds, as Retry-After says"
            return refused(FhirError(Issue("throttled", told)), {"retry-after": str(wait)})
        return Response(status_code=202, headers=progress)
    if job.state == "failed":
        return answer(encode(job.result), 500)
    assert job.finished is not None
    expires = format_datetime(job.finished.astimezone(UTC) + exports(request).kept, usegmt=True)
    return Response(orjson.dumps(_manifest(job, base(request))), 200, {"expires": expires}, "application/json")


async def cancel(request: Request) -> Response:
    """DELETE of the polling address."""
    await exports(request).cancel(permitted(request), request.path_params["job"])
    return Response(status_code=202)


async def file(request: Request) -> Response:
    """GET of one file, whole or a Range of it, packed or not."""
    asked = request.path_params
    found = await exports(request).file(permitted(request), asked["job"], asked["name"])
    entry(request).everybody((found.type,))
    return file_answer(request, found.path, found.bytes, found.sha256, found.packed, found.media)


def routes() -> list[Route]:
    """To be put before those of types and instances, which would take `$export` for a name."""
    return [
        interactions("/fhir/$export", head=False, GET=system, POST=system),
        interactions("/fhir/Patient/$export", head=False, GET=patients, POST=patients),
        interactions("/fhir/$export-status/{job}", GET=status, DELETE=cancel),
        interactions("/fhir/$export-file/{job}/{name}", GET=file),
    ]


async def _kick_off(request: Request, of_patients: bool) -> Response:
    asked = await selection(request, of_patients)
    try:
        job = await exports(request).kick_off(permitted(request), asked, _address(request))
    except FhirError as error:
        return refused(error, {"retry-after": str(PATIENCE)} if error.status == 429 else None)
    entry(request).everybody(asked.types)
    return Response(status_code=202, headers={"content-location": f"{base(request)}/$export-status/{job}"})


def _manifest(job: Job, base: str) -> dict[str, Any]:
    """The manifest with absolute addresses, and what the specification names."""

    def addressed(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"type": each["type"], "url": f"{base}/$export-file/{job.id}/{each['url']}", "count": each["count"]}
            | ({"extension": {"view": found.url}} if (found := views().get(each.get("view", ""))) else {})
            for each in files
        ]

    return {**job.result, **{name: addressed(job.result.get(name, [])) for name in ("output", "deleted", "error")}}


def _progress(job: Job) -> dict[str, str]:
    """X-Progress, and when to ask again: the longer it takes, the later."""
    age = (datetime.now(UTC) - job.created).total_seconds()
    share = f"{100 * job.done // job.parts}% of its parts, " if job.parts else ""
    told = f"{share}{job.rows:,} resources, {job.bytes / 1e6:,.1f} MB"
    if job.state == "running" and not job.running and age > STUCK and job.done < max(job.parts, 1):
        told += "; no worker is at it"
    return {"x-progress": told, "retry-after": str(min(PATIENCE, 1 + int(age) // 10))}


def _address(request: Request) -> str:
    """The request's full address, as the caller may repeat it."""
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{base(request)}{request.url.path.removeprefix('/fhir')}{query}"
