"""One PostgreSQL for the whole run; a migrated database, and a gateway, of their own for those who ask for one.

`FHIRGW_TEST_DATABASE_URL` names another server to test against (an account that may create databases).
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from fhirgw.store.database import Readers, connect
from fhirgw.store.migrate import migrate
from fhirgw.store.server import running
from tests.put import reading

if TYPE_CHECKING:
    from tests.gateway import Gateway

settings.register_profile("fhirgw", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fhirgw")  # a machine that is busy is no failure

TEMPLATE = f"fhirgw_template_{os.getpid()}"
NUMBERS = count(1)
MEMORY, ROOM = Path("/dev/shm"), 4 << 30
"""Where Linux keeps files in memory, and how many bytes there must be free: in a container there may be few."""

DEAREST = (
    *("journeys/test_journey_crash.py", "jobs/test_jobs_crash.py", "access_policy/test_non_interference.py"),
    *("cli/test_cli_processes.py", "access_policy/test_http.py", "access_policy/test_table.py"),
    *("jobs/test_jobs_withdrawal.py", "cli/test_cli_pull_load.py", "store/test_store_visibility.py"),
    *("jobs/test_jobs_pull.py", "api/test_api_authenticate.py", "jobs/test_jobs_sync.py"),
    *("jobs/test_jobs_segments.py", "api/test_api_fuzz.py", "store/test_store_search.py"),
    *("jobs/test_jobs_pseudonymise.py", "store/test_store_write.py", "access_policy/test_agree.py"),
    *("cli/test_cli_commands.py", "api/test_api_routes.py", "store/test_store_search_kinds.py"),
    *("store/test_store_server.py", "cli/test_cli_load.py", "jobs/test_jobs_import_crash.py"),
    *("visits/test_visits_crash.py", "store/test_store_explain.py", "jobs/test_jobs_dask.py"),
)
"""The files that take longest, the longest first. pytest-xdist itself would begin with those that have most tests, and
one worker would be at these when the others have done.
"""

TOGETHER = "tests/journeys/"
"""The folder whose files one worker takes: they look at one demonstration, which takes longer than most of them."""

NewDatabase = Callable[[], AbstractAsyncContextManager[str]]


def pytest_collection() -> None:
    """None of what is imported and collected is garbage, and looking for some takes a fifth of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Nor does anybody look among it later."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: `make test` gives out files in this order."""
    rank = {Path(__file__).parent / each: place for place, each in enumerate(DEAREST)}
    items.sort(key=lambda each: rank.get(each.path, len(rank)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What is given out to a worker at once: a file, or all of TOGETHER."""
    from xdist.scheduler import LoadFileScheduling  # where workers are: not in every run

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER if nodeid.startswith(TOGETHER) else super()._split_scope(nodeid)

    return Scheduling(config, log)


@contextmanager
def temporary() -> Iterator[Path]:
    """A folder for a PostgreSQL. Not pytest's: each run of pytest closes those of all runs to other accounts.

    In memory where there is plenty: a database for each test is a thousand files, made and removed a thousand times,
    and no test switches the machine off.
    """
    with tempfile.TemporaryDirectory(prefix="fhirgw-test-", dir=MEMORY if _plenty() else None) as folder:
        yield Path(folder)


def _plenty() -> bool:
    return MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A running PostgreSQL: nobody has made anything in its database yet."""
    if given := os.environ.get("FHIRGW_TEST_DATABASE_URL"):
        yield given
        return
    with temporary() as folder, running(folder) as url:
        hasten(folder)
        yield url


def hasten(folder: Path) -> None:
    """No test's database has to outlive the machine; what is killed leaves its writes with the operating system.

    Most of what a test waits for would be the disk: each has a database of its own.
    """
    (configuration,), (started,) = folder.rglob("postgresql.conf"), folder.rglob("postmaster.pid")
    with configuration.open("a") as settings:
        settings.write("\nfsync = off\nfull_page_writes = off\n")
    os.kill(int(started.read_text().split()[0]), signal.SIGHUP)


@pytest.fixture(scope="session")
async def new_database(server_url: str) -> AsyncIterator[NewDatabase]:
    """`async with new_database() as url`: an empty database with our tables, dropped afterwards."""
    await execute(server_url, f"CREATE DATABASE {TEMPLATE}")
    engine = connect(named(server_url, TEMPLATE))
    await migrate(engine)
    await engine.dispose()

    @asynccontextmanager
    async def made() -> AsyncIterator[str]:
        name = f"fhirgw_test_{os.getpid()}_{next(NUMBERS)}"
        await execute(server_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        yield named(server_url, name)
        await dropped(server_url, name)

    yield made
    await dropped(server_url, TEMPLATE)


@pytest.fixture
async def database(new_database: NewDatabase) -> AsyncIterator[str]:
    """The url of an empty, migrated database for one test."""
    async with new_database() as url:
        yield url


@pytest.fixture(scope="module")
def configured() -> dict[str, Any]:
    """Settings of the module's gateway that are not as usual."""
    return {}


@pytest.fixture(scope="module")
def gateway(
    module_database: str, configured: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway for a module of tests, on the database that its folder, or the module, calls `module_database`."""
    from tests.gateway import served  # all of the gateway: what asks for none does without

    with served(module_database, tmp_path_factory.mktemp("data"), **configured) as made:
        yield made


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the test's own database."""
    engine = connect(database)
    yield engine
    await engine.dispose()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Readers]:
    """What requests read through, on the test's own database."""
    async with reading(database) as pool:
        yield pool


def named(url: str, database: str) -> str:
    """The url of another database of the same server."""
    return make_url(url).set(database=database).render_as_string(hide_password=False)


async def dropped(url: str, name: str) -> None:
    """Removes a database, whoever is still in it; an autovacuum worker, which is the server's own, is waited for."""
    removal = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    for _ in range(1200):
        try:
            await execute(url, removal)
        except asyncpg.InsufficientPrivilegeError:
            await asyncio.sleep(0.1)
        else:
            return
    await execute(url, removal)


async def execute(url: str, statement: str) -> None:
    """One statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
