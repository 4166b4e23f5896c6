"""Where an import over HTTP may take its inputs from: a folder, and origins, that whoever runs the gateway has named.

Nobody else's address is ever asked: the origin is compared after parsing, each address its name resolves to is looked
at, and the connection goes to the one that was. A named origin may be on the organisation's own network; this machine,
its neighbours on the link and its cloud's metadata are not reached by any name, but where the origin names this machine
itself. No redirect, no proxy, no account, limits of time and size. What is fetched is kept until it is taken in, so
that who goes on after a crash goes on in the same text.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from ssl import SSLContext
from urllib.parse import SplitResult, unquote, urlsplit

import httpx

from fhirgw.access.address import loopback, loopback_name, private, public
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.jobs.files import Draft
from fhirgw.jobs.lines import Unreadable
from fhirgw.private import private_folder

PORTS = {"https": 443, "http": 80}
SECONDS = 30.0
"""How long an address may say nothing."""
LASTS = 6 * 3600.0
"""How long an input may take to come, however steadily it trickles: others wait for it."""
FILE = "file"
LONGEST = 4000


@dataclass(frozen=True, slots=True)
class Sources:
    """`folder` may be read (None: no file may); `origins` (`https://host:port`) may be asked; `largest` in bytes."""

    folder: Path | None
    origins: frozenset[tuple[str, str, int]]
    largest: int

    @classmethod
    def of(cls, folder: Path | None, origins: str, gigabytes: float) -> Sources:
        """As the settings name them. Raises ValueError for an origin that is none."""
        named = [_origin(_split(each)) for each in origins.replace(",", " ").split()]
        return cls(folder, frozenset(named), int(gigabytes * 1e9))

    def check(self, url: str) -> None:
        """Raises FhirError(forbidden) for what may not be imported from; says what may, and not what is there."""
        try:
            allowed = self._allowed(_split(url))
        except ValueError:
            told = "input.url: not an address that can be imported from: https or file"
            raise FhirError(Issue("value", told)) from None
        if not allowed:
            told = "input.url: nothing is imported from there. Whoever runs the gateway names the origins"
            raise FhirError(Issue("forbidden", f"{told} (FHIRGW_IMPORT_ORIGINS) and the folder (FHIRGW_IMPORT_FOLDER)"))

    def named(self, url: str) -> bool:
        """Whether what is at an address that somebody has checked may be read here too."""
        try:
            return self._allowed(_split(url))
        except ValueError:
            return False

    def _allowed(self, split: SplitResult) -> bool:
        return self._path(split) is not None if split.scheme == FILE else _origin(split) in self.origins

    async def text(self, url: str, kept: Path) -> Path:
        """The file that holds what is at an address; `kept` is for what has to be fetched. Raises Unreadable."""
        self.check(url)
        split = _split(url)
        if split.scheme == FILE:
            path = self._path(split)
            assert path is not None
            return path
        if not await asyncio.to_thread(kept.exists):
            await self._fetched(url, split, kept)
        return kept

    def _path(self, split: SplitResult) -> Path | None:
        """The file below the folder; None for one elsewhere, whatever links lead there."""
        if self.folder is None or split.netloc not in ("", "localhost") or split.query or "\0" in unquote(split.path):
            return None
        found, folder = Path(unquote(split.path)).resolve(), self.folder.resolve()
        return found if found.is_relative_to(folder) else None

    async def _fetched(self, url: str, split: SplitResult, kept: Path) -> None:
        part = kept.with_name(f"{kept.name}.{os.getpid()}")
        try:
            await asyncio.to_thread(private_folder, kept.parent)
            with Draft(part) as draft:
                async with asyncio.timeout(LASTS):
                    await self._body(url, split, draft)
                await asyncio.to_thread(draft.finish)
            part.replace(kept)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Unreadable(f"Its address cannot be reached ({type(error).__name__}): offer it again") from None
        finally:
            with suppress(OSError):
                part.unlink()

    async def _body(self, url: str, split: SplitResult, draft: Draft) -> None:
        host = split.hostname or ""
        resolved = await _resolved(host, _port(split), loopback_name(host))
        target = httpx.URL(url).copy_with(host=resolved)
        headers = {"host": split.netloc, "accept": "*/*", "accept-encoding": "identity"}
        async with (
            httpx.AsyncClient(verify=_trusted(), follow_redirects=False, trust_env=False, timeout=SECONDS) as http,
            http.stream("GET", target, headers=headers, extensions={"sni_hostname": host}) as response,
        ):
            if response.status_code != 200:
                raise Unreadable(f"Its address answers {response.status_code}, and redirects are not followed")
            async for chunk in response.aiter_raw():
                if draft.bytes + len(chunk) > self.largest:
                    raise Unreadable(f"It is longer than {self.largest:,} bytes (FHIRGW_IMPORT_GIGABYTES): divide it")
                await asyncio.to_thread(draft.write, chunk)


async def _resolved(host: str, port: int, own: bool) -> str:
    """One address of the host, all of which are fit to connect to; `own`: it is this machine by name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(each[4][0]) for each in found]
    fit = [loopback(each) if own else public(each) or private(each) for each in addresses]
    if not addresses or not all(fit):
        raise Unreadable("Its address leads to a machine that nothing is fetched from")
    return addresses[0]


def _split(url: str) -> SplitResult:
    """Raises ValueError for what holds what an address of an input does not."""
    if not url.isascii() or len(url) > LONGEST or any(each <= " " or each in '\\"' for each in url):
        raise ValueError
    split = urlsplit(url)
    if split.fragment or "@" in split.netloc:
        raise ValueError
    return split


def _origin(split: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port: https, or this machine itself by http. Raises ValueError."""
    host = (split.hostname or "").rstrip(".")
    if not host or not (split.scheme == "https" or (split.scheme == "http" and loopback_name(host))):
        raise ValueError
    return split.scheme, host, _port(split)


def _port(split: SplitResult) -> int:
    return split.port or PORTS[split.scheme]


@cache
def _trusted() -> SSLContext:
    return httpx.create_ssl_context()
