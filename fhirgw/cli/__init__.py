"""The command line: `fhirgw COMMAND`, thin over the jobs."""

from __future__ import annotations

import gc
import signal
import sys


def main() -> None:
    """The entry point; ends the process with one of the exit codes of fhirgw.cli.running."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
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
