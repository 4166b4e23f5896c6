"""Homecare visits: pushed in batches, one by one beside a bare INSERT, among a million, and at a county's peak.

The gateway serves as it does anywhere: over HTTP, authorised, each answer durable and audited. Care providers are those
of the made-up council, the people those whom each looks after; every visit is new unless it says otherwise. Visits that
are only there to be many are copied by SQL from those that were pushed.

STORED and MANY in the environment say between which numbers of visits it is to stay as fast (50,000 and a million),
BATCHES how many a round pushes, PEAK how many visits a second are sent while an export runs.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, cycle, islice
from typing import Any, NamedTuple

import orjson

from fhirgw.cli.apps import ensured, got
from fhirgw.settings import Settings
from fhirgw.store.database import direct
from fhirgw.store.registration import Registration
from tests.bench import wire
from tests.bench.council import World, world
from tests.bench.figures import ROUNDS, Figure
from tests.bench.rest import _floor, _gateway, _process

STORED, MANY = int(os.environ.get("STORED", "50000")), int(os.environ.get("MANY", "1000000"))
BATCHES = int(os.environ.get("BATCHES", "20"))
SIZE = 500
SINGLES, CONNECTIONS = 1000, 50
PEAK = float(os.environ.get("PEAK", "20"))
"""Visits a second: a third of a county's 17,000 a day in three hours, and a tenth of them again, are 0.6."""
PEAK_SECONDS = 20.0
PUSH = "/homecare/visits"
NHS = "https://fhir.nhs.uk/Id/nhs-number"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"

PROVIDERS = f"""
SELECT n ->> 'value' AS code, array_agg(DISTINCT i.value || ' ' || s.id ORDER BY i.value || ' ' || s.id) AS lines
FROM fhirgw.relationship r
JOIN fhirgw.resource o ON o.type = 'Organization' AND 'Organization/' || o.id = r.party
CROSS JOIN json_array_elements(o.body::json -> 'identifier') AS n
JOIN fhirgw.identifier i ON i.patient = r.person AND i.system = '{NHS}'
JOIN fhirgw.resource s ON s.type = 'ServiceRequest' AND s.patient = r.person
    AND s.body::json #>> '{{performer,0,reference}}' = r.party AND s.body::json ->> 'intent' = 'order'
    AND s.body::json ->> 'status' IN ('active', 'on-hold', 'completed')
WHERE n ->> 'system' = '{ODS}' AND r.kind = 'care-provider'
    AND r.starts <= statement_timestamp() AND r.ends > statement_timestamp()
GROUP BY 1 ORDER BY count(DISTINCT i.value) DESC, 1 LIMIT 30"""

COPY = """
INSERT INTO fhirgw.visit (key, version, source_version, changed, updated, start, finish, began, ended, labels, provider,
    visit, patient, controller, outcome, digest, parts, line, organisation, derived)
SELECT ('000' || substr(md5(v.key::text || n), 4))::uuid, 1, source_version, changed, updated, start - n * day,
    finish - n * day, began - n * day, ended - n * day, labels, provider, visit || '-' || n, patient, controller,
    outcome, decode(md5(v.key::text || n), 'hex'), parts, line, organisation, derived
FROM (SELECT *, interval '7 days' AS day FROM fhirgw.visit WHERE version = 1 LIMIT $1) AS v, (SELECT $2::int AS n) AS n
RETURNING provider, patient, began, ended, key"""
FILL = f"""
WITH made AS ({COPY})
INSERT INTO fhirgw.visit_stay (carer, began, ended, key)
SELECT hashtextextended(provider || patient, 7), began, ended, key FROM made
WHERE began IS NOT NULL AND ended IS NOT NULL"""
COPIED = "SELECT coalesce(max(split_part(visit, '-', 2)::int), 0) FROM fhirgw.visit WHERE visit ~ '^V[0-9]+-[0-9]+$'"
SIZES = """
SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'fhirgw' AND c.relkind = 'r' AND c.relname IN ('visit', 'visit_said', 'visit_past', 'visit_stay')"""


class Provider(NamedTuple):
    """A care provider: its ODS code, the NHS numbers and lines of those whom it looks after, and its access token."""

    code: str
    lines: list[tuple[str, str]]
    token: str


def run() -> list[Figure]:
    """Visits a second, ratios to the bare floor and to few visits, the slowest of a hundred at the peak, bytes."""
    return asyncio.run(_run())


async def _run() -> list[Figure]:
    async with world() as made:
        await made.sync()
        providers = await _providers(made)
        async with _process(_gateway(made), made) as gateway, _process(_floor(made), made) as floor:
            numbers = iter(range(1, 1_000_000_000))
            figures = await _pushed("by one process", gateway, providers, numbers, 2)
            figures += await _alone(gateway, floor, providers, numbers)
            figures += await _peak(made, gateway, providers, numbers)
        # As it is served: `serve` is told of a process for each core.
        async with _process([*_gateway(made), "--workers", "2"], made) as gateway:
            figures += await _pushed("by two processes", gateway, providers, numbers, 4)
            figures += [await _bytes(made), await _amended(gateway, providers, numbers)]
            return [*figures, *(await _among_many(made, gateway, numbers))]


