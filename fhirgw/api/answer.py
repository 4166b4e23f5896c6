"""Requests and answers as FHIR wants them: content types, entity tags, outcomes, and no error without one.

The hot paths take the plain Request and give a plain Response of bytes: FastAPI's parameter machinery costs as much as
the query. https://hl7.org/fhir/R4/http.html

Long, because the one way an answer may leave is all here: gate, formats, errors, audit.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from fhirgw.access.permit import Permit
from fhirgw.api import headers
from fhirgw.api.audit import entry, recorded
from fhirgw.api.context import context
from fhirgw.api.open import OPEN
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.pretty import pretty
from fhirgw.store.database import away, overrun

FHIR_JSON = "application/fhir+json; charset=utf-8"
PRIVATE = {"cache-control": "private, no-cache"}
"""What is about people is nobody's to keep but the caller's, and not without asking again."""

FORMATS = ("json", "application/json", "application/fhir+json", "text/json")
MEDIA = (
    *("application/fhir+json", "application/json", "text/json", "application/fhir+ndjson", "application/*", "*/*"),
    "text/event-stream",
)
"""What an Accept may name; NDJSON is for the files of an export, and events for alerts."""
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""What can be the id of a resource. https://hl7.org/fhir/R4/datatypes.html#id"""

FORM = "application/x-www-form-urlencoded"
RETRY_AFTER = "5"
"""Seconds after which to ask again when the database is away."""

HEADERS = "fhirgw.headers"
"""Where in a request's scope the gate leaves headers for its answer."""

NOWHERE = "There is nothing at this address; the FHIR base is /fhir"
ELSEWHERE = dict.fromkeys(
    ("/$meta-add", "/$meta-delete"), "Tags and labels are changed with the resource that bears them: by PATCH or PUT"
)
"""What there is not and somebody may look for, by the end of its address, with what there is."""

SENT = "fhirgw.sent"
"""Where in a request's scope the headers are that fhirgw.api.headers knows of."""

Handler = Callable[[Request], Awaitable[Response]]
Ahead = Callable[[Request], Awaitable["Permit | None"]]
VERSIONS = ("4.0", "4.0.1")
"""What `fhirVersion` of a media type may say. https://hl7.org/fhir/R4/http.html#version-parameter"""

log = structlog.get_logger("fhirgw.api")


class Interactions(Route):
    """A route whose handlers are known by method: what is registered is what the CapabilityStatement says."""

    handlers: Mapping[str, Handler]


# Long, because the functions within are one route: what each knows is its path and its handlers.
def interactions(
    path: str,
    *,
    head: bool = True,
    asserted: bool = False,
    formats: tuple[str, ...] = (),
    ahead: Ahead | None = None,
    **methods: Handler,
) -> Interactions:
    """The route for a path: a handler by method (`GET=read`). Another method is a 405 with Allow.

    Nobody gets further without a permit, unless the path is one of fhirgw.api.open: 401. `asserted`: a form may hold an
    assertion in its place, which the handler judges. And no answer leaves before it is audited.
    HEAD follows GET, unless `head` is false: for a GET that starts something. `formats`: those it is answered in
    besides JSON, and the handler sees to that. `ahead`: what GET begins with, which gives the permit that it found to
    hold in the statement that it read by, or None for the gate to be asked.
    """
    if head and "GET" in methods:
        methods = {**methods, "HEAD": methods["GET"]}
    allowed = ", ".join(sorted([*methods, "OPTIONS"]))

    async def handle(request: Request) -> Response:
        if path not in OPEN and not (asserted and _is_form(request)):
            request.state.permit = entry(request).permit = await _permit(request, ahead)
        if given := request.scope[SENT]:
            headers.noted(request, given)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        handler = methods.get(request.method)
        if handler is None:
            issue = Issue("not-supported", f"{request.method} is not supported here; these are: {allowed}")
            return refused(FhirError(issue, status=405), {"Allow": allowed})
        check_format(request, formats)
        return await handler(request)

    async def endpoint(request: Request) -> Response:
        given = request.scope[SENT] = headers.sent(request)
        response = await _answered(handle, request, route.path_format)
        headers.put(response, request.scope.get(HEADERS, {}))
        if given:
            headers.put(response, headers.mirrored(given))
        try:
            return _laid_out(request, await recorded(request, route.path_format, response))
        except FhirError as error:
            return refused(error, {"retry-after": RETRY_AFTER})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    route = Interactions(path, endpoint)
    route.app = app  # not Starlette's wrapping, for errors that are answered here: two layers less
    route.methods = None  # all of them, those nobody has heard of too: `endpoint` says which are served
    route.handlers = methods
    return route


async def _permit(request: Request, ahead: Ahead | None) -> Permit:
    """The caller's permit. Where it fails to read ahead nobody is told of that before it is known who asks."""
    gate = context(request).gate
    try:
        permit = await ahead(request) if ahead and request.method == "GET" else None
    except FhirError:
        raise  # a refusal: it is known
    except Exception:
        entry(request).permit = await gate(request)
        raise
    return permit or await gate(request)


def _laid_out(request: Request, response: Response) -> Response:
    """The response, laid out for people where they ask for that (`_pretty=true`)."""
    if b"_pretty=true" not in request.scope["query_string"] or not getattr(response, "body", b""):
        return response
    if "json" in response.headers.get("content-type", ""):
        response.body = pretty(bytes(response.body))
        response.headers["content-length"] = str(len(response.body))
    return response


