"""Another terminology server, which whoever runs the gateway named: asked for what is not carried here.

It is sent codes, urls and words to filter by, and never anything else: no display a caller wrote, no identifier, no
text with digits. No redirect, five seconds, a megabyte. What it answered is kept an hour; while it does not answer, it
is left alone for ten seconds, and what it would know is unknown.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import orjson
import structlog

from fhirgw.fhir.issue import Resource
from fhirgw.fhir.nhs import SNOMED_CT, is_nhs_number
from fhirgw.terminology.shape import DMD

SECONDS = 5.0
LARGEST = 1024 * 1024
KEPT = 3600.0
"""Seconds that an answer is kept."""
MOST = 2000
"""Answers kept."""
PAUSE = 10.0
"""Seconds it is left alone after it failed: nobody waits for what is not there."""
AT_ONCE = 8
URLS = re.compile(r"[!-~]{1,2048}")
CODES = re.compile(r"[!-~]{1,64}")
SENT = {
    **dict.fromkeys(("url", "system", "version", "valueSetVersion", "systemVersion"), URLS),
    **dict.fromkeys(("code", "property"), CODES),
    **dict.fromkeys(("offset", "count"), re.compile(r"[0-9]{1,9}")),
    **dict.fromkeys(("activeOnly", "excludeNested", "excludeNotForUI"), re.compile("true|false")),
    "filter": re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+){0,7}"),
}
"""What is sent, and what it looks like."""
IDENTIFIERS = re.compile(r"https?://[^/]+/Id/|urn:oid:2\.16\.840\.1\.113883\.2\.1\.4\.")
"""Systems of identifiers: of people, organisations, workers."""
Pairs = tuple[tuple[str, str], ...]
log = structlog.get_logger("fhirgw.terminology")


class Unanswered(Exception):
    """It did not answer, or not as FHIR. What was asked is unknown."""


@dataclass(slots=True)
class TerminologyServer:
    """`async with connected(url, token) as server`, then `await server.ask("CodeSystem/$lookup", pairs)`."""

    http: httpx.AsyncClient
    _kept: OrderedDict[tuple[str, Pairs], tuple[float, Resource | None]] = field(default_factory=OrderedDict)
    _silent_until: float = float("-inf")
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def ask(self, operation: str, given: Iterable[tuple[str, str]]) -> Resource | None:
        """What it answers; None where it does not know either, or may not be asked. Raises Unanswered."""
        pairs = tuple(given)
        if not sendable(pairs):
            return None
        key = operation, pairs
        if (kept := self._kept.get(key)) and time.monotonic() - kept[0] < KEPT:
            self._kept.move_to_end(key)
            return kept[1]
        if time.monotonic() < self._silent_until:
            raise Unanswered
        async with self._places:
            found = await self._asked(operation, pairs)
        self._kept[key] = time.monotonic(), found
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return found

    async def _asked(self, operation: str, pairs: Pairs) -> Resource | None:
        try:
            async with asyncio.timeout(SECONDS), self.http.stream("GET", operation, params=list(pairs)) as response:
                body = await _read(response)
        except (httpx.HTTPError, TimeoutError) as error:
            raise self._failed(type(error).__name__) from None
        if response.status_code in (400, 404, 410, 422):
            return None
        if response.status_code != 200:
            raise self._failed(f"status {response.status_code}")
        try:
            found = orjson.loads(body)
        except ValueError:
            raise self._failed("no JSON") from None
        if not isinstance(found, dict) or found.get("resourceType") not in ("Parameters", "ValueSet"):
            raise self._failed("no answer of the operation")
        return found

    def _failed(self, why: str) -> Unanswered:
        self._silent_until = time.monotonic() + PAUSE
        log.warning("terminology server did not answer", reason=why)
        return Unanswered(why)


@asynccontextmanager
async def connected(url: str, token: str | None) -> AsyncIterator[TerminologyServer]:
    """The server at that FHIR base. Nothing is asked yet."""
    headers = {"accept": "application/fhir+json", "accept-encoding": "identity"} | (
        {"authorization": f"Bearer {token}"} if token else {}
    )
    base = url.rstrip("/") + "/"
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=SECONDS, follow_redirects=False) as http:
        yield TerminologyServer(http)


def sendable(pairs: Pairs) -> bool:
    """Whether it may leave the gateway: codes of code systems, urls, and words that hold no digit."""
    system = next((value for name, value in pairs if name in ("system", "url")), "")
    for name, value in pairs:
        if name not in SENT or not SENT[name].fullmatch(value) or IDENTIFIERS.match(value):
            return False
        if name == "code" and is_nhs_number(value) and system not in (SNOMED_CT, DMD):
            return False
    return True


async def _read(response: httpx.Response) -> bytes:
    """The body. Raises httpx.HTTPError for one that is too large."""
    found = bytearray()
    async for chunk in response.aiter_bytes():
        found += chunk
        if len(found) > LARGEST:
            raise httpx.DecodingError("too large")
    return bytes(found)
