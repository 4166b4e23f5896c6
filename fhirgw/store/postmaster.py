"""The note a running PostgreSQL keeps of itself, postmaster.pid, and whether to believe it: the killed leave theirs.

https://www.postgresql.org/docs/18/storage-file-layout.html
"""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PATIENCE = 60.0
"""Seconds a start may take: recovery after a kill replays the write-ahead log first."""

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def sockets_of(cluster: Path) -> Path | None:
    """The socket directory of the cluster's running server, waiting while it comes up or goes down; else None.

    Raises TimeoutError.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lines = _note(cluster)
        if not lines or not _alive(lines[0]):
            return None
        if len(lines) > 7 and lines[7].strip() == "ready" and _answers(Path(lines[4])):
            return Path(lines[4])
        time.sleep(0.05)
    raise TimeoutError(f"the server of {cluster} neither comes up nor goes down")


def lives(cluster: Path) -> bool:
    """Whether the cluster has a running server, or one that comes up or goes down: a look at its note, no question."""
    lines = _note(cluster)
    return bool(lines) and _alive(lines[0])


def _answers(sockets: Path) -> bool:
    """True when a server takes a client in: one that was just killed still has its note and, for a moment, its process.

    Its socket even accepts; but only one that lives answers whether it would encrypt.
    https://www.postgresql.org/docs/18/protocol-message-formats.html (SSLRequest)
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(sockets / ".s.PGSQL.5432"))
            probe.sendall(SSL_REQUEST)
            return probe.recv(1) in (b"N", b"S")
        except OSError:
            return False


def forget_the_dead(cluster: Path) -> None:
    """Removes the note of a server that was killed: its process id may be another program's by now, or a zombie's.

    And the like note that lies beside its socket.
    """
    lines = _note(cluster)
    if lines and not _alive(lines[0]):
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        if len(lines) > 4 and lines[4]:
            (Path(lines[4]) / ".s.PGSQL.5432.lock").unlink(missing_ok=True)


def haunted(cluster: Path) -> bool:
    """True while a process of the cluster's lives, as those of a killed server do for a moment; only Linux tells.

    Each works in the cluster's folder.
    """
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended, or is another account's
            if (each / "cwd").samefile(cluster) and _alive(each.name):
                return True
    return False


def _note(cluster: Path) -> list[str]:
    """The lines of postmaster.pid: process, folder, start, port, socket directory, address, memory, state."""
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _alive(process: str) -> bool:
    """True when the process is a PostgreSQL and not a zombie (a container without an init keeps those)."""
    if Path("/proc/self/stat").exists():  # Linux; a slim image has no ps
        try:
            _, _, rest = Path(f"/proc/{process}/stat").read_text().partition("(")
        except (FileNotFoundError, ProcessLookupError):
            return False
        program, _, state = rest.rpartition(") ")
        return program == "postgres" and not state.startswith("Z")
    listed = subprocess.run(
        ["ps", "-o", "stat=,comm=", "-p", process],
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, program = listed.stdout.strip().partition(" ")
    return "postgres" in program and not state.startswith("Z")
