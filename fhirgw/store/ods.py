"""That an ODS code is one organisation's: callers are known by it, and the audit calls organisations by its name.

Of what requests write. Two systems of record may each bring an Organization with one code, and both are kept as they
are (fhirgw.jobs.sync); whoever changes one of those leaves its code as it is, or corrects it.
https://digital.nhs.uk/services/organisation-data-service
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import BigInteger, Select, Text, all_, bindparam, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.fhir.tokens import token
from fhirgw.store.database import Connection, once
from fhirgw.store.schema import resource

LOCK = "SELECT pg_advisory_xact_lock(key) FROM (SELECT key FROM unnest($1::bigint[]) AS key ORDER BY key) AS keys"
TOKENS = ARRAY(BigInteger)


def codes(organisation: Resource | None) -> set[str]:
    """The ODS codes of an Organization; none of what is not there."""
    found: list[Any] = (organisation or {}).get("identifier", [])
    return {str(each["value"]) for each in found if each.get("system") == ODS_ORGANISATION and each.get("value")}


async def taken(connection: Connection, claimed: Collection[str], writing: Collection[str]) -> set[str]:
    """Those of the codes that another Organization has than those being written (`writing`, their ids).

    Whoever may see that one: the codes are public, and a second holder would be taken for the first. Others who claim
    one of them wait until the transaction ends.
    """
    named = _tokens(claimed)
    if not named:
        return set()
    await connection.execute(LOCK, list(named))
    return await _held(connection, named, writing)


async def unheld(connection: Connection, codes: Collection[str]) -> set[str]:
    """Those of the codes that no Organization has."""
    return set(codes) - await _held(connection, _tokens(codes), ()) if codes else set()


def _tokens(codes: Collection[str]) -> dict[int, str]:
    return {token(f"identifier|{ODS_ORGANISATION}|{code}"): code for code in codes}


async def _held(connection: Connection, named: Mapping[int, str], writing: Collection[str]) -> set[str]:
    made = once(("ods",), _holders)
    rows = await connection.fetch(made.sql, *made.arguments({"tokens": list(named), "writing": list(writing)}))
    return {named[each] for row in rows for each in row[0] if each in named}


def refusal() -> FhirError:
    """What is said of a code that is somebody's."""
    told = "Another Organization has this ODS code: change that one, or create by If-None-Exist: identifier=[code]"
    return FhirError(Issue("conflict", told, "Organization.identifier"))


def _holders() -> Select[Any]:
    return select(resource.c.tokens).where(
        resource.c.type == literal("Organization", Text, literal_execute=True),
        resource.c.tokens.overlap(bindparam("tokens", type_=TOKENS, required=False)),
        resource.c.id != all_(bindparam("writing", type_=ARRAY(Text), required=False)),
    )
