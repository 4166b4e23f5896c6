"""A part of an export, done by whoever claimed it: read as of the job's snapshot, straight to a file of its own.

It may be done any number of times, by anybody, at any time: each attempt has a key of its own, and comes out the same.
What counts is in the ledger (fhirgw.store.ledger); a file that the ledger does not name is nobody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta

from fhirgw.access.permit import Permit
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import Issue, outcome
from fhirgw.fhir.pseudonym import Pseudonymiser, rules
from fhirgw.fhir.views import views_of
from fhirgw.jobs import apart
from fhirgw.jobs.export import Filling, covered
from fhirgw.jobs.failpoint import reach
from fhirgw.jobs.files import Draft, draft
from fhirgw.jobs.forms import Form, Lines, form_of, suffix
from fhirgw.jobs.gone import bundles, gone
from fhirgw.jobs.lease import Lost, renewed
from fhirgw.jobs.place import Folder, Place, ready
from fhirgw.jobs.segments import Base, patch, segment_of
from fhirgw.store import cohort, division, ledger, pseudonymised
from fhirgw.store.copied import Line, Sink
from fhirgw.store.database import Connection, Engine, direct
from fhirgw.store.export import Selection, Stretch, copy_part, snapshot
from fhirgw.store.export_job import Job
from fhirgw.store.joined import joined
from fhirgw.store.lease import LEASE
from fhirgw.store.ledger import Made, Part, Planned


async def run_part(
    engine: Engine,
    place: Place,
    job: Job,
    part: Part,
    lease: timedelta = LEASE,
    pseudonyms: Pseudonymiser | None = None,
) -> None:
    """Does a part that was claimed, and says so in the ledger; `place` is the job's, `pseudonyms` its project's.

    Raises Lost, leaving nothing behind; or what kept it from being done: Unwritable, Unkept, FhirError, an error of the
    database. Then the part is still claimed, and the file is gone, or the ledger could not be asked and will tell.
    """
    reach("after claim")
    if part.kind == "plan":
        await _plan(engine, place, job, part)
        return
    ending = suffix(job.asked.form if part.view else "ndjson", job.asked.gzip)
    key = f"{part.view or part.type}-{part.number:05}-{part.token}{ending}"
    try:
        made = await _written(engine, place, key, job, part, lease, pseudonyms)
    except BaseException:
        await place.drop(key)
        raise
    reach("before finish")
    async with direct(engine) as connection:  # if it goes away now, nobody knows: the file stays until the job ends
        finished = await ledger.finish(connection, part, made)
    if not finished:
        await place.drop(key)
        raise Lost
    reach("after finish")


async def _plan(engine: Engine, place: Place, job: Job, part: Part) -> None:
    """Takes the job's snapshot and divides what there is into parts."""
    asked, permit = job.asked, job.permit
    folder = place.drafts if isinstance(place, Folder) else None
    async with direct(engine) as connection:
        base = await Base.of(connection, job) if folder is not None else None
    async with snapshot(engine, permit) as taken:
        types = covered(permit, asked.types or tuple(await taken.types()), bool(asked.types))
        if asked.project is not None:
            types = [each for each in types if each in rules().types]
        members, new, listed = await _members(taken.connection, permit, asked)
        people = len(members) if asked.group is not None else len(asked.patients or ()) or None
        of_all = types if asked.organized else ()
        parts = [each for kind in types for each in (base.parts(kind) if base else ())]
        held = {each.type for each in parts}
        parts += [
            Planned("output", each.type, each.low, each.high, rows, table)
            for kind in (("Patient",) if asked.organized else types)
            if kind not in held and (tables := _tables(asked, kind))
            for each, rows in await division.stretches(taken.connection, permit, kind, asked, of_all, people, len(new))
            for table in tables
        ]
        if asked.since:
            parts.append(Planned("deleted", "Bundle"))
        if asked.ignored:
            parts.append(Planned("error", "OperationOutcome"))
        of = await taken.text(), taken.time
    reach("plan made")
    if asked.project is not None and listed is not None:
        async with direct(engine) as connection:
            await apart.kept(connection, permit, listed)
    async with direct(engine) as connection, connection.transaction():
        if not await ledger.plan(connection, part, of, types, parts, members, new):
            raise Lost
        if asked.project is not None:
            await pseudonymised.given(connection, permit, asked.project, taken.time)
        if base and folder is not None:
            await base.begin(connection, part, of, types, folder)
    reach("plan kept")


