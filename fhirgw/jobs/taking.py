"""One input of an import, from the place it was left at to its end, and searchable.

Three at once: lines are read, judged (fhirgw.jobs.line, in other processes) and written, some batches in between. What
is written is one transaction with how far the input is: `kill -9` at any point, and the next who claims it goes on
where the last transaction ended, with nothing lost and nothing taken twice.

A line makes a new resource, a new version of one that the same origin brought, or nothing: a line that was taken before
is known by its digest. The first line about a resource counts, and one that then says otherwise is refused: else the
same file, taken again, would write again.

Longer than other modules, because it is one walk whose steps share what they know.
"""

from __future__ import annotations

import asyncio
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue, Resource, outcome
from fhirgw.jobs.digests import Said
from fhirgw.jobs.failpoint import reach
from fhirgw.jobs.lease import Lost
from fhirgw.jobs.line import FRONT, Judged, Terms, digest, judge, resource_of
from fhirgw.jobs.lines import PARQUET, Batch, Unreadable, batches
from fhirgw.jobs.onto import TWICE, Onto
from fhirgw.jobs.vouched import known, vouched
from fhirgw.store import import_job, lineage, load, runs, write
from fhirgw.store.database import Connection, Engine, direct
from fhirgw.store.doubtful import doubtful
from fhirgw.store.import_job import COUNTS, Input, Job
from fhirgw.store.lease import LEASE
from fhirgw.store.load import Staged, Stale

AHEAD = 4
"""Batches that may wait to be written."""
GROUP = 4
"""Batches of one transaction: many lines share what a commit costs, and what has to be merged into the token index."""
TIMES = 3
"""Times a transaction is tried that meets others who write the same."""
PATIENCE = timedelta(seconds=20)
"""How long at least a session may hold what it has written and do nothing: others who go on wait for that."""
MOST = 300_000
"""References kept in mind that lead to something here."""

REFUSED = Issue("too-long", "A text, a number or a date in it is more than can be stored: shorten it")
Progress = Callable[[int], None]
"""Called with how many lines more are done."""


@dataclass(slots=True)
class _Read:
    """A batch, with those of its lines that were taken before, and the others being judged."""

    batch: Batch
    known: int
    judged: asyncio.Future[list[Judged]]


@dataclass(slots=True)
class _Group:
    """What one transaction takes in; `failure`: why there is no more, `last`: there is no more."""

    reads: list[_Read] = field(default_factory=list)
    last: bool = False
    failure: Unreadable | None = None


@dataclass(slots=True)
class _Sum:
    """What a transaction comes to, by COUNTS, and what it writes besides."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    refused: dict[int, Sequence[Issue]] = field(default_factory=dict)
    types: dict[str, None] = field(default_factory=dict)
    references: dict[tuple[str, str], int] = field(default_factory=dict)
    doubts: dict[int, Sequence[Issue]] = field(default_factory=dict)

    def refuse(self, number: int, issues: Sequence[Issue]) -> None:
        """A line that is not taken, and why."""
        self.refused[number] = issues
        self.counts["refused"] += 1


async def take(
    engine: Engine,
    job: Job,
    held: Input,
    path: Path,
    judges: Executor,
    longest: int,
    lease: timedelta = LEASE,
    progress: Progress | None = None,
    said: Said | None = None,
) -> None:
    """Takes in what is left of an input whose text is in the file; `longest`: bytes that a line may have.

    `said`: what other inputs of the same import said already, where it is known.

    Raises Lost where it is another's by now, or nobody's; what the database raises when it has gone.
    """
    async with direct(engine) as connection:
        try:
            stamp, size = await asyncio.to_thread(_stamp, path)
            if held.stamp not in (None, stamp):
                raise Unreadable("It has changed since it was begun: load it as an import of its own")
        except Unreadable as error:
            await _ended(connection, held, error)
            return
        if not await import_job.begin(connection, held, stamp, size):
            raise Lost
        skew = await runs.skew(connection)
    terms = Terms(job.origin, job.permit.organisation, held.type, job.bases)
    await _Taking(engine, job, held, path, judges, longest, lease, progress, terms, skew, said or Said()).run()


def told(name: str, line: int, issues: Iterable[Issue]) -> str:
    """The OperationOutcome of a line: where, which rule, what to do; nothing that is in it."""
    where = f"{name}, {'row' if name.endswith(PARQUET) else 'line'} {line}"
    placed = [Issue(e.code, f"{where}: {e.diagnostics}", e.expression, e.severity) for e in issues]
    return encode(outcome(placed)).decode()


def named(held: Input) -> str:
    """What an input is called where something is said of it: its file's name, without where that is."""
    return held.source.partition("?")[0].rpartition("/")[2] or f"input {held.number}"


