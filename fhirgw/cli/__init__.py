"""The command line: `fhirgw COMMAND`, thin over the jobs."""

from __future__ import annotations

import gc
import os
import signal
import sys


def main() -> None:
    """The entry point; ends the process with one of the exit codes of fhirgw.cli.running."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _at_once)
    try:
        gc.disable()  # till all is imported (fhirgw.cli.commands): none of that is garbage, and looking takes a tenth
        # Imported here, because that takes a second in which Ctrl-C may come.
        from fhirgw.cli.commands import app
        from fhirgw.cli.running import told

        with told():
            app()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


def imported() -> None:
    """From here on a signal is an exception, so that what was begun can be ended."""
    if signal.getsignal(signal.SIGTERM) is _at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _at_once(number: int, _: object) -> None:
    """While modules are imported nothing is open yet; and an exception would come out of pydantic as one of its own."""
    os.write(2, b"Stopped.\n")
    os._exit(128 + number)
