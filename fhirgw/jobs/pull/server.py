"""Another FHIR server, asked with a token of its own: for its configuration, its status, its files.

SMART Backend Services: https://hl7.org/fhir/smart-app-launch/STU2.2/backend-services.html. A token is kept until
shortly before it expires, asked for again when one is refused, and sent to the base's own origin and to no other.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import orjson

from fhirgw.access import jose
from fhirgw.access.assertion import signed
from fhirgw.jobs.pull.address import Reach
from fhirgw.jobs.pull.patience import AGAIN, patiently, wait
from fhirgw.jobs.pull.trouble import Ended, Interrupted

SILENCE = 60.0
"""Seconds a server may say nothing while it is asked something."""

LARGEST = 16_000_000
"""Bytes of a document; files have a bound of their own."""

TRIES = 8
"""Tries in a row that come to nothing before a pull waits for somebody to start it again."""

SPARE = 20.0
"""Seconds before a token expires at which another is got."""

REFUSED = (401, 403)
REFUSAL = "The {} is refused though we have a token: the server's operator knows why"
TOKENS = "token endpoint"
WELL_KNOWN = ".well-known/smart-configuration"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to the other server; `token_url` where its configuration does not say."""

    name: str
    key: jose.Key
    scope: str
    token_url: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A whole answer: its status, its headers, and its body as JSON where it is a 200."""

    status: int
    headers: Mapping[str, str]
    body: Any


@cache
def _trusted() -> ssl.SSLContext:
    """Whose certificates are believed: SSL_CERT_FILE names others than the Internet's, as of a network of the NHS."""
    return httpx.create_ssl_context()


@asynccontextmanager
async def reached(reach: Reach, credentials: Credentials, told: Callable[[str], None]) -> AsyncIterator[Server]:
    """The server, while the block runs; what it is waited for is `told`."""
    limits = httpx.Timeout(SILENCE, connect=10)
    async with httpx.AsyncClient(verify=_trusted(), follow_redirects=False, trust_env=False, timeout=limits) as http:
        yield Server(reach, http, _Token(reach, http, credentials, told), told)


class Server:
    """`async with reached(reach, credentials, told) as server`."""

    def __init__(self, reach: Reach, http: httpx.AsyncClient, token: _Token, told: Callable[[str], None]) -> None:
        self.reach, self.told, self._http, self._token = reach, told, http, token

    async def ask(self, method: str, url: str, what: str, headers: Mapping[str, str]) -> Document:
        """A document at the server's own origin, whatever its status; asked again while it says "not now" or nothing.

        202 and 429 are the caller's to wait for. Raises Interrupted, Ended.
        """
        if not self.reach.own(url):
            raise Ended("security", f"The {what} is at another origin than the base: no token is sent there")
        for tries in range(1, TRIES + 1):
            try:
                async with self.stream(method, url, what, headers, token=True) as response:
                    if response.status_code in REFUSED:
                        raise Interrupted("login", f"{REFUSAL.format(what)} ({response.status_code})")
                    if response.status_code not in AGAIN or response.status_code == 429:
                        return await _read(response, what)
                    why, pause = f"it answers {response.status_code}", wait(response.headers, tries)
            except httpx.TransportError as error:
                why, pause = _silent(error), wait({}, tries)
            await patiently(self.told, what, why, pause)
        raise Interrupted("timeout", f"The {what} cannot be had: the server does not answer, {TRIES} times in a row")

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, what: str, headers: Mapping[str, str], *, token: bool
    ) -> AsyncIterator[httpx.Response]:
        """The answer, not read yet. A token that is refused is got anew, once. Raises httpx.TransportError and ours."""
        target = await self.reach.target(url, what)
        for last in (False, True):
            sent = dict(headers) | target.headers
            if token and self.reach.own(url):
                held = await self._token.held()
                sent["authorization"] = f"Bearer {held}"
            async with self._http.stream(
                method, target.url, headers=sent, extensions=dict(target.extensions)
            ) as response:
                if response.status_code == 401 and "authorization" in sent and not last:
                    self._token.refused(held)
                    continue
                yield response
                return


