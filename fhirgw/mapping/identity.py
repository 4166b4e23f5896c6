"""Ids derived from what a row is, so that a second run meets its own resources again.

An id is UUID text. Its first three hex digits are those of the person the resource is about, so that everything about
a person lies in one range of ids (4,096 ranges: the unit of placement, and later of distribution); the rest is
SHA-1 of system, mapping and key, as in a version 5 UUID (RFC 9562). Reference data takes its own first digits.
"""

from __future__ import annotations

from fhirgw.fhir.hashes import sha1
from fhirgw.fhir.table import Table

PLACEMENT = 3
"""Leading hex digits of an id that say where it lives."""

VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""A hex digit with the two bits that RFC 9562 fixes."""

PERSON = "person"
"""The mapping that makes a system's people into Patients."""


def derived(system: str, mapping: str, key: str) -> str:
    """The id of a resource that is not about another: UUID text, version 5 and variant bits set."""
    digest = sha1(f"fhirgw\x1f{system}\x1f{mapping}\x1f{key}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"


class Identifiers:
    """Answers which id a key of one system leads to.

    `aliases`: people of this system who are known to be a Patient that another system brought (key -> Patient id).
    """

    __slots__ = ("_derived", "aliases", "system")

    def __init__(self, system: str, aliases: dict[str, str] | None = None) -> None:
        self.system = system
        self.aliases: dict[str, str] = aliases if aliases is not None else {}
        self._derived = Table(lambda what: derived(system, *what))

    def person(self, key: str) -> str:
        """The Patient id of a person's key."""
        return self.aliases.get(key) or self._derived[PERSON, key]

    def plain(self, mapping: str, key: str) -> str:
        """The id of reference data."""
        made: str = self._derived[mapping, key]
        return made

    def about(self, mapping: str, key: str, person: str | None) -> str:
        """The id of a resource about a person: the person's placement, its own remainder."""
        own: str = sha1(f"fhirgw\x1f{self.system}\x1f{mapping}\x1f{key}".encode()).hexdigest()
        place = self.person(person)[:PLACEMENT] if person else own[:PLACEMENT]
        return f"{place}{own[3:8]}-{own[8:12]}-5{own[13:16]}-{VARIANT[own[16]]}{own[17:20]}-{own[20:32]}"
