"""Which addresses are asked, as the other server names them, and how: nothing it says is believed because it says it.

The base is the operator's own word. Everything else has come from there: it must be https (http is for this machine
alone, and only if that was allowed), holds neither account nor fragment, and gets a token only at the base's own
origin. At another origin, as of an object store, the host's addresses must all be public, and the connection goes to
the very one that was looked at. No redirects, no proxy.
https://owasp.org/www-community/attacks/Server_Side_Request_Forgery, https://www.rfc-editor.org/rfc/rfc6454#section-4
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx

from fhirgw.access.address import loopback_name, public
from fhirgw.jobs.pull.trouble import Ended, Interrupted

PORTS = {"https": 443, "http": 80}
Origin = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request really goes: `headers` and `extensions` name the host where `url` has an IP address."""

    url: httpx.URL
    headers: dict[str, str]
    extensions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reach:
    """What a pull may ask: the server at `base`, and what that names. `loopback`: http on this machine too.

    `also`: a token endpoint that the operator has named, and so vouches for wherever it is.
    """

    base: str
    loopback: bool = False
    also: str | None = None

    def own(self, url: str) -> bool:
        """Whether an address is of the base's own origin: scheme, host and port, never a prefix."""
        return self._origin(url) == self._origin(self.base)

    def checked(self, url: str, what: str) -> str:
        """The address of `what`, absolute. Raises Ended for one that is not asked at all."""
        try:
            absolute = urljoin(f"{self.base}/", url)
        except ValueError:
            raise Ended("structure", f"The address of the {what} is malformed") from None
        self._origin(absolute, what)
        return absolute

    async def target(self, url: str, what: str) -> Target:
        """Where to connect to for an address. Raises Ended, Interrupted."""
        scheme, host, port = self._origin(url, what)
        try:
            made = httpx.URL(url)
        except httpx.InvalidURL:
            raise Ended("structure", f"The address of the {what} is malformed") from None
        if self.own(url) or url == self.also or (scheme == "http" and self.loopback):
            return Target(made, {}, {})
        address = await _public(host, port, what)
        return Target(made.copy_with(host=address), {"host": made.netloc.decode()}, {"sni_hostname": host})

    def _origin(self, url: str, what: str = "base") -> Origin:
        try:
            split = urlsplit(url)
            scheme, host, port = split.scheme, split.hostname or "", split.port
        except ValueError:
            raise Ended("structure", f"The address of the {what} is malformed") from None
        if not host or not url.isascii() or any(each <= " " or each in '\\"<>' for each in url):
            raise Ended("structure", f"The address of the {what} is malformed")
        if split.fragment or "@" in split.netloc:
            raise Ended("security", f"The address of the {what} holds an account or a fragment: it is not asked")
        if scheme != "https" and not (scheme == "http" and self.loopback and loopback_name(host)):
            rule = "is not https; http is for this machine alone, with --allow-http"
            raise Ended("security", f"The address of the {what} {rule}")
        return scheme, host.lower(), port or PORTS[scheme]


async def _public(host: str, port: int, what: str) -> str:
    """One address of the host, all of which are the Internet's."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise Interrupted("not-found", f"The host of the {what} is not known here") from None
    addresses = [str(each[4][0]) for each in found]
    if not addresses or not all(map(public, addresses)):
        rule = "leads to a network that is not public, and not to the server's own origin: it is not asked"
        raise Ended("security", f"The address of the {what} {rule}")
    return f"[{addresses[0]}]" if ipaddress.ip_address(addresses[0]).version == 6 else addresses[0]
