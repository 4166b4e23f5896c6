"""Cursors: sealed, for whoever asked and the very search they asked; nothing is kept between requests.

A cursor says the sort keys of the last match, the total and the snapshot that every page shows. Keys may be names of
people, and a cursor stands in an address: so it is encrypted (AES-GCM), and tied to the caller and the search as the
data that go with it. Another search, another caller or a changed character is refused.
"""

from __future__ import annotations

import base64
import os
import time
from dataclasses import dataclass
from hashlib import sha256

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.query import Query
from fhirgw.store.database import Connection

LIFETIME = 24 * 60 * 60
"""Seconds for which the next page can be asked for."""

NONCE = 12
PADDED = 128
KEY = "SELECT key FROM fhirgw.cursor_key"


@dataclass(frozen=True, slots=True)
class Cursor:
    """The sort keys of the last match, as PostgreSQL spells them (None: no value); the total; and as of when.

    Spelt, because drivers know no infinity and round what they cannot hold: a key must come back as it was.
    """

    keys: tuple[str | None, ...]
    total: int | None = None
    snapshot: str = ""


def write(query: Query, cursor: Cursor, permit: Permit, key: bytes, now: float | None = None) -> str:
    """The cursor as the text of a link, for whoever got the page: its total is of what they may see."""
    payload = orjson.dumps([cursor.keys, cursor.total, cursor.snapshot, int(now or time.time())])
    payload = payload.ljust(-(-len(payload) // PADDED) * PADDED)  # its length tells nobody who else is writing
    nonce = os.urandom(NONCE)
    return (
        base64.urlsafe_b64encode(nonce + AESGCM(key).encrypt(nonce, payload, _tied(query, permit)))
        .rstrip(b"=")
        .decode()
    )


async def read(connection: Connection, query: Query, permit: Permit) -> Cursor | None:
    """The cursor of a request. Raises FhirError(invalid) for one that did not come from this search of theirs."""
    if query.cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(query.cursor.encode() + b"=" * (-len(query.cursor) % 4))
        opened = AESGCM(await connection.fetchval(KEY)).decrypt(raw[:NONCE], raw[NONCE:], _tied(query, permit))
    except (ValueError, InvalidTag):
        raise FhirError(
            Issue("invalid", "_cursor is not one of this search: follow the next link, or begin again")
        ) from None
    keys, total, snapshot, written = orjson.loads(opened)
    if time.time() - written > LIFETIME:
        raise FhirError(Issue("invalid", "_cursor is older than a day: begin the search again"))
    return Cursor(tuple(keys), total, snapshot)


def _tied(query: Query, permit: Permit) -> bytes:
    """What ties a cursor to its search: who asks, and everything asked but the page's length and place."""
    caller = [permit.organisation, permit.registration, permit.purpose, permit.patient, permit.practitioner]
    asked = [
        *(caller, permit.delegate, permit.grant, permit.case, sorted(map(str, permit.scopes)), query.types),
        *sorted(pair for pair in query.applied if pair[0] not in ("_cursor", "_count")),
    ]
    return sha256(orjson.dumps(asked)).digest()
