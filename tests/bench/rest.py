"""What callers of the FHIR API wait for: reads, searches and writes over real HTTP, authorised, audited, with consent.

The gateway and the floor (tests.bench.floor) are processes of their own on one database; rounds alternate between
them. The load comes from this process, so three processes and PostgreSQL share the machine's cores.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle, islice
from typing import Any
from uuid import uuid4

import orjson

from fhirgw.cli.apps import ensured, got
from fhirgw.fhir.criterion import Tokens
from fhirgw.fhir.query import Query
from fhirgw.settings import Settings
from fhirgw.store.database import Connection, direct
from fhirgw.store.registration import Registration
from tests.bench import wire
from tests.bench.council import World, world
from tests.bench.figures import ROUNDS, Figure

ICS = Registration("bench", "Z9C01", "system/*.cruds", sector="council", rate=100_000_000)
SECONDS = 2.0
CONNECTIONS = 16
TRANSACTIONS, CREATES = 60, 600
NHS = "https://fhir.nhs.uk/Id/nhs-number"


def run() -> list[Figure]:
    """Rates, and ratios to the floor of the same round."""
    return asyncio.run(_run())


async def _run() -> list[Figure]:
    async with world() as made:
        await made.sync()
        async with direct(made.engine) as connection:
            asked = await _asked(connection)
            settings = Settings(database_url=made.url, data=made.folder, _env_file=None)  # type: ignore[call-arg]
            await ensured(connection, settings, ICS)
            token = (await got(connection, settings, ICS.id, ICS.scopes, None))["access_token"]
        async with _process(_gateway(made), made) as gateway, _process(_floor(made), made) as floor:
            figures = await _measured(gateway, floor, asked, token)
        async with _process([*_gateway(made), "--workers", "2"], made) as gateway:
            return [*figures, *await _shared(gateway, asked, token)]


async def _shared(gateway: int, asked: dict[str, Any], token: str) -> list[Figure]:
    """What two processes answer together, each to as many connections as one was asked from alone."""
    shapes = {
        "read by id, by two processes": ("target 4,020", [f"/fhir/Patient/{id}" for id in asked["patients"]]),
        "search by identifier, by two processes": ("target 2,500", _identifier(asked)),
        "search by patient, sorted by date, by two processes": ("target 1,700", _sorted(asked)),
        "search with _include, by two processes": ("target 900", _including(asked)),
    }
    figures = []
    for name, (target, paths) in shapes.items():
        requests = [wire.get(path, token) for path in paths]
        rates = [await _rate(gateway, requests, 2 * CONNECTIONS) for _ in range(ROUNDS + 1)]
        figures.append(Figure(name, "a second", target, rates[1:]))  # the first warms caches and statements
    return figures


async def _measured(gateway: int, floor: int, asked: dict[str, Any], token: str) -> list[Figure]:
    read, ratio = (
        Figure("read by id", "a second", "target 4,020"),
        Figure("read by id against the floor", "ratio", "0.6"),
    )
    page = Figure("searchset of 50 against the floor", "ratio", "target 0.5")
    keyed = Figure("searchset of 50 against a floor that has the keys", "ratio")
    shapes = {
        "search by identifier": ("target 2,500", _identifier(asked)),
        "search by patient, sorted by date": ("target 1,700", _sorted(asked)),
        "search with _include": ("target 900", _including(asked)),
    }
    searched = {name: Figure(name, "a second", target) for name, (target, _) in shapes.items()}
    bundled = Figure("transactions of 14", "resources/s", "target 3,000")
    single = Figure("single creates", "a second", "target 1,000")
    ids, pages = asked["patients"], asked["observations"]
    codes = list(islice(cycle(asked["codes"]), CONNECTIONS * len(asked["codes"])))  # each connection asks for some
    for each in range(ROUNDS + 1):
        bare = await _rate(floor, [wire.get(f"/one/{id}") for id in ids])
        ours = await _rate(gateway, [wire.get(f"/fhir/Patient/{id}", token) for id in ids])
        read.values.append(ours), ratio.values.append(ours / bare)
        query = "/fhir/Observation?_sort=_id&_count=50&_total=none&code={}"
        ours = await _rate(gateway, [wire.get(query.format(code), token) for code in codes])
        page.values.append(ours / await _rate(floor, [wire.get(f"/coded/{_token(code)}") for code in codes]))
        keyed.values.append(ours / await _rate(floor, [wire.get(f"/page/{id}") for id in pages]))
        for name, (_, paths) in shapes.items():
            searched[name].values.append(await _rate(gateway, [wire.get(path, token) for path in paths]))
        bundles = [wire.post("/fhir", _bundle(id), token) for id in islice(cycle(ids), TRANSACTIONS)]
        bundled.values.append(14 * await _once(gateway, bundles, 4))
        creates = [wire.post("/fhir/Observation", _observation(id), token) for id in islice(cycle(ids), CREATES)]
        single.values.append(await _once(gateway, creates, CONNECTIONS))
        if not each:  # the first warms caches and statements
            for figure in (read, ratio, page, keyed, *searched.values(), bundled, single):
                figure.values.clear()
    return [read, ratio, page, keyed, *searched.values(), bundled, single]


async def _rate(port: int, requests: Sequence[bytes], connections: int = CONNECTIONS) -> float:
    done = await wire.load(port, requests, connections=connections, seconds=SECONDS)
    if done.failed:
        raise RuntimeError(f"answers that are no answer, by status: {done.failed}")
    return done.rate


async def _once(port: int, requests: Sequence[bytes], connections: int) -> float:
    done = await wire.load(port, requests, connections=connections)
    if done.failed:
        raise RuntimeError(f"writes that were refused, by status: {done.failed}")
    return done.rate


async def _asked(connection: Connection) -> dict[str, Any]:
    """Ids and identifiers of what is there."""

    async def column(query: str) -> list[str]:
        return [row[0] for row in await connection.fetch(query)]

    return {
        "patients": await column(
            "SELECT id FROM fhirgw.resource r WHERE type = 'Patient'"
            " AND NOT EXISTS (SELECT FROM fhirgw.directive d WHERE d.person = r.id) ORDER BY id LIMIT 400"
        ),
        "observations": await column("SELECT id FROM fhirgw.resource WHERE type = 'Observation' ORDER BY id LIMIT 200"),
        "numbers": await column(f"SELECT value FROM fhirgw.identifier WHERE system = '{NHS}' ORDER BY value LIMIT 400"),
        "codes": await column(
            "SELECT body::json #>> '{code,coding,0,code}' FROM fhirgw.resource WHERE type = 'Observation'"
            " GROUP BY 1 HAVING count(*) > 200 ORDER BY 1"
        ),
    }


def _token(code: str) -> int:
    """By what the code is searched, as the gateway reads it."""
    (criterion,) = Query.parse("Observation", [("code", code)]).criteria
    assert isinstance(criterion, Tokens)
    return criterion.any_of[0]


def _identifier(asked: dict[str, Any]) -> list[str]:
    return [f"/fhir/Patient?identifier={NHS}|{number}" for number in asked["numbers"]]


def _sorted(asked: dict[str, Any]) -> list[str]:
    return [f"/fhir/Task?patient={id}&_sort=-authored-on" for id in asked["patients"]]


def _including(asked: dict[str, Any]) -> list[str]:
    return [f"/fhir/EpisodeOfCare?patient={id}&_include=EpisodeOfCare:patient" for id in asked["patients"]]


def _observation(patient: str) -> bytes:
    return orjson.dumps(
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7", "display": "Body weight"}]},
            "subject": {"reference": f"Patient/{patient}"},
            "effectiveDateTime": "2026-03-04T10:15:00Z",
            "valueQuantity": {"value": 71, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
        }
    )


def _bundle(patient: str) -> bytes:
    entries = [
        {
            "fullUrl": f"urn:uuid:{uuid4()}",
            "resource": orjson.Fragment(_observation(patient)),
            "request": {"method": "POST", "url": "Observation"},
        }
        for _ in range(14)
    ]
    return orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def _gateway(made: World) -> list[str]:
    return [sys.executable, "-m", "fhirgw", "serve", "--port", "{port}"]


def _floor(made: World) -> list[str]:
    return [sys.executable, "-m", "tests.bench.floor", made.url, "{port}"]


@asynccontextmanager
async def _process(command: list[str], made: World) -> AsyncIterator[int]:
    """A server while it is needed: its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"FHIRGW_DATABASE_URL": made.url, "FHIRGW_DATA": str(made.folder)}
    process = await asyncio.create_subprocess_exec(
        *(each.format(port=port) for each in command), env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await _answers(port, process)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def _answers(port: int, process: asyncio.subprocess.Process) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.returncode is None:
        try:
            await wire.load(port, [wire.get("/fhir/metadata")], connections=1)
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.1)
        else:
            return
    raise RuntimeError("a server did not start")
