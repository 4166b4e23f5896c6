"""Who is who: which identifiers lead to which Patient.

A person known by an NHS number, a council number and providers' numbers is one Patient. Two systems meet in a Patient
only where the NHS number is held by nobody else and the date of birth agrees; everybody else who claims a number that
is taken is kept apart and reported. Merging is for people to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.store.database import Connection


class Claim(NamedTuple):
    """An NHS number that several Patients hold, told by their ids (never by the number)."""

    patients: tuple[str, ...]


async def holders(connection: Connection, numbers: Sequence[str]) -> dict[str, list[str]]:
    """The Patients that hold each NHS number."""
    query = """
        SELECT value, array_agg(patient ORDER BY patient) FROM fhirgw.identifier
        WHERE system = $1 AND value = ANY ($2) GROUP BY value
    """
    return dict(map(tuple, await connection.fetch(query, NHS_NUMBER, list(numbers))))


async def claims(connection: Connection) -> list[Claim]:
    """The NHS numbers that more than one Patient holds."""
    query = """
        SELECT array_agg(patient ORDER BY patient) FROM fhirgw.identifier
        WHERE system = $1 GROUP BY value HAVING count(*) > 1 ORDER BY 1
    """
    rows: list[Any] = await connection.fetch(query, NHS_NUMBER)
    return [Claim(tuple(each[0])) for each in rows]


async def only_system(connection: Connection, system: str) -> bool:
    """Whether no other system has brought people: then there is nobody to meet again."""
    query = "SELECT NOT EXISTS (SELECT FROM fhirgw.identifier WHERE origin <> $1)"
    return bool(await connection.fetchval(query, system))


async def births(connection: Connection, patients: Sequence[str]) -> dict[str, str]:
    """The Patients' dates of birth, by id, as their records spell them."""
    query = "SELECT id, body::json ->> 'birthDate' FROM fhirgw.resource WHERE type = 'Patient' AND id = ANY ($1)"
    return dict(map(tuple, await connection.fetch(query, list(patients))))


async def met(connection: Connection, patient: str) -> bool:
    """Whether more than one system of record knows a Patient: they met there by NHS number and date of birth."""
    query = "SELECT count(DISTINCT system) > 1 FROM fhirgw.lineage WHERE type = 'Patient' AND id = $1 AND digest <> ''"
    return bool(await connection.fetchval(query, patient))
