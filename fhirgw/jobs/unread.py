"""Refused rows about sharing: of whom each is, and whom nobody outside sees therefore until it is corrected.

A row of a table that becomes a Consent and is refused, whole or because somebody in it is not known, might have been a
dissent (fhirgw.access.unread). Its person is told by its column; one that names nobody who is held is counted alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fhirgw.access.consent import Directive
from fhirgw.access.unread import unread
from fhirgw.mapping.identity import Identifiers
from fhirgw.mapping.leaf import Fixed
from fhirgw.mapping.mapping import Mapping, Row

KIND = "provision.type"


@dataclass(slots=True)
class Unread:
    """The refused rows of one table. `persons`: their persons' keys and their own, and whether they could deny.

    `nobodys` counts those that name nobody who is held.
    """

    mappings: Sequence[Mapping]
    persons: set[tuple[str, str, bool]] = field(default_factory=set)
    nobodys: int = 0

    def __post_init__(self) -> None:
        self.mappings = [each for each in self.mappings if each.type == "Consent"]

    def add(self, row: Row, key: str, mappings: Iterable[Mapping], held: Iterable[str], persons: set[str]) -> None:
        """A refused row, with those of its table's mappings that are for it, and names of those that took it before."""
        concerned = [each for each in mappings if each in self.mappings]
        before = set(held)
        for mapping in (each for each in concerned if not permits(each) or each.name in before):
            person = row.get(mapping.person) if mapping.person else None
            if person in persons:
                self.persons.add((str(person), key, permits(mapping)))
            else:
                self.nobodys += 1

    def rules(self, ids: Identifiers) -> Iterator[tuple[str, Directive]]:
        """What the rows come to, each with the key of the row it rests on."""
        for person, key, permitting in sorted(self.persons):
            for rule in unread(ids.person(person), permits=permitting):
                yield key, rule


def permits(mapping: Mapping) -> bool:
    """Whether every row of the mapping is a permit."""
    said = [value for path, value in mapping.constants if path.text == KIND]
    said += [
        each.leaf.value if isinstance(each.leaf, Fixed) else None for each in mapping.fields if each.path.text == KIND
    ]
    return bool(said) and all(each == "permit" for each in said)
