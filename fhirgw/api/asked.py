"""What a request asks, read from its address, its form and its headers: a type, an instance, parameters, wishes."""

from __future__ import annotations

import re
from difflib import get_close_matches
from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import Request

from fhirgw.api.answer import FORM, ID
from fhirgw.api.audit import entry
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.query import MOST_PAIRS
from fhirgw.store.resources import absent

CLOSE = 0.75
"""How alike two names are for the one to be meant by the other: Medication is not Location."""
LONGEST_FORM = 64 * 1024
"""Bytes of a search sent by POST."""
Pairs = list[tuple[str, str]]


def type_of(request: Request) -> str:
    """The type of the address. Raises FhirError(not-supported), a 404, for one not held here."""
    resource_type: str = request.path_params["type"]
    if resource_type in HELD:
        return resource_type
    raise not_held(resource_type)


def not_held(resource_type: str) -> FhirError:
    """The answer for a type that is not held here."""
    near = get_close_matches(resource_type, HELD, 1, CLOSE)
    hint = f"did you mean {near[0]}?" if near else "the CapabilityStatement lists them"
    return FhirError(Issue("not-supported", f"Resources of this type are not held here: {hint}"), status=404)


def instance(request: Request, resource_type: str | None = None) -> tuple[str, str]:
    """The type and id of the address; what cannot be an id is the id of nothing."""
    resource_type = resource_type or type_of(request)
    id: str = request.path_params["id"]
    if not ID.fullmatch(id):
        raise absent(resource_type)
    return resource_type, id


def pairs(request: Request) -> Pairs:
    """The parameters of the address, but those of how the answer looks."""
    text = request.scope["query_string"]
    return decoded(text.decode("latin-1")) if text else []


def decoded(text: str) -> Pairs:
    """The decoded pairs of a query string or form. Raises FhirError(invalid) for a NUL, which no text may hold."""
    try:
        found = parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MOST_PAIRS)
    except ValueError:
        raise FhirError(Issue("too-costly", f"More than {MOST_PAIRS} parameters: ask in parts")) from None
    if any("\0" in part for pair in found for part in pair):
        raise FhirError(Issue("invalid", "A parameter holds a NUL character: leave it out"))
    return [pair for pair in found if pair[0] != "_pretty"]


async def body(request: Request, longest: int, what: str) -> bytes:
    """The body, refused while it is still arriving when it grows longer than `longest` bytes."""
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > longest:
            raise FhirError(Issue("too-long", f"{what} has at most {longest} bytes"))
    return bytes(found)


async def search_pairs(request: Request) -> Pairs:
    """The parameters of a search by POST: those of the address and of the form together. Raises FhirError (415)."""
    sent, kind = await body(request, LONGEST_FORM, "A search by POST"), request.headers.get("content-type", "")
    if sent and kind.partition(";")[0].strip().lower() != FORM:
        raise FhirError(Issue("not-supported", f"A search by POST is sent as {FORM}"), status=415)
    form = decoded(sent.decode("utf-8", "replace"))
    entry(request).asked(name for name, _ in form)
    return pairs(request) + form


def lenient(request: Request) -> bool:
    """`Prefer: handling=lenient`: leave out what cannot be honoured, and say so."""
    return preferences(request).get("handling", "").lower() == "lenient"


def preferences(request: Request) -> dict[str, str]:
    """What is preferred, by name; of one that is said twice the first. Some libraries write ; between preferences.

    https://www.rfc-editor.org/rfc/rfc7240#section-2
    """
    said = re.split("[,;]", ",".join(request.headers.getlist("prefer")))
    pairs = (each.partition("=") for each in reversed(said))
    return {name.strip().lower(): value.strip(' \t"') for name, _, value in pairs}


def count(value: str, most: int) -> int:
    """A `_count` above 0, cut to the most there is. Raises FhirError(invalid)."""
    if not (value.isascii() and value.isdigit() and int(value[:10]) > 0):
        raise FhirError(Issue("invalid", "_count is malformed: it is a number above 0"))
    return min(int(value[:10]), most)


def links(address: str, asked: Pairs, here: str | None, following: str | None) -> list[tuple[str, str]]:
    """The links of a page: itself as it was understood, the first, and the next if there is one."""
    first = f"{address}?{urlencode(asked)}" if asked else address
    more = f"{first}{'&' if asked else '?'}_cursor="
    known = [("self", more + quote(here) if here else first), ("first", first)]
    return [*known, ("next", more + quote(following))] if following else known
