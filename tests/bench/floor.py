"""The bare floor: what a server of the same kind answers when it does nothing but fetch and send the same bytes.

    python -m tests.bench.floor DATABASE-URL PORT

Starlette on uvicorn with asyncpg's pool, as the gateway: no authorisation, no audit, no consent.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.store.database import SESSION, WRITING

ONE = "SELECT body FROM fhirgw.resource WHERE type = 'Patient' AND id = $1"
PAGE = """
SELECT body FROM fhirgw.resource WHERE type = 'Observation' AND id > $1 ORDER BY id LIMIT 50"""
CODED = """
SELECT body FROM fhirgw.resource WHERE type = 'Observation' AND tokens @> ARRAY[$1::bigint] ORDER BY id LIMIT 50"""
VISIT = """
INSERT INTO fhirgw.visit (key, version, source_version, changed, updated, start, finish, began, ended, provider, visit,
    patient, controller, digest, parts)
VALUES ($1, 1, 1, now(), now(), now(), now(), now(), now(), 'FLOOR', $1::uuid::text,
    '000' || substr($1::uuid::text, 4), 'FLOOR', '\\x00112233445566778899aabbccddeeff', $2)"""
JSON = {"content-type": "application/fhir+json; charset=utf-8"}


class _Kept(asyncpg.Connection):  # type: ignore[misc]
    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 (asyncpg's signature)
        """No reset: it would cost half of such a select."""


def app(url: str) -> Starlette:
    """`/one/ID` is a Patient's body; `/page/ID` the fifty Observations after an id in one Bundle, `/coded/TOKEN` the
    first fifty of a code; what is posted to `/visit` is inserted as one visit's row.
    """
    pool: asyncpg.Pool

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        nonlocal pool
        async with asyncpg.create_pool(
            url, min_size=0, connection_class=_Kept, server_settings=SESSION | WRITING
        ) as pool:
            yield

    async def one(request: Request) -> Response:
        async with pool.acquire() as connection:
            body = await connection.fetchval(ONE, request.path_params["id"])
        return Response(body, headers=JSON)

    async def page(request: Request) -> Response:
        return await bundle(PAGE, request.path_params["id"])

    async def coded(request: Request) -> Response:
        return await bundle(CODED, int(request.path_params["token"]))

    async def bundle(query: str, asked: str | int) -> Response:
        async with pool.acquire() as connection:
            rows = await connection.fetch(query, asked)
        entries = ",".join(f'{{"fullUrl":"http://bench/{each[0][8:40]}","resource":{each[0]}}}' for each in rows)
        return Response(f'{{"resourceType":"Bundle","type":"searchset","entry":[{entries}]}}', headers=JSON)

    async def visit(request: Request) -> Response:
        body = await request.body()
        async with pool.acquire() as connection:
            await connection.execute(VISIT, uuid4(), body.decode())
        return Response(b"{}", headers=JSON)

    posted = [Route("/visit", visit, methods=["POST"])]
    routes = [*posted, Route("/one/{id}", one), Route("/page/{id}", page), Route("/coded/{token}", coded)]
    return Starlette(routes=routes, lifespan=lifespan)


def main(url: str, port: str) -> None:
    """Serves until it is killed."""
    uvicorn.run(app(url), port=int(port), log_config=None, access_log=False, server_header=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
