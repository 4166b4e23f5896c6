"""Whose visits are: the Patients that the numbers in them lead to, of those whom their care provider looks after.

Of a visit of somebody whom its care provider does not look after, or whom nobody knows, it is not told which of the two
it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.store.database import Connection
from fhirgw.store.visit_stays import CELL
from fhirgw.visits.reading import Fault

SENDING = ("care-provider", "late-visits")
"""The ties by which a care provider sends visits: while the package runs, and for its grace."""

UNKNOWN = Fault(
    "person",
    "unallocated",
    "nobody whom you look after by a package of care has this number",
    "The visit is kept, and finds the person by itself once the council has them: check the number, or ask the council",
)
UNNAMED = Fault(
    "person",
    "unallocated",
    "the visit does not say whose it is",
    "The visit is kept; send it again with the person's NHS number",
)

# Of those who have a number only those count whom the care provider looks after: to it, others are not there.
_TIED = """CROSS JOIN LATERAL (
    SELECT FROM fhirgw.relationship r WHERE r.person = {} AND r.party = ANY (s.parties) AND r.kind = ANY ($6)
        AND r.starts <= statement_timestamp() AND r.ends > statement_timestamp() LIMIT 1) AS tie"""
PERSONS = f"""
WITH whom AS MATERIALIZED (
    SELECT provider, string_to_array(parties, E'\\x03') AS parties
    FROM unnest($4::text[], $5::text[]) AS w (provider, parties)),
sought AS MATERIALIZED (
    SELECT s.provider, s.system, s.value, w.parties
    FROM unnest($1::text[], $2::text[], $3::text[]) AS s (provider, system, value) JOIN whom w USING (provider))
SELECT s.provider, s.system, s.value, i.patient FROM sought s
JOIN fhirgw.identifier i ON i.system = s.system AND i.value = s.value AND s.system <> '' {_TIED.format("i.patient")}
UNION ALL
SELECT s.provider, s.system, s.value, s.value FROM sought s {_TIED.format("s.value")} WHERE s.system = ''
    AND EXISTS (SELECT FROM fhirgw.resource r WHERE r.type = 'Patient' AND r.id = s.value)
"""

OUR_OWN = ""
"""The system of the ids that we give Patients."""
NOBODY: set[str] = set()
Sought = tuple[str, str, str]
"""A number of somebody, as a care provider says it: the provider's code, the number's system, and the number."""


class Asked(NamedTuple):
    """Numbers of people, what records call the care providers who say them, and the Patients that they lead to."""

    parties: Mapping[str, Sequence[str]]
    sought: Sequence[Sought]
    people: Mapping[Sought, set[str]] = {}


async def asked(connection: Connection, parties: Mapping[str, Sequence[str]], sought: Collection[Sought]) -> Asked:
    """The Patients that numbers lead to, of those whom the care provider looks after, or did a little while ago."""
    numbered = Asked(parties, sorted(sought))
    return numbered._replace(people=await led(connection, numbered))


async def led(connection: Connection, asked: Asked) -> Mapping[Sought, set[str]]:
    """The Patients that the numbers lead to now."""
    found: dict[Sought, set[str]] = {}
    if asked.sought:
        whom = list(asked.parties), list(map(CELL.join, asked.parties.values()))
        for row in await connection.fetch(PERSONS, *zip(*asked.sought, strict=True), *whom, SENDING):
            found.setdefault((row["provider"], row["system"], row["value"]), set()).add(row["patient"])
    return found


def numbers(person: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """By what a visit says whose it is, as (system, value)."""
    found: list[tuple[str, str]] = []
    if person and "nhsNumber" in person:
        found.append((NHS_NUMBER, person["nhsNumber"]))
    if person and "number" in person and "system" in person:
        found.append((person["system"], person["number"]))
    if person and "id" in person:
        found.append((OUR_OWN, person["id"]))
    return found


def allocated(
    code: str, person: Mapping[str, Any] | None, people: Mapping[Sought, set[str]]
) -> tuple[str | None, Fault | None]:
    """The one Patient that all its numbers lead to, or why there is none."""
    said = numbers(person)
    if not said:
        return None, UNNAMED
    named = people.get((code, *said[0]), NOBODY)
    for each in said[1:]:
        named = named & people.get((code, *each), NOBODY)
    return (next(iter(named)), None) if len(named) == 1 else (None, UNKNOWN)
