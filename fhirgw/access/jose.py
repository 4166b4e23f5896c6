"""Signed JSON Web Tokens, read strictly: three parts, no key named twice, only headers that are understood.

joserfc checks signatures; what it would let pass is refused here before it sees a token: a header that brings its own
key or address of one, `none` and every algorithm that is not asked for, a key of another kind, a claim said twice.
https://www.rfc-editor.org/rfc/rfc8725
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey, import_key

Claims = dict[str, Any]
Key = ECKey | RSAKey

COMPACT = re.compile(r"([A-Za-z0-9_-]{1,4096})\.([A-Za-z0-9_-]{1,12000})\.([A-Za-z0-9_-]{1,2048})", re.ASCII)
HEADERS = {"alg", "kid", "typ"}
"""What a header may hold; an assertion's may also hold `jku`."""

CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
LEAST_BITS = 2048
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


class Untrusted(Exception):
    """A token, or a key, that is not what it must be. The message says why, and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token as it came: nobody has checked who signed it."""

    text: str
    header: Claims
    claims: Claims


def read(text: str, headers: Collection[str] = HEADERS) -> Unverified:
    """The header and claims. Raises Untrusted for what is malformed, or has a header that is not among `headers`."""
    found = COMPACT.fullmatch(text)
    if not found:
        raise Untrusted("it is not a signed JSON Web Token")
    header, claims = _object(found[1]), _object(found[2])
    if extra := sorted(header.keys() - set(headers)):
        names = ", ".join(each for each in extra if each.isascii() and each.isalnum())
        raise Untrusted(f"its header holds what is not accepted{': ' if names else ''}{names}")
    if not all(isinstance(value, str) for value in header.values()):
        raise Untrusted("its header holds a value that is not text")
    return Unverified(text, header, claims)


def verify(token: Unverified, keys: Iterable[Key], algorithms: Collection[str]) -> None:
    """Raises Untrusted unless one key, and only one, has the token's `kid` and fits its `alg`, and signed it."""
    algorithm = token.header.get("alg", "")
    if algorithm not in algorithms:
        raise Untrusted(f"its alg is not accepted: use {' or '.join(algorithms)}")
    if not token.header.get("kid"):
        raise Untrusted("its header has no kid")
    fitting = [key for key in keys if key.kid == token.header["kid"] and fits(key, algorithm)]
    if len(fitting) != 1:
        raise UnknownKey("no key" if not fitting else "more than one key", token.header["kid"])
    if not _signed(token.text, algorithm, fitting[0]):
        raise Untrusted("its signature is not that of the key it names")


def _signed(text: str, algorithm: str, key: Key) -> bool:
    """What jws.deserialize_compact does once it has read the token again, which takes as long (38 µs of 80)."""
    signing, _, signature = text.rpartition(".")
    try:
        return jws.JWSRegistry.algorithms[algorithm].verify(signing.encode(), _decoded(signature), key)
    except (JoseError, ValueError):
        return False


class UnknownKey(Untrusted):
    """No key of the token's `kid`: it may have been published since the keys were read."""

    def __init__(self, found: str, kid: str) -> None:
        super().__init__(f"{found} has its kid and fits its alg")
        self.kid = kid


def sign(header: Claims, claims: Claims, key: Key) -> str:
    """The claims, signed."""
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return jws.serialize_compact({**header, "kid": key.kid}, payload, key, registry=_registry(header["alg"]))


def detached(header: Claims, body: bytes, key: Key) -> str:
    """The signature of a body that goes beside it: a compact JWS without its middle, which is the body in base64url.

    https://www.rfc-editor.org/rfc/rfc7515#appendix-F
    """
    told = json.dumps({**header, "kid": key.kid}, separators=(",", ":")).encode()
    first = urlsafe_b64encode(told).rstrip(b"=")
    signing = first + b"." + urlsafe_b64encode(body).rstrip(b"=")
    signature = jws.JWSRegistry.algorithms[header["alg"]].sign(signing, key)
    return f"{first.decode()}..{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def public_key(value: object) -> Key:
    """A key to verify with. Raises Untrusted for one that is none: symmetric, private, weak, or for encryption."""
    if not isinstance(value, dict) or value.get("kty") not in ("EC", "RSA"):
        raise Untrusted("a key is of another kind than EC or RSA")
    if PRIVATE & value.keys():
        raise Untrusted("a key is private: register its public half alone, and make another, for this one is known now")
    key = _imported(value)
    if value.get("use", "sig") != "sig" or "verify" not in value.get("key_ops", ("verify",)):
        raise Untrusted("a key is not for signatures")
    return key


def private_key(value: object) -> Key:
    """A key to sign with. Raises Untrusted."""
    if not isinstance(value, dict) or value.get("kty") not in ("EC", "RSA") or "d" not in value:
        raise Untrusted("it is no private key of the kind EC or RSA")
    return _imported(value)


def public_keys(document: object) -> list[Key]:
    """The usable keys of a JWK set; those nobody here can use are passed over, as RFC 7517 section 5 asks."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise Untrusted("it is no JWK set: an object with a list of keys is")
    found = []
    for each in listed:
        try:
            found.append(public_key(each))
        except Untrusted:
            continue
    return found


def fits(key: Key, algorithm: str) -> bool:
    """Whether the key is of the kind, and the curve or length, that the algorithm needs."""
    if key.alg not in (None, algorithm):
        return False
    if isinstance(key, ECKey):
        return CURVES.get(algorithm) == key.curve_name
    return algorithm in RSA


def unique(pairs: list[tuple[str, Any]]) -> Claims:
    """An object whose names are each said once. Raises ValueError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is said twice")
    return found


def _imported(value: dict[str, Any]) -> Key:
    if not isinstance(value.get("kid"), str) or not 0 < len(value["kid"]) <= 255:
        raise Untrusted("a key has no kid")
    # joserfc only warns of short keys.
    if value["kty"] == "RSA" and len(str(value.get("n", ""))) * 6 < LEAST_BITS:
        raise Untrusted(f"an RSA key is shorter than {LEAST_BITS} bits")
    if value["kty"] == "EC" and value.get("crv") not in CURVES.values():
        raise Untrusted("an EC key is on another curve than P-256, P-384 or P-521")
    try:
        return import_key(value)  # type: ignore[return-value]
    except (JoseError, ValueError, TypeError, KeyError):
        raise Untrusted("a key is malformed") from None


def _object(part: str) -> Claims:
    try:
        found = json.loads(_decoded(part), object_pairs_hook=unique, parse_constant=_no)
    except (ValueError, RecursionError):
        raise Untrusted("it is malformed, or says something twice") from None
    if not isinstance(found, dict):
        raise Untrusted("it is malformed: a JSON object is needed")
    return found


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _no(constant: str) -> None:
    raise ValueError(constant)


_registries: dict[str, jws.JWSRegistry] = {}


def _registry(algorithm: str) -> jws.JWSRegistry:
    made = _registries.get(algorithm)
    if made is None:
        made = _registries[algorithm] = jws.JWSRegistry(algorithms=[algorithm])
        made.max_payload_length = 12_000
    return made
