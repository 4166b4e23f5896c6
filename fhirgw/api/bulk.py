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
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from fhirgw.access.permit import Permit
from fhirgw.api.answer import answer, interactions, refused
from fhirgw.api.audit import entry
from fhirgw.api.context import base, permitted
from fhirgw.api.kick_off import selection
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job

NDJSON = "application/fhir+ndjson"
PATIENCE = 10
"""Seconds: the longest a caller is told to wait before asking again."""


class Exports(Protocol):
    """What runs exports for callers: see fhirgw.jobs.export_jobs."""

    kept: timedelta

    async def kick_off(self, permit: Permit, selection: Selection, request: str) -> str: ...
    async def status(self, permit: Permit, id: str) -> Job: ...
    async def cancel(self, permit: Permit, id: str) -> None: ...
    async def file(self, permit: Permit, id: str, name: str) -> tuple[Path, str]: ...


def exports(request: Request) -> Exports:
    """What runs the exports of the app that got the request."""
    return cast(Exports, request.app.state.exports)


async def system(request: Request) -> Response:
    """GET [base]/$export"""
    return await _kick_off(request, of_patients=False)


async def patients(request: Request) -> Response:
    """GET [base]/Patient/$export"""
    return await _kick_off(request, of_patients=True)


async def status(request: Request) -> Response:
    """GET of the polling address: 202 while it runs (and the first time, always), then the manifest."""
    job = await exports(request).status(permitted(request), request.path_params["job"])
    if job.state == "running" or not job.polled:
        return Response(status_code=202, headers=_progress(job))
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
    """GET of one file, whole or a Range of it; its entity tag is its SHA-256."""
    asked = request.path_params
    path, sha256 = await exports(request).file(permitted(request), asked["job"], asked["name"])
    entry(request).everybody((path.stem,))
    return FileResponse(path, headers={"etag": f'"{sha256}"'}, media_type=NDJSON)


def routes() -> list[Route]:
    """To be put before those of types and instances, which would take `$export` for a name."""
    return [
        interactions("/fhir/$export", head=False, GET=system),
        interactions("/fhir/Patient/$export", head=False, GET=patients),
        interactions("/fhir/$export-status/{job}", GET=status, DELETE=cancel),
        interactions("/fhir/$export-file/{job}/{name}", GET=file),
    ]


async def _kick_off(request: Request, of_patients: bool) -> Response:
    asked = selection(request, of_patients)
    try:
        job = await exports(request).kick_off(permitted(request), asked, _address(request))
    except FhirError as error:
        return refused(error, {"retry-after": str(PATIENCE)} if error.status == 429 else None)
    entry(request).everybody(asked.types)
    return Response(status_code=202, headers={"content-location": f"{base(request)}/$export-status/{job}"})


def _manifest(job: Job, base: str) -> dict[str, Any]:
    """The manifest with absolute addresses, and what the specification names."""
    output = [
        {"type": each["type"], "url": f"{base}/$export-file/{job.id}/{each['url']}", "count": each["count"]}
        for each in job.result["output"]
    ]
    return {**job.result, "output": output}


def _progress(job: Job) -> dict[str, str]:
    """X-Progress, and when to ask again: the longer it takes, the later."""
    age = (datetime.now(UTC) - job.created).total_seconds()
    share = f" of about {job.expected:,}" if job.expected > job.rows else ""
    told = f"{job.rows:,}{share} resources, {job.bytes / 1e6:,.1f} MB"
    return {"x-progress": told, "retry-after": str(min(PATIENCE, 1 + int(age) // 10))}


def _address(request: Request) -> str:
    """The request's full address, as the caller may repeat it."""
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{base(request)}{request.url.path.removeprefix('/fhir')}{query}"
