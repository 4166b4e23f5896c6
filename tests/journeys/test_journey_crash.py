"""A first load that is broken off: the process killed, or PostgreSQL itself. The next run ends where one would have."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from fhirgw.council.council import Council
from fhirgw.store.server import running
from tests.conftest import NewDatabase, temporary
from tests.journeys import kept
from tests.journeys.canaries import canaries, told
from tests.journeys.command import PATIENCE, Finished, Place, Started, alive, embedded, postmaster
from tests.journeys.conftest import Demo, Loaded, errors, extract
from tests.put import connected

PAUSE = 0.005
NEWEST = "SELECT coalesce(max(id), 0) FROM fhirgw.sync_run"
TAKEN = "SELECT r.id, count(w.run) FROM fhirgw.sync_run r LEFT JOIN fhirgw.watermark w ON w.run = r.id GROUP BY r.id"
"""By run, how many tables it has finished."""
UNFINISHED = "SELECT count(*) FROM fhirgw.sync_run WHERE finished IS NULL"


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_sync_that_is_killed_is_finished_by_the_next(
    new_database: NewDatabase, demo: Demo, loaded: Loaded, seed: int
) -> None:
    """Killed twice, at moments that a seed chooses: early or late, within a table or between two."""
    rng = random.Random(seed)
    command = ("sync", "meadow", "--from", extract(demo, "meadow"), "--json")
    tables = len(loaded.summary["tables"])
    async with new_database() as url:
        with temporary() as folder:
            place = Place(folder / "data", url)
            for finished in (rng.randrange(tables // 2), rng.randrange(tables // 2, tables - 8)):
                before = await _asked(url, NEWEST)
                with place.running(*command) as sync:
                    await _under_way(sync, url, before, finished)
                    await asyncio.sleep(rng.uniform(0, 0.03))
                    sync.kill()
                assert sync.process.returncode == -signal.SIGKILL
                assert await _asked(url, UNFINISHED) == 1
                _whole_tables_only(await kept.state(url), loaded.state)
            done = await _let_in(lambda: _run(place, *command))
            assert done.code == 0, done
            assert done.document()["resources"] == loaded.summary["resources"]
            assert kept.differing(await kept.state(url), loaded.state) == {}
            assert errors(place, "meadow") == loaded.errors


async def test_a_database_that_is_killed_is_told_and_the_next_run_finishes(
    demo: Demo, loaded: Loaded, council: Council
) -> None:
    with temporary() as folder:
        place = Place(folder / "data")
        place.done("migrate")
        with place.running("sync", "meadow", "--from", extract(demo, "meadow")) as sync:
            await _eventually(lambda: _reached(place))
            await _under_way(sync, embedded(place.data), 0, 3)
            server = postmaster(place.data)
            os.kill(server, signal.SIGKILL)
            broken = await asyncio.to_thread(sync.finished)
        assert broken.code == 4, broken
        said = broken.err.splitlines()[-1]
        assert said.startswith("The database "), broken.err
        assert "run the same again" in said
        assert "Traceback" not in broken.out + broken.err
        assert told(canaries(council), broken.out + broken.err) == set()
        assert not alive(server)
        done = place.done("sync", "meadow", "--from", extract(demo, "meadow"), "--json")
        assert done.document()["resources"] == loaded.summary["resources"]
        assert errors(place, "meadow") == loaded.errors
        with running(place.data / "postgres") as url:
            assert kept.differing(await kept.state(url), loaded.state) == {}


async def _under_way(sync: Started, url: str, before: int, tables: int) -> None:
    """Returns once a run later than `before` has finished so many tables."""
    connection = await connected(url)

    async def so_far() -> bool:
        assert sync.process.poll() is None, "it ended too soon"
        return any(run > before and taken >= tables for run, taken in await connection.fetch(TAKEN))

    try:
        await _eventually(so_far)
    finally:
        await connection.close()


async def _asked(url: str, query: str) -> int:
    connection = await connected(url)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def _reached(place: Place) -> bool:
    """Whether the embedded PostgreSQL lets somebody in."""
    try:
        connection = await connected(embedded(place.data))
    except (OSError, IndexError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


async def _eventually(happened: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(int(PATIENCE / PAUSE)):
        if await happened():
            return
        await asyncio.sleep(PAUSE)
    raise TimeoutError


async def _let_in(run: Callable[[], Awaitable[Finished]]) -> Finished:
    """The first answer that is not to wait: PostgreSQL ends what the killed process asked last, and then lets go."""
    for _ in range(10):
        finished = await run()
        if finished.code != 7:
            break
        assert "wait" in finished.err
    return finished


async def _run(place: Place, *command: object) -> Finished:
    return await asyncio.to_thread(place.run, *command)


def _whole_tables_only(broken: kept.State, undisturbed: kept.State) -> None:
    """A table is there as it will be, or not at all."""
    for name, rows in broken.items():
        assert rows <= undisturbed[name], name
    taken, whole = (_by_mapping(each["lineage"]) for each in (broken, undisturbed))
    assert taken == {mapping: whole[mapping] for mapping in taken}
    assert broken["resource"].total() == broken["lineage"].total()


def _by_mapping(lineage: object) -> dict[str, int]:
    counts: dict[str, int] = {}
    for (_, mapping, *_), count in lineage.items():
        counts[mapping] = counts.get(mapping, 0) + count
    return counts
