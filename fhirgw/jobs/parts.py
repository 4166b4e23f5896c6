"""A part of an export, done by whoever claimed it: read as of the job's snapshot, straight to a file of its own.

It may be done any number of times, by anybody, at any time: each attempt has a key of its own, and comes out the same.
What counts is in the ledger (fhirgw.store.ledger); a file that the ledger does not name is nobody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

from fhirgw.access.permit import Permit
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import Issue, Resource, outcome
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.pseudonym import Pseudonymiser, rules
from fhirgw.fhir.views import views_of
from fhirgw.jobs.export import Filling, covered
from fhirgw.jobs.failpoint import reach
from fhirgw.jobs.files import Draft, Unwritable, draft, durable
from fhirgw.jobs.forms import Form, Lines, form_of, suffix
from fhirgw.jobs.segments import Base, patch, segment_of
from fhirgw.private import private_folder
from fhirgw.store import cohort, division, ledger
from fhirgw.store.database import Connection, Engine, direct
from fhirgw.store.deleted import concerned, deleted
from fhirgw.store.export import Selection, Sink, Stretch, copy_part, snapshot
from fhirgw.store.export_job import Job
from fhirgw.store.hidden import hidden
from fhirgw.store.ledger import LEASE, Made, Part, Planned

PULSE = 1.0
"""Seconds between two renewals; a cancellation is noticed as soon."""


ENTRIES = 1000
"""Deletions that one Bundle tells of."""


class Lost(Exception):
    """The part is somebody else's by now, or nobody wants it any more."""


async def run_part(
    engine: Engine,
    folder: Path,
    job: Job,
    part: Part,
    lease: timedelta = LEASE,
    pseudonyms: Pseudonymiser | None = None,
) -> None:
    """Does a part that was claimed, and says so in the ledger; `folder` is the job's, `pseudonyms` its project's.

    Raises Lost, leaving nothing behind; or what kept it from being done: Unwritable, FhirError, an error of the
    database. Then the part is still claimed, and the file is gone.
    """
    reach("after claim")
    if part.kind == "plan":
        await _plan(engine, folder, job, part)
        return
    ending = suffix(job.asked.form if part.view else "ndjson", job.asked.gzip)
    key = f"{part.view or part.type}-{part.number:05}-{part.token}{ending}"
    path = folder / key
    try:
        made = await _written(engine, path, job, part, lease, pseudonyms)
        reach("before finish")
        async with direct(engine) as connection:
            if not await ledger.finish(connection, part, made):
                raise Lost
        reach("after finish")
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


async def _plan(engine: Engine, folder: Path, job: Job, part: Part) -> None:
    """Takes the job's snapshot and divides what there is into parts."""
    asked, permit = job.asked, job.permit
    async with direct(engine) as connection:
        base = await Base.of(connection, job)
    async with snapshot(engine, permit) as taken:
        types = covered(permit, asked.types or tuple(await taken.types()), bool(asked.types))
        if asked.project is not None:
            types = [each for each in types if each in rules().types]
        members = await _members(taken.connection, permit, asked)
        people = len(members) if asked.group is not None else len(asked.patients or ()) or None
        of_all = types if asked.organized else ()
        parts = [each for kind in types for each in (base.parts(kind) if base else ())]
        held = {each.type for each in parts}
        parts += [
            Planned("output", each.type, each.low, each.high, rows, table)
            for kind in (("Patient",) if asked.organized else types)
            if kind not in held and (tables := _tables(asked, kind))
            for each, rows in await division.stretches(taken.connection, permit, kind, asked, of_all, people)
            for table in tables
        ]
        if asked.since:
            parts.append(Planned("deleted", "Bundle"))
        if asked.ignored:
            parts.append(Planned("error", "OperationOutcome"))
        of = await taken.text(), taken.time
    reach("plan made")
    async with direct(engine) as connection, connection.transaction():
        if not await ledger.plan(connection, part, of, types, parts, members):
            raise Lost
        if base:
            await base.begin(connection, part, of, types, folder)
    reach("plan kept")


async def _members(connection: Connection, permit: Permit, asked: Selection) -> Collection[str]:
    """Whom an export of a Group is of."""
    if asked.group is None:
        return ()
    group = await cohort.find(connection, permit, asked.group)
    return await cohort.people(connection, permit, group, asked.patients or None)


def _tables(asked: Selection, kind: str) -> list[str]:
    """What a type is written as: the views of it that are asked for; or one file without a name, as NDJSON."""
    return [""] if asked.form == "ndjson" else [each.name for each in views_of(kind, asked.views)]


