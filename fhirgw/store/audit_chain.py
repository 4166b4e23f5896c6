"""Whether the audit is as it was written: every digest, no gap, the newest still there.

A digest covers the one before it, the body and the sequence; what a row is searched by is read from its body again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from fhirgw.access.audit_facets import facets
from fhirgw.access.audit_read import BRIEF, PART, Form, whole
from fhirgw.store.database import Connection

START = bytes(32)
"""The digest before the first row."""
BATCH = 2000
HEAD = "SELECT sequence, digest FROM fhirgw.audit_head"
DIGEST = "SELECT digest FROM fhirgw.audit WHERE sequence = $1"
BEFORE = "SELECT min(sequence) FROM fhirgw.audit WHERE sequence < 1"
ROWS = (
    "SELECT sequence, recorded, persons, registration, organisation, purpose, outcome, body, digest"
    " FROM fhirgw.audit WHERE sequence > $1 ORDER BY sequence LIMIT $2"
)
FORMS = "SELECT key, pieces, holes FROM fhirgw.audit_form WHERE key = ANY ($1)"
ANEW = "it is not what was noted: the chain was written anew, or cut off"


@dataclass(frozen=True, slots=True)
class Point:
    """A row of the chain by its number and digest: `12:0a1b…`, for operators to note where nobody can change it."""

    sequence: int
    digest: bytes

    def __str__(self) -> str:
        return f"{self.sequence}:{self.digest.hex()}"

    @classmethod
    def parse(cls, text: str) -> Point:
        """What `str` wrote. Raises ValueError."""
        sequence, _, digest = text.strip().partition(":")
        found = cls(int(sequence), bytes.fromhex(digest))
        if found.sequence < 0 or len(found.digest) != len(START):
            raise ValueError("a noted point is a number, a colon and 64 hexadecimal digits")
        return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rows` were read and are sound; `head` is the newest; `broken` the first sequence that is not, and `why`."""

    rows: int
    head: Point
    broken: int | None = None
    why: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return self.broken is None


async def verify(connection: Connection, noted: Sequence[Point] = (), start: Point | None = None) -> Verdict:
    """Reads the audit in its order. `noted` are points written down earlier: they must still be in it.

    `start` is one up to which it was verified before: what lies before it is not read again.
    """
    start = start or Point(0, START)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found = await connection.fetchrow(HEAD)
        if found is None:
            return Verdict(0, Point(0, START), 1, "the note of the newest row is gone")
        head = Point(*found)
        if (before := await connection.fetchval(BEFORE)) is not None:
            return Verdict(0, head, before, "it was put in before the first, where no chain holds it")
        last, known = start, {each.sequence: each.digest for each in noted}
        if start.sequence and await connection.fetchval(DIGEST, start.sequence) != start.digest:
            return Verdict(0, head, start.sequence, ANEW)
        while rows := await connection.fetch(ROWS, last.sequence, BATCH):
            forms = await _forms(connection, [row["body"] for row in rows])
            for row in rows:
                if why := _wrong(row, last, known, forms):
                    return Verdict(last.sequence - start.sequence, head, last.sequence + 1, why)
                last = Point(row["sequence"], row["digest"])
    broken, why = _ended(last, head, known)
    return Verdict(last.sequence - start.sequence, head, broken, why)


def _ended(last: Point, head: Point, known: dict[int, bytes]) -> tuple[int | None, str]:
    """What is wrong with the end of a chain that is sound as far as it goes."""
    if last.sequence < max(head.sequence, *known, 0):
        return last.sequence + 1, "it and what came after it were cut off"
    if last != head:
        return last.sequence, "it is not what was noted as the newest"
    return None, ""


async def _forms(connection: Connection, bodies: Sequence[str]) -> dict[str, Form]:
    """The forms that brief bodies rest on, by key: those that say what they said when they got it."""
    keys = {body[len(BRIEF) :].partition(PART)[0] for body in bodies if body.startswith(BRIEF)}
    found = {row["key"]: Form.of(row["pieces"], row["holes"]) for row in await connection.fetch(FORMS, list(keys))}
    return {key: form for key, form in found.items() if key == form.key}


def _wrong(row: Any, last: Point, known: dict[int, bytes], forms: Mapping[str, Form]) -> str | None:
    """What is wrong with the row that should come after the last."""
    sequence, body = row["sequence"], row["body"].encode()
    if sequence != last.sequence + 1:
        return "it is missing"
    if row["digest"] != sha256(last.digest + body + sequence.to_bytes(8)).digest():
        return "its digest does not fit its body and the row before it"
    if known.get(sequence, row["digest"]) != row["digest"]:
        return ANEW
    try:
        found = facets(orjson.loads(whole(row["body"], forms)))
    except (ValueError, LookupError, TypeError, AttributeError):
        return "its body is no AuditEvent of the gateway's"
    if (row["recorded"], tuple(row["persons"]), *tuple(row)[3:7]) != (found[0], found[1], *found[2:]):
        return "what it is searched by is not what its body says"
    return None
