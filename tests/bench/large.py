"""How steady answers are when much is stored: the 99th percentile against the median, for each shape of query.

A council is taken in, and each of its people's records is copied in the database until there are RESOURCES: 200,000
unless the environment says otherwise; a million take ten minutes. Copies have ids of their own, search values of their
own where they are one person's, and the codes that all have. So indexes are as large, and codes as common, as if all
had been taken in.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Sequence
from typing import Any

from fhirgw.cli.apps import ensured, got
from fhirgw.settings import Settings
from fhirgw.store.database import Connection, direct
from tests.bench import rest, wire
from tests.bench.council import world
from tests.bench.figures import Figure

RESOURCES = int(os.environ.get("RESOURCES", "200000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = 3.0
CONNECTIONS = 4
"""Few: with more, answers wait for each other, and that would be measured."""

TWIN = """
CREATE FUNCTION pg_temp.twin(id text, n int) RETURNS text IMMUTABLE LANGUAGE sql
RETURN md5(id || n)::uuid::text"""
PERSONAL = """
CREATE TEMP TABLE personal AS
SELECT token FROM (SELECT patient, unnest(tokens) AS token FROM fhirgw.resource WHERE patient IS NOT NULL) AS every
GROUP BY token HAVING count(DISTINCT patient) = 1"""
OF_PEOPLE = "EXISTS (SELECT FROM fhirgw.resource r WHERE r.type = t.type AND r.id = t.id AND r.patient IS NOT NULL)"
TABLES = {
    "resource": "t.patient IS NOT NULL",
    "identifier": "true",
    "relationship": "true",
    "directive": "true",
    "delegation": "true",
    **dict.fromkeys(("search_string", "search_number", "search_span"), OF_PEOPLE),
}
"""What is copied, and which of its rows."""

TOKENS = """
(SELECT array_agg(CASE WHEN p.token IS NULL THEN each ELSE hashint8extended(each, $1::int) END)
 FROM unnest(t.tokens) AS each LEFT JOIN personal p ON p.token = each)"""
ANEW = {
    **{name: f"pg_temp.twin(t.{name}, $1::int)" for name in ("id", "patient", "person", "also")},
    "body": "replace(replace(t.body, t.id, pg_temp.twin(t.id, $1::int)), t.patient, pg_temp.twin(t.patient, $1::int))",
    "tokens": f"coalesce({TOKENS}, '{{}}')",
}
"""The columns that are a copy's own. Nobody looks at the redacted ones."""

COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = 'fhirgw' AND table_name = $1 AND is_identity = 'NO' AND data_type <> 'xid8'
ORDER BY ordinal_position"""


def run() -> list[Figure]:
    """The ratio of the 99th percentile to the median, by shape; and medians in milliseconds."""
    return asyncio.run(_run())


async def _run() -> list[Figure]:
    async with world() as made:
        await made.sync()
        async with direct(made.engine) as connection:
            asked = await rest._asked(connection)
            await _fill(connection)
            settings = Settings(database_url=made.url, data=made.folder, _env_file=None)  # type: ignore[call-arg]
            await ensured(connection, settings, rest.ICS)
            token = (await got(connection, settings, rest.ICS.id, rest.ICS.scopes, None))["access_token"]
        async with rest._process(rest._gateway(made), made) as gateway:
            return [
                figure
                for name, paths in _shapes(asked).items()
                for figure in await _steady(gateway, name, paths, token)
            ]


async def _fill(connection: Connection) -> None:
    """Copies people's records until there are enough, and has PostgreSQL look at them."""
    have = await connection.fetchval("SELECT count(*) FROM fhirgw.resource")
    people = await connection.fetchval("SELECT count(*) FROM fhirgw.resource WHERE patient IS NOT NULL")
    for statement in (TWIN, PERSONAL, "CREATE UNIQUE INDEX ON personal (token)", "ANALYZE personal"):
        await connection.execute(statement)
    kept = {table: [row[0] for row in await connection.fetch(COLUMNS, table)] for table in TABLES}
    originals = {table: await _set_aside(connection, table) for table in TABLES}
    for n in range(max(0, -(-(RESOURCES - have) // people))):
        for table, columns in kept.items():
            values = ", ".join(_copied(table, each) for each in columns)
            await connection.execute(
                f"INSERT INTO fhirgw.{table} ({', '.join(columns)}) SELECT {values} FROM {originals[table]} t", n
            )
    for table in TABLES:
        await connection.execute(f"DROP TABLE {originals[table]}")
        await connection.execute(f"VACUUM ANALYZE fhirgw.{table}")


async def _set_aside(connection: Connection, table: str) -> str:
    """The rows that are copied, by themselves: so that no copy is copied."""
    await connection.execute(
        f"CREATE TEMP TABLE original_{table} AS SELECT t.* FROM fhirgw.{table} t WHERE {TABLES[table]}"
    )
    return f"original_{table}"


def _copied(table: str, column: str) -> str:
    if table == "identifier" and column == "value":
        return "t.value || '-' || $1::int"
    if column in ANEW and (table, column) != ("search_number", "tokens"):
        return ANEW[column]
    return f"t.{column}"


def _shapes(asked: dict[str, Any]) -> dict[str, list[str]]:
    """What is asked, by the names the figures have."""
    ids, numbers, codes = asked["patients"], asked["numbers"], asked["codes"]
    return {
        "read": [f"/fhir/Patient/{id}" for id in ids],
        "identifier": rest._identifier(asked),
        "patient and date": rest._sorted(asked),
        "_include": rest._including(asked),
        "_revinclude": [f"/fhir/Patient?_id={id}&_revinclude=Task:patient" for id in ids],
        "chain": [f"/fhir/Task?patient:Patient.identifier={rest.NHS}|{number}" for number in numbers],
        "code, by id": [f"/fhir/Observation?code={code}&_sort=_id&_total=none" for code in codes],
        "code and date": [f"/fhir/Observation?code={code}&_sort=-date&_total=none" for code in codes],
        "family and birth": [f"/fhir/Patient?family={two}&birthdate=lt1950&_total=none" for two in ("sm", "jo", "ta")],
        "changed since": [f"/fhir/Task?_lastUpdated=gt20{year}&_total=none" for year in (10, 15, 20)],
        "everything": [f"/fhir/Patient/{id}/$everything" for id in ids],
    }


async def _steady(port: int, name: str, paths: Sequence[str], token: str) -> list[Figure]:
    ratio = Figure(f"p99 against median: {name}", "ratio", "target 3")
    median = Figure(f"median: {name}", "ms")
    requests = [wire.get(path, token) for path in paths]
    requests *= -(-CONNECTIONS // len(requests))
    for each in range(ROUNDS + 1):  # the first warms caches and statements
        done = await wire.load(port, requests, connections=CONNECTIONS, seconds=SECONDS)
        if done.failed:
            raise RuntimeError(f"answers that are no answer to {name}, by status: {done.failed}")
        if each:
            waits = statistics.quantiles(done.waits, n=100)
            ratio.values.append(waits[98] / waits[49])
            median.values.append(waits[49] * 1e3)
    return [ratio, median]