async def _written(
    engine: Engine, path: Path, job: Job, part: Part, lease: timedelta, pseudonyms: Pseudonymiser | None
) -> Made:
    """The part's file, on the disk for good."""
    assert job.snapshot is not None  # its plan is done, or there would be no such part
    await asyncio.to_thread(_kept, private_folder, path.parent)
    segment = await segment_of(engine, path.parent, part)
    with draft(path) as drafted:
        output = part.kind == "output"
        form = form_of(job.asked, part.type, part.view, pseudonyms) if output else Lines()
        filling, reused = _Filling(drafted, form), 0
        async with _renewed(engine, part, drafted, lease):
            try:
                if segment:
                    reused = await patch(engine, job, part, form, *segment, filling.put)
                else:
                    async with direct(engine) as connection:
                        await filling.begin()
                        await _copied(connection, job, part, filling.sink, pseudonyms)
                        await filling.end()
            finally:
                await filling.settled()
            reach("file written")
            written = await asyncio.to_thread(drafted.finish)
            await asyncio.to_thread(_kept, durable, path.parent)
    told = len(pseudonyms.persons) if pseudonyms else 0
    return Made(path.name, written.lines, written.bytes, written.sha256, told, reused)


async def _copied(connection: Connection, job: Job, part: Part, sink: Sink, pseudonyms: Pseudonymiser | None) -> None:
    """What is in the part, line by line."""
    assert job.snapshot is not None
    if part.kind == "output":
        stretch = Stretch(part.type, part.low, part.high)
        await copy_part(connection, job.permit, stretch, job.asked, job.snapshot, sink, job.effective)
    elif part.kind == "error":
        for each in job.asked.ignored:
            told = Issue("not-supported", f"Left out, as handling=lenient asks. {each}", severity="warning")
            await sink(encode(outcome([told])) + b"\n")
    else:
        kinds = [kind for kind in sorted(job.asked.types or HELD) if job.permit.covering("r", kind)]
        if pseudonyms:
            kinds = [kind for kind in kinds if kind in rules().types]
        unseen = await hidden(connection, job.permit, kinds, job.asked)
        of = await concerned(connection, job.asked)
        for kind in kinds:
            gone = await deleted(connection, job.permit, kind, job.asked, job.snapshot) if kind in of else ()
            every = {*unseen[kind], *gone}
            ids = sorted(pseudonyms.id(kind, each) if pseudonyms else each for each in every)
            for at in range(0, len(ids), ENTRIES):
                await sink(encode(_deleting(kind, ids[at : at + ENTRIES])) + b"\n")


def _deleting(kind: str, ids: Sequence[str]) -> Resource:
    """The transaction that would delete them. https://hl7.org/fhir/uv/bulkdata/export.html#response---complete-status"""
    entries = [{"request": {"method": "DELETE", "url": f"{kind}/{each}"}} for each in ids]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


class _Filling(Filling):
    """A part's: its lines come in a form, which may refuse some."""

    def __init__(self, draft: Draft, form: Form) -> None:
        super().__init__(draft, lambda lines, size: reach("first bytes"))
        self._form, self._begun = form, b""

    async def begin(self) -> None:
        """Writes what the file begins with."""
        await self._write(self._form.begin(), 0)

    async def end(self) -> None:
        """Writes what the file ends with."""
        if self._refused is None:
            await self._write(self._form.end(), 0)

    async def put(self, data: bytes, lines: int) -> None:
        """Writes what is in the file's form already. Raises Unwritable."""
        await self._write(data, lines)

    def _made(self, data: bytes) -> tuple[bytes, int | None]:
        if self._form.plain:
            return data, None
        *lines, self._begun = (self._begun + data).split(b"\n")
        return self._form.add(lines)


def _kept(work: Callable[[Path], object], folder: Path) -> None:
    try:
        work(folder)
    except OSError as error:
        raise Unwritable(folder, error) from error


@asynccontextmanager
async def _renewed(engine: Engine, part: Part, draft: Draft, lease: timedelta) -> AsyncIterator[None]:
    """Renews the lease while the block runs, and ends the block with Lost when it cannot be renewed.

    A worker that cannot reach the ledger works on: if its lease runs out meanwhile, its finish is refused.
    """
    working = asyncio.current_task()
    lost = False

    async def renewing() -> None:
        nonlocal lost
        while True:
            await asyncio.sleep(min(PULSE, lease.total_seconds() / 3))
            try:
                async with direct(engine) as connection:
                    held = await ledger.renew(connection, part, draft.lines, draft.bytes, lease)
            except Exception:
                held = True  # nobody has said otherwise
            if not held and working is not None:
                lost = True
                working.cancel()
                return

    renewal = asyncio.create_task(renewing(), name=f"lease of {part.job}/{part.number}")
    try:
        yield
    except asyncio.CancelledError:
        if lost and working is not None and working.uncancel() == 0:
            raise Lost from None
        raise
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
