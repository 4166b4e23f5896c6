"""Bulk sync: an extract of a system of record into the store, table by table. (Walk 1 of the architecture.)

A table is one transaction: its resources, their history, index and changes, and the watermark that says how large it
was. Where a run breaks off, the tables before it are done, this one is untouched, and the next run goes on: rows
already taken are known by their digests. Reference data comes first, then people, then what is about them, so that a
row about a person nobody holds can be told (and held back) at once.

While the database merges a batch, the next one is mapped in a thread: two cores, two halves of the work. Two writers
take turns with the tables, so that one ends a table while the other begins the next; they commit in order.

Longer than other modules, because it is one walk whose steps share what they know; what could stand alone does
(preflight, table, version).
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TextIO

import orjson

from fhirgw.fhir.canonical import decode
from fhirgw.jobs import preflight
from fhirgw.jobs.preflight import child_tables, in_turn
from fhirgw.jobs.summary import Counts, SyncSummary
from fhirgw.jobs.table import Candidate, Outcome, Table
from fhirgw.jobs.version import claimed, incoming, onto, parted
from fhirgw.mapping.identity import PERSON
from fhirgw.mapping.load import SystemDefinition
from fhirgw.mapping.mapping import Mapping, Row
from fhirgw.mapping.refusal import Fault, RefusedRow
from fhirgw.private import private_text
from fhirgw.store import identity, lineage, load, runs, unread
from fhirgw.store.database import Connection, Engine, direct
from fhirgw.store.lineage import GONE, Traced
from fhirgw.store.load import Incoming, Kept
from fhirgw.systems.system import System

Progress = Callable[[str, int, int | None], None]
"""Called with a table, the rows of it done so far, and how many there are (None: nobody knows)."""

BATCH = 500
"""Rows read at a time: few enough that even a small table is read and written at once."""
AHEAD = 16
"""Batches that may wait for each writer."""
WRITERS = 2
"""Tables that may be written at once: one is finished while the next is begun. They are kept in their order."""
GIVE_WAY = 0.0005
"""Seconds a thread may run while another waits."""
MANY = 2000
"""Versions after which the planner's statistics are taken anew."""


class Written(NamedTuple):
    """What a batch of rows comes to, for one mapping.

    `retraced`: new digests of rows whose change made no difference; `left`: ids of what rows were before they became
    another person's.
    """

    mapping: Mapping
    versions: list[Incoming]
    retraced: list[tuple[str, bytes]]
    left: list[str]


Batch = list[Written]
Work = Table | Batch | Counts | None
"""What the reader hands to the writer: a table, its batches, its counts (it is done), and at last nothing."""


async def sync(
    engine: Engine,
    definition: SystemDefinition,
    system: System,
    *,
    force: bool = False,
    progress: Progress | None = None,
    errors: Path | None = None,
) -> SyncSummary:
    """Takes in all tables of the system that have mappings. Refused rows go to `errors`, one JSON object a line.

    Raises ExtractError for an extract that cannot be used (before anything of it is written, or with nothing of the
    table it broke off in), ShrunkenExtract unless `force`.
    """
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(direct(engine))
        await stack.enter_async_context(runs.alone(reader, definition.name))
        retired = await preflight.retired(definition, reader, force)
        await preflight.preflight(definition, system, await lineage.watermarks(reader, definition.name), force)
        run = await runs.start(reader, definition.name)
        summary = SyncSummary(definition.name, run)
        stack.enter_context(undisturbed())
        try:
            writing = stack.enter_context(private_text(errors)) if errors else None
            walk = await _walk(engine, reader, definition, system, summary, writing, progress)
            await walk.retire(retired)
            await walk.run()
            summary.warnings += [*summary.untold(), *_orphans(definition, system), *await _conflicts(reader)]
            summary.resources = await lineage.resources(reader, definition.name)
            await _settle(engine, summary)
        except BaseException as failure:
            await asyncio.shield(runs.fail(engine, run, type(failure).__name__))
            raise
        summary.seconds = time.monotonic() - begun
        await runs.finish(reader, run, summary.as_json())
        return summary


