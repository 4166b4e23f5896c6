"""Exporting everything, beside `psql \\copy` of the same bodies to files of the same types; and again after a night.

In parts, by workers: beside the same, and the compressor alone; and, as no export is faster than PostgreSQL reads, the
slower of the two. What is exported is on the disk when it is done, and what psql copied is not: so beside psql and a
sync of its files as well; and two workers beside two psql that have half of the types each, which is what this machine
gives to two. How soon there is something of the first file. In the night 1% of people changed: their own row alone, or
every row of their record, which no night is.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from isal import isal_zlib

from fhirgw.access.permit import operations
from fhirgw.jobs.engine import Queue
from fhirgw.jobs.export_folder import export
from fhirgw.jobs.files import BLOCK, FASTEST, GZIP
from fhirgw.jobs.segments import FOLDER
from fhirgw.jobs.work import Worker
from fhirgw.settings import Settings
from fhirgw.store import export_job
from fhirgw.store.database import direct
from fhirgw.store.export import PART, Selection
from fhirgw.store.lease import LEASE
from fhirgw.store.server import binaries
from tests.bench.council import World, world
from tests.bench.figures import ROUNDS, Figure
from tests.jobs.working import process

QUERY = "SELECT body FROM fhirgw.resource WHERE type = '{type}'"
SIZES = "SELECT type, sum(octet_length(body)) FROM fhirgw.resource GROUP BY 1 ORDER BY 2 DESC"

PARTS = count(PART)
"""Sizes of parts, another for each export that is not to begin from one before."""

CHANGED = """
WITH people AS (SELECT id FROM fhirgw.resource WHERE type = 'Patient' ORDER BY md5(id || $1::text)
        LIMIT (SELECT count(*) / 100 FROM fhirgw.resource WHERE type = 'Patient')),
    old AS (SELECT r.* FROM fhirgw.resource r JOIN people ON r.patient = people.id WHERE r.type = 'Patient' OR $2),
    kept AS (
        INSERT INTO fhirgw.history (type, id, version, updated, patient, origin, controller, tokens, body, labels)
        SELECT type, id, version, updated, patient, origin, controller, tokens, body, labels FROM old)
UPDATE fhirgw.resource r
SET version = r.version + 1, updated = clock_timestamp(), transaction = pg_current_xact_id(),
    body = replace(r.body, '"versionId":"' || r.version, '"versionId":"' || r.version + 1)
FROM old WHERE r.type = old.type AND r.id = old.id"""

FORM = r"(FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')"


def run() -> list[Figure]:
    """Resources a second, the ratio to psql, and the memory of the process that exported."""
    return asyncio.run(_run())


async def _run() -> list[Figure]:
    ours = Figure("export of everything to NDJSON, durable", "resources/s")
    floor = Figure(r"psql \copy of the same bodies", "resources/s")
    ratio = Figure(r"export against psql \copy", "ratio", "target 0.9")
    durable = Figure(r"export against psql \copy and sync of its files", "ratio")
    memory = Figure("largest memory of `fhirgw export`", "MB", "target under 256")
    shared = {n: Figure(rf"export in parts, {n} of `fhirgw worker`, against psql \copy", "ratio") for n in (1, 2)}
    shared[1].target, shared[2].target = "target 0.9", "target 1.4"
    durably = Figure(r"export in parts, one worker, against psql \copy and sync of its files", "ratio")
    bound = Figure(r"two psql \copy at once, half of the types each, against one", "ratio")
    of_bound = Figure(r"export in parts, 2 of `fhirgw worker`, against two psql \copy at once", "ratio")
    packed = Figure("export in parts as gzip, one worker, against not packed", "ratio")
    alone_packed = Figure("export in parts as gzip, one worker, against isal alone", "ratio", "target 0.8")
    floor_packed = Figure("export in parts as gzip, one worker, against the slower of psql and isal alone", "ratio")
    first = Figure("export in parts, kick-off to the first byte of the first file", "s", "target under 1")
    largest = Figure("largest memory of a worker", "MB", "target under 256")
    again = {
        whole: Figure(f"full export again, {what} of 1% of people changed, against the first", "ratio", target)
        for whole, what, target in ((False, "the person's row", "target under 0.1"), (True, "the whole record", ""))
    }
    async with world() as council:
        written = (await council.sync()).written
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            await export(
                council.engine,
                operations(Settings().controller),
                Selection(),
                council.folder / "export",
                request="bench",
            )
            spent = time.perf_counter() - begun
            copying, saving = await _psql(council)
            ours.values.append(written / spent)
            floor.values.append(written / copying)
            ratio.values.append(copying / spent)
            durable.values.append((copying + saving) / spent)
            memory.values.append(await asyncio.to_thread(_memory, council))
            alone, two, gzip = [await _in_parts(council, *each) for each in ((1,), (2,), (1, True))]
            shared[1].values.append(copying / alone.seconds)
            shared[2].values.append(copying / two.seconds)
            durably.values.append((copying + saving) / alone.seconds)
            together = await _two_psql(council)
            bound.values.append(copying / together)
            of_bound.values.append(together / two.seconds)
            packed.values.append(alone.seconds / gzip.seconds)
            packing = await asyncio.to_thread(_packing, council)
            alone_packed.values.append(packing / gzip.seconds)
            floor_packed.values.append(max(packing, copying) / gzip.seconds)
            first.values.append(alone.first)
            largest.values.append(max(each.megabytes for each in (alone, two, gzip)))
            for whole, figure in again.items():
                figure.values.append(await _again(council, whole))
    told = [ours, floor, ratio, durable, memory, *shared.values(), durably, bound, of_bound]
    return [*told, packed, alone_packed, floor_packed, first, largest, *again.values()]


class Done(NamedTuple):
    """A job: seconds until it was done, and until there was something of its first file; a worker's largest memory."""

    seconds: float
    first: float
    megabytes: float


