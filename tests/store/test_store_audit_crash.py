"""Processes that record are killed while they do: what they had acknowledged is there, and the chain is one."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from fhirgw.store.audit import Auditor, Unrecorded
from fhirgw.store.audit_chain import verify
from fhirgw.store.database import connect
from fhirgw.store.looked import listed
from fhirgw.store.migrate import migrate
from fhirgw.store.server import running
from tests.conftest import temporary
from tests.store.test_store_audit import access, request

ROOT = Path(__file__).parents[2]
AT_ONCE = 16


async def records(url: str, first: int) -> None:
    """Records for ever, many at once, and prints the number of each access when it is acknowledged."""
    numbers = iter(range(first, first + 1_000_000))

    async def one_after_another(auditor: Auditor) -> None:
        for number in numbers:
            await auditor.record(access(number))
            os.write(1, f"{number}\n".encode())

    async with Auditor(url) as auditor:
        await asyncio.gather(*(one_after_another(auditor) for _ in range(AT_ONCE)))


@contextmanager
def recording(url: str, first: int) -> Iterator["subprocess.Popen[str]"]:
    """A process of its own that does; killed afterwards."""
    command = [sys.executable, "-c", f"import asyncio, {__name__} as it; asyncio.run(it.records({url!r}, {first}))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


async def acknowledged(process: "subprocess.Popen[str]", most: int) -> list[str]:
    """What it says, until it has said `most`; then it is killed, and the rest of what it had said."""
    assert process.stdout is not None
    said = [await asyncio.to_thread(process.stdout.readline) for _ in range(most)]
    process.send_signal(signal.SIGKILL)
    said += await asyncio.to_thread(process.stdout.readlines)
    return [each.strip() for each in said if each.endswith("\n")]


@pytest.mark.parametrize("most", [1, 40, 400])
async def test_what_was_acknowledged_survives_a_kill(database: str, most: int) -> None:
    with recording(database, 0) as process:
        said = await acknowledged(process, most)
    assert len(said) >= most
    connection = await asyncpg.connect(database)
    await _left(connection)
    kept = [request(each.body) for each in await listed(connection, count=100_000)]
    assert {f"r{each}" for each in said} <= set(kept)
    assert len(kept) <= len(said) + 2 * AT_ONCE
    found = await verify(connection)
    assert (found.sound, found.rows) == (True, len(kept))
    await connection.close()


async def test_two_processes_write_one_chain_and_a_third_goes_on(database: str) -> None:
    with recording(database, 0) as one, recording(database, 500_000) as other:
        begun = [(await asyncio.to_thread(each.stdout.readline)).strip() for each in (one, other) if each.stdout]
        said = await asyncio.gather(acknowledged(one, 300), acknowledged(other, 300))
    connection = await asyncpg.connect(database)
    await _left(connection)
    async with Auditor(database) as auditor:
        await auditor.record(access(999_999))
    kept = [request(each.body) for each in await listed(connection, count=100_000)]
    assert {f"r{each}" for each in (*begun, *said[0], *said[1])} <= set(kept)
    assert kept[0] == "r999999"
    writers = ["other" if int(each[1:]) >= 500_000 else "one" for each in kept[1:]]
    assert sum(a != b for a, b in pairwise(writers)) > 1  # they did write at the same time
    assert (await verify(connection)).sound
    await connection.close()


async def test_what_was_acknowledged_survives_a_kill_of_postgresql() -> None:
    """Its last transactions are in the write-ahead log alone; and the auditor finds its way back."""
    told: set[str] = set()
    enough = asyncio.Event()

    async def one_after_another(auditor: Auditor, first: int) -> None:
        with contextlib.suppress(Unrecorded):
            for number in range(first, first + 100_000):
                await auditor.record(access(number))
                told.add(f"r{number}")
                if len(told) == 200:
                    enough.set()

    with temporary() as folder, running(folder) as url:
        engine = connect(url)
        await migrate(engine)
        await engine.dispose()
        async with Auditor(url) as auditor:
            writing = [asyncio.create_task(one_after_another(auditor, each * 100_000)) for each in range(AT_ONCE)]
            await enough.wait()
            os.kill(int((folder / "cluster" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            await asyncio.gather(*writing)
            with running(folder):
                await _let_in(lambda: auditor.record(access(9_999_999)))
                connection = await asyncpg.connect(url)
                kept = [request(each.body) for each in await listed(connection, count=1_000_000)]
                assert told <= set(kept)
                assert len(kept) <= len(told) + 2 * AT_ONCE
                assert kept[0] == "r9999999"
                assert (await verify(connection)).sound
                await connection.close()


async def _left(connection: asyncpg.Connection) -> None:
    """Waits until the sessions of who was killed have ended: what they were writing is written to its end."""
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    for _ in range(1200):
        if not await connection.fetchval(others):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("their sessions go on")


async def _let_in(record: Callable[[], Awaitable[None]]) -> None:
    """Tries until the server has recovered."""
    for _ in range(1200):
        try:
            return await record()
        except Unrecorded:
            await asyncio.sleep(0.1)
    raise AssertionError("the auditor did not find its way back")
