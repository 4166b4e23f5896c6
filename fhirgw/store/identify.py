"""Who a person may be: candidates by what few people share, each found by a search that the caller could make.

So whoever's whereabouts are withheld is not found by their postcode, and nobody is found whom a search would not find.
"""

from __future__ import annotations

from collections.abc import Iterator

from fhirgw.access.permit import Permit
from fhirgw.fhir.escapes import escape
from fhirgw.fhir.likeness import Facts
from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.fhir.query import Query
from fhirgw.store.database import Connection
from fhirgw.store.include import Found
from fhirgw.store.search import search

MOST = 200
"""Candidates of each kind: more people share it than it could tell apart."""


async def candidates(connection: Connection, permit: Permit, asked: Facts) -> list[Found]:
    """Patients that share something telling, in the order of their ids. Raises FhirError(forbidden)."""
    permit.require("s", "Patient")
    found: dict[str, Found] = {}
    for pairs in _searches(asked):
        query = Query.parse("Patient", [*pairs, ("_count", str(MOST)), ("_total", "none")])
        page = await search(connection, permit, query)
        found |= {each.id: each for each in page.matches}
    return [found[id] for id in sorted(found)]


def sought(asked: Facts) -> bool:
    """Whether there is enough to look for anybody."""
    return any(True for _ in _searches(asked))


def _searches(asked: Facts) -> Iterator[list[tuple[str, str]]]:
    """By number, whoever gave it; by date of birth with a name; by family name with the postcode."""
    if numbers := asked.get("number"):
        yield [("identifier", ",".join(f"{NHS_NUMBER}|{each}" for each in sorted(numbers)))]
    if own := asked.get("own"):
        yield [("identifier", ",".join(sorted(own)))]
    birth, family, given, postcode = (_any(asked, name) for name in ("birth", "family", "given", "postcode"))
    if birth and family:
        yield [("birthdate", birth), ("family", family)]
    if birth and given:
        yield [("birthdate", birth), ("given", given)]
    if family and postcode:
        yield [("family", family), ("address-postalcode", postcode)]


def _any(asked: Facts, name: str) -> str:
    return ",".join(escape(each) for each in sorted(asked.get(name, ())))