async def _again(council: World, whole: bool) -> float:
    """What an export costs that begins from another, of that one's time, when 1% of people have changed."""
    part = next(PARTS)
    first = await _in_parts(council, 1, part=part)
    async with direct(council.engine) as connection:
        await connection.execute(CHANGED, uuid4().hex, whole)
    again = await _in_parts(council, 1, part=part)
    await asyncio.to_thread(shutil.rmtree, council.folder / "parts" / FOLDER)
    return again.seconds / first.seconds


async def _in_parts(council: World, workers: int, gzip: bool = False, part: int = 0) -> Done:
    """A job, from asking for it until it is done, by so many processes that wait for work already.

    One with the same `part` as another begins from that.
    """
    folder, id = council.folder / "parts", uuid4().hex
    with ExitStack() as processes:
        working = [processes.enter_context(process(council.url, folder, lease=LEASE)) for _ in range(workers)]
        await asyncio.sleep(3)
        async with Queue(council.url, Worker(council.engine, folder)).opened() as queue:
            begun, first = time.perf_counter(), 0.0
            async with direct(council.engine) as connection:
                permit = operations(Settings().controller)
                await export_job.accept(connection, id, permit, Selection(gzip=gzip, part=part or next(PARTS)), "bench")
                await queue.ask(id)
                while id in await export_job.in_state(connection, "running"):
                    if not first and any(each.stat().st_size for each in (folder / id).glob("*.ndjson*")):
                        first = time.perf_counter() - begun
                    await asyncio.sleep(0.01)
                spent = time.perf_counter() - begun
                assert id in await export_job.in_state(connection, "done")
                largest = max(_peak(each.pid) for each in working)
    await asyncio.to_thread(shutil.rmtree, folder / id)
    if not part:  # nothing begins from it: of a million resources, each keeps gigabytes
        await asyncio.to_thread(shutil.rmtree, folder / FOLDER)
    return Done(spent, first or spent, largest)


def _peak(pid: int | None) -> float:
    """Megabytes that a process has needed at most. https://www.kernel.org/doc/html/latest/filesystems/proc.html"""
    told = Path(f"/proc/{pid}/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) / 1024


def _packing(council: World) -> float:
    """Seconds for the compressor alone to pack what psql copied, in blocks of the same size, to nowhere."""
    spent = 0.0
    for path in sorted((council.folder / "psql").iterdir()):
        packer = isal_zlib.compressobj(level=FASTEST, wbits=GZIP)
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                begun = time.perf_counter()
                packer.compress(block)
                spent += time.perf_counter() - begun
    return spent


async def _psql(council: World) -> tuple[float, float]:
    r"""Seconds for one psql to \copy every type to a file, and for the disk to have them."""
    folder, copies = council.folder / "psql", await _copies(council, "psql")
    begun = time.perf_counter()
    await asyncio.to_thread(_run_psql, council.url, "".join(copy for _, copy in copies))
    copied = time.perf_counter()
    await asyncio.to_thread(lambda: subprocess.run(["sync", *map(str, folder.iterdir())], check=True))
    return copied - begun, time.perf_counter() - copied


async def _two_psql(council: World) -> float:
    r"""Seconds for two psql at once to \copy every type to a file: half of the bytes each, as near as types divide."""
    halves: tuple[list[str], list[str]] = ([], [])
    sizes = [0, 0]
    for size, copy in await _copies(council, "psql-two"):
        lighter = sizes.index(min(sizes))
        sizes[lighter] += size
        halves[lighter].append(copy)
    begun = time.perf_counter()
    await asyncio.gather(*(asyncio.to_thread(_run_psql, council.url, "".join(each)) for each in halves))
    spent = time.perf_counter() - begun
    await asyncio.to_thread(shutil.rmtree, council.folder / "psql-two")
    return spent


async def _copies(council: World, name: str) -> list[tuple[int, str]]:
    r"""The commands that \copy every type to a file in a folder, each with the bytes of its bodies, the most first."""
    async with direct(council.engine) as connection:
        found = await connection.fetch(SIZES)
    folder = council.folder / name
    folder.mkdir(exist_ok=True)
    return [
        (size, f"\\copy ({QUERY.format(type=kind)}) TO '{folder / kind}.ndjson' WITH {FORM}\n") for kind, size in found
    ]


def _memory(council: World) -> float:
    """Megabytes that the command needs at most, for all there is."""
    command = [sys.executable, "-m", "fhirgw", "export", "--to", str(council.folder / "measured"), "--json"]
    told = os.environ | {"FHIRGW_DATABASE_URL": council.url}
    largest = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=told) as process:
        while process.poll() is None:  # not its rusage: Linux counts in what its parent was when it forked
            with suppress(OSError, IndexError):  # it has ended meanwhile
                largest = max(largest, _peak(process.pid))
            time.sleep(0.02)
    assert process.returncode == 0
    return largest


def _run_psql(url: str, script: str) -> None:
    psql = Path(binaries()) / "psql"
    permitted = os.environ | {"PGOPTIONS": "-c fhirgw.permit=bench"}
    subprocess.run([str(psql), "--quiet", "--no-psqlrc", url], input=script, text=True, check=True, env=permitted)