async def _members(
    connection: Connection, permit: Permit, asked: Selection
) -> tuple[Collection[str], Collection[str], Collection[str] | None]:
    """Whom an export of a Group is of; those of them who were not in it at the moment since which it is; and who is on
    its list, if it has one.
    """
    if asked.group is None:
        return (), (), None
    group = await cohort.find(connection, permit, asked.group)
    if asked.project is not None:
        apart.check_definition(group)
    members = await cohort.people(connection, permit, group, asked.patients or None)
    if asked.since is None:
        return members, (), group.members
    return members, await joined(connection, permit, asked.group, members, asked.since), group.members


def _tables(asked: Selection, kind: str) -> list[str]:
    """What a type is written as: the views of it that are asked for; or one file without a name, as NDJSON."""
    return [""] if asked.form == "ndjson" else [each.name for each in views_of(kind, asked.views)]


async def _written(
    engine: Engine,
    place: Place,
    key: str,
    job: Job,
    part: Part,
    lease: timedelta,
    pseudonyms: Pseudonymiser | None,
) -> Made:
    """The part's file, where it is kept for good."""
    assert job.snapshot is not None  # its plan is done, or there would be no such part
    segment = await segment_of(engine, place.drafts, part) if isinstance(place, Folder) else None
    with draft(await ready(place) / key) as drafted:

        async def keep() -> bool:
            async with direct(engine) as connection:
                return await ledger.renew(connection, part, drafted.lines, drafted.bytes, lease=lease)

        output = part.kind == "output"
        form = form_of(job.asked, part.type, part.view, pseudonyms) if output else Lines()
        filling, reused = _Filling(drafted, form), 0
        async with renewed(keep, lease):
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
            await place.keep(key)
            reach("file kept")
    told = len(pseudonyms.persons) if pseudonyms else 0
    return Made(key, written.lines, written.bytes, written.sha256, told, reused)


async def _copied(connection: Connection, job: Job, part: Part, sink: Sink, pseudonyms: Pseudonymiser | None) -> None:
    """What is in the part, line by line."""
    assert job.snapshot is not None
    if part.kind == "output":
        stretch = Stretch(part.type, part.low, part.high)
        await copy_part(connection, job.permit, stretch, job.asked, job.snapshot, sink, job.effective)
    elif part.kind == "error":
        for each in job.asked.ignored:
            told = Issue("not-supported", f"Left out, as handling=lenient asks. {each}", severity="warning")
            await sink([encode(outcome([told]))])
    else:
        await sink(list(bundles(await gone(connection, job, pseudonyms))))


class _Filling(Filling):
    """A part's: its lines come in a form, which may refuse some."""

    def __init__(self, draft: Draft, form: Form) -> None:
        super().__init__(draft, self._told_first)
        self._form, self._first = form, True

    def _told_first(self, lines: int, size: int) -> None:
        if self._first:
            self._first = False
            reach("first bytes")

    async def begin(self) -> None:
        """Writes what the file begins with."""
        await self._write(self._form.begin(), 0)

    async def end(self) -> None:
        """Writes what the file ends with."""
        if self._refused is None:
            await self._write(self._form.end(), 0)

    def _made(self, lines: list[Line]) -> tuple[bytes, int]:
        return super()._made(lines) if self._form.plain else self._form.add(list(map(bytes, lines)))
