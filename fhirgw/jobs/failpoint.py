"""Places where a test has this process die, as `kill -9` would: `FHIRGW_FAILPOINT=before finish`, or `…:3`, the third
time; or `…:3:SIGSTOP`, to come back. Nobody else names one, and then a place costs a comparison."""

from __future__ import annotations

import os
import signal

PLACES = (
    *(
        "after claim",
        "plan made",
        "plan kept",
        "first bytes",
        "file written",
        "file kept",
        "before finish",
        "after finish",
    ),
    *("before manifest", "after manifest"),
)

_armed: list[str] = []
_left = 0


def arm(told: str) -> None:
    """Names the place; no name, no place."""
    global _left
    name, times, number, *_ = [*told.split(":"), "", ""]
    _armed[:] = [name, number or "SIGKILL"] if name else []
    _left = int(times or 1)


def reach(place: str) -> None:
    """Dies here, or stops, if it is to."""
    global _left
    if _armed and _armed[0] == place:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.Signals[_armed[1]])


arm(os.environ.get("FHIRGW_FAILPOINT", ""))
