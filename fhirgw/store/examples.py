"""Records worth opening first, for whoever looks at the gateway for the first time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import Text, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.permit import Permit
from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.store import visibility
from fhirgw.store.database import Connection, statement
from fhirgw.store.registration import ODS_CODE
from fhirgw.store.schema import resource
from fhirgw.store.visibility import visible

CANDIDATES = 50
"""How many of the people with most on record are looked at; nearly everybody has an NHS number."""

SHARED = "SELECT value FROM fhirgw.identifier WHERE system = $1 GROUP BY value HAVING count(*) > 1"
"""NHS numbers that several Patients claim: no way to open one of them."""


@dataclass(frozen=True, slots=True)
class Example:
    """A person with much on record: the Patient's id, and an NHS number that leads to nobody else."""

    patient: str
    nhs_number: str


PROVIDER = """
SELECT organisation.id, organisation.body FROM fhirgw.relationship tie
JOIN fhirgw.resource organisation ON organisation.type = 'Organization'
  AND tie.party = 'Organization/' || organisation.id
WHERE tie.kind = 'care-provider' AND tie.ends > statement_timestamp()
  AND organisation.body::json #>> '{type,0,coding,0,code}' = 'homecare-provider'
GROUP BY organisation.id, organisation.body ORDER BY count(DISTINCT tie.person) DESC, organisation.id LIMIT 50"""


async def provider(connection: Connection) -> str | None:
    """The ODS code of a homecare provider with many packages of care running; None where there is none."""
    for found in await connection.fetch(PROVIDER):
        for identifier in orjson.loads(found["body"]).get("identifier", ()):
            if identifier.get("system") == ODS_CODE:
                return str(identifier["value"])
    return None


async def example(connection: Connection, permit: Permit) -> Example | None:
    """One of those the permit shows; None where it shows nobody with an NHS number."""
    owner = resource.c.patient
    most = statement(
        select(owner)
        .where(owner.isnot(None), visible(permit))
        .group_by(owner)
        .order_by(func.count().desc(), owner)
        .limit(CANDIDATES)
    )
    shown = visibility.values(permit)
    ids = [found["patient"] for found in await connection.fetch(most.sql, *most.arguments(shown))]
    named = bindparam("example_ids", ids, ARRAY(Text))
    bodies = statement(
        select(resource.c.id, visibility.body(permit, "Patient")).where(
            resource.c.type == "Patient", resource.c.id == any_(named), visible(permit, "r", "Patient")
        )
    )
    found = await connection.fetch(bodies.sql, *bodies.arguments(shown))
    held = {each["id"]: orjson.loads(each["body"]) for each in found}
    shared = {each["value"] for each in await connection.fetch(SHARED, NHS_NUMBER)}
    for id in ids:
        for identifier in held.get(id, {}).get("identifier", ()):
            if identifier.get("system") == NHS_NUMBER and identifier.get("value", "") not in {"", *shared}:
                return Example(id, identifier["value"])
    return None


LOOKED_AFTER = """
SELECT DISTINCT person FROM fhirgw.relationship WHERE party = ANY ($1) AND kind = 'care-provider'
    AND starts <= statement_timestamp() AND ends > statement_timestamp() ORDER BY person LIMIT $2
"""


async def looked_after(connection: Connection, parties: Sequence[str], most: int) -> list[str]:
    """Some of those whom a care provider looks after now, as ids of Patients: always the same."""
    return [row["person"] for row in await connection.fetch(LOOKED_AFTER, list(parties), most)]
