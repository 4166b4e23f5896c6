"""Every official R4 example of a type held here is accepted, stored and served as it was: to the last digit.

https://hl7.org/fhir/R4/downloads.html. What R4 itself refuses of its own examples is told below, with why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhirgw.fhir.canonical import decode
from fhirgw.fhir.parameters import HELD
from fhirgw.store.registration import Registration
from tests.gateway import Gateway
from tests.put import connected, put

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "r4-examples"
EXAMPLES = {
    path.stem: path.read_bytes()
    for path in sorted(FOLDER.glob("*.json"))
    if path.name.split("-")[0] in HELD and not path.name.startswith("AuditEvent-")
}
REFUSED = {
    "DeviceUseStatement-example": "The reference may name Condition or Observation",
    "Observation-decimal": "exponent is beyond 32",
    "Questionnaire-zika-virus-exposure-assessment": "txt-1",
}
"""Examples that break R4's own rules, and which: a reference to a type that may not be there, a narrative that says
nothing. And one that R4 takes and we do not: a number of 245 noughts is refused to everybody, as it costs memory."""


def referred(value: Any) -> Iterator[tuple[str, str]]:
    """What an example refers to by a relative reference, through all of it."""
    if isinstance(value, list):
        for each in value:
            yield from referred(each)
    elif isinstance(value, dict):
        parts = str(value.get("reference", "")).split("/")
        if len(parts) >= 2 and parts[0] in HELD:
            yield parts[0], parts[1]
        for each in value.values():
            yield from referred(each)


@pytest.fixture(scope="module")
async def neighbours(module_database: str) -> None:
    """What the examples refer to is there: a reference to nothing is refused, whatever it stands in."""
    named = sorted({each for body in EXAMPLES.values() for each in referred(decode(body))})
    await put(module_database, *({"resourceType": kind, "id": id} for kind, id in named))


@pytest.fixture(scope="module")
def council(gateway: Gateway, neighbours: None) -> Iterator[httpx.Client]:
    """The council's own system, which may write anything but the audit."""
    registered = Registration("council", "Z99", "system/*.cruds", sector="council", clearance=15, rate=1_000_000)
    with gateway.client(registered) as client:
        yield client


def test_there_are_examples_of_most_types() -> None:
    assert len({each.split("-")[0] for each in EXAMPLES}) > 20
    assert len(EXAMPLES) > 80


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_kept_as_it_is(council: httpx.Client, module_database: str, name: str) -> None:
    sent = decode(EXAMPLES[name])
    kind = sent["resourceType"]
    made = council.post(f"/fhir/{kind}", content=EXAMPLES[name], headers={"content-type": "application/fhir+json"})
    if name in REFUSED:
        assert made.status_code == (400 if name == "Observation-decimal" else 422)
        assert any(REFUSED[name] in each["diagnostics"] for each in made.json()["issue"])
        return
    assert made.status_code == 201, made.text
    asyncio.run(consented(module_database))
    served = council.get(made.headers["location"].partition("/_history")[0])
    assert served.status_code == 200
    assert _bare(decode(served.content)) == _bare(sent)
    assert str(_bare(decode(served.content))) == str(_bare(sent))


async def consented(url: str) -> None:
    """Takes back what an example has just forbidden: several say that nobody may see their person any more."""
    connection = await connected(url)
    try:
        await connection.execute("DELETE FROM fhirgw.directive")
    finally:
        await connection.close()


def _bare(resource: dict[str, Any]) -> dict[str, Any]:
    """Without what the server gives: its id, version and time; a Decimal is compared by its digits too."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    rest = {name: value for name, value in resource.items() if name not in ("id", "meta", "resourceType")}
    return {"resourceType": resource["resourceType"], **({"meta": meta} if meta else {}), **rest}
