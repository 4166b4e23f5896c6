"""The demonstration as a newcomer starts it: from the command to the first answer over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from tests.bench.council import PEOPLE
from tests.bench.figures import Figure

ROUNDS = 3
"""Fewer than elsewhere: each makes a whole council."""


def run() -> list[Figure]:
    """Seconds until the demonstration serves, everything made anew."""
    figure = Figure(f"demo, {PEOPLE:,} adults, command to first answer", "seconds", "target 60")
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="fhirgw-bench-") as folder:
            figure.values.append(_serving(folder))
    return [figure]


def _serving(folder: str) -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fhirgw", "demo", "--people", str(PEOPLE), "--port", str(port), "--data", folder]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"NO_COLOR": "1"})
    try:
        while not _answers(f"http://127.0.0.1:{port}/fhir/metadata"):
            if process.poll() is not None:
                raise RuntimeError(f"the demonstration ended with {process.returncode}")
            time.sleep(0.05)
        return time.perf_counter() - begun
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
