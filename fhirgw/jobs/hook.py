"""Posting to an address that somebody subscribed with: without trusting the address, or what answers there.

An https address without an account; every address its name resolves to is public (or, where whoever runs the gateway
vouches for its origin, private), and the connection goes to the very one that was looked at: whoever answers must hold
a certificate for the name. No redirect, no proxy; of the answer only its status counts.
https://owasp.org/www-community/attacks/Server_Side_Request_Forgery
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from ssl import SSLContext
from urllib.parse import urlsplit

import httpx

from fhirgw.access import address
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.settings import Settings

PLACE = "Subscription.channel.endpoint"
TAKEN = range(200, 300)
GONE = 410
"""Nobody is there any more, and nobody will be. https://www.rfc-editor.org/rfc/rfc9110#section-15.5.11"""


class Untold(Exception):
    """A notification was not taken; the message says why, in words for who subscribed. `for_good`: nor will it be."""

    def __init__(self, told: str, *, for_good: bool = False) -> None:
        super().__init__(told)
        self.for_good = for_good


@dataclass(frozen=True, slots=True)
class Reach:
    """Where notifications may go. `loopback`: http on this machine too, for trying things out; `vouched`: origins on
    private networks (`https://host:port`) that whoever runs the gateway named.
    """

    loopback: bool = False
    vouched: frozenset[str] = field(default_factory=frozenset)

    def origin(self, endpoint: str) -> str:
        """The origin of an endpoint that may be subscribed with. Raises FhirError: the place, the rule, the remedy.

        What its host resolves to is seen when something is sent.
        """
        try:
            split = urlsplit(endpoint)
            scheme, host, port = split.scheme, (split.hostname or "").lower(), split.port
            httpx.URL(endpoint)
            host.encode("idna")  # as a resolver does, of labels that are too long or empty
        except (ValueError, httpx.InvalidURL):
            raise _refused("The endpoint is malformed: write https://host/path") from None
        if not host or not endpoint.isascii() or any(each <= " " or each in '\\"<>' for each in endpoint):
            raise _refused("The endpoint is malformed: write https://host/path")
        if split.fragment or "@" in split.netloc:
            raise _refused("The endpoint holds an account or a fragment: give what it needs in channel.header")
        here = scheme == "http" and self.loopback and address.loopback_name(host)
        if scheme != "https" and not here:
            raise _refused("The endpoint is not https: notifications are about people")
        shown = f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}:{port or (80 if here else 443)}"

    async def post(self, endpoint: str, body: bytes, headers: Mapping[str, str], seconds: float) -> None:
        """Posts a body. Raises Untold where it was not taken."""
        try:
            async with asyncio.timeout(seconds):
                status = await self._posted(endpoint, body, headers, seconds)
        except TimeoutError:
            raise Untold(f"The endpoint did not answer within {seconds:.0f} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, FhirError) as error:
            raise Untold(f"The endpoint cannot be reached ({type(error).__name__})") from None
        if status in range(300, 400):
            raise Untold(f"The endpoint answered {status}: redirects are not followed, change the endpoint itself")
        if status not in TAKEN:
            raise Untold(f"The endpoint answered {status}", for_good=status == GONE)

    async def _posted(self, endpoint: str, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
        origin = self.origin(endpoint)
        named = httpx.URL(endpoint)
        resolved = await self._resolved(origin)
        sent = {**headers, "host": named.netloc.decode(), "accept-encoding": "identity"}
        async with (
            httpx.AsyncClient(verify=_trusted(), follow_redirects=False, trust_env=False, timeout=seconds) as http,
            http.stream(
                "POST",
                named.copy_with(host=resolved),
                content=body,
                headers=sent,
                extensions={"sni_hostname": named.host},
            ) as response,
        ):
            return response.status_code  # nothing of the body is read

    async def _resolved(self, origin: str) -> str:
        """One address of the origin's host, all of which are fit to connect to."""
        split = urlsplit(origin)
        host = split.hostname or ""
        found = await asyncio.get_running_loop().getaddrinfo(host, split.port, type=socket.SOCK_STREAM)
        addresses = [str(each[4][0]) for each in found]
        if split.scheme == "http":
            fit = all(map(address.loopback, addresses))
        else:
            vouched = origin in self.vouched
            fit = all(address.public(each) or (vouched and address.private(each)) for each in addresses)
        if not addresses or not fit:
            raise Untold("The endpoint's host leads to a network that is not public: ask who runs the gateway")
        return addresses[0]


def made_reach(given: Settings) -> Reach:
    """Where notifications may go, of these settings."""
    reach = Reach(given.loopback_hooks)
    listed = frozenset(reach.origin(each) for each in given.hook_origins.replace(",", " ").split())
    return Reach(given.loopback_hooks, listed)


@cache
def _trusted() -> SSLContext:
    return httpx.create_ssl_context()


def _refused(told: str) -> FhirError:
    return FhirError(Issue("value", told, PLACE))
