"""From a client assertion to an access token: the client_credentials grant of SMART Backend Services.

What the token endpoint does, and what `fhirgw token` does without HTTP. An assertion is used up in the transaction that
writes down the token it is for: neither a crash nor a restart nor another process lets it be used twice.
https://hl7.org/fhir/smart-app-launch/STU2.2/backend-services.html
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fhirgw.access import assertion, jose, token
from fhirgw.access.assertion import Assertion, OAuthError
from fhirgw.access.purpose import BOUND, Purpose
from fhirgw.access.scope import Scope, granted, scopes, told
from fhirgw.api.jwks import KeySets, Unfetched
from fhirgw.api.keys import Keyring
from fhirgw.api.limits import Limits, Quota
from fhirgw.fhir.issue import FhirError
from fhirgw.store import registration as registrations
from fhirgw.store.database import Connection
from fhirgw.store.registration import Registration

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
GRANT = "client_credentials"
HELD = "X"
"""Stands for what is known only when the token is used: a practitioner who is known, a grant, a case."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """`await exchange.token(connection, form, audience)`: what the token endpoint at `audience` answers."""

    keyring: Keyring
    key_sets: KeySets
    limits: Limits = field(default_factory=Limits)

    async def token(
        self,
        connection: Connection,
        form: Mapping[str, str],
        audience: str,
        tell: Callable[[Registration, Quota], None] = lambda found, quota: None,
    ) -> dict[str, Any]:
        """The answer with the token; `tell` is told whose it is, and how many more they may have, as soon as that is
        known. Raises OAuthError.
        """
        if form.get("grant_type") != GRANT:
            raise OAuthError(
                "unsupported_grant_type" if form.get("grant_type") else "invalid_request", f"Needed: grant_type={GRANT}"
            )
        found, given = await self.authenticated(connection, form, audience)
        quota = self.limits.take(found.id, found.rate)
        tell(found, quota)
        if quota.wait:
            more = f"More than {quota.rate} tokens a minute: use one until it expires"
            raise OAuthError("temporarily_unavailable", more, 429, quota.headers())
        purpose = _purpose(found, form.get("purpose"))
        allowed = _scopes(found, form.get("scope", ""))
        jti = str(uuid.uuid4())
        now = int(time.time())
        spelt = _spelt(form["scope"], allowed)
        said = token.claims(self.keyring.gateway, found.id, jti, spelt, purpose, now, found.patient, found.practitioner)
        signed = token.sign(said, self.keyring.signer())
        async with connection.transaction():
            if not await registrations.unchanged(connection, found):
                raise assertion.refusal("its application has just been changed")
            await self._use(connection, given)
            await registrations.issue(connection, jti, found.id, datetime.fromtimestamp(said["exp"], UTC))
        known = {"access_token": signed, "token_type": "bearer", "expires_in": token.LIFETIME, "scope": spelt}
        return known | ({"patient": found.patient} if found.patient else {})

    async def authenticated(
        self, connection: Connection, form: Mapping[str, str], audience: str
    ) -> tuple[Registration, Assertion]:
        """The registration whose assertion the form holds, which nobody has used up yet. Raises OAuthError."""
        if form.get("client_assertion_type") != ASSERTION_TYPE or not form.get("client_assertion"):
            told = f"Needed: client_assertion, and client_assertion_type={ASSERTION_TYPE}"
            raise OAuthError("invalid_client", told, 401)
        given = assertion.read(form["client_assertion"], audience, time.time())
        if form.get("client_id", given.issuer) != given.issuer:
            raise assertion.refusal("the client_id beside it is another's")
        found = await registrations.find(connection, given.issuer)
        if found is None or not found.active:
            raise assertion.refusal("its application is not registered, or no longer active")
        assertion.verify(given, await self._keys(found, given), found.jwks_url)
        return found, given

    async def used(self, connection: Connection, given: Assertion) -> None:
        """Uses up an assertion that is good for one request. Raises OAuthError for one that was used before."""
        async with connection.transaction():
            await self._use(connection, given)

    async def _use(self, connection: Connection, given: Assertion) -> None:
        until = datetime.fromtimestamp(given.expires + assertion.LEEWAY, UTC)
        if not await registrations.use(connection, given.use, until):
            raise assertion.refusal("its jti was used before")

    async def _keys(self, found: Registration, given: Assertion) -> Sequence[jose.Key]:
        """The registration's keys; looked for again where none has the assertion's kid."""
        if found.jwks_url is None:
            return jose.public_keys(found.jwks or {"keys": []})
        try:
            keys = await self.key_sets.keys(found.jwks_url)
            if all(key.kid != given.token.header["kid"] for key in keys):
                keys = await self.key_sets.keys(found.jwks_url, eager=True)
        except Unfetched as error:
            raise OAuthError(
                "temporarily_unavailable", f"The keys cannot be had now: {error}", 503, {"retry-after": "10"}
            ) from None
        return keys


def _purpose(found: Registration, asked: str | None) -> str:
    """What the token may be used for: the first that is registered, unless another is asked for."""
    purpose = asked or found.purposes[0]
    if purpose not in found.purposes:
        raise OAuthError("invalid_request", "The purpose asked for is not one the application is registered for")
    if purpose == Purpose.EMERGENCY or purpose == Purpose.OPERATIONS:
        raise OAuthError("invalid_request", "There is no token for this purpose: break the glass with an ordinary one")
    for element in BOUND[Purpose(purpose)]:
        if not {"agreement": found.agreement, "patient": found.patient}.get(element, HELD):
            raise OAuthError("unauthorized_client", f"The application is registered without the {element} it needs")
    if found.agreement_until and found.agreement_until <= datetime.now(UTC) and "agreement" in BOUND[Purpose(purpose)]:
        raise OAuthError("unauthorized_client", "The agreement that this purpose rests on has ended")
    return purpose


def _scopes(found: Registration, asked: str) -> tuple[Scope, ...]:
    """What is both asked for and registered. Raises OAuthError(invalid_scope) if that is nothing."""
    if not "".join(_smart(asked)):
        raise OAuthError("invalid_scope", "A scope is needed, as in system/Patient.rs")
    try:
        wanted, registered = scopes(" ".join(_smart(asked))), token.readable(found.scopes)
        both = granted(wanted, registered)
    except FhirError as error:
        raise OAuthError("invalid_scope", str(error)) from None
    held = {"system", *(["patient"] if found.patient else []), *(["user"] if found.practitioner else [])}
    allowed = tuple(each for each in both if each.context in held)
    if not allowed and both:
        lacking = " or ".join(NEEDED[each] for each in sorted({each.context for each in both}))
        raise OAuthError("invalid_scope", f"{told(both)}: the application is registered without the {lacking}")
    if not allowed:
        why = f"The application is registered for {told(registered)}, and not for {told(wanted)}"
        raise OAuthError("invalid_scope", f"None of these scopes can be granted. {why}")
    return allowed


NEEDED = {"patient": "patient that a patient scope needs", "user": "practitioner that a user scope needs"}


def _smart(asked: str) -> list[str]:
    """Those that are about records. OpenID Connect's and a launch's (openid, launch/patient, offline_access) mean
    nothing to an application that nobody signs in to, and RFC 6749 (3.3) lets a server grant the others."""
    return [each for each in asked.split(" ") if not FOREIGN.fullmatch(each)]


FOREIGN = re.compile(r"openid|fhirUser|profile|launch(/[a-z]+)?|(offline|online)_access")


def _spelt(asked: str, allowed: Sequence[Scope]) -> str:
    """What is granted, as it was asked for where all of it is: who asks in v1's spelling is answered in it."""
    spelling = {Scope.parse(each): each for each in _smart(asked)}
    return " ".join(spelling.get(each, str(each)) for each in allowed)
