"""Full exports that begin from the files of the one before: what has not changed is not read again.

A *segment* is the finished file of a part: a type's resources in a stretch of ids, as one view shows them. When an
export has ended, links to its files are kept beside all exports (`.segments/<job>`), where no caller's DELETE, no
expiry and no withdrawal reaches them, and nobody can fetch them. The next export of the same view is divided as that
one was, and each part of it is

- the same file under another name, where nothing in it is stale (fhirgw.store.segments says what is), with the plan;
- else a copy of the segment, in which stale lines give way to what the database has in their place, if anything: one
  query for those alone, under the predicate. Copying and hashing a file costs a fraction of reading its rows;
- made as any part is, where there is no segment, or most of it is stale; and always at the second attempt, so that
  whatever is wrong with a segment heals itself.

Each way it is byte for byte the file that reading all of it as of the plan would have made, so a worker may die
anywhere. What becomes hidden after the plan is withdrawn, as from any export, before anybody is told of it.

So an export costs what changed, and a copy of the files that hold any of it: 1% of all lines, spread at random, are in
every file. Smaller files would be fewer to copy and more to fetch.

Only what a resource's own row and the rules about its persons decide can be told this way. Not begun from another are
exports since or until a moment, of Groups or of single people, by search (`_typeFilter`, or a scope with one), in
blocks, of tables, with pseudonyms, or into a folder of the caller's, who may change what is there. Lists of people and,
of people's records, Provenance depend on other rows: they are made anew each time.

Long, because what is kept, found again, linked, patched and forgotten is one life.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

import orjson
import structlog

from fhirgw.access.purpose import Purpose
from fhirgw.fhir.index import VERSION
from fhirgw.jobs.files import durable, unpacked
from fhirgw.jobs.forms import Form
from fhirgw.jobs.patch import Patch
from fhirgw.private import private_folder
from fhirgw.store import segments
from fhirgw.store.basis import LISTS
from fhirgw.store.copied import Line
from fhirgw.store.database import Connection, Engine, direct
from fhirgw.store.export import PROVENANCE, Selection, Stretch, copy_part, relation
from fhirgw.store.export_job import Job
from fhirgw.store.ledger import Part, Planned
from fhirgw.store.segments import RULES, Held, Segment

FOLDER = ".segments"

BLOCK = 1 << 20
"""Bytes of a file that are looked through at once: what is read is hashed and written from the processor's cache."""

BLOCKS = 8
"""Blocks that a thread does before it asks whether anybody still wants them."""

MOST = 4
"""Where more than one in so many resources is stale, reading all of them costs no more."""

GROWN = 2
"""A part that has come to so many times its size is divided again."""

ASIDE = ("job", "paged", "ignored")
"""What of a request says nothing of the resources."""

Write = Callable[[bytes, int], None]
"""What takes bytes of a file, and how many resources they are; in a thread."""

log = structlog.get_logger("fhirgw.jobs")


class Damaged(Exception):
    """A segment is not what was kept."""


@cache
def policy() -> str:
    """Whose rules an export is made by: those of this version of the gateway."""
    try:
        return f"fhirgw {version('fhirgw')}"
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return "fhirgw"


def is_full(job: Job) -> bool:
    """Whether an export may begin from another, and another from it."""
    asked, permit = job.asked, job.permit
    partial = (asked.since, asked.until, asked.patients, asked.filters, asked.group, asked.organized, asked.associated)
    systemwide = all(each.context == "system" and not each.constraint for each in permit.scopes)
    plain = asked.form == "ndjson" and asked.project is None and job.place is None
    return plain and not any(partial) and systemwide and permit.moment is None and permit.purpose in RULES


def dependent(asked: Selection) -> Sequence[str]:
    """Types of which a resource's being there depends on other rows than its own."""
    return (*LISTS, PROVENANCE) if relation(asked) else LISTS


class Base:
    """What an export of a view begins from, if there is anything: the plan's part of it."""

    def __init__(self, job: Job, view: str, base: str | None, held: Sequence[Held]) -> None:
        self._job, self._view, self._base = job, view, base
        self._held: dict[str, list[Held]] = {}
        for each in held:
            self._held.setdefault(each.type, []).append(each)
        grown = [kind for kind, each in self._held.items() if max(one.bytes for one in each) > GROWN * job.asked.part]
        for kind in grown:
            del self._held[kind]

    @classmethod
    async def of(cls, connection: Connection, job: Job) -> Base | None:
        """What there is when the plan begins, before its snapshot; None for an export that is not such a one."""
        if not is_full(job):
            return None
        view = _view(job, await segments.place(connection))
        base, held = await segments.find(connection, view) or (None, [])
        return cls(job, view, base, held)

    def parts(self, kind: str) -> list[Planned]:
        """The parts of a type as they were; none: it is to be divided anew."""
        told = self._job.permit.purpose == Purpose.OPERATIONS
        return [
            Planned("output", kind, low, high, rows if told else 0, base=self._base, segment=number)
            for number, _, low, high, rows, _ in self._held.get(kind, ())
        ]

    async def begin(
        self, connection: Connection, plan: Part, taken: tuple[str, datetime], types: Sequence[str], folder: Path
    ) -> None:
        """Notes what this export begins from, in the transaction of its plan; what is as it was is done with that."""
        kinds = [kind for kind in types if kind in self._held]
        await segments.begin(connection, self._job, self._view, taken, self._base, kinds)
        if self._base is not None:
            parts = await segments.untouched(connection, self._job.id)
            keys = await asyncio.to_thread(_linked, parts, plan.token, folder.parent / FOLDER / self._base, folder)
            await segments.take(connection, self._job.id, keys)


