"""Access tokens: what the gateway writes into its own, and what must be true of one that comes back.

RS256: of what RFC 9068 lets be used, joserfc verifies it fastest (47 µs; ES256 123, EdDSA 163, ES384 529 on two cores,
2026), and a token is verified more often than made. https://www.rfc-editor.org/rfc/rfc9068
"""

from __future__ import annotations

from dataclasses import dataclass

from fhirgw.access import jose
from fhirgw.access.scope import Scope, scopes
from fhirgw.fhir.issue import FhirError

ALGORITHM = "RS256"
TYPE = "at+jwt"
LIFETIME = 300
"""Seconds: SMART Backend Services asks for five minutes at most."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a verified access token says, whoever issued it. It permits nothing by itself: the registration decides.

    One of the gateway's `own` tells who asks by `registration` alone, and has a `jti` by which it can be revoked. Of
    another issuer, it tells by `organisation` (ODS code), `sds_user` (a practitioner's national id) or `nhs_number`.
    `purposes` are those it may be used for, the first where nothing else is asked; None: any of the registration's.
    """

    issuer: str
    registration: str | None
    scopes: tuple[Scope, ...]
    expires: float
    own: bool = False
    jti: str | None = None
    purposes: tuple[str, ...] | None = None
    patient: str | None = None
    practitioner: str | None = None
    organisation: str | None = None
    sector: str = "nhs"
    sds_user: str | None = None
    nhs_number: str | None = None
    delegate: str | None = None
    roles: tuple[str, ...] = ()
    clearance: int | None = None


def claims(
    gateway: str,
    registration: str,
    jti: str,
    scope: str,
    purpose: str,
    now: int,
    patient: str | None = None,
    practitioner: str | None = None,
) -> jose.Claims:
    """The claims of a token of the gateway's own, for itself."""
    known = {"patient": patient, "practitioner": practitioner}
    return {
        "iss": gateway,
        "aud": gateway,
        "sub": registration,
        "client_id": registration,
        "iat": now,
        "exp": now + LIFETIME,
        "jti": jti,
        "scope": scope,
        "purpose": purpose,
        **{name: value for name, value in known.items() if value},
    }


def sign(of: jose.Claims, key: jose.Key) -> str:
    """The token."""
    return jose.sign({"alg": ALGORITHM, "typ": TYPE}, of, key)


def own(token: jose.Unverified, gateway: str, now: float) -> Bearer:
    """What a token of the gateway's own says; who signed it is checked elsewhere. Raises jose.Untrusted."""
    header, said = token.header, token.claims
    if header.get("typ") != TYPE:
        raise jose.Untrusted("it is not an access token")
    if said.get("iss") != gateway or said.get("aud") != gateway:
        raise jose.Untrusted("it was issued by another, or for another")
    if said.get("sub") != said.get("client_id"):
        raise jose.Untrusted("its sub and client_id are not the same")
    check_times(said, now)
    text = {name: said[name] for name in ("client_id", "jti", "scope", "purpose") if isinstance(said.get(name), str)}
    if len(text) != 4:
        raise jose.Untrusted("it does not say whose it is, or what for")
    return Bearer(
        issuer=gateway,
        registration=text["client_id"],
        scopes=readable(text["scope"]),
        expires=said["exp"],
        own=True,
        jti=text["jti"],
        purposes=(text["purpose"],),
        patient=said.get("patient"),
        practitioner=said.get("practitioner"),
    )


def check_times(said: jose.Claims, now: float, leeway: float = 0) -> None:
    """Raises jose.Untrusted for a token that has expired, does not say when it will, or is not yet valid."""
    expires = said.get("exp")
    if not isinstance(expires, int | float) or isinstance(expires, bool) or expires > 1e11:
        raise jose.Untrusted("it does not say when it expires")
    if not now < expires + leeway:
        raise jose.Untrusted("it has expired")
    for name in ("nbf", "iat"):
        begins = said.get(name, 0)
        if not isinstance(begins, int | float) or begins > now + leeway + 5:
            raise jose.Untrusted("it is not valid yet")


def readable(scope: str) -> tuple[Scope, ...]:
    """The scopes of a token; none of them where one cannot be read."""
    try:
        return scopes(scope)
    except FhirError:
        return ()
