"""What a search would cost, and which way the database would go about it: for operators, and never with a value in it.

PostgreSQL's EXPLAIN spells what is asked for into its conditions, so those are left out: what is told are the steps,
the indexes, and the database's estimates. https://www.postgresql.org/docs/18/using-explain.html
"""

from __future__ import annotations

from typing import Any

import orjson

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.query import Query
from fhirgw.store import registration
from fhirgw.store.database import Connection
from fhirgw.store.search import covered, matchings, statements

OPERATOR = "operator"
"""The role of registrations that may ask."""

TOLD = {
    "Node Type": "valueString",
    "Relation Name": "valueString",
    "Index Name": "valueString",
    "Join Type": "valueString",
    "Strategy": "valueString",
    "Scan Direction": "valueString",
    "Startup Cost": "valueDecimal",
    "Total Cost": "valueDecimal",
    "Plan Rows": "valueInteger",
    "Plan Width": "valueInteger",
}
"""What is told of a step: nothing in it comes from a request or a resource."""


async def explained(connection: Connection, permit: Permit, query: Query) -> Resource:
    """The plans of a search's first page as Parameters: one `statement` each, of `step`s within steps.

    Raises FhirError: forbidden for whoever is no operator, too-costly for a chain that passes through too much.
    """
    asker = await registration.find(connection, permit.registration) if permit.registration else None
    if asker is None or OPERATOR not in asker.roles:
        raise FhirError(Issue("forbidden", f"_explain is for registrations with the role {OPERATOR}"))
    query = covered(permit, query)
    found = []
    for made, values in statements(await matchings(connection, permit, query), query, None):
        asked = made.arguments(values | {"most": query.count + 1})
        plan = orjson.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {made.sql}", *asked))
        found.append({"name": "statement", "part": [_step(each["Plan"]) for each in plan]})
    return {"resourceType": "Parameters", "parameter": found}


def _step(plan: dict[str, Any]) -> dict[str, Any]:
    told = [{"name": name, kind: plan[name]} for name, kind in TOLD.items() if name in plan]
    return {"name": "step", "part": [*told, *map(_step, plan.get("Plans", ()))]}