async def _walk(
    engine: Engine,
    reader: Connection,
    definition: SystemDefinition,
    system: System,
    summary: SyncSummary,
    errors: TextIO | None,
    progress: Progress | None,
) -> _Walk:
    people = await lineage.ids(reader, definition.name, PERSON)
    own = definition.ids
    own.aliases.clear()
    own.aliases.update({key: id for key, id in people.items() if id != own.plain(PERSON, key)})
    alone = await identity.only_system(reader, definition.name)
    skew = await runs.skew(reader)
    return _Walk(engine, reader, definition, system, summary, errors, progress, set(people), alone, skew)


@dataclass
class _Walk:
    """What all tables of one run share. `alone`: no other system has brought people, so nobody is to be met again.

    `skew`: how far the database's clock is ahead. Stamps follow that clock, as an export's transaction time does.
    """

    engine: Engine
    reader: Connection
    definition: SystemDefinition
    system: System
    summary: SyncSummary
    errors: TextIO | None
    progress: Progress | None
    persons: set[str]
    alone: bool
    skew: timedelta

    def _now(self) -> datetime:
        moment = datetime.now(UTC) + self.skew
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    async def retire(self, retired: list[tuple[str, str]]) -> None:
        """Deletes, with history, what mappings made that are no more."""
        async with direct(self.engine) as writer, writer.transaction():
            for mapping, resource_type in retired:
                gone = await load.vanish(writer, self.definition.name, mapping, resource_type, [], self._now())
                self.summary.warnings.append(
                    f"{gone:,} {resource_type} resources are deleted with the mapping {mapping} that made them"
                )
            await unread.forget(writer, self.definition.name, self.definition.tables())

    async def run(self) -> None:
        """All tables: read and mapped here, written there, with a few batches in between."""
        queues: list[asyncio.Queue[Work]] = [asyncio.Queue(maxsize=AHEAD) for _ in range(WRITERS)]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(queues))
                for queue in queues:
                    tasks.create_task(self._write_tables(queue))
        except BaseExceptionGroup as failed:  # the first is the cause: it cancelled the other
            raise failed.exceptions[0] from None

    async def _read(self, queues: list[asyncio.Queue[Work]]) -> None:
        before = asyncio.Event()
        before.set()
        for turn, (name, mappings) in enumerate(in_turn(self.definition)):
            queue = queues[turn % len(queues)]
            table = Table(name, mappings[0].key, mappings, self.persons, before)
            before = table.kept_now
            counts = self.summary.tables[name] = Counts()
            total = await self.system.count(name)
            known = {each.name: await lineage.any_of(self.reader, self.definition.name, each.name) for each in mappings}
            for child in child_tables(mappings):
                table.sizes[child.table] = await self.system.count(child.table) or 0
            await queue.put(table)
            async for rows in self.system.extract(name, table.key, table.columns, child_tables(mappings), BATCH):
                await queue.put(await self._prepare(table, rows, known, counts))
                counts.read += len(rows)
                if self.progress:
                    self.progress(name, counts.read, total)
            if PERSON in table.applied:
                self.persons.intersection_update(table.applied[PERSON])  # who is gone, is gone for the tables to come
            await queue.put(counts)
            gc.collect()
        for queue in queues:
            await queue.put(None)

    async def _write_tables(self, queue: asyncio.Queue[Work]) -> None:
        async with direct(self.engine) as writer:
            while isinstance(table := await queue.get(), Table):
                async with writer.transaction():
                    await load.stage(writer)
                    while isinstance(batch := await queue.get(), list):
                        await self._merge(writer, batch, self.summary.tables[table.name])
                    assert isinstance(batch, Counts)
                    await self._finish(writer, table, batch)
                    await table.before.wait()
                table.kept_now.set()

    async def _finish(self, writer: Connection, table: Table, counts: Counts) -> None:
        """What ends a table: rows that are gone, the token index, the watermark."""
        name = self.definition.name
        if PERSON in table.applied:
            await self._part(writer, table)
        for mapping in table.mappings:
            if await lineage.living(writer, name, mapping.name) > table.kept[mapping.name]:
                applied = table.applied[mapping.name]
                counts.deleted += await load.vanish(writer, name, mapping.name, mapping.type, applied, self._now())
        if table.unread.mappings:
            await unread.replace(writer, name, table.name, table.unread.rules(self.definition.ids))
            self.summary.unshared |= {person for person, _, _ in table.unread.persons}
            self.summary.nobodys += table.unread.nobodys
        if counts.created or counts.updated:
            for resource_type in dict.fromkeys(mapping.type for mapping in table.mappings):
                await load.fold(writer, resource_type)
        for each, size in (*table.sizes.items(), (table.name, counts.read)):
            await lineage.mark(writer, name, each, size, self.summary.run)

    async def _part(self, writer: Connection, table: Table) -> None:
        """Takes this system's numbers from Patients of others whom it no longer knows."""
        applied = set(table.applied[PERSON])
        gone = {key: id for key, id in self.definition.ids.aliases.items() if key not in applied}
        kept = await load.current(writer, "Patient", list(gone.values())) if gone else {}
        mapping = next(each for each in table.mappings if each.name == PERSON)
        written = []
        for key, id in gone.items():
            if (held := kept.get(id)) and held.origin != self.definition.name:
                made = parted(decode(held.body), self.definition.declared.namespace)
                candidate = Candidate(mapping, {}, key, GONE, None, made)
                written.append(
                    incoming(candidate, made, "update", held.version + 1, self._now(), held.origin, held.controller)
                )
        await load.merge(writer, self.definition.name, PERSON, written)
        self.summary.tables[table.name].updated += len(written)

    async def _prepare(self, table: Table, rows: list[Row], known: dict[str, bool], counts: Counts) -> Batch:
        """A batch up to what is to be written, by mapping."""
        keys = [row[table.key] for row in rows if row[table.key] is not None]
        traced = {
            each.name: await lineage.traced(self.reader, self.definition.name, each.name, keys)
            if known[each.name]
            else {}
            for each in table.mappings
        }
        if PERSON in traced and not self.alone:
            person = next(each for each in table.mappings if each.name == PERSON)
            await self._meet(person, rows, traced[PERSON])
        outcome = await asyncio.to_thread(table.sort_out, rows, traced)
        self._report(outcome, counts)
        prepared: Batch = []
        for mapping in table.mappings:
            mine = [each for each in outcome.candidates if each.mapping is mapping]
            if mine:
                prepared.append(await self._versions(table, mapping, mine, counts))
        return prepared

    async def _versions(self, table: Table, mapping: Mapping, candidates: list[Candidate], counts: Counts) -> Written:
        """What is to be written for the candidates of one mapping."""
        candidates, left = self._settled(candidates)
        ids = [each.held.id for each in candidates if each.held is not None]
        kept = await load.current(self.reader, mapping.type, ids) if ids else {}
        gone = [each for each in ids if each not in kept]
        last = await load.last_versions(self.reader, mapping.type, gone) if gone else {}
        versions, retraced, faults = await asyncio.to_thread(self._write, candidates, kept, last)
        self._report(Outcome(faults=faults, refused=Counter(fault.reason for _, fault in faults)), counts)
        refused = {fault.key for _, fault in faults}
        for each in (each for each in candidates if each.key in refused):
            table.unread.add(each.row, each.key, (mapping,), (mapping.name,), self.persons)
        made = sum(each.kind == "create" for each in versions)
        counts.created += made
        counts.updated += len(versions) - made
        counts.unchanged += len(retraced)
        return Written(mapping, versions, retraced, left)

    def _settled(self, candidates: list[Candidate]) -> tuple[list[Candidate], list[str]]:
        """The candidates, each with the id it is to have; and the ids that rows leave which became another person's.

        An id says whose record a resource belongs to, and references to it are derived the same way: all move together.
        """
        left: list[str] = []
        settled: list[Candidate] = []
        for each in candidates:
            id = each.resource["id"]
            if each.mapping.name == PERSON and each.held is None and each.key in self.definition.ids.aliases:
                each = each._replace(held=Traced(id, GONE))
            elif each.mapping.name != PERSON and each.held is not None and each.held.id != id:
                left.append(each.held.id)
                each = each._replace(held=Traced(id, GONE))
            settled.append(each)
        return settled, left

    def _write(
        self, candidates: list[Candidate], kept: dict[str, Kept], last: dict[str, int]
    ) -> tuple[list[Incoming], list[tuple[str, bytes]], list[tuple[Mapping, Fault]]]:
        """The versions, the rows whose change made no difference, and what was refused after all."""
        moment = self._now()
        faults: list[tuple[Mapping, Fault]] = []
        written: list[Incoming] = []
        retraced: list[tuple[str, bytes]] = []
        name, controller = self.definition.name, self.definition.declared.controller
        for each in candidates:
            held = kept.get(each.held.id) if each.held else None
            if held is None:
                version = last.get(each.held.id, 0) + 1 if each.held else 1
                written.append(incoming(each, each.resource, "create", version, moment, name, controller))
                continue
            try:
                made = onto(each, held, name)
            except RefusedRow as refused:
                faults += [(each.mapping, fault) for fault in refused.faults]
                continue
            if made is None:
                retraced.append((each.key, each.digest))
            else:
                written.append(incoming(each, made, "update", held.version + 1, moment, held.origin, held.controller))
        return written, retraced, faults

    async def _meet(self, mapping: Mapping, rows: list[Row], traced: dict[str, Traced]) -> None:
        """Leads new people who are Patients of another system already to those, before anything of them is mapped."""
        told = {
            row[mapping.key]: claim
            for row in rows
            if row[mapping.key] not in traced and (claim := claimed(mapping, row))
        }
        times = Counter(number for number, _ in told.values())
        numbers = {number for number, count in times.items() if count == 1}
        holders = await identity.holders(self.reader, list(numbers)) if numbers else {}
        births = await identity.births(self.reader, [held[0] for held in holders.values()]) if holders else {}
        taken = set(self.definition.ids.aliases.values())
        for key, (number, born) in told.items():
            held = holders.get(number, [])
            # Who is known already to be another of this system's people: which of them, is for people to say.
            if len(held) == 1 and held[0] not in taken and born == births.get(held[0]):
                self.definition.ids.aliases[key] = held[0]
                taken.add(held[0])

    async def _merge(self, writer: Connection, prepared: Batch, counts: Counts) -> None:
        name = self.definition.name
        for each in prepared:
            await load.merge(writer, name, each.mapping.name, each.versions)
            await lineage.retrace(writer, name, each.mapping.name, each.retraced)
            counts.deleted += await load.leave(writer, name, each.mapping.type, each.left, self._now())

    def _report(self, outcome: Outcome, counts: Counts) -> None:
        counts.refused += outcome.refused
        counts.unchanged += outcome.unchanged
        if self.errors:
            for mapping, fault in outcome.faults:
                self.errors.write(_line(self.definition.name, mapping.name, fault))


