"""What organisations and practitioners are called: people are told names, where records have references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from fhirgw.access.permit import Permit
from fhirgw.fhir.criterion import MOST_VALUES
from fhirgw.fhir.escapes import escape
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.fhir.query import Query
from fhirgw.fhir.values import ID
from fhirgw.store.database import Connection
from fhirgw.store.search import search

MOST = "1000"


async def called(connection: Connection, directory: Permit, parties: Sequence[str]) -> dict[str, str]:
    """Names by party: `Organization/…`, `Practitioner/…`, or an ODS code as `system|value`. Those unknown are left out.

    `directory` sees organisations and practitioners; on a connection that declared it.
    """
    codes = [each for each in parties if each.startswith(f"{ODS_ORGANISATION}|") and "\0" not in each]
    found: dict[str, str | None] = {}
    if codes:
        for each in await _search(connection, directory, "Organization", "identifier", [*map(_spelt, codes)]):
            found |= dict.fromkeys(_codes(each), each.get("name"))
    for kind in ("Organization", "Practitioner"):
        named = (each.partition("/")[2] for each in parties if each.startswith(f"{kind}/"))
        if ids := [id for id in named if ID.fullmatch(id)]:
            for each in await _search(connection, directory, kind, "_id", ids):
                found[f"{kind}/{each['id']}"] = each.get("name") if kind == "Organization" else _person(each)
    return {party: name for party, name in found.items() if name}


async def _search(
    connection: Connection, directory: Permit, kind: str, parameter: str, values: Sequence[str]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for some in (values[at : at + MOST_VALUES] for at in range(0, len(values), MOST_VALUES)):
        query = Query.parse(kind, [(parameter, ",".join(some)), ("_count", MOST)])
        page = await search(connection, directory, query)
        found += [orjson.loads(each.body) for each in page.matches]
    return found


def _spelt(party: str) -> str:
    system, _, code = party.partition("|")
    return f"{escape(system)}|{escape(code)}"


def _codes(organisation: dict[str, Any]) -> list[str]:
    found = organisation.get("identifier", ())
    return [f"{ODS_ORGANISATION}|{each['value']}" for each in found if each.get("system") == ODS_ORGANISATION]


def _person(practitioner: dict[str, Any]) -> str | None:
    """The first name, as it is written or put together."""
    for name in practitioner.get("name", ()):
        parts = [*name.get("prefix", ()), *name.get("given", ()), name.get("family", "")]
        return name.get("text") or " ".join(part for part in parts if part) or None
    return None
