"""A small app that serves SMART and one guarded route, on a real database; and applications that ask for tokens."""

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from joserfc.jwk import ECKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fhirgw.access import jose
from fhirgw.api import fhir, smart
from fhirgw.api.answer import interactions
from fhirgw.api.authenticate import ROLES
from fhirgw.api.context import Context, permitted
from fhirgw.api.exchange import ASSERTION_TYPE
from fhirgw.store import registration as registrations
from fhirgw.store.audit import Auditor
from fhirgw.store.database import WRITING
from fhirgw.store.registration import Registration
from tests.gateway import lay_key
from tests.put import reading

BASE = "http://gateway.test/fhir"
TOKEN = f"{BASE}/oauth/token"
EC = ECKey.generate_key("P-384", {"use": "sig"}, auto_kid=True)
RSA = RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)
STARTED = "2026-01-01T00:00:00Z"
OTHER = ECKey.generate_key("P-384", {"use": "sig"}, auto_kid=True)


def jwks(*keys: jose.Key) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def claims(name: str = "app", **changes: Any) -> dict[str, Any]:
    """The claims of an assertion; a change to None leaves one out."""
    now = int(time.time())
    made = {"iss": name, "sub": name, "aud": TOKEN, "exp": now + 120, "iat": now, "jti": str(uuid.uuid4())}
    return {name: value for name, value in (made | changes).items() if value is not None}


def signed(said: dict[str, Any], key: jose.Key = EC, **header: Any) -> str:
    algorithm = "ES384" if isinstance(key, ECKey) else "RS384"
    return jose.sign({"alg": algorithm, "typ": "JWT", **header}, said, key)


def form(assertion: str, **changes: str | None) -> dict[str, str]:
    made = {
        "grant_type": "client_credentials",
        "scope": "system/*.rs",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


@dataclass
class World:
    """`http` asks the app; `smart` is what the app is made of."""

    url: str
    http: httpx.AsyncClient
    smart: smart.Smart
    keys: Path
    closing: AsyncExitStack = field(repr=False)

    async def register(self, name: str = "app", **changes: Any) -> Registration:
        made = Registration(name, "Z9C01", "system/*.rs", jwks=jwks(EC, RSA))
        async with self.smart.connect() as connection:
            return await registrations.add(connection, replace(made, **changes), replace_it=True)

    async def ask(self, assertion: str | None = None, **changes: str | None) -> httpx.Response:
        """The token endpoint's answer."""
        return await self.http.post(TOKEN, data=form(assertion or signed(claims()), **changes))

    async def token(self, name: str = "app", **changes: str | None) -> str:
        answered = await self.ask(signed(claims(name)), **changes)
        assert answered.status_code == 200, answered.text
        return str(answered.json()["access_token"])

    async def get(self, token: str | None, **headers: str) -> httpx.Response:
        """The guarded route's answer: the permit."""
        known = {"authorization": f"Bearer {token}"} if token is not None else {}
        return await self.http.get(f"{BASE}/Patient", headers=known | headers)


async def shown(request: Request) -> Response:
    permit = permitted(request)
    told = asdict(permit) | {
        "controls": None,
        "scopes": [str(each) for each in permit.scopes],
        "roles": sorted(request.scope[ROLES]),
    }
    return JSONResponse(told)


@asynccontextmanager
async def world(url: str, keys: Path, *, issuers: Path | None = None, loopback: bool = False) -> AsyncIterator[World]:
    lay_key(keys)
    async with AsyncExitStack() as owned:
        plain = await owned.enter_async_context(asyncpg.create_pool(url, min_size=0, server_settings=WRITING))
        pool = await owned.enter_async_context(reading(url))
        made = smart.assembled(keys, issuers, plain.acquire, pool.acquire, ("Z9C01",), loopback=loopback)
        one = interactions("/fhir/{type}/{id}", ahead=fhir.read_ahead, GET=fhir.read)
        found = interactions("/found/{type}", ahead=fhir.search_ahead, GET=fhir.search_type)
        app = Starlette(routes=[interactions("/fhir/{type}", GET=shown), *smart.routes(), one, found])
        app.state.smart = made
        app.state.auditor = await owned.enter_async_context(Auditor(url))
        app.state.context = Context(pool, pool, made.gatekeeper.permit, None, "0", STARTED, made.gatekeeper.assumed)
        transport = httpx.ASGITransport(app)
        http = await owned.enter_async_context(httpx.AsyncClient(transport=transport, base_url=BASE))
        yield World(url, http, made, keys, owned)
