"""How a command runs: its settings, its event loop, its database, and what it says when it cannot go on.

Exit codes are the same for every command: see CODES.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import structlog
import uvloop

from fhirgw.settings import Settings

if TYPE_CHECKING:
    from fhirgw.store.database import Engine

CODES = """Exit codes:
  0    done (rows that were refused are told, and are no failure)
  1    the gateway failed: a fault of ours
  2    the command or a setting was not understood
  3    the input cannot be used: an extract, a mapping, a file
  4    the database is away, refuses, or has not been migrated; or no Dask scheduler answers
  5    it would delete much: look, then say --force
  6    a file cannot be written, or a port is taken
  7    another process is doing the same: wait for it
  8    the audit is not as it was written: somebody has changed it
  9    a certification that does not pass yet: what is wrong is told
  130  stopped by Ctrl-C; 143 by SIGTERM (a server that served: 0)"""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = "Stopped: nothing half-written was kept."
T = TypeVar("T")


class CommandError(Exception):
    """What a command says before it ends with `code`: the place, the rule, the remedy."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command to its end. Ctrl-C and SIGTERM cancel it, so that whatever it opened is closed."""
    received: list[int] = []

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None

        def stop(number: int) -> None:
            received.append(number)
            task.cancel()

        listen(stop)
        asyncio.get_running_loop().set_exception_handler(_unheard)
        return await work

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    except asyncio.CancelledError:
        if not received:
            raise
        raise CommandError(STOPPED, 128 + received[0]) from None


def _unheard(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody waited for: asyncio would print its message, which may quote a row.

    That the database is away is not worth saying again: whoever waits for the same connection says so.
    """
    from fhirgw.cli.ending import place
    from fhirgw.store.trouble import trouble

    error = context.get("exception")
    if error is None or not trouble(error):
        kind = type(error).__name__ if error else "no exception"
        log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))  # standard output may be a document
        log.error("unheard", error=kind, at=place(error) if error else "?")


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets a signal end work at once that is done in one go, and does not come back to the event loop meanwhile."""

    def stop(number: int, frame: object) -> None:
        raise CommandError(STOPPED, 128 + number)

    handlers = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def listen(stop: Callable[[int], None]) -> None:
    """Calls `stop` with the number of each signal that asks this process to end."""
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)


def unlisten() -> None:
    """Leaves signals to somebody else, until `listen`."""
    for number in SIGNALS:
        asyncio.get_running_loop().remove_signal_handler(number)


def settings(data: Path | None = None) -> Settings:
    """The settings of the environment, with another data folder if one is given."""
    found = Settings()  # type: ignore[call-arg]
    return found.model_copy(update={"data": data}) if data else found


@asynccontextmanager
async def opened(given: Settings, *, migrated: bool = True) -> AsyncIterator[tuple[str, Engine]]:
    """The database's url and an engine on it, started if it is the embedded one.

    Raises CommandError where it must be `migrated` and is not.
    """
    # Imported here, because who only asks for help needs no database, and half a second is for its libraries.
    from fhirgw.store.database import connect
    from fhirgw.store.migrate import newest, version
    from fhirgw.store.server import database

    async with database(given.database_url, given.postgres) as url:
        engine = connect(url, size=given.connections)
        try:
            if migrated and (found := await version(engine)) != newest():
                at = f"its tables are at version {found}" if found else "it has no tables yet"
                raise CommandError(f"The database: {at}, and {newest()} is needed. Run `fhirgw migrate`.", 4)
            yield url, engine
        finally:
            await engine.dispose()


@contextmanager
def told() -> Iterator[None]:
    """Ends the process with one clear message and an exit code, whatever went wrong: nobody is shown a traceback."""
    try:
        yield
    except CommandError as error:
        _end(str(error), error.code)
    except Exception as error:
        from fhirgw.cli.ending import ending  # here, because it knows errors of everything there is

        _end(*ending(error))


def _end(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    sys.exit(code)