class _Token:
    """The access token, got when it is needed."""

    def __init__(
        self, reach: Reach, http: httpx.AsyncClient, credentials: Credentials, told: Callable[[str], None]
    ) -> None:
        self._reach, self._http, self._credentials, self._told = reach, http, credentials, told
        self._text, self._until, self._address = "", 0.0, credentials.token_url
        self._lock = asyncio.Lock()

    async def held(self) -> str:
        """A token that holds for a while yet. Raises Interrupted, Ended."""
        async with self._lock:
            if time.monotonic() > self._until:
                await self._get()
            return self._text

    def refused(self, text: str) -> None:
        """It is not taken any more."""
        if text == self._text:
            self._until = 0.0

    async def _get(self) -> None:
        if self._address is None:
            self._address = self._vouched(await self._configured())
        address = self._reach.checked(self._address, TOKENS)
        for tries in range(1, TRIES + 1):
            found, why = await self._tried(self._asked(address))
            if found.status == 200:
                return self._keep(found.body)
            if found.status not in AGAIN:
                remedy = f"register the public half of the key for {self._credentials.name}, with these scopes"
                raise Interrupted("login", f"The server gives no token ({found.status}): {remedy}")
            await patiently(self._told, TOKENS, why, wait(found.headers, tries))
        raise Interrupted("timeout", f"The token endpoint does not answer, {TRIES} times in a row")

    async def _asked(self, address: str) -> Document:
        """One try, with an assertion of its own: none may be used twice."""
        given = self._credentials
        form = {
            "grant_type": "client_credentials",
            "scope": given.scope,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": signed(given.key, given.name, address, int(time.time())),
        }
        return await self._document("POST", address, TOKENS, form)

    async def _tried(self, asking: Awaitable[Document]) -> tuple[Document, str]:
        """The answer, and what to say of it where it is not the one that is wanted."""
        try:
            found = await asking
        except httpx.TransportError as error:
            return Document(503, {}, None), _silent(error)
        return found, f"it answers {found.status}"

    async def _configured(self) -> str:
        """Where the server's configuration says that tokens are."""
        url = f"{self._reach.base}/{WELL_KNOWN}"
        for tries in range(1, TRIES + 1):
            found, why = await self._tried(self._document("GET", url, "configuration"))
            endpoint = found.body.get("token_endpoint") if isinstance(found.body, dict) else None
            if isinstance(endpoint, str):
                return endpoint
            if found.status not in AGAIN:
                remedy = "say --token-url, or correct --from"
                raise Interrupted("not-found", f"{WELL_KNOWN} names no token endpoint ({found.status}): {remedy}")
            await patiently(self._told, "configuration", why, wait(found.headers, tries))
        raise Interrupted("timeout", f"The server does not answer, {TRIES} times in a row: is --from right?")

    def _vouched(self, named: str) -> str:
        """The token endpoint that the server names. At another origin nobody but the operator knows whose it is: that
        of somebody else, maybe, who knows us by the same name and key, and whose token the server would be sent.
        https://www.rfc-editor.org/rfc/rfc9700#section-4.4
        """
        address = self._reach.checked(named, TOKENS)
        if not self._reach.own(address) and address != self._reach.also:
            told = f"{WELL_KNOWN} names a token endpoint at another origin than the base"
            raise Interrupted(
                "security", f"{told}: look there, and if that is the server's own say it with --token-url"
            )
        return address

    async def _document(self, method: str, url: str, what: str, form: dict[str, str] | None = None) -> Document:
        target = await self._reach.target(url, what)
        headers = {"accept": "application/json"} | target.headers
        async with self._http.stream(
            method, target.url, headers=headers, data=form, extensions=dict(target.extensions)
        ) as response:
            return await _read(response, what)

    def _keep(self, body: Any) -> None:
        text, seconds = (body.get("access_token"), body.get("expires_in")) if isinstance(body, dict) else (None, None)
        if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text or not text:
            raise Ended("structure", "The token endpoint answers without a token")
        lifetime = float(seconds) if isinstance(seconds, int | float) else 60.0
        self._text, self._until = text, time.monotonic() + max(lifetime - SPARE, lifetime / 2)


def _silent(error: httpx.TransportError) -> str:
    return f"no answer ({type(error).__name__})"


async def _read(response: httpx.Response, what: str) -> Document:
    """The whole of an answer."""
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > LARGEST:
                raise Ended("too-long", f"The {what} is longer than {LARGEST >> 20} MB")
    except httpx.DecodingError:
        raise Ended("structure", f"The {what} is not packed as its Content-Encoding says") from None
    if response.status_code != 200:
        return Document(response.status_code, response.headers, None)
    try:
        return Document(200, response.headers, orjson.loads(body))
    except ValueError:
        raise Ended("structure", f"The {what} is no JSON") from None
