"""What a worker is called in the ledger, and whether it is known to have gone: then nobody waits for its lease."""

from __future__ import annotations

import os
import socket


def named() -> str:
    """What this process is called as a worker."""
    return f"{socket.gethostname()}:{os.getpid()}"


def gone(worker: str) -> bool:
    """Whether a worker is known to have gone: it was a process of this machine, which has none of that number.

    One that is seen from no process here, as in another container by the same name, would be given up too soon; then
    its token is refused, and what it did is done again.
    """
    host, _, number = worker.rpartition(":")
    if host != socket.gethostname() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
