"""Cursors of pages: a place in an order, tied to who asked and what for; nothing is kept between requests.

It is no secret and guards nothing, as every page asks the predicate anew: it only keeps a cursor from being taken for
one of another question.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError, Issue

CHECK = 9
"""Bytes of the digest that ties a cursor to its question."""


def sealed(place: Sequence[Any], permit: Permit, question: Sequence[Any]) -> str:
    """The cursor for a place (JSON values) in what the permit's caller asked."""
    payload = orjson.dumps(place)
    return base64.urlsafe_b64encode(_check(payload, permit, question) + payload).rstrip(b"=").decode()


def unsealed(cursor: str, permit: Permit, question: Sequence[Any]) -> list[Any]:
    """The place. Raises FhirError(invalid) for a cursor of another question, or of nobody's."""
    try:
        raw = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        if _check(raw[CHECK:], permit, question) != raw[:CHECK]:
            raise ValueError
        place = orjson.loads(raw[CHECK:])
        if not isinstance(place, list):
            raise ValueError
    except ValueError:
        raise FhirError(
            Issue("invalid", "_cursor is not one of this request: follow the next link, or begin again without it")
        ) from None
    return place


def _check(payload: bytes, permit: Permit, question: Sequence[Any]) -> bytes:
    caller = [permit.organisation, permit.registration, permit.purpose, permit.patient, permit.practitioner]
    return sha256(orjson.dumps([caller, sorted(map(str, permit.scopes)), *question]) + payload).digest()[:CHECK]
