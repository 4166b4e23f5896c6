"""A server that is killed while visits are sent to it, and one that is sent far too much."""

import asyncio
import gzip
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
import uvicorn
from fastapi import FastAPI

from fhirgw.app import create_app
from fhirgw.settings import Settings
from tests.gateway import Gateway
from tests.visits.visiting import KESTREL, state, until, visit

PUSH = "/homecare/visits"
LINES = {"content-type": "application/x-ndjson"}
ROOT = Path(__file__).parents[2]
GIGABYTE = 1 << 30


def serve(url: str, data: str) -> None:
    """Serves on a port of its own, and says which."""
    settings = Settings(database_url=url, data=Path(data), controller="Z99")
    wire = socket.socket()
    wire.bind(("127.0.0.1", 0))
    os.write(1, f"{wire.getsockname()[1]}\n".encode())
    config = uvicorn.Config(create_app(settings), log_config=None, access_log=False, ws="none")
    uvicorn.Server(config).run(sockets=[wire])


@dataclass(frozen=True)
class Server:
    """A gateway in a process of its own."""

    process: "subprocess.Popen[str]"
    gateway: Gateway

    def kestrel(self) -> httpx.Client:
        return self.gateway.client(KESTREL)

    @property
    def most(self) -> int:
        """Bytes of memory it has ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


@contextmanager
def serving(url: str, data: Path) -> Iterator[Server]:
    code = f"import {__name__} as it; it.serve({url!r}, {str(data)!r})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            root = f"http://127.0.0.1:{int(process.stdout.readline())}"
            settings = Settings(database_url=url, data=data, controller="Z99")
            with httpx.Client(base_url=root, timeout=60) as http:
                transport = httpx.HTTPTransport(retries=20)  # it listens a moment after it has a port
                with httpx.Client(base_url=root, transport=transport, timeout=60) as first:
                    assert first.get("/health/live").status_code == 200
                yield Server(process, Gateway(FastAPI(), http, root, settings))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def head(client: httpx.Client, kind: str, length: int | None) -> bytes:
    """The head of a request, whose body is as long as that, or comes in pieces."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    told = f"Host: x\r\n{size}\r\nContent-Type: {kind}\r\nAuthorization: {client.headers['authorization']}"
    return f"POST {PUSH} HTTP/1.1\r\n{told}\r\n\r\n".encode()


def corrected(number: int) -> list[dict[str, Any]]:
    """A visit as a roster, two phones and a correction tell it."""
    at = f"2026-03-30T{8 + number % 12:02}:{number % 60:02}"
    phones = [
        {"visit": f"V{number}", "changed": f"{at}:0{n}Z", "carer": {"carer": f"C{n}", "start": f"{at}"}} for n in (1, 2)
    ]
    return [visit(f"V{number}"), *phones, visit(f"V{number}", version=2, tasks=None, changed=f"{at}:30Z")]


ROWS = [row for number in range(400) for row in corrected(number)]


def told(wire: socket.socket) -> bytes:
    """What came before the connection was closed, or broken off where bytes were left unread."""
    try:
        return wire.recv(1)
    except ConnectionResetError:
        return b""


