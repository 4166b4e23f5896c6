"""Public keys that are published at an address somebody registered: fetched without trusting the address.

An https address without an account; every address its name resolves to is public (or, where whoever runs the gateway
vouches for it, private), and the connection goes to the very one that was looked at: whoever answers must hold a
certificate for the name. No redirect, no proxy, five seconds, 100 kB. What is fetched is kept no longer than its
Cache-Control says, and never longer than a minute: a key that was taken away stops working.
https://owasp.org/www-community/attacks/Server_Side_Request_Forgery
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

import httpx
import orjson

from fhirgw.access import address, jose

SECONDS = 5.0
LARGEST = 100_000
KEPT = 60.0
"""Seconds at most that keys are kept."""

LEAST = 1.0
"""Seconds at least: requests that arrive together share a fetch."""

EAGER = 10.0
"""Seconds between fetches for a key that nobody knows, which anybody can ask for; and after one that failed."""

MOST = 1000
"""Addresses kept."""

MAX_AGE = re.compile(r"max-age\s*=\s*\"?(\d{1,9})")


class Unfetched(Exception):
    """The keys cannot be had: whoever depends on them is neither let in nor refused. The message says why."""


@dataclass(slots=True)
class _Kept:
    keys: list[jose.Key] = field(default_factory=list)
    failure: str | None = None
    fetched: float = float("-inf")
    until: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class KeySets:
    """Key sets by address, kept for a while. `loopback`: http addresses of this machine too, for tests."""

    def __init__(self, loopback: bool = False) -> None:
        self.loopback = loopback
        self.vouched: set[str] = set()
        self._kept: dict[str, _Kept] = {}

    async def keys(self, url: str, *, eager: bool = False) -> Sequence[jose.Key]:
        """The keys at an address; `eager`: one that may be new is looked for. Raises Unfetched."""
        kept = self._kept.get(url) or self._room(url)
        if not self._fresh(kept, eager):
            async with kept.lock:
                if not self._fresh(kept, eager):
                    await self._fill(kept, url)
        if kept.failure:
            raise Unfetched(kept.failure)
        return kept.keys

    def _room(self, url: str) -> _Kept:
        if len(self._kept) >= MOST:
            del self._kept[next(iter(self._kept))]
        return self._kept.setdefault(url, _Kept())

    @staticmethod
    def _fresh(kept: _Kept, eager: bool) -> bool:
        now = time.monotonic()
        return now < kept.until and not (eager and now - kept.fetched > EAGER)

    async def _fill(self, kept: _Kept, url: str) -> None:
        try:
            kept.keys, lifetime = await fetch(url, loopback=self.loopback, internal=url in self.vouched)
            kept.failure = None
        except Unfetched as error:
            if kept.keys and time.monotonic() < kept.until:
                kept.fetched = time.monotonic()
                return  # a key that nobody knows was looked for, as anybody may have done: those there are still count
            kept.keys, kept.failure, lifetime = [], str(error), EAGER
        kept.fetched = time.monotonic()
        kept.until = kept.fetched + lifetime


async def fetch(url: str, *, loopback: bool = False, internal: bool = False) -> tuple[list[jose.Key], float]:
    """The keys at an address, and the seconds they may be kept for; `internal`: on a private network too.

    Raises Unfetched.
    """
    try:
        async with asyncio.timeout(SECONDS):
            body, control = await _body(url, loopback, internal)
        return jose.public_keys(orjson.loads(body)), _lifetime(control)
    except TimeoutError:
        raise Unfetched(f"the address of the keys does not answer within {SECONDS:.0f} seconds") from None
    except jose.Untrusted as error:
        raise Unfetched(f"what is at the address of the keys cannot be used: {error}") from None
    except ValueError:
        raise Unfetched("what is at the address of the keys is no JSON") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise Unfetched(f"the address of the keys cannot be reached ({type(error).__name__})") from None


def check_address(url: str, *, loopback: bool = False) -> tuple[str, int]:
    """The host and port of an address that may be registered. Raises Unfetched. What it resolves to is seen later."""
    try:
        split = urlsplit(url)
        host, port = split.hostname or "", split.port
    except ValueError:
        raise Unfetched("the address of the keys is malformed") from None
    if not url.isascii() or any(each <= " " or each in '\\"' for each in url) or split.fragment or "@" in split.netloc:
        raise Unfetched("the address of the keys holds what an address of keys does not")
    if split.scheme == "http" and loopback and address.loopback_name(host):
        return host, port or 80
    if split.scheme != "https" or not host:
        raise Unfetched("the address of the keys is not an https address")
    return host, port or 443


@cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def _body(url: str, loopback: bool, internal: bool) -> tuple[bytes, str]:
    host, port = check_address(url, loopback=loopback)
    resolved = await _resolved(host, port, loopback and address.loopback_name(host), internal)
    target = httpx.URL(url).copy_with(host=resolved)
    headers = {"host": httpx.URL(url).netloc.decode(), "accept": "application/json", "accept-encoding": "identity"}
    async with (
        httpx.AsyncClient(verify=_trusted(), follow_redirects=False, trust_env=False, timeout=SECONDS) as http,
        http.stream("GET", target, headers=headers, extensions={"sni_hostname": host}) as response,
    ):
        if response.status_code != 200:
            raise Unfetched(f"the address of the keys answers {response.status_code}; redirects are not followed")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Unfetched("the address of the keys answers in a coding nobody asked for")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > LARGEST:
                raise Unfetched(f"what is at the address of the keys is longer than {LARGEST} bytes")
        return bytes(body), response.headers.get("cache-control", "")


async def _resolved(host: str, port: int, loopback: bool, internal: bool) -> str:
    """One address of the host, all of which are fit to connect to."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(each[4][0]) for each in found]
    if loopback:
        fit = all(map(address.loopback, addresses))
    else:
        fit = all(address.public(each) or (internal and address.private(each)) for each in addresses)
    if not addresses or not fit:
        raise Unfetched("the address of the keys leads to a network that is not public")
    return addresses[0]


def _lifetime(control: str) -> float:
    control = control.lower()
    if "no-store" in control or "no-cache" in control:
        return LEAST
    age = MAX_AGE.search(control)
    return min(KEPT, max(LEAST, float(age[1]))) if age else KEPT