async def _providers(made: World) -> list[Provider]:
    """Who sends, each with a token of now."""
    settings = Settings(database_url=made.url, data=made.folder, _env_file=None)  # type: ignore[call-arg]
    found = []
    async with direct(made.engine) as connection:
        for code, lines in await connection.fetch(PROVIDERS):
            app = Registration(f"bench-{code}", code, "system/*.cruds", sector="care-provider", rate=100_000_000)
            await ensured(connection, settings, app)
            token = (await got(connection, settings, app.id, app.scopes, None))["access_token"]
            found.append(Provider(code, [tuple(each.split()) for each in lines], str(token)))
    if not found:
        raise RuntimeError("nobody looks after anybody in this council")
    return found


def visits(provider: Provider, numbers: Iterator[int], count: int) -> list[dict[str, Any]]:
    """Visits as a rota system tells them when they are over: four tasks, every second a note, carers one at a time."""
    return [_visit(provider, number) for number in islice(numbers, count)]


def _visit(provider: Provider, number: int) -> dict[str, Any]:
    turn, carer = divmod(number, 40)
    day = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=turn // 20 % 800)
    start = day + timedelta(hours=7, minutes=40 * (turn % 20))
    end, carers = start + timedelta(minutes=30), []
    for at in range(2 if number % 7 == 0 else 1):
        times = (start + timedelta(seconds=number % 240), end - timedelta(seconds=number % 180))
        began, ended = (f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in times)
        carers.append({"carer": f"C{carer}-{at}", "start": began, "end": ended, "method": "nfc-tag", "distance": 9})
    person, line = provider.lines[number % len(provider.lines)]
    note = {"text": "Settled and cheerful; ate most of breakfast, drank two cups of tea.", "carer": f"C{carer}-0"}
    return {
        "visit": f"V{number}",
        "version": 1,
        "changed": f"{end:%Y-%m-%dT%H:%M}:59Z",
        "person": {"nhsNumber": person},
        "line": {"order": line},
        "planned": {"start": f"{start:%Y-%m-%dT%H:%M}Z", "end": f"{end:%Y-%m-%dT%H:%M}Z", "carers": len(carers)},
        "carers": carers,
        "tasks": [
            {"task": f"T{at}", "text": "Assist with washing and dressing", "outcome": "completed"} for at in range(4)
        ],
        **({"notes": [note]} if number % 2 else {}),
    }


def _batches(providers: list[Provider], numbers: Iterator[int], count: int) -> list[bytes]:
    return [_posted(*each) for each in _listed(providers, numbers, count)]


def _listed(
    providers: list[Provider], numbers: Iterator[int], count: int
) -> list[tuple[Provider, list[dict[str, Any]]]]:
    return [(each, visits(each, numbers, SIZE)) for each in islice(cycle(providers), count)]


def _posted(provider: Provider, row: Any) -> bytes:
    """One visit, or a list, as its care provider sends it."""
    return wire.post(PUSH, orjson.dumps(row), provider.token, "application/json")


async def _sent(port: int, requests: list[bytes], connections: int) -> wire.Load:
    done = await wire.load(port, requests, connections=connections)
    if done.failed:
        raise RuntimeError(f"visits that were refused, by status: {done.failed}")
    return done


async def _pushed(
    how: str, gateway: int, providers: list[Provider], numbers: Iterator[int], connections: int
) -> list[Figure]:
    """New batches, and the same again."""
    rate = Figure(f"visits in batches of 500, {how}", "visits/s", "target 5,000")
    again = Figure("the same again", "visits/s")
    await _sent(gateway, _batches(providers, numbers, 4), connections)
    for _ in range(ROUNDS):
        batches = _batches(providers, numbers, BATCHES)
        rate.values.append(SIZE * (await _sent(gateway, batches, connections)).rate)
        again.values.append(SIZE * (await _sent(gateway, batches, connections)).rate)
    return [rate, again]


async def _amended(gateway: int, providers: list[Provider], numbers: Iterator[int]) -> Figure:
    """Batches of which each visit was sent before, and says another distance now."""
    figure = Figure("amended visits in batches of 500, by two processes", "visits/s")
    for _ in range(ROUNDS):
        listed = _listed(providers, numbers, BATCHES)
        await _sent(gateway, [_posted(*each) for each in listed], 4)
        for row in chain.from_iterable(rows for _, rows in listed):
            row["version"], row["carers"][0]["distance"] = 2, 11
        figure.values.append(SIZE * (await _sent(gateway, [_posted(*each) for each in listed], 4)).rate)
    return figure