async def test_cut_off_in_the_middle_and_sent_again(places: str, data: Path, connection: asyncpg.Connection) -> None:
    """Killed between two pieces of what it takes in as it comes; then all of it again, and once more shuffled."""

    async def some() -> bool:
        return bool(await connection.fetchval("SELECT count(*) >= 100 FROM fhirgw.visit"))

    with serving(places, data) as server:
        host, port = server.gateway.root.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as wire:
            body = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)
            with server.kestrel() as kestrel:
                wire.sendall(head(kestrel, LINES["content-type"], len(body)) + body[: len(body) * 2 // 3])
            await until(connection, some)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            assert not told(wire)
    kept = await connection.fetchval("SELECT count(*) FROM fhirgw.visit")
    assert 100 <= kept < 400

    with serving(places, data) as server, server.kestrel() as kestrel:
        again = kestrel.post(PUSH, content=body, headers=LINES).json()
        assert again["refused"] == 0
        assert again["unchanged"] >= 500, "what was taken in before it died"
        whole = await state(connection)
        shuffled = random.Random(7).sample(ROWS, len(ROWS))
        assert kestrel.post(PUSH, json=shuffled).json()["unchanged"] == len(ROWS)
        assert await state(connection) == whole
        await connection.execute("TRUNCATE fhirgw.visit CASCADE")
        assert kestrel.post(PUSH, json=shuffled).json()["refused"] == 0
        assert await state(connection) == whole, "as if nothing had ever happened"

        # A batch is one transaction: killed while it writes, it leaves nothing.
        await connection.execute("TRUNCATE fhirgw.visit CASCADE")
        lock = connection.transaction()
        await lock.start()
        await connection.execute("LOCK TABLE fhirgw.visit IN SHARE MODE")
        with socket.create_connection((host, server.gateway.http.base_url.port or 0), timeout=60) as wire:
            listed = orjson.dumps(ROWS)
            wire.sendall(head(kestrel, "application/json", len(listed)) + listed)
            await until(connection, lambda: waiting(connection))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        await lock.rollback()
    await until(connection, lambda: gone(connection))
    assert await connection.fetchval("SELECT count(*) FROM fhirgw.visit") == 0


PUSHERS, BATCH, MANY = 4, 40, 160


async def pushing(root: str, token: str, at: int) -> int:
    """All rows in an order of one's own, by batches: how many were not refused before the server was gone.

    A batch in whose way others are too often is told so (409), and sent again.
    """
    rows = random.Random(at).sample(ROWS[:MANY], MANY)
    batches, taken = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)], 0
    async with httpx.AsyncClient(base_url=root, headers={"authorization": token}, timeout=120) as client:
        while batches:
            try:
                answer = await client.post(PUSH, json=batches[-1])
            except httpx.TransportError:
                return taken
            if answer.status_code != 409:
                assert answer.status_code == 200, answer.text
                assert answer.json()["refused"] == 0
                taken += len(batches.pop())
    return taken


async def pushed_by_many(server: Server) -> list[int]:
    with server.kestrel() as kestrel:
        token = kestrel.headers["authorization"]
    return await asyncio.gather(*(pushing(server.gateway.root, token, at) for at in range(PUSHERS)))


async def test_many_push_the_same_at_once_and_are_killed(
    places: str, data: Path, connection: asyncpg.Connection
) -> None:
    """In orders of their own, again after the kill: it comes to what one makes of it who says each thing once."""
    await connection.execute("TRUNCATE fhirgw.visit CASCADE")
    with serving(places, data) as server, server.kestrel() as kestrel:
        kestrel.post(PUSH, json=ROWS[0])
        async with connection.transaction():
            await connection.execute("SELECT FROM fhirgw.visit FOR UPDATE")
            killed = asyncio.create_task(pushed_by_many(server))
            await until(connection, lambda: waiting(connection))  # so that nobody is done before it is killed
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        assert sum(await killed) < PUSHERS * MANY
    with serving(places, data) as server:
        assert await pushed_by_many(server) == [MANY] * PUSHERS
        together = await state(connection)
        await connection.execute("TRUNCATE fhirgw.visit CASCADE")
        with server.kestrel() as kestrel:
            assert kestrel.post(PUSH, json=ROWS[:MANY]).json()["refused"] == 0
        assert await state(connection) == together


async def waiting(connection: asyncpg.Connection) -> bool:
    """Whether somebody waits for what we have locked."""
    mine = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
    return bool(await connection.fetchval(mine))


async def gone(connection: asyncpg.Connection) -> bool:
    """Whether nobody else is connected any more."""
    query = (
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'client%'"
    )
    return bool(await connection.fetchval(query))


def test_a_gigabyte_is_refused_while_it_comes(places: str, data: Path) -> None:
    """Packed to a megabyte, or sent in pieces without saying how long it is: neither is ever held."""
    packed = gzip.compress(b"[" + b" " * (GIGABYTE // 4), 1)
    with serving(places, data) as server, server.kestrel() as kestrel:
        assert kestrel.post(PUSH, json=[visit("before")]).status_code == 200
        before = server.most
        for kind in ("application/json", "text/csv"):
            answer = kestrel.post(PUSH, content=packed, headers={"content-type": kind, "content-encoding": "gzip"})
            assert answer.status_code == 413, answer.text
        host, port = server.gateway.root.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as wire:
            wire.sendall(head(kestrel, "application/json", None))
            for _ in range(64):
                wire.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
            assert wire.recv(12) == b"HTTP/1.1 413", "told while the rest is still to come"
        assert server.most - before < 60_000_000
        assert kestrel.post(PUSH, json=[visit("before")]).json()["unchanged"] == 1, "it serves on"
