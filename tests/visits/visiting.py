"""A county with two care providers, whom they look after, and the visits they send."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from fhirgw.fhir.issue import Resource
from fhirgw.store.registration import Registration
from tests.put import connected, put

NHS = "https://fhir.nhs.uk/Id/nhs-number"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
COUNCILS = "https://fhirgw.uk/Id/meadow/person"
MRS_A, MR_B, NOBODY = "9990000018", "9990000050", "9990000069"
A, B = "a1b00000-0000-5000-8000-000000000001", "b2c00000-0000-5000-8000-000000000002"
"""Mrs A and Mr B, as Patients."""
SCOPES = "system/*.cruds"
KESTREL = Registration("kestrel", "K01", SCOPES, sector="care-provider", rate=1_000_000)
"""Looks after Mrs A."""
HERON = Registration("heron", "H01", SCOPES, sector="care-provider", rate=1_000_000)
"""Looks after Mr B."""
COUNCIL = Registration("council-system", "Z99", SCOPES, sector="council", rate=1_000_000)
READER = Registration("reader", "K01", "system/*.rs", sector="care-provider", rate=1_000_000)


def organisation(id: str, code: str) -> Resource:
    return {"resourceType": "Organization", "id": id, "identifier": [{"system": ODS, "value": code}]}


def care(id: str, person: str, provider: str, **elements: Any) -> Resource:
    looked_after = {"patient": {"reference": f"Patient/{person}"}, "managingOrganization": {"reference": provider}}
    return {"resourceType": "EpisodeOfCare", "id": id, "status": "active", **looked_after, **elements}


COUNTY: tuple[Resource, ...] = (
    organisation("kestrel", "K01"),
    organisation("heron", "H01"),
    {"resourceType": "Patient", "id": A, "birthDate": "1940-03-01"},
    {"resourceType": "Patient", "id": B, "birthDate": "1950-03-01"},
    care("care-a", A, "Organization/kestrel"),
    care("care-b", B, "Organization/heron"),
)


async def county(url: str) -> None:
    """Puts it into the database."""
    await put(url, *COUNTY)
    connection = await connected(url)
    try:
        for system, number, patient in ((NHS, MRS_A, A), (NHS, MR_B, B), (COUNCILS, "42", A)):
            await connection.execute(
                "INSERT INTO fhirgw.identifier (system, value, patient, origin, sure)"
                " VALUES ($1, $2, $3, 'test', 'yes')",
                *(system, number, patient),
            )
    finally:
        await connection.close()


def visit(id: str = "V1", **parts: Any) -> dict[str, Any]:
    """A visit to Mrs A as it was made."""
    return {
        "visit": id,
        "version": 1,
        "changed": "2026-03-30T08:21:00+01:00",
        "person": {"nhsNumber": MRS_A},
        "planned": {"start": "2026-03-30T07:30", "end": "2026-03-30T08:00"},
        "carers": [{"carer": "C1", "start": "2026-03-30T07:31:10", "end": "2026-03-30T08:00:41", "method": "nfc-tag"}],
        "tasks": [{"task": "T1", "text": "Assist with washing and dressing", "outcome": "completed"}],
        **parts,
    }


async def state(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    """All that is known of every visit, and all that was said, but for when we were told."""
    known = await connection.fetch(
        "SELECT provider, visit, patient, version, source_version, changed, start, finish, began, ended, outcome,"
        " digest, parts, stamps FROM fhirgw.visit ORDER BY provider, visit"
    )
    said = await connection.fetch(
        "SELECT key, digest, source_version, changed, parts FROM fhirgw.visit_said ORDER BY key, digest"
    )
    return [*map(tuple, known), *map(tuple, said)]


async def until(connection: asyncpg.Connection, happened: Callable[[], Awaitable[Any]]) -> None:
    """Waits for something; a machine that is busy may take a minute."""
    for _ in range(6000):
        if await happened():
            return
        await connection.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("it never happened")


async def blocked(connection: asyncpg.Connection, other: asyncpg.Connection) -> bool:
    """Whether the other waits for a lock that somebody has."""
    query = "SELECT cardinality(pg_blocking_pids($1)) > 0"
    return bool(await connection.fetchval(query, other.get_server_pid()))
