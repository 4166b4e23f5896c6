"""Exporting everything, beside `psql \\copy` of the same bodies to files of the same types; and again after a night.

The night is one in which 1% of people changed: their own row alone, or every row of their record, which no night is.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from uuid import uuid4

from fhirgw.access.permit import operations
from fhirgw.jobs.engine import Queue
from fhirgw.jobs.export import export
from fhirgw.jobs.work import Worker
from fhirgw.settings import Settings
from fhirgw.store import export_job
from fhirgw.store.database import direct
from fhirgw.store.export import PART, Selection
from fhirgw.store.ledger import LEASE
from fhirgw.store.server import binaries
from tests.bench.council import World, world
from tests.bench.figures import ROUNDS, Figure
from tests.jobs.working import process

QUERY = "SELECT body FROM fhirgw.resource WHERE type = '{type}'"
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
    packed = Figure("export in parts as gzip, one worker, against not packed", "ratio")
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
            alone = await _in_parts(council, 1)
            shared[1].values.append(copying / alone)
            shared[2].values.append(copying / await _in_parts(council, 2))
            packed.values.append(alone / await _in_parts(council, 1, gzip=True))
            for whole, figure in again.items():
                figure.values.append(await _again(council, whole))
    return [ours, floor, ratio, durable, memory, *shared.values(), packed, *again.values()]


async def _again(council: World, whole: bool) -> float:
    """What an export costs that begins from another, of that one's time, when 1% of people have changed."""
    part = next(PARTS)
    first = await _in_parts(council, 1, part=part)
    async with direct(council.engine) as connection:
        await connection.execute(CHANGED, uuid4().hex, whole)
    return await _in_parts(council, 1, part=part) / first


async def _in_parts(council: World, workers: int, gzip: bool = False, part: int = 0) -> float:
    """Seconds from asking for a job until it is done, by so many processes that wait for work already.

    One with the same `part` as another begins from that.
    """
    folder, id = council.folder / "parts", uuid4().hex
    with ExitStack() as processes:
        for _ in range(workers):
            processes.enter_context(process(council.url, folder, lease=LEASE))
        await asyncio.sleep(3)
        async with Queue(council.url, Worker(council.engine, folder)).opened() as queue:
            begun = time.perf_counter()
            async with direct(council.engine) as connection:
                permit = operations(Settings().controller)
                await export_job.accept(connection, id, permit, Selection(gzip=gzip, part=part or next(PARTS)), "bench")
                await queue.ask(id)
                while id in await export_job.in_state(connection, "running"):  # noqa: ASYNC110 (another process's)
                    await asyncio.sleep(0.01)
                spent = time.perf_counter() - begun
                assert id in await export_job.in_state(connection, "done")
    await asyncio.to_thread(shutil.rmtree, folder / id)
    return spent


async def _psql(council: World) -> tuple[float, float]:
    r"""Seconds for one psql to \copy every type to a file, and for the disk to have them."""
    async with direct(council.engine) as connection:
        found = await connection.fetch("SELECT DISTINCT type FROM fhirgw.resource ORDER BY 1")
    folder = council.folder / "psql"
    folder.mkdir(exist_ok=True)
    script = "".join(
        f"\\copy ({QUERY.format(type=kind)}) TO '{folder / kind}.ndjson' WITH {FORM}\n" for (kind,) in found
    )
    begun = time.perf_counter()
    await asyncio.to_thread(_run_psql, council.url, script)
    copied = time.perf_counter()
    await asyncio.to_thread(lambda: subprocess.run(["sync", *map(str, folder.iterdir())], check=True))
    return copied - begun, time.perf_counter() - copied


def _memory(council: World) -> float:
    """Megabytes that the command needs at most, for all there is."""
    command = [sys.executable, "-m", "fhirgw", "export", "--to", str(council.folder / "measured"), "--json"]
    told = os.environ | {"FHIRGW_DATABASE_URL": council.url}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=told)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / 1024


def _run_psql(url: str, script: str) -> None:
    psql = Path(binaries()) / "psql"
    permitted = os.environ | {"PGOPTIONS": "-c fhirgw.permit=bench"}
    subprocess.run([str(psql), "--quiet", "--no-psqlrc", url], input=script, text=True, check=True, env=permitted)
