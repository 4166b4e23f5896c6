"""Client assertions: how an application proves to the token endpoint which registration it is.

The rules of SMART Backend Services for private_key_jwt. Pure: the clock, the keys and the memory of used assertions
belong to whoever asks. https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc7523 import private_key_jwt_sign
from joserfc.jwk import ECKey

from fhirgw.access import jose

ALGORITHMS = ("ES384", "RS384")
TYPES = ("JWT", "CLIENT-AUTHENTICATION+JWT")
LONGEST = 300
"""Seconds an assertion may be valid for."""

LEEWAY = 5
"""Seconds two clocks may differ by."""

LONGEST_JTI = 255


class OAuthError(Exception):
    """What the token endpoint answers instead of a token. `description` says why, and names nobody.

    https://www.rfc-editor.org/rfc/rfc6749#section-5.2
    """

    def __init__(self, error: str, description: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{error}: {description}")
        self.error, self.description, self.status, self.headers = error, description, status, headers or {}


@dataclass(frozen=True, slots=True)
class Assertion:
    """An assertion whose claims are in order; nobody has checked its signature. `use` tells it from every other."""

    token: jose.Unverified
    issuer: str
    expires: int
    use: bytes

    @property
    def key_set(self) -> str | None:
        """Where the assertion says its keys are."""
        found: str | None = self.token.header.get("jku")
        return found


def read(text: str, audience: str, now: float) -> Assertion:
    """The assertion, for the token endpoint at `audience`. Raises OAuthError(invalid_client)."""
    try:
        token = jose.read(text, jose.HEADERS | {"jku"})
    except jose.Untrusted as error:
        raise refusal(str(error)) from None
    header, claims = token.header, token.claims
    _check(header.get("alg") in ALGORITHMS, f"its alg is not {' or '.join(ALGORITHMS)}")
    _check(bool(header.get("kid")), "its header has no kid")
    _check(header.get("typ", "").upper() in TYPES, "the typ of its header is not JWT")
    issuer = claims.get("iss")
    _check(isinstance(issuer, str) and 0 < len(issuer) <= LONGEST_JTI, "it has no iss")
    _check(claims.get("sub") == issuer, "its iss and sub are not the same")
    _check(claims.get("aud") in (audience, [audience]), f"its aud is not this token endpoint alone: {audience}")
    _check_times(claims, now)
    jti = claims.get("jti")
    _check(isinstance(jti, str) and 0 < len(jti) <= LONGEST_JTI, f"it has no jti of at most {LONGEST_JTI} characters")
    use = sha256(f"{len(str(issuer))}|{issuer}|{jti}".encode("utf-8", "surrogatepass")).digest()
    return Assertion(token, str(issuer), int(claims["exp"]), use)


def signed(key: jose.Key, name: str, audience: str, now: int) -> str:
    """A client assertion of the application `name` for the token endpoint at `audience`, which holds for a minute.

    `key` is a private one of its own, `now` seconds since 1970; each has a `jti` that nobody has used before.
    """
    algorithm = "ES384" if isinstance(key, ECKey) else "RS384"
    header, times = {"typ": "JWT", "kid": key.kid}, {"issued_at": now, "expires_in": 60}
    return str(private_key_jwt_sign(key, name, audience, algorithm, header=header, **times))


def verify(assertion: Assertion, keys: Iterable[jose.Key], key_set: str | None) -> None:
    """Raises OAuthError unless one of the registration's `keys` signed it; `key_set` is their registered address."""
    if (given := assertion.key_set) is not None:
        _check(
            key_set is not None and same_address(given, key_set), "its jku is not the registered address of its keys"
        )
    try:
        jose.verify(assertion.token, keys, ALGORITHMS)
    except jose.Untrusted as error:
        raise refusal(str(error)) from None


def same_address(one: str, other: str) -> bool:
    """Whether two addresses are one, compared part by part and never by a prefix."""
    try:
        return _parts(one) == _parts(other)
    except ValueError:
        return False


def refusal(why: str) -> OAuthError:
    """The refusal of an assertion."""
    return OAuthError("invalid_client", f"The client assertion is refused: {why}", 401)


def _check_times(claims: dict[str, Any], now: float) -> None:
    expires = _moment(claims, "exp")
    _check(expires > now, "it has expired")
    _check(expires <= now + LONGEST + LEEWAY, "its exp is more than 5 minutes ahead")
    for name in ("iat", "nbf"):
        if name in claims:
            _check(_moment(claims, name) <= now + LEEWAY, f"its {name} is still to come: set your clock")


def _moment(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11:
        return value
    raise refusal(f"it has no {name} in seconds since 1970")


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise refusal(otherwise)


def _parts(address: str) -> tuple[str, str, int | None, str, str]:
    split = urlsplit(address)
    if split.username or split.password or split.fragment:
        raise ValueError("an address of keys has neither account nor fragment")
    port = split.port or {"https": 443, "http": 80}.get(split.scheme)
    return split.scheme, split.hostname or "", port, split.path or "/", split.query