def _stamp(path: Path) -> tuple[str, int]:
    """What tells whether a file is still the same, and its size. Raises Unreadable."""
    try:
        found = path.stat()
    except OSError as error:
        raise Unreadable(f"It cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, for ever
        raise Unreadable("It is no file: offer what is in it as one")
    return f"{found.st_size} {found.st_mtime_ns}", found.st_size


async def _ended(connection: Connection, held: Input, failure: Unreadable | None) -> None:
    if not await import_job.end(connection, held, str(failure) if failure else None):
        raise Lost


def _heard(judged: asyncio.Future[list[Judged]]) -> None:
    """Of a batch that nobody waits for any more, because another failed, asyncio would complain."""
    if not judged.cancelled():
        judged.exception()


@dataclass(slots=True)
class _Taking:
    engine: Engine
    job: Job
    held: Input
    path: Path
    judges: Executor
    longest: int
    lease: timedelta
    progress: Progress | None
    terms: Terms
    skew: timedelta
    said: Said
    here: set[tuple[str, str]] = field(default_factory=set)
    brought: dict[str, bool] = field(default_factory=dict)

    def _now(self) -> datetime:
        moment = datetime.now(UTC) + self.skew
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    async def run(self) -> None:
        """Reads and writes, each as fast as the other."""
        queue: asyncio.Queue[_Read | Unreadable | None] = asyncio.Queue(maxsize=AHEAD)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(queue))
                tasks.create_task(self._write(queue))
        except BaseExceptionGroup as failed:  # the first is the cause: it cancelled the other
            raise failed.exceptions[0] from None

    async def _read(self, queue: asyncio.Queue[_Read | Unreadable | None]) -> None:
        loop, found = asyncio.get_running_loop(), batches(self.path, self.longest, self.held.place, self.held.line)
        async with direct(self.engine) as reader:
            try:
                while batch := await asyncio.to_thread(next, found, None):
                    fresh = await self._fresh(reader, batch)
                    judged = loop.run_in_executor(self.judges, judge, fresh, self.terms, self._now())
                    judged.add_done_callback(_heard)
                    await queue.put(_Read(batch, len(batch.lines) - len(fresh), judged))
            except Unreadable as error:
                await queue.put(error)
            else:
                await queue.put(None)

    async def _fresh(self, reader: Connection, batch: Batch) -> list[tuple[int, bytes]]:
        """The lines that were not taken in before, as far as their beginnings tell."""
        by_type: dict[str, dict[str, tuple[int, bytes]]] = defaultdict(dict)
        for number, text in batch.lines:
            if front := FRONT.match(text):
                by_type[front[1].decode()][front[2].decode()] = number, text
        known: set[int] = set()
        for kind, lines in by_type.items():
            if kind not in self.brought:
                self.brought[kind] = await lineage.any_of(reader, self.job.origin, kind)
            if not self.brought[kind]:
                continue  # what comes twice within this input is found where it is written
            traced = await lineage.traced(reader, self.job.origin, kind, list(lines))
            same = {id: each.digest for id, each in traced.items() if each.digest == digest(lines[id][1])}
            known |= {lines[id][0] for id in same}
            self.said.add(same.values())
        return [each for each in batch.lines if each[0] not in known] if known else batch.lines

    async def _write(self, queue: asyncio.Queue[_Read | Unreadable | None]) -> None:
        async with direct(self.engine) as writer:
            group = _Group()
            while not group.last:
                group = await self._group(queue)
                if group.reads:
                    await self._kept(writer, group)
            await _ended(writer, self.held, group.failure)

    async def _group(self, queue: asyncio.Queue[_Read | Unreadable | None]) -> _Group:
        group = _Group()
        while len(group.reads) < GROUP and not group.last:
            found = await queue.get()
            if isinstance(found, _Read):
                group.reads.append(found)
            else:
                group.last, group.failure = True, found
        return group

    async def _kept(self, writer: Connection, group: _Group) -> None:
        """The group in one transaction, with the place it ends at; again where others wrote the same meanwhile."""
        end = group.reads[-1].batch
        for left in reversed(range(TIMES)):
            try:
                async with writer.transaction():
                    done = await self._taken(writer, group.reads)
                    reach("lines taken")
                    counts = [done.counts[name] for name in COUNTS]
                    if not await import_job.advance(writer, self.held, end.place, end.line, counts, self.lease):
                        raise Lost
                reach("group kept")
                break
            except (*write.COLLISIONS, Stale):
                if not left:
                    raise
        if self.progress:
            self.progress(sum(done.counts.values()))

    async def _taken(self, writer: Connection, reads: Sequence[_Read]) -> _Sum:
        done = _Sum()
        await load.stage(writer)
        await import_job.bound(writer, max(2 * self.lease, PATIENCE))
        for each in reads:
            texts = dict(each.batch.lines)
            done.counts["unchanged"] += each.known
            for number, issue in each.batch.refused:
                done.refuse(number, [issue])
            for kind, judged in self._once(await each.judged, done).items():
                await self._of_type(writer, kind, judged, texts, done)
        for kind in done.types:
            await load.fold(writer, kind)
        await import_job.refuse(writer, self.held, self._outcomes(done))
        await import_job.refer(writer, self.held, await self._missing(writer, done))
        return done

    def _outcomes(self, done: _Sum) -> list[tuple[int, str]]:
        name = named(self.held)
        return [(number, told(name, number, issues)) for number, issues in sorted((done.doubts | done.refused).items())]

    def _once(self, judged: Sequence[Judged], done: _Sum) -> dict[str, dict[str, Judged]]:
        """The first line about each resource, by type and id. What is said again is refused, or was said already."""
        by_type: dict[str, dict[str, Judged]] = defaultdict(dict)
        for each in judged:
            if each.version is None:
                done.refuse(each.number, each.issues)
                continue
            first = by_type[each.version.type].setdefault(each.version.id, each)
            if first is not each and first.digest == each.digest:
                done.counts["unchanged"] += 1
            elif first is not each:
                done.refuse(each.number, [TWICE])
        return by_type

    async def _of_type(
        self, writer: Connection, kind: str, judged: dict[str, Judged], texts: dict[int, bytes], done: _Sum
    ) -> None:
        """Lines about different resources of one type."""
        origin = self.job.origin
        traced = await lineage.traced(writer, origin, kind, list(judged))
        fresh = {id: each for id, each in judged.items() if id not in traced or traced[id].digest != each.digest}
        self.said.add(each.digest for id, each in judged.items() if id not in fresh)
        done.counts["unchanged"] += len(judged) - len(fresh)
        kept = await load.current(writer, kind, list(fresh)) if fresh else {}
        mine = {} if self.job.operator or not kept else await write.held(writer, self.job.permit, "u", kind, list(kept))
        gone = [id for id in fresh if id not in kept]
        last = await load.last_versions(writer, kind, gone) if gone else {}
        ours = [id for id in last if id in traced]
        buried = await load.last_bodies(writer, kind, ours) if ours else {}
        versions, retraced, onto = [], [], Onto(self.job, self.terms, self._now)
        for id, each in fresh.items():
            try:
                if id in traced and traced[id].digest in self.said:
                    raise FhirError(TWICE)
                if id in kept:
                    found = await onto.onto(writer, each, texts[each.number], kept[id], mine.get(id))
                else:
                    found = onto.new(each, texts[each.number], last.get(id, 0), buried.get(id))
                if isinstance(found, Staged):
                    versions.append((each, onto.allowed(found)))
                else:
                    done.counts["unchanged"] += 1
                    retraced += [(id, found.digest)] if found.digest else []
            except FhirError as error:
                done.refuse(each.number, error.issues)

        def said(each: Judged) -> Resource:
            return resource_of(texts[each.number], self.terms)

        if self.job.operator:
            versions = await vouched(writer, origin, kind, versions, said, done.refuse)
        elif kind == "Organization":
            versions = await known(writer, versions, kept, said, done.refuse)
        if kind == "Consent":
            done.doubts |= await doubtful(writer, {each.number: said(each) for each, _ in versions})
        await self._merged(writer, kind, versions, done)
        await lineage.retrace(writer, origin, kind, retraced)

    async def _merged(self, writer: Connection, kind: str, versions: list[tuple[Judged, Staged]], done: _Sum) -> None:
        """Writes the versions; where the store takes one of them not, all but that one."""
        if not versions:
            return
        try:
            async with writer.transaction():
                await load.merge_staged(writer, self.job.origin, kind, [made for _, made in versions])
        except write.REFUSED:
            if len(versions) == 1:
                done.refuse(versions[0][0].number, [REFUSED])
                return
            half = len(versions) // 2
            await self._merged(writer, kind, versions[:half], done)
            await self._merged(writer, kind, versions[half:], done)
            return
        done.types[kind] = None
        for judged, made in versions:
            done.counts["created" if made.kind == "create" else "updated"] += 1
            self.here.add((kind, made.id))
            for each in judged.references:
                done.references.setdefault(each, judged.number)

    async def _missing(self, writer: Connection, done: _Sum) -> list[tuple[str, str, int]]:
        """What the lines refer to that is not here, or not for whoever imports them: both are told alike."""
        wanted: dict[str, list[str]] = defaultdict(list)
        for kind, id in done.references.keys() - self.here:
            wanted[kind].append(id)
        missing = []
        for kind, ids in sorted(wanted.items()):
            if not self.job.permit.covering("r", kind):
                continue
            seen = await write.seen(writer, self.job.permit, kind, ids)
            self.here |= {(kind, id) for id in seen}
            missing += [(kind, id, done.references[kind, id]) for id in ids if id not in seen]
        if len(self.here) > MOST:
            self.here.clear()
        return missing
