"""A county-week held against what was commissioned: 8,000 people, 17,000 visits a day; and what a batch has changed.

The county is made in the database alone, a row a visit as `fhirgw.store.visits` writes it, and a package line for each
person as the mappings make it; the weeks before and after hold as many visits as WEEKS says, so that the week is looked
for in more than itself. The target is the clock's; the processor's time beside it, of this process and of the one of
PostgreSQL that answers, is what the same takes on a core of its own (Linux tells it).
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from fhirgw.access.permit import Permit, directory
from fhirgw.access.scope import Scope
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.issue import Resource
from fhirgw.shipped import path
from fhirgw.store.database import Connection, connect, declared, direct, readers
from fhirgw.store.migrate import migrate
from fhirgw.store.reconciliation import Asked, Reckoning
from fhirgw.store.server import server
from fhirgw.visits.batch import key
from fhirgw.visits.ledger import Row, totals
from fhirgw.visits.rules import rules
from fhirgw.visits.week import Week
from tests.bench.figures import ROUNDS, Figure
from tests.put import copy

PEOPLE = int(os.environ.get("PEOPLE", "8000"))
VISITS = 17_000 * 7 / 8000
"""A week, of one person."""
WEEKS = int(os.environ.get("WEEKS", "3"))
PROVIDERS = 300
BATCH = 500
WEEK = Week.parse("2026-W40")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
TIMES = ("08:00:00", "12:30:00", "17:00:00")
COUNCIL = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
COLUMNS = (
    *("key", "version", "source_version", "changed", "updated", "start", "finish", "began", "ended", "labels"),
    *("provider", "visit", "patient", "controller", "outcome", "digest", "parts"),
)


def run() -> list[Figure]:
    """Seconds."""
    return asyncio.run(_run())


async def _run() -> list[Figure]:
    whole = Figure("reconciliation of a county-week", "s", "target under 10")
    busy = Figure("processor's time of a county-week", "s")
    rows = Figure("rows of a county-week's ledger", "rows")
    batch = Figure(f"reconciliation after a batch of {BATCH}", "s")
    one = Figure("reconciliation of one person's week", "s")
    with tempfile.TemporaryDirectory(prefix="fhirgw-bench-") as name:
        async with server(Path(name) / "postgres") as url:
            engine = connect(url)
            await migrate(engine)
            async with direct(engine) as connection:
                await _county(connection)
            async with readers(url, replan=True, seconds=120) as pool, pool.acquire() as reading:
                pid = await reading.fetchval("SELECT pg_backend_pid()")
                for _ in range(ROUNDS):
                    before = _processor(pid)
                    found, seconds = await _timed(reading, Asked(WEEK))
                    busy.values.append(_processor(pid) - before)
                    whole.values.append(seconds)
                    rows.values.append(len(found))
                    assert totals(found)["planned_visits"] == _made(), "every visit is in the ledger once"
                    since = datetime.now(UTC)
                    async with direct(engine) as connection:
                        await _corrected(connection)
                    changed, seconds = await _timed(reading, Asked(WEEK, since=since))
                    batch.values.append(seconds)
                    assert 0 < len(changed) <= BATCH
                    one.values.append((await _timed(reading, Asked(WEEK, person=_person(7))))[1])
            await engine.dispose()
    return [whole, busy, rows, batch, one]


async def _timed(connection: Connection, asked: Asked) -> tuple[list[Row], float]:
    reckoning = Reckoning(COUNCIL, directory("Z99"), rules(path("mappings")), NOW)
    begun = time.perf_counter()
    async with declared(connection, COUNCIL, isolation="REPEATABLE READ"):
        found = [row async for page in reckoning.pages(connection, asked) for row in page]
    return found, time.perf_counter() - begun


def _processor(pid: int) -> float:
    """Seconds that this process and PostgreSQL's have had of the processor; nought of the latter where nobody tells."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.process_time()
    return time.process_time() + (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


async def _corrected(connection: Connection) -> None:
    """What a batch of corrections leaves: 500 rows written anew, of nearly as many people (keys are digests)."""
    await connection.execute(
        "UPDATE fhirgw.visit SET version = version + 1, updated = clock_timestamp() WHERE key IN"
        " (SELECT key FROM fhirgw.visit WHERE start >= $1 AND start < $2 ORDER BY key LIMIT $3)",
        *(WEEK.starts, WEEK.ends, BATCH),
    )


def _made() -> int:
    return sum(1 for person in range(PEOPLE) for _ in _calls(person, WEEK.monday))


def _person(number: int) -> str:
    return f"{number * 4096 // PEOPLE:03x}{number:05x}-0000-5000-8000-{number:012x}"


def _organisation(number: int) -> Resource:
    named = {"system": ODS, "value": f"C{number:03}"}
    return {"resourceType": "Organization", "id": f"care-{number}", "name": f"Care {number}", "identifier": [named]}


def _line(number: int) -> Resource:
    """The order of a package line, as the mappings make it."""
    system = "https://fhirgw.uk/fhir/CodeSystem"
    component = {"system": f"{system}/service-component", "code": "home-support-or-domiciliary-care"}
    double = number % 7 == 0
    return {
        "resourceType": "ServiceRequest",
        "id": f"{_person(number)[:3]}11111-0000-5000-8000-{number:012x}",
        "identifier": [{"system": "https://fhirgw.uk/Id/meadow/package_line", "value": f"L{number}"}],
        "extension": [{"url": CARERS, "valuePositiveInt": 2 if double else 1}],
        "status": "active",
        "intent": "order",
        "category": [{"coding": [{"system": f"{system}/service-type", "code": "long-term-support-community"}]}],
        "code": {"coding": [component], "text": "Home support or domiciliary care"},
        "subject": {"reference": f"Patient/{_person(number)}"},
        "performer": [{"reference": f"Organization/care-{number % PROVIDERS}"}],
        "occurrenceTiming": {
            "repeat": {
                "boundsPeriod": {"start": "2026-01-05"},
                "dayOfWeek": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
                "timeOfDay": list(TIMES[:2]),
                "duration": 30,
                "durationUnit": "min",
            }
        },
    }


CARERS = "https://fhirgw.uk/fhir/StructureDefinition/ext-carers-required"


def _calls(number: int, monday: date) -> Iterator[datetime]:
    """When a person is visited: two or three times a day, 17,000 visits a day in the county of 8,000."""
    for day in range(7):
        for at, clock in enumerate(TIMES):
            if at < 2 or number % 8 == 0:
                hour, minute, _ = map(int, clock.split(":"))
                spoken = monday + timedelta(days=day)
                yield datetime(spoken.year, spoken.month, spoken.day, hour, minute, tzinfo=LONDON)


async def _county(connection: Connection) -> None:
    people = range(PEOPLE)
    lines = [*map(_line, people), *map(_organisation, range(PROVIDERS))]
    patients: list[Resource] = [{"resourceType": "Patient", "id": _person(each)} for each in people]
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    async with connection.transaction():
        await copy(connection, [(each, moment) for each in (*lines, *patients)])
    dice = random.Random(40)
    for week in range(WEEKS):
        monday = WEEK.monday + timedelta(weeks=week - WEEKS // 2)
        for some in range(0, PEOPLE, 500):
            rows = [row for each in people[some : some + 500] for row in _visits(each, monday, dice)]
            places = ", ".join(f"${at}" for at in range(1, len(COLUMNS) + 1))
            async with connection.transaction():
                await connection.executemany(f"INSERT INTO fhirgw.visit ({', '.join(COLUMNS)}) VALUES ({places})", rows)
    await connection.execute("ANALYZE")


def _visits(number: int, monday: date, dice: random.Random) -> Iterator[tuple[Any, ...]]:
    provider, double = f"C{number % PROVIDERS:03}", number % 7 == 0
    for start in _calls(number, monday):
        name = f"{number}-{start:%Y%m%d%H%M}"
        came = start + timedelta(minutes=dice.randint(-10, 25))
        end = came + timedelta(minutes=dice.randint(20, 35))
        begun, outcome = dice.random() > 0.03, "hospital" if dice.random() < 0.003 else None
        carers = [_carer(number, came, end, dice) for _ in range(2 if double and dice.random() > 0.1 else 1)]
        finish = start + timedelta(minutes=30)
        parts: dict[str, Any] = {
            "person": {"nhsNumber": "9990000018"},
            "line": {"order": f"L{number}"},
            "planned": {"start": start.isoformat(), "end": finish.isoformat(), "carers": 2 if double else 1},
            "claimed": {"start": start.isoformat(), "minutes": 30},
            "tasks": [{"task": f"T{at}", "text": "Assist with washing", "outcome": "completed"} for at in range(4)],
            **({"carers": carers} if begun and not outcome else {}),
            **({"outcome": {"code": outcome}} if outcome else {}),
            **({"notes": [{"text": "All well today, ate lunch, in good spirits. " * 3}]} if number % 2 else {}),
        }
        made = begun and not outcome
        yield (
            *(
                UUID(key(provider, name)),
                1,
                1,
                came,
                came,
                start,
                finish,
                came if made else None,
                end if made else None,
            ),
            *(0, provider, name, _person(number), "Z99", outcome, b"x" * 20),
            encode({part: parts[part] for part in sorted(parts)}).decode(),
        )


def _carer(number: int, came: datetime, end: datetime, dice: random.Random) -> dict[str, Any]:
    told = {"carer": f"C{number}-{dice.randint(1, 5)}", "method": "nfc-tag", "distance": dice.randint(0, 80)}
    return told | {"start": came.isoformat(), "end": end.isoformat()}
