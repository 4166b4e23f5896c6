"""What each request came to, told by its handler, and recorded before its answer leaves: permitted or refused.

Not audited is what tells nothing about anybody: the CapabilityStatement, SMART's configuration, health, the landing
page, and addresses that lead nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import cast
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response

from fhirgw.access.audit_event import Access, Seen
from fhirgw.access.permit import Asking, Permit
from fhirgw.fhir import cohort
from fhirgw.fhir.parameters import EVERYWHERE, HELD, parameters
from fhirgw.fhir.query import CONTROLS, MOST_PAIRS, UNSUPPORTED
from fhirgw.store.audit import Auditor, drawn_uuid
from fhirgw.terminology.definitions import SEARCHED
from fhirgw.terminology.operations import NAMES

UNAUDITED = ("/fhir/metadata", "/fhir/.well-known/smart-configuration")
REQUEST_ID = b"x-request-id"
"""The header that tells the caller under which id the request is in the audit."""

METHODS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "OPTIONS": "capabilities"}
ENDS = {"_history": "history-instance", "{vid}": "vread", "_search": "search-type"}
PARTS = re.compile(r"[:.]")
MODIFIERS = ("exact", "contains", "missing", "not", "text", "identifier", "in", "not-in", "above", "below", "of-type")
OTHERS = (
    *("_since", "_outputFormat", "_has", "_pretty", "iterate", "app", "organisation", "own", "practitioner"),
    *("purpose", "sector", "type"),
    *("_pseudonymise", "_typeFilter", "_until", "_view", "allowPartialManifests", "includeAssociatedData"),
    *("organizeOutputBy", "patient", "file", "layout", "week", "provider", "person", "since"),
    *("content", "criteria", "eventsSinceNumber", "eventsUntilNumber", "id", "url"),
)
MOST_NAMED = 1000
"""Members of lists that one answer is audited with by name."""
NOT_NAMED = "?"
"""Stands for a parameter that R4 does not know: anything may be written where its name belongs."""


@dataclass(slots=True)
class Entry:
    """What a request is in the audit: `permit` once its caller has one; `asking` is who was refused theirs.

    `registration` is the application where there is no permit, as at the token endpoint: only one that is registered,
    for a caller may claim to be anything. `behalf` is the organisation the answer is for, as the application says.
    `durable`: the audit has it already, with what it wrote. `interaction` is FHIR's name of what the address alone does
    not tell.
    """

    moment: datetime = field(default_factory=lambda: datetime.now(UTC))
    request: str = field(default_factory=drawn_uuid)
    permit: Permit | None = None
    asking: Asking | None = None
    registration: str = ""
    seen: list[Seen] = field(default_factory=list)
    bulk: bool = False
    types: tuple[str, ...] = ()
    parameters: list[str] = field(default_factory=list)
    behalf: str = ""
    durable: bool = False
    interaction: str = ""

    def saw(self, resource_type: str, id: str, person: str | None) -> None:
        """A resource is in the answer; `person` is the id of the Patient whose record it is of."""
        self.seen.append(Seen(resource_type, id, person))

    def saw_all(self, rows: Iterable[tuple[str, str, str | None]]) -> None:
        """Many, as (type, id, person)."""
        self.seen += [Seen(*row) for row in rows]

    def saw_lists(self, rows: Iterable[tuple[str, str, str | None]]) -> None:
        """Of what is in the answer, as (type, id, body), the lists: whoever is named in one was looked at with it.

        Where that is many people, nobody counts them, as in a bulk copy.
        """
        lists = [(id, cohort.people(orjson.loads(body))) for kind, id, body in rows if kind == "Group" and body]
        named = dict.fromkeys((id, person) for id, persons in lists for person in persons)
        if len(named) > MOST_NAMED:
            self.everybody(("Group",))
        else:
            self.saw_all(("Group", id, person) for id, person in named)

    def everybody(self, types: Iterable[str] = ()) -> None:
        """The answer is a bulk copy, of these types (none: all): whose records are in it, nobody lists."""
        self.bulk, self.types = True, tuple(types)

    def asked(self, names: Iterable[str]) -> None:
        """Names of parameters that are not in the address, but in a form."""
        self.parameters += names


def entry(request: Request) -> Entry:
    """The request's entry, made when it is first asked for."""
    state = request.scope.setdefault("state", {})
    if "audit" not in state:
        state["audit"] = Entry()
    return cast(Entry, state["audit"])


async def recorded(request: Request, template: str, response: Response) -> Response:
    """The response, once the audit has the request durably. Raises FhirError(transient) where it cannot be had."""
    if template in UNAUDITED:
        return response
    found = entry(request)
    if not found.durable:
        auditor = cast(Auditor, request.app.state.auditor)
        await auditor.record(access(request, template, response.status_code, found))
    if all(name != REQUEST_ID for name, _ in response.raw_headers):
        response.raw_headers.append((REQUEST_ID, found.request.encode()))
    return response


def access(request: Request, template: str, status: int, found: Entry) -> Access:
    """What happened, without anything personal that the address may say."""
    served = status < 400
    interaction, operation = interactions(request.method, template)
    resource_type = request.path_params.get("type") or _fixed(template)
    known = resource_type if resource_type in HELD else None
    id = request.path_params.get("id")
    return Access(
        interaction=found.interaction or interaction,
        operation=operation,
        route=template,
        moment=found.moment,
        request=found.request,
        status=status,
        type=known,
        asked=f"{known}/{id}" if known and id else None,
        parameters=_names(request, found),
        seen=found.seen if served else (),
        everybody=found.bulk,
        types=found.types,
        permit=found.permit,
        registration=found.registration,
        behalf=found.behalf,
        asking=found.asking,
    )


@lru_cache(maxsize=1000)
def interactions(method: str, template: str) -> tuple[str, str | None]:
    """FHIR's name of an interaction, and of the operation if it is one (`everything`).

    https://hl7.org/fhir/R4/valueset-restful-interaction.html
    """
    parts = template.split("/")
    operation = next((part[1:] for part in parts if part.startswith("$")), None)
    if operation is None and "oauth" in parts:
        operation = parts[-1]
    if operation:
        return "operation", operation
    if parts[-1] in ENDS:
        return ENDS[parts[-1]], None
    if method in ("GET", "HEAD"):
        return ("read" if parts[-1] == "{id}" else "search-type"), None
    return METHODS.get(method, "operation"), None


@lru_cache(maxsize=1000)
def _fixed(template: str) -> str:
    """The type that a template names itself: `/fhir/Patient/{id}/$everything`."""
    return next((part for part in template.split("/") if part in HELD), "")


def _names(request: Request, found: Entry) -> tuple[str, ...]:
    """The parameters by their names; values may be anybody's."""
    text = request.scope["query_string"]
    if not text and not found.parameters:
        return ()
    try:
        pairs = parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_PAIRS)
    except ValueError:
        pairs = [(NOT_NAMED, "")]  # more than anybody is answered for
    names = [*(name for name, _ in pairs), *found.parameters]
    return tuple(dict.fromkeys(name if _plain(name) else NOT_NAMED for name in names))


def _plain(name: str) -> bool:
    """Whether a parameter's name is made of words of R4: in an address there may be anything."""
    return all(part in _words() for part in PARTS.split(name))


@cache
def _words() -> frozenset[str]:
    return frozenset((*HELD, *NAMES, *SEARCHED, *EVERYWHERE, *CONTROLS, *UNSUPPORTED, *MODIFIERS, *OTHERS, *_known()))


def _known() -> Iterator[str]:
    for each in HELD:
        yield from parameters(each)