def _is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return request.method == "POST" and kind == FORM


def answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A FHIR body as it goes out. It is about people: nobody but the caller may keep it."""
    return Response(body, status, {"content-type": FHIR_JSON, **PRIVATE, **(headers or {})})


def refused(error: FhirError, headers: Mapping[str, str] | None = None) -> Response:
    """The OperationOutcome of an error."""
    return answer(encode(error.outcome()), error.status, headers)


def versioned(request: Request, body: str, version: int, updated: datetime, fixed: bool = True) -> Response:
    """A resource with its ETag and Last-Modified, or 304 where the caller has this version already.

    `fixed`: what is served of a version stays the same. Of others there is no 304: whoever has a copy would keep it.
    """
    tag = f'W/"{version}"'
    told = {"etag": tag, "last-modified": _http_date(updated)}
    if fixed and _has_already(request, tag, updated):
        return Response(status_code=304, headers=told)
    return answer(body.encode(), 200, told)


@lru_cache(maxsize=4096)
def _http_date(moment: datetime) -> str:
    """The moment as HTTP writes it: many resources have the same."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def check_format(request: Request, more: tuple[str, ...] = ()) -> None:
    """JSON is what there is, but for `more`. Raises FhirError with status 406 for a caller who takes neither."""
    if b"_format" in request.scope["query_string"]:
        fits = _fits(request.query_params.get("_format", "json").replace(" ", "+"), (*FORMATS, *more))
    else:
        fits = _accepts(headers.header(request, b"accept") or "*/*", more)
        if not fits:  # it may be said in several headers, which mean the same as one
            fits = _accepts(",".join(request.headers.getlist("accept")), more)
    if not fits:
        raise FhirError(Issue("not-supported", "Only JSON of FHIR 4.0 is served: application/fhir+json"), status=406)


@lru_cache(maxsize=256)
def _accepts(accept: str, more: tuple[str, ...] = ()) -> bool:
    return any(_fits(part, (*MEDIA, *more)) for part in accept.split(","))


def _fits(wanted: str, served: tuple[str, ...]) -> bool:
    """Whether a media range, parameters and all, is one we answer with."""
    kind, *parameters = (each.strip().lower() for each in wanted.split(";"))
    given = dict(each.partition("=")[::2] for each in parameters)
    return (
        kind in served
        and given.get("fhirversion", "4.0").strip('"') in VERSIONS
        and given.get("charset", "utf-8").strip('"') == "utf-8"
        and given.get("q", "1").rstrip("0") not in ("", "0.")
    )


async def not_routed(request: Request, error: Exception) -> Response:
    """What Starlette answers by itself (no such path, an unreadable request), as an OperationOutcome.

    Below the FHIR base that is nobody's to know who has no token.
    """
    if request.url.path.startswith("/fhir"):
        return await _answered(lambda request: _lost(request, error), request, "/fhir")
    return _no_route(request, error)


async def _lost(request: Request, error: Exception) -> Response:
    await context(request).gate(request)
    return _no_route(request, error)


def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    if status == 404:
        told = next((why for name, why in ELSEWHERE.items() if request.url.path.endswith(name)), NOWHERE)
        return refused(FhirError(Issue("not-found", told)))
    headers = error.headers if isinstance(error, HTTPException) else None
    if status == 405:
        return refused(FhirError(Issue("not-supported", "This method is not supported here"), status=405), headers)
    return refused(FhirError(Issue("processing", "The request could not be understood"), status=status), headers)


async def _answered(handler: Handler, request: Request, template: str) -> Response:
    """The handler's answer, or the outcome of what it raised.

    What nobody expected is logged by its kind and place alone: a message, an address or a body may name a person.
    """
    try:
        return await handler(request)
    except FhirError as error:
        return refused(error, getattr(error, "headers", None))
    except Exception as error:
        if away(error):
            return _database_away(error, template)
        if overrun(error):
            log.warning("statement too slow", route=template)
            return refused(FhirError(Issue("too-costly", "This takes too long: ask for less, with more criteria")))
        return _unexpected(error, template)


def _database_away(error: Exception, template: str) -> Response:
    log.warning("database away", route=template, error=type(error).__name__)
    issue = Issue("transient", f"The database does not answer: ask again in {RETRY_AFTER} seconds")
    return refused(FhirError(issue), {"retry-after": RETRY_AFTER})


def _unexpected(error: Exception, template: str) -> Response:
    reference = str(uuid.uuid4())
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else "?"
    log.error("unexpected", route=template, reference=reference, error=type(error).__name__, place=place)
    issue = Issue("exception", f"The gateway failed; its log says where, under {reference}")
    return refused(FhirError(issue))


def _weak(tag: str) -> str:
    """The tag, spelt as a weak one: If-None-Match takes both for the same.

    https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2
    """
    return tag if tag.startswith("W/") else f"W/{tag}"


def _has_already(request: Request, tag: str, updated: datetime) -> bool:
    """If-None-Match decides; If-Modified-Since, to the second, only without it."""
    if (known := headers.header(request, b"if-none-match")) is not None:
        return tag in (_weak(each.strip()) for each in known.split(",")) or known.strip() == "*"
    if (since := headers.header(request, b"if-modified-since")) is not None:
        try:
            return updated.replace(microsecond=0) <= parsedate_to_datetime(since).astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            return False
    return False
