"""What it costs that every query asks who may see what: the same query with the predicate and without, in one run.

The council is as a county is: 3% dissent, 1% restricted, every care provider sees its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Select, select

from fhirgw.access import token
from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.api.issuers import Issuers
from fhirgw.api.jwks import KeySets
from fhirgw.api.keys import Keyring
from fhirgw.api.verifier import Verifier
from fhirgw.fhir.query import Query
from fhirgw.store import visibility
from fhirgw.store.database import Connection, declared, direct, once, readers, statement
from fhirgw.store.examples import provider
from fhirgw.store.matching import few
from fhirgw.store.registration import ODS_CODE, SECTORS
from fhirgw.store.schema import resource
from fhirgw.store.search import search
from tests.bench.council import World, world
from tests.bench.figures import ROUNDS, Figure

SCOPES = (Scope.parse("system/*.rs"),)
ALL = Permit("Z9C01", "operations", SCOPES)
SECTOR = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing|{}"
PEOPLE = 60
"""Whose records are searched in a round, one after another."""
PARTY = """
SELECT party FROM fhirgw.relationship WHERE kind = 'care-provider' AND ends > now()
GROUP BY 1 ORDER BY count(*) DESC OFFSET 3 LIMIT 1"""
"""A provider of many packages, but not the council itself."""
Pairs = list[tuple[str, str]]


def run() -> list[Figure]:
    """Ratios of time without the predicate to time with it: 1 is for nothing, 0.95 a twentieth more."""
    return asyncio.run(_run())


async def _run() -> list[Figure]:
    exported = Figure("export with the predicate against without", "ratio", "target 0.95")
    council = Figure("search with the predicate against without", "ratio", "target 0.9")
    provided = Figure("search as a care provider against without", "ratio", "target 0.9")
    verified = Figure("verifying an access token, new to the process", "µs", "target under 200")
    async with world() as made:
        await made.sync()
        async with direct(made.engine) as connection, declared(connection, ALL):
            code = await provider(connection)
        ics = Permit("Z9C01", "direct-care", SCOPES, parties=(f"{ODS_CODE}|Z9C01", SECTOR.format(SECTORS[0])))
        async with (
            readers(made.url) as reading,
            readers(made.url, replan=True) as searching,
            reading.acquire() as one,
            searching.acquire() as connection,
        ):
            theirs = await _provider(connection, code or "")
            queries = await _queries(connection, theirs)
            for _ in range(ROUNDS + 1):  # the first warms caches and statements, and is not counted
                bare = await _export(connection, ALL)
                exported.values.append(bare / await _export(connection, ics))
                bare = await _search(one, connection, ALL, queries)
                council.values.append(bare / await _search(one, connection, ics, queries))
                provided.values.append(bare / await _search(one, connection, theirs, queries))
                verified.values.append(await _verify(made))
    for each in (exported, council, provided, verified):
        del each.values[0]
    return [exported, council, provided, verified]


async def _provider(connection: Connection, code: str) -> Permit:
    async with declared(connection, ALL):
        party = await connection.fetchval(PARTY)
    assert party, "no care provider has a package line"
    return Permit(code, "direct-care", SCOPES, parties=(party, SECTOR.format("care-provider")), controls=False)


async def _export(connection: Connection, permit: Permit) -> float:
    """Microseconds a resource, over all types."""
    rows, begun = 0, time.perf_counter()
    async with declared(connection, permit):
        for kind in ("Patient", "Observation", "Task", "ServiceRequest", "EpisodeOfCare", "CarePlan", "Goal"):
            made = once((_export, kind, visibility.shape(permit)), partial(_bodies, permit, kind))  # as exports do
            told = await connection.copy_from_query(
                made.sql, *made.arguments(visibility.values(permit)), output=_nowhere, format="binary"
            )
            rows += int(told.split()[1])
    return (time.perf_counter() - begun) / rows * 1e6


def _bodies(permit: Permit, kind: str) -> Select[Any]:
    shown = visibility.visible(permit, "r", kind, bulk=True)
    return select(visibility.body(permit, kind)).where(resource.c.type == kind, shown)


async def _nowhere(data: bytes) -> None:
    """Takes what COPY gives."""


async def _queries(connection: Connection, theirs: Permit) -> list[Query]:
    """Searches of people whom the care provider sees too, as a page of a record asks them, and of lists."""
    async with declared(connection, theirs):
        made = statement(
            select(resource.c.id)
            .where(resource.c.type == "Patient", visibility.visible(theirs, "r", "Patient"))
            .order_by(resource.c.id)
            .limit(PEOPLE)
        )
        ids = [row["id"] for row in await connection.fetch(made.sql, *made.arguments(visibility.values(theirs)))]
    shapes: list[tuple[str, Pairs]] = [
        *((kind, [("patient", "{}")]) for kind in ("EpisodeOfCare", "CarePlan", "Condition", "Flag")),
        ("Task", [("patient", "{}"), ("_sort", "-authored-on")]),
        ("ServiceRequest", [("subject", "Patient/{}"), ("_sort", "-authored"), ("_count", "10")]),
        ("Patient", [("_id", "{}")]),
        ("Task", [("status", "completed"), ("_sort", "-authored-on"), ("_count", "50")]),
        ("Patient", [("family", "s"), ("birthdate", "lt1950"), ("_count", "20")]),
        ("EpisodeOfCare", [("status", "active"), ("_include", "EpisodeOfCare:patient"), ("_count", "20")]),
    ]
    return [
        Query.parse(kind, [(name, value.format(id)) for name, value in pairs]) for id in ids for kind, pairs in shapes
    ]


async def _search(one: Connection, many: Connection, permit: Permit, queries: Sequence[Query]) -> float:
    """Seconds for all of them, each on the connection that the gateway takes for it."""
    begun = time.perf_counter()
    async with declared(one, permit), declared(many, permit):
        for query in queries:
            await search(one if few(query) else many, permit, query)
    return time.perf_counter() - begun


async def _verify(made: World) -> float:
    """Microseconds to verify a token that this process has not seen, with its key at hand."""
    keyring = Keyring(made.folder / "keys")
    verifier = Verifier(keyring, Issuers.read(None, KeySets()))
    now = int(time.time())
    said = [token.claims(keyring.gateway, "bench", str(each), "system/*.rs", "direct-care", now) for each in range(201)]
    texts = [token.sign(each, keyring.signer()) for each in said]
    await verifier.bearer(texts.pop())
    begun = time.perf_counter()
    for text in texts:
        await verifier.bearer(text)
    return (time.perf_counter() - begun) / len(texts) * 1e6
