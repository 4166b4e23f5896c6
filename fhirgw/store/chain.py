"""Criteria that lead to other resources: `subject:Patient.identifier=…` becomes `subject=` whoever has the identifier,
and `_has:Observation:patient:code=…` becomes `_id=` of whom those observations are; `code:in=…` the codes it means.

The others are looked up first, the furthest one first, and what they come to goes into the search as values: as a
subquery they would be unknown when it is planned, and PostgreSQL would rather read the whole table (measured: 330 ms
instead of 1). Each step shows what the permit shows, and no more than MOST resources.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, FromClause, Integer, bindparam, select, union_all
from sqlalchemy.sql.selectable import SelectBase

from fhirgw.access.permit import Permit
from fhirgw.fhir import tokens
from fhirgw.fhir.criterion import Chain, Codes, Criterion, Has, Ids, Tokens
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.leaves import is_patient
from fhirgw.fhir.parameters import Parameter, parameters
from fhirgw.store import rendered, visibility
from fhirgw.store.criterion import Plain
from fhirgw.store.database import Connection, once
from fhirgw.store.matching import Matching
from fhirgw.store.references import canonicals, references
from fhirgw.terminology.meant import meant

MOST = 10_000
"""Resources one step may pass through."""


async def unchained(
    connection: Connection, permit: Permit, criteria: Sequence[Criterion], snapshot: str | None = None
) -> list[Plain]:
    """The criteria without chains: none passes through what the permit does not show. Raises FhirError(too-costly)."""
    return [await _plain(connection, permit, each, snapshot) for each in criteria]


async def _plain(connection: Connection, permit: Permit, criterion: Criterion, snapshot: str | None) -> Plain:
    if isinstance(criterion, Chain):
        every = [await _leading(connection, permit, each, snapshot) for each in (criterion, *criterion.others)]
        return Tokens(criterion.parameter, tuple(token for found in every for token in found))
    if isinstance(criterion, Has):
        inner = await _plain(connection, permit, criterion.criterion, snapshot)
        return await _referred(connection, permit, criterion, inner, snapshot)
    return meant(criterion) if isinstance(criterion, Codes) else criterion


async def _leading(connection: Connection, permit: Permit, chain: Chain, snapshot: str | None) -> list[int]:
    """The tokens of references to what the chain leads to; to a definition, by its url, in whatever version."""
    inner = await _plain(connection, permit, chain.criterion, snapshot)
    targets = Matching.of(permit, chain.target, [inner], snapshot)
    name = chain.parameter.name
    if chain.parameter.canonical:
        bodies = await _looked_up(connection, targets, "body", chain.parameter)
        return [tokens.uri(name, url) for each in bodies if (url := orjson.loads(each).get("url"))]
    ids = await _looked_up(connection, targets, "id", chain.parameter)
    return [tokens.plain_reference(name, f"{chain.target}/{each}") for each in ids]


async def _referred(connection: Connection, permit: Permit, has: Has, inner: Plain, snapshot: str | None) -> Plain:
    """Being what matching resources refer to: by id, or a definition by its url."""
    parameter, known = has.parameter, parameters(has.target)
    sources = Matching.of(permit, parameter.type, [inner], snapshot, asked=(parameter.name,))
    if has.target == "Patient" and is_patient(parameter):
        return Ids(known["_id"], tuple(await _looked_up(connection, sources, "patient", parameter)))
    found: dict[Any, None] = {}
    for body in await _looked_up(connection, sources, "body", parameter):
        read = orjson.loads(body)
        for source in parameter.sources:
            if parameter.canonical:
                found |= {tokens.uri("url", url): None for url, _ in canonicals(read, source)}
            else:
                found |= {id: None for _, id in references(read, source, has.target)}
    return Tokens(known["url"], tuple(found)) if parameter.canonical else Ids(known["_id"], tuple(found))


async def _looked_up(connection: Connection, matching: Matching, what: str, parameter: Parameter) -> list[Any]:
    """The id, patient or body of everything that matches, each once."""
    await rendered.afford(connection, matching)
    made = once(("chain", matching.shape, what), lambda: _every(matching, what))
    rows = await connection.fetch(made.sql, *made.arguments(matching.values() | {"most": MOST + 1}))
    if len(rows) > MOST:
        raise FhirError(
            Issue(
                "too-costly",
                f"{parameter.name} passes through more than {MOST} resources: say more about {matching.type}",
            )
        )
    return [row[0] for row in rows if row[0] is not None]


def _every(matching: Matching, what: str) -> SelectBase:
    most = bindparam("most", type_=Integer, required=False)

    def looked_at(table: FromClause) -> ColumnElement[Any]:
        return visibility.body(matching.permit, matching.type, table) if what == "body" else table.c[what]

    every = [matching.select(looked_at(table).label("found"), table=table) for table in matching.tables]
    found = (every[0] if len(every) == 1 else union_all(*every)).subquery("every")
    looked = select(found.c.found)
    return (looked.distinct() if what == "patient" else looked).limit(most)
