"""Access tokens, verified: who signed them and what they say. Whether they still hold is the database's to tell.

A token that was verified is known again by its text, which costs a microsecond, until it expires or any key of its
issuer changes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from fhirgw.access import jose, token
from fhirgw.access.issuer import Issuer
from fhirgw.access.token import Bearer
from fhirgw.api.issuers import Issuers
from fhirgw.api.keys import Keyring

MOST = 10_000
"""Tokens known at once."""

HEADERS = jose.HEADERS | {"x5t", "x5t#S256"}
"""Issuers also name the certificate of their key; the key is found without it."""

LONGEST = 16_384
"""Characters of a token."""


class _Known(NamedTuple):
    bearer: Bearer
    keys: Sequence[jose.Key]
    """Those it was verified with: other keys are another list."""
    issuer: Issuer | None


class Verifier:
    """`bearer(text)`: what the token says. One for a process."""

    def __init__(self, keyring: Keyring, issuers: Issuers) -> None:
        self._keyring, self._issuers = keyring, issuers
        self._known: dict[str, _Known] = {}

    async def bearer(self, text: str) -> Bearer:
        """Raises jose.Untrusted, or Unfetched where its issuer's keys cannot be had."""
        known = self._known.get(text)
        if known is not None:
            if time.time() < known.bearer.expires and await self._keys(known.issuer) is known.keys:
                return known.bearer
            del self._known[text]
        if len(text) > LONGEST:
            raise jose.Untrusted("it is too long")
        return self._keep(text, await self._verified(text))

    async def _keys(self, issuer: Issuer | None, *, eager: bool = False) -> Sequence[jose.Key]:
        if issuer is None:
            return self._keyring.verifying(eager=eager)
        return await self._issuers.keys(issuer, eager=eager)

    async def _verified(self, text: str) -> _Known:
        read = jose.read(text, HEADERS)
        issuer = None
        if read.claims.get("iss") != self._keyring.gateway:
            issuer = self._issuers.find(read.claims.get("iss"))
            if issuer is None:
                raise jose.Untrusted("nobody here knows its issuer")
        algorithms = issuer.algorithms if issuer else (token.ALGORITHM,)
        keys = await self._keys(issuer)
        try:
            jose.verify(read, keys, algorithms)
        except jose.UnknownKey:
            keys = await self._keys(issuer, eager=True)
            jose.verify(read, keys, algorithms)
        now = time.time()
        bearer = issuer.bearer(read, now) if issuer else token.own(read, self._keyring.gateway, now)
        return _Known(bearer, keys, issuer)

    def _keep(self, text: str, known: _Known) -> Bearer:
        if len(self._known) >= MOST:
            now = time.time()
            for each in [each for each, kept in self._known.items() if kept.bearer.expires <= now]:
                del self._known[each]
            if len(self._known) >= MOST:
                del self._known[next(iter(self._known))]
        self._known[text] = known
        return known.bearer