@contextmanager
def undisturbed() -> Iterator[None]:
    """The interpreter as a bulk load wants it.

    The collector is spared the batches: their objects hold no cycles, and looking for some takes half the time. And
    threads give way sooner: with the usual 5 ms, each answer of the database waits that long for the thread that maps.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(GIVE_WAY)
    gc.freeze()  # what exists now is looked at by no collection between tables
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        sys.setswitchinterval(interval)


def _line(system: str, mapping: str, fault: Fault) -> str:
    return orjson.dumps({"system": system, "mapping": mapping, **fault.as_json()}).decode() + "\n"


def _orphans(definition: SystemDefinition, system: System) -> Iterator[str]:
    """Child rows that no row claims. A table that is also mapped itself has rows with a right to stand alone."""
    for table, rows in system.orphans.items():
        if rows and table not in definition.tables():
            yield f"{rows:,} rows of {table} name a parent that is not there: they are left out"


async def _conflicts(reader: Connection) -> list[str]:
    """The NHS numbers several Patients claim, told by the Patients' ids."""
    return [
        f"{len(claim.patients)} Patients hold one NHS number and are kept apart: {', '.join(claim.patients)}"
        for claim in await identity.claims(reader)
    ]


async def _settle(engine: Engine, summary: SyncSummary) -> None:
    """After much was written: statistics for the planner, and index entries where searches find them at once."""
    if summary.written >= MANY:
        async with direct(engine) as connection:
            await load.settle(connection)
