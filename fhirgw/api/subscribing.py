"""Who a subscriber is when they are told something, and how they know that it is the gateway who tells them.

Asked anew each time: an application that was stopped, a scope that was taken from it, an organisation that is called
otherwise now count for what is sent next.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from fhirgw.access import jose
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.access.token import ALGORITHM
from fhirgw.api.authenticate import as_registered
from fhirgw.api.keys import Keyring
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.database import Connection
from fhirgw.store.registration import find

TYPE = "fhir-notification"
"""What a signature's header says it is of, so that nobody takes it for an access token."""


class Asked(Protocol):
    """Who subscribed, and with what: see fhirgw.store.subscription."""

    @property
    def registration(self) -> str: ...
    @property
    def scopes(self) -> str: ...
    @property
    def purpose(self) -> str: ...


def permits(controllers: Sequence[str]) -> Callable[[Connection, Asked], Awaitable[Permit]]:
    """`await permits(controllers)(connection, subscription)`: what its subscriber may see now, by no more scopes than
    when they subscribed. Raises FhirError (401, 403) where they may not ask any more.
    """

    async def permit(connection: Connection, asked: Asked) -> Permit:
        found = await find(connection, asked.registration)
        if found is None:
            raise FhirError(Issue("forbidden", "The application that subscribed is not registered any more"))
        made = await as_registered(connection, found, asked.purpose, scopes=asked.scopes)
        subscribing(made)
        return made.among(controllers[0], controllers[1:])

    return permit


def subscribing(permit: Permit, verb: str = "c") -> None:
    """Raises FhirError(forbidden) for whoever may not subscribe: only applications that ask by themselves, for care."""
    exactly = [each for each in permit.covering(verb, "Subscription") if each.context == "system"]
    if not exactly or all(each.constraint for each in exactly):
        told = f"No scope of this token allows it: ask for system/Subscription.{verb}, without a constraint"
        raise FhirError(Issue("forbidden", told))
    if permit.purpose != Purpose.DIRECT_CARE or permit.practitioner or permit.patient or permit.delegate:
        told = "Subscriptions are for applications that ask by themselves, for direct care: not for a person's token"
        raise FhirError(Issue("forbidden", told))


def signer(keyring: Keyring) -> Callable[[bytes, str], str]:
    """`signer(keyring)(body, endpoint)`: a detached JWS, whose header says to whom it goes (`url`) and when (`iat`)."""

    def sign(body: bytes, endpoint: str) -> str:
        header = {"alg": ALGORITHM, "typ": TYPE, "iat": int(time.time()), "url": endpoint}
        return jose.detached(header, body, keyring.signer())

    return sign