def _linked(parts: Sequence[tuple[int, str, str]], token: int, kept: Path, folder: Path) -> dict[int, str]:
    """Segments under the names of parts, for good. What cannot be linked is left to be copied.

    In place of a part's token they have the plan's after a 0: no claim is named so, and nobody opens it to write to it,
    nor does a planner who was given up for dead come upon what another has linked.
    """
    keys: dict[int, str] = {}
    try:
        private_folder(folder)
        for number, kind, key in parts:
            name = f"{kind}-{number:05}-0{token}.{key.partition('.')[2]}"
            os.link(kept / key, folder / name)
            keys[number] = name
        durable(folder)
    except OSError as error:
        log.warning("segments not linked", error=error.strerror)
        return {}
    return keys


def _view(job: Job, place: str) -> str:
    """What two exports have in common of which one may begin from the other, as a digest."""
    permit = asdict(job.permit)
    permit["scopes"] = sorted(permit["scopes"], key=str)
    permit["parties"] = sorted(permit["parties"])
    asked = {name: value for name, value in asdict(job.asked).items() if name not in ASIDE}
    told = orjson.dumps([permit, asked, policy(), VERSION, place], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(told).hexdigest()


async def segment_of(engine: Engine, folder: Path, part: Part) -> tuple[Path, Segment] | None:
    """The file that a part begins from; None where it is to be made of the database alone."""
    if part.base is None or part.segment is None or part.attempts > 1:
        return None
    async with direct(engine) as connection:
        found = await segments.segment(
            connection, part.job, part.base, part.segment, Stretch(part.type, part.low, part.high)
        )
    if found is None or len(found.stale) * MOST > found.rows:
        return None
    path = folder.parent / FOLDER / part.base / found.key
    return (path, found) if path.is_file() else None


async def patch(engine: Engine, job: Job, part: Part, form: Form, segment: Path, found: Segment, write: Write) -> int:
    """Writes the segment with what is stale read again; how many resources were not. Raises Damaged."""
    assert job.snapshot is not None
    lines: list[bytes] = []

    async def sink(read: list[Line]) -> None:
        lines.extend(map(bytes, read))

    if found.stale:
        stretch = Stretch(part.type, part.low, part.high, tuple(found.stale))
        async with direct(engine) as connection:
            await copy_part(connection, job.permit, stretch, job.asked, job.snapshot, sink, job.effective)
    fresh = lines if form.plain else form.add(lines)[0].split(b"\n")[:-1]
    patching = Patch(found.stale, fresh)
    size = 0
    with await asyncio.to_thread(unpacked, segment) as file:
        while done := await asyncio.to_thread(_patched, file, patching, write):
            size += done
    if size != found.bytes:
        raise Damaged(f"{segment.name}: {size} bytes, not {found.bytes}")
    kept = found.rows - patching.dropped
    await asyncio.to_thread(write, patching.end(), kept + len(fresh))
    return kept


def _patched(file: IO[bytes], patching: Patch, write: Write) -> int:
    """Writes what becomes of some more blocks of whole lines; how many bytes these were."""
    size = 0
    for _ in range(BLOCKS):
        block = file.read(BLOCK) + file.readline()
        size += len(block)
        write(b"".join(patching.add(block)) if block else b"", 0)
    return size


async def keep(connection: Connection, job: Job, keys: Sequence[str], folder: Path) -> bool:
    """Keeps the files of an export whose parts are all done, for the next one to begin from; `ready` says it may.

    False: there is nothing to keep, or it cannot be kept, and the next one is made as this one was.
    """
    if not await segments.begun(connection, job.id):
        return False
    try:
        await asyncio.to_thread(_link, keys, folder, folder.parent / FOLDER / job.id)
    except OSError as error:
        log.warning("segments not kept", job=job.id, error=error.strerror)
        return False
    await segments.settle(connection, job, dependent(job.asked))
    return True


def _link(keys: Sequence[str], folder: Path, kept: Path) -> None:
    private_folder(kept.parent)
    private_folder(kept)
    for key in keys:
        try:
            os.link(folder / key, kept / key)
        except FileExistsError:  # of an attempt that died, or another process doing the same
            continue
    durable(kept)
    durable(kept.parent)


async def tidy(connection: Connection, folder: Path) -> None:
    """Removes from below `folder`, where all exports are, what nothing begins from any more."""
    await segments.forget(connection)
    await asyncio.to_thread(_sweep, folder / FOLDER, await segments.kept(connection))


def _sweep(folder: Path, kept: set[str]) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
