"""Bulk import over HTTP: kick-off, status, what was wrong, and DELETE.

As the proposal has it (https://github.com/smart-on-fhir/bulk-import/blob/master/import.md), asked for by a Parameters
resource: `inputFormat`, `inputSource`, and for each `input` its `type` and `url`.

Long by the refusals of a kick-off, each with its remedy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from email.utils import format_datetime
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.permit import Permit
from fhirgw.access.writing import check_imports
from fhirgw.api import asked
from fhirgw.api.answer import PRIVATE, interactions, refused
from fhirgw.api.audit import entry
from fhirgw.api.bulk import ENDING, FILES, NOTHING, PATIENCE, SILENT, STANDING, STUCK, File, sent
from fhirgw.api.context import base, bases, permitted
from fhirgw.api.kick_off import JSON, NDJSON
from fhirgw.api.patience import Patience, Standstill
from fhirgw.fhir.incoming import read
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.parameters import HELD

NAMES = ("input", "inputFormat", "inputSource", "storageDetail")
PARTS = ("type", "url")
PARQUET = ("application/vnd.apache.parquet", "parquet")
"""A row a resource, its JSON in a column of text (fhirgw.jobs.parquet_lines)."""
MOST = 1000
"""Inputs of one import."""
LARGEST = 1 << 20
HERE = ("created", "updated", "unchanged")
"""What lines came to that are here now."""
PATIENT = Patience()
STANDSTILL = Standstill()
Source = tuple[str, str]
"""The type of resources, and the address they are at."""


class Status(Protocol):
    """See fhirgw.jobs.import_jobs."""

    @property
    def job(self) -> Any: ...
    @property
    def inputs(self) -> int: ...
    @property
    def ended(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def believed(self) -> int | None: ...
    @property
    def counts(self) -> dict[str, int]: ...


class Imports(Protocol):
    """What runs imports for callers: see fhirgw.jobs.import_jobs."""

    kept: timedelta
    lease: timedelta

    async def kick_off(self, permit: Permit, sources: Sequence[Source], bases: Sequence[str], request: str) -> str: ...
    async def status(self, permit: Permit, id: str) -> Status: ...
    async def cancel(self, permit: Permit, id: str) -> None: ...
    async def file(self, permit: Permit, id: str, name: str) -> File: ...


def imports(request: Request) -> Imports:
    """What runs the imports of the app that got the request."""
    return cast(Imports, request.app.state.imports)


async def kick_off(request: Request) -> Response:
    """POST [base]/$import"""
    check_imports(permitted(request))  # before what is asked is read: who may not ask is told that, and no more
    sources, theirs = await _asked(request)
    entry(request).everybody(tuple(dict.fromkeys(kind for kind, _ in sources)))
    address = f"{base(request)}/$import"
    try:
        job = await imports(request).kick_off(permitted(request), sources, (*theirs, *bases(request)), address)
    except FhirError as error:
        return refused(error, {"retry-after": str(PATIENCE)} if error.status == 429 else None)
    return Response(status_code=202, headers={"content-location": f"{base(request)}/$import-status/{job}"})


async def status(request: Request) -> Response:
    """GET of the polling address: 202 while it runs (and the first time, always), then what came of it."""
    found = await imports(request).status(permitted(request), request.path_params["job"])
    job = found.job
    if job.state == "running" or not job.polled:
        if wait := PATIENT.seconds(job.id):
            told = f"The import is asked after too often: wait {wait} seconds, as Retry-After says"
            return refused(FhirError(Issue("throttled", told)), {"retry-after": str(wait)})
        return Response(status_code=202, headers=PRIVATE | _progress(found, imports(request).lease))
    expires = format_datetime(job.finished.astimezone(UTC) + imports(request).kept, usegmt=True)
    listed = orjson.dumps(_manifest(job, base(request)))
    return Response(listed, 200, PRIVATE | {"expires": expires}, "application/json")


async def cancel(request: Request) -> Response:
    """DELETE of the polling address: what was taken in stays."""
    await imports(request).cancel(permitted(request), request.path_params["job"])
    return Response(status_code=202)


async def file(request: Request) -> Response:
    """GET of what was wrong with an input: an OperationOutcome a line."""
    given = request.path_params
    found = await imports(request).file(permitted(request), given["job"], given["name"])
    return await sent(request, found)


def routes() -> list[Route]:
    """To be put before those of types and instances, which would take `$import` for a name."""
    return [
        interactions("/fhir/$import", POST=kick_off),
        interactions("/fhir/$import-status/{job}", GET=status, DELETE=cancel),
        interactions("/fhir/$import-file/{job}/{name}", formats=FILES, GET=file),
    ]


async def _asked(request: Request) -> tuple[list[Source], list[str]]:
    """The sources, and the base of the server they come from if it is named. Raises FhirError naming the parameter."""
    if "respond-async" not in asked.preferences(request):
        raise _refusal("Prefer: respond-async is needed: an import takes longer than a request")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in JSON:
        raise FhirError(Issue("not-supported", f"Send the body as {JSON[0]}"), status=415)
    sent = read(await asked.body(request, LARGEST, "What asks for an import"))
    listed = sent.get("parameter", [])
    if sent.get("resourceType") != "Parameters":
        raise FhirError(Issue("structure", "An import is asked for by a Parameters resource"))
    if not isinstance(listed, list):
        raise FhirError(Issue("structure", "parameter is a list", "Parameters.parameter"))
    given: dict[str, list[Any]] = {}
    for at, each in enumerate(listed):
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise FhirError(Issue("structure", "Each parameter has a name", f"Parameters.parameter[{at}]"))
        given.setdefault(each["name"], []).append(each)
    _check_names(given)
    form, sources = _format(given.get("inputFormat", [])), list(_sources(given.get("input", [])))
    if any(url.partition("?")[0].endswith(".parquet") != (form in PARQUET) for _, url in sources):
        raise _refusal("input.url: the path of a Parquet file ends in .parquet, and that of no NDJSON does")
    return sources, _bases(given.get("inputSource", []))


def _check_names(given: dict[str, list[Any]]) -> None:
    for name in given:
        if name not in NAMES:
            close = get_close_matches(name, NAMES, 1)
            meant = f"did you mean {close[0]}?" if close else f"supported here: {', '.join(NAMES)}"
            raise FhirError(Issue("not-supported", f"The parameter {name[:40]!r} is not supported: {meant}"))


def _format(given: list[Any]) -> str:
    """The format that is said. Raises FhirError for one that is not taken."""
    form = _text(given[0]) if len(given) == 1 else None
    if form is None or form not in (*NDJSON, *PARQUET):
        told = f"inputFormat: NDJSON and Parquet are taken: {', '.join((*NDJSON, *PARQUET))}"
        raise FhirError(Issue("not-supported", told))
    return form


def _bases(given: list[Any]) -> list[str]:
    """The base below which references of the sources are to what is imported. Raises FhirError(invalid)."""
    if len(given) > 1:
        raise _refusal("The parameter inputSource may be given once")
    found = [(_text(each) or "").rstrip("/") for each in given]
    for each in found:
        try:
            split = urlsplit(each)
        except ValueError:
            split = urlsplit("")
        if split.scheme not in ("https", "http") or not split.netloc:
            raise _refusal("inputSource: the FHIR base of the server that the resources come from, as https://…")
    return found


def _sources(given: list[Any]) -> Iterator[Source]:
    if not 0 < len(given) <= MOST:
        raise _refusal(f"input: 1 to {MOST} of these, each with a type and a url")
    for each in given:
        parts: Resource = {}
        listed = each.get("part")
        for part in listed if isinstance(listed, list) else ():
            name, text = (part.get("name"), _text(part)) if isinstance(part, dict) else (None, None)
            if name not in PARTS or text is None or name in parts:
                raise _refusal("input: each has a part type and a part url, once, and no other")
            parts[name] = text
        if len(parts) != len(PARTS):
            raise _refusal("input: each has a part type and a part url")
        if parts["type"] not in HELD:
            close = get_close_matches(parts["type"], HELD, 1, 0.75)
            meant = f": did you mean {close[0]}?" if close else ""
            raise FhirError(Issue("not-supported", f"input.type: no type this gateway holds{meant}"))
        yield parts["type"], parts["url"]


def _text(parameter: Any) -> str | None:
    """The value of a parameter, whichever way it is typed; None where it has not one text."""
    values = [value for name, value in parameter.items() if name.startswith("value")]
    return values[0] if len(values) == 1 and isinstance(values[0], str) else None


def _manifest(job: Any, base: str) -> dict[str, Any]:
    """What came of it, with absolute addresses."""
    result = job.result
    output = [
        {"type": each["type"], "inputUrl": each["input"], "count": sum(each[name] for name in HERE)}
        | {name: each[name] for name in (*HERE, "refused")}
        for each in result["output"]
    ]
    error = [
        {"type": "OperationOutcome", "inputUrl": each["input"], "count": each["count"]}
        | {"url": f"{base}/$import-file/{job.id}/{each['url']}"}
        for each in result["error"]
    ]
    return {
        "transactionTime": result["transactionTime"],
        "request": job.request,
        "requiresAccessToken": True,
        "output": output,
        "error": error,
    }


def _progress(found: Status, lease: timedelta) -> dict[str, str]:
    """X-Progress by the ledger, and when to ask again: the longer it takes, the later."""
    age = (datetime.now(UTC) - found.job.created).total_seconds()
    told = f"{found.ended} of {found.inputs} inputs, {sum(found.counts.values()):,} lines"
    told += f", {found.counts['refused']:,} refused"
    still = STANDSTILL.seconds(found.job.id, (found.ended, *found.counts.values()))
    if found.job.state == "running" and not found.running and age > STUCK and found.ended < found.inputs:
        told += "; no worker that can read it is at it"
    elif found.believed is not None and found.believed < lease.total_seconds() / 2:
        told += SILENT.format(max(found.believed, 0))
    elif age > STUCK and found.ended == found.inputs:
        told += ENDING
    elif found.job.state == "running" and still >= STANDING:
        told += NOTHING.format(still)
    return {"x-progress": told, "retry-after": str(min(PATIENCE, 1 + int(age) // 10))}


def _refusal(diagnostics: str) -> FhirError:
    return FhirError(Issue("invalid", diagnostics))