async def _alone(gateway: int, floor: int, providers: list[Provider], numbers: Iterator[int]) -> list[Figure]:
    """Visits one by one from 50 connections, beside a server of the same kind that does one INSERT of the same row."""
    rate = Figure("single visits from 50 connections", "visits/s")
    ratio = Figure("single visits against the bare floor", "ratio", "target 0.5")
    for each in range(ROUNDS + 1):
        posts = {path: [] for path in (PUSH, "/visit")}
        for path, requests in posts.items():
            for provider in islice(cycle(providers), SINGLES):
                body = orjson.dumps(visits(provider, numbers, 1)[0])
                requests.append(wire.post(path, body, provider.token, "application/json"))
        ours = (await _sent(gateway, posts[PUSH], CONNECTIONS)).rate
        bare = (await _sent(floor, posts["/visit"], CONNECTIONS)).rate
        if each:  # the first warms caches and statements
            rate.values.append(ours), ratio.values.append(ours / bare)
    return [rate, ratio]


async def _peak(made: World, gateway: int, providers: list[Provider], numbers: Iterator[int]) -> list[Figure]:
    """Single visits at a steady rate, a tenth of them sent again, while everything is exported over and over."""
    slow = Figure(f"99 of 100 at {PEAK:.0f} visits/s during an export", "ms", "target 250")
    middle = Figure("half of them", "ms")
    for _ in range(ROUNDS):
        sent = [(each, visits(each, numbers, 1)[0]) for each in islice(cycle(providers), int(PEAK * PEAK_SECONDS))]
        requests = [_posted(*each) for each in (*sent, *sent[::10])]
        async with _exporting(made):
            waits = await _paced(gateway, requests)
        slow.values.append(1000 * statistics.quantiles(waits, n=100)[98])
        middle.values.append(1000 * statistics.median(waits))
    return [slow, middle]


async def _paced(port: int, requests: list[bytes]) -> list[float]:
    """Each at its time, however long those before it take: how long each took."""
    waits: list[float] = []

    async def one(at: int, request: bytes) -> None:
        await asyncio.sleep(at / PEAK)
        waits.extend((await _sent(port, [request], 1)).waits)

    await asyncio.gather(*(one(at, each) for at, each in enumerate(requests)))
    return waits


@asynccontextmanager
async def _exporting(made: World) -> AsyncIterator[None]:
    """While the block runs, a process of its own exports everything, again and again."""
    environment = os.environ | {"FHIRGW_DATABASE_URL": made.url, "FHIRGW_DATA": str(made.folder)}

    async def exports() -> None:
        while True:
            command = (sys.executable, "-m", "fhirgw", "export", "--to", str(made.folder / "export"))
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
            try:
                if await process.wait():
                    raise RuntimeError("an export failed")
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    task = asyncio.create_task(exports())
    try:
        yield
        if task.done():
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _bytes(made: World) -> Figure:
    """What a visit takes of the disk, with its indexes, of those that were pushed."""
    figure = Figure("bytes a visit, with indexes", "bytes", "target 2,000")
    async with direct(made.engine) as connection:
        await connection.execute("VACUUM ANALYZE fhirgw.visit")
        count = await connection.fetchval("SELECT count(*) FROM fhirgw.visit")
        figure.values.append(float(await connection.fetchval(SIZES)) / count)
    return figure


async def _among_many(made: World, gateway: int, numbers: Iterator[int]) -> list[Figure]:
    """Batches among STORED visits, then among MANY."""
    rates = {count: Figure(f"visits in batches of 500 among {count:,}", "visits/s") for count in (STORED, MANY)}
    for count, figure in rates.items():
        await _filled(made, count)
        providers = await _providers(made)  # a token is for five minutes
        await _sent(gateway, _batches(providers, numbers, 4), 4)
        for _ in range(ROUNDS):
            figure.values.append(SIZE * (await _sent(gateway, _batches(providers, numbers, BATCHES), 4)).rate)
    ratio = Figure(f"among {MANY:,} against {STORED:,}", "ratio", "target 0.9")
    ratio.values = [many / few for many, few in zip(rates[MANY].values, rates[STORED].values, strict=True)]
    return [*rates.values(), ratio]


async def _filled(made: World, count: int) -> None:
    """Copies visits, each some weeks earlier, until so many are there."""
    async with direct(made.engine) as connection:
        first = 1 + int(await connection.fetchval(COPIED))
        held = int(await connection.fetchval("SELECT count(*) FROM fhirgw.visit"))
        pushed = min(held, 10_000)
        rounds = max(0, -(-(count - held) // pushed))
        for at in range(rounds):
            await connection.execute(FILL, pushed, first + at)
        await connection.execute("VACUUM ANALYZE fhirgw.visit, fhirgw.visit_stay")
