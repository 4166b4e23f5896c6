"""What many ask at one moment, under permits that are assumed, is what each is told alone by the full gate."""

import asyncio
import re
from dataclasses import fields
from typing import Any

import httpx
from starlette.requests import Request

from fhirgw.api.authenticate import Made
from fhirgw.api.context import Context
from fhirgw.store.registration import Registration
from tests.gateway import Gateway
from tests.put import connected

APPS = {
    "all": Registration("alike-all", "Z99", "system/*.rs", sector="council", rate=1_000_000),
    "women": Registration("alike-women", "Z99", "system/Patient.rs?gender=female", sector="council", rate=1_000_000),
    "other": Registration("alike-other", "Z42", "system/*.rs", rate=1_000_000),
    "veiled": Registration(
        "alike-veiled", "Z99", "system/*.rs", purposes=("research",), agreement="A", pseudonyms=True, rate=1_000_000
    ),
}
NARROW = "system/Observation.rs"
"""What another token of the first has."""
ADDRESSES = (
    "Patient/q00",
    "Patient/q01",
    "Patient/nobody",
    "Organization/gone",
    "Patient/q01?_summary=count",
    "Patient?_id=q00",
    "Patient?_id=q00,q01&_elements=gender&_sort=-_id",
    "Patient?_id=%22%5C%7B,%7D",
    "Patient?identifier=9000000009&_include=Patient:organization",
    "Observation?patient=p1&_count=3",
    "Patient?_id=q00&nonsense=1",
)


def told(answered: httpx.Response) -> tuple[int, str | None, bytes]:
    """All that does not differ from one request to its like."""
    return answered.status_code, answered.headers.get("etag"), re.sub(rb"_cursor=[^\"]*", b"", answered.content)


async def test_what_many_are_told_is_what_each_is_told_alone(gateway: Gateway, module_database: str) -> None:
    of = {name: gateway.client(app).headers["authorization"] for name, app in APPS.items()}
    of["narrow"] = gateway.client(APPS["all"], scope=NARROW).headers["authorization"]
    every = [(name, address) for address in ADDRESSES for name in of]
    known, assumed = gateway.app.state.context, 0

    async def counted(request: Request) -> Made | None:
        nonlocal assumed
        made: Made | None = await known.assumed(request)
        assumed += made is not None
        return made

    def given() -> dict[str, Any]:
        names = [each.name for each in fields(Context) if each.init and each.name != "assumed"]
        return {name: getattr(known, name) for name in names}

    async with httpx.AsyncClient(base_url=gateway.base, timeout=120) as http:

        async def ask(name: str, address: str) -> tuple[int, str | None, bytes]:
            return told(await http.get(address, headers={"authorization": of[name]}))

        try:
            gateway.app.state.context = Context(**given())
            alone = [await ask(*each) for each in every]
            gateway.app.state.context = Context(**given(), assumed=counted)
            assert await asyncio.gather(*(ask(*each) for each in every)) == alone
        finally:
            gateway.app.state.context = known
    assert assumed == 4 * len(ADDRESSES)  # of the five but the one whose purpose asks more
    assert {status for status, *_ in alone} >= {200, 400, 403, 404, 410, 503}
    connection = await connected(module_database)
    rows = await connection.fetch(
        "SELECT registration, count(*) FROM fhirgw.audit WHERE registration LIKE 'alike-%' GROUP BY 1"
    )
    await connection.close()
    each = 2 * len(ADDRESSES)
    assert {row[0].removeprefix("alike-"): row[1] for row in rows} == dict.fromkeys(APPS, each) | {"all": 2 * each}
