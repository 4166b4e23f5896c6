"""One table of an extract on its way into the store: what each row is, and what is written of it.

Everything here is computation on rows already read and facts already looked up, so it can run in a thread while the
database merges the batch before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from fhirgw.fhir.issue import Resource
from fhirgw.jobs.unread import Unread
from fhirgw.mapping.identity import PERSON
from fhirgw.mapping.leaf import Referring
from fhirgw.mapping.mapping import Mapping, Row
from fhirgw.mapping.refusal import Fault, RefusedRow, value_class
from fhirgw.store.incoming import KEY, LONGEST_KEY
from fhirgw.store.lineage import GONE, Traced


class Candidate(NamedTuple):
    """A row that must be written, or written again: its mapping, its digest, and the resource it becomes when new."""

    mapping: Mapping
    row: Row
    key: str
    digest: bytes
    held: Traced | None
    resource: Resource


@dataclass(slots=True)
class Outcome:
    """What became of a batch of rows."""

    candidates: list[Candidate] = field(default_factory=list)
    faults: list[tuple[Mapping, Fault]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0


@dataclass
class Table:
    """A table's mappings, and what is known about its rows so far.

    `persons`: the keys of people the gateway holds; rows about others are held back until they appear. `sizes`: how
    many rows the child tables have. `before` is set when the table before this is committed, `kept_now` when this is.
    """

    name: str
    key: str
    mappings: Sequence[Mapping]
    persons: set[str]
    before: asyncio.Event = field(default_factory=asyncio.Event)
    kept_now: asyncio.Event = field(default_factory=asyncio.Event)
    seen: set[str] = field(default_factory=set)
    applied: dict[str, list[str]] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    sizes: dict[str, int] = field(default_factory=dict)
    unread: Unread = field(init=False)

    def __post_init__(self) -> None:
        self.unread = Unread(self.mappings)
        self.applied = {mapping.name: [] for mapping in self.mappings}
        self._named = {mapping.name: people_named(mapping) for mapping in self.mappings}
        self._columns = itemgetter(*_at_least_two(self.columns))
        self._children = [
            (each.table, itemgetter(*_at_least_two((each.order, *each.columns))))
            for mapping in self.mappings
            for each in mapping.children
        ]
        self._conditional = any(mapping.when for mapping in self.mappings)
        self._salted = blake2b("\x1f".join(mapping.fingerprint for mapping in self.mappings).encode(), digest_size=12)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns any of the mappings reads."""
        return tuple(dict.fromkeys(column for mapping in self.mappings for column in mapping.columns))

    def digest(self, row: Row) -> bytes:
        """What the row says to these mappings, in 12 bytes."""
        said = self._columns(row)
        if self._children:
            said = (said, *[[cells(child) for child in row[table]] for table, cells in self._children])
        digest = self._salted.copy()
        digest.update(orjson.dumps(said))
        return digest.digest()

    def sort_out(self, rows: Sequence[Row], traced: dict[str, dict[str, Traced]]) -> Outcome:
        """Which rows are new, changed, unchanged or refused. `traced`: by mapping and key, what rows became before."""
        outcome = Outcome()
        for row in rows:
            key = row[self.key]
            if key is None or key in self.seen or not KEY(key):
                self._refuse(outcome, self.mappings[0], [self._keyless(key)])
                self.unread.add(row, key if key and KEY(key) else "", self.mappings, (), self.persons)
                continue
            self.seen.add(key)
            self._row(row, key, traced, outcome)
        return outcome

    def _row(self, row: Row, key: str, traced: dict[str, dict[str, Traced]], outcome: Outcome) -> None:
        """All that a row becomes, or nothing: half a row would leave references to what the other half is."""
        digest = self.digest(row)
        candidates: list[Candidate] = []
        faults: list[tuple[Mapping, Fault]] = []
        applying = self._applying(row)
        stranger = key not in self.persons
        for mapping in applying:
            name = mapping.name
            if (named := self._named[name]) and (strangers := self._strangers(named, row, key)):
                faults += [(mapping, fault) for fault in strangers]
                continue  # what it was before goes with the person it was about
            self.applied[name].append(key)
            held = traced[name].get(key)
            self.kept[name] += held is not None and held.digest != GONE
            if held is not None and held.digest == digest:
                outcome.unchanged += 1
                continue
            found = self._candidate(mapping, row, key, digest, held)
            if isinstance(found, Candidate):
                candidates.append(found)
            else:
                faults += [(mapping, fault) for fault in found]
        if not applying:
            faults.append((self.mappings[0], self._unclaimed(row, key)))
        if not faults:
            outcome.candidates += candidates
            for each in candidates:
                self.kept[each.mapping.name] += each.held is None or each.held.digest == GONE
            return
        outcome.faults += faults
        outcome.refused[faults[0][1].reason] += 1
        self.unread.add(
            row, key, applying or self.mappings, (name for name in traced if key in traced[name]), self.persons
        )
        if stranger:
            self.persons.discard(key)

    def _strangers(self, named: tuple[str, ...], row: Row, key: str) -> list[Fault]:
        """A fault where the row names a person who is not held."""
        for column in named:
            if row[column] is not None and row[column] not in self.persons:
                return [self._unknown(row, key, column)]
        return []

    def _applying(self, row: Row) -> Sequence[Mapping]:
        if not self._conditional:
            return self.mappings
        return [mapping for mapping in self.mappings if not mapping.when or mapping.applies(row)]

    def _candidate(
        self, mapping: Mapping, row: Row, key: str, digest: bytes, held: Traced | None
    ) -> Candidate | list[Fault]:
        try:
            # A row that was written before is mapped onto what is there now, once that has been looked up.
            resource = mapping.to_fhir(row)
        except RefusedRow as refused:
            return refused.faults
        if mapping.name == PERSON:
            self.persons.add(key)
        return Candidate(mapping, row, key, digest, held, resource)

    def _refuse(self, outcome: Outcome, mapping: Mapping, faults: list[Fault]) -> None:
        outcome.faults += [(mapping, fault) for fault in faults]
        outcome.refused[faults[0].reason] += 1

    def _keyless(self, key: str | None) -> Fault:
        rule = "each row needs a key of its own"
        if key is None:
            return Fault(self.name, "", self.key, "required", "blank", rule, "Fill it at its source")
        if not KEY(key):
            rule = f"a key is printable text of at most {LONGEST_KEY} characters"
            return Fault(self.name, "", self.key, "key", value_class(key), rule, "Correct it at its source")
        return Fault(self.name, key, self.key, "duplicate-key", value_class(key), rule, "Remove one of the rows")

    def _unclaimed(self, row: Row, key: str) -> Fault:
        columns = dict.fromkeys(column for mapping in self.mappings for column in mapping.when)
        column = next(iter(columns), self.key)
        rule = f"no mapping of {self.name} is for such a row"
        remedy = f"Correct {', '.join(columns)}, or add a mapping"
        return Fault(self.name, key, column, "no-mapping", value_class(row[column]), rule, remedy)

    def _unknown(self, row: Row, key: str, column: str) -> Fault:
        rule = "the row names a person the gateway does not hold"
        remedy = "It is taken when the person's own row is: see whether that was refused"
        return Fault(self.name, key, column, "unknown-person", value_class(row[column]), rule, remedy)


def people_named(mapping: Mapping) -> tuple[str, ...]:
    """The columns of a mapping that hold the key of a person other than the row's own."""
    if mapping.name == PERSON:
        return ()
    named = [each.column for each in mapping.fields if isinstance(each.leaf, Referring) and each.leaf.mapping == PERSON]
    return tuple(dict.fromkeys([*([mapping.person] if mapping.person else []), *named]))


def _at_least_two(names: Collection[str]) -> tuple[Any, ...]:
    """itemgetter answers with a tuple only for two names or more."""
    listed = tuple(names)
    return listed if len(listed) > 1 else (*listed, *listed)
