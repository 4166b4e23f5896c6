"""Registrations and what they hold: what one statement knows of a caller, and what is forgotten, revoked, used up."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from fhirgw.fhir.issue import FhirError
from fhirgw.store import registration as registrations
from fhirgw.store.registration import Asker, Caller, Registration
from tests.put import connected, put

ODS = registrations.ODS_CODE
SDS = registrations.SDS_USER
NHS = "https://fhir.nhs.uk/Id/nhs-number"
SOON = datetime.now(UTC) + timedelta(hours=1)
PAST = datetime.now(UTC) - timedelta(seconds=1)
APP = Registration("app", "Z9C01", "system/*.rs", jwks={"keys": [{"kty": "EC"}]})


def made(kind: str, id: str, system: str | None = None, value: str = "", **elements: Any) -> dict[str, Any]:
    named = {"identifier": [{"system": system, "value": value}]} if system else {}
    return {"resourceType": kind, "id": id, **named, **elements}


def role(id: str, worker: str, team: str, **elements: Any) -> dict[str, Any]:
    return made(
        "PractitionerRole",
        id,
        practitioner={"reference": f"Practitioner/{worker}"},
        organization={"reference": f"Organization/{team}"},
        **elements,
    )


WORLD = [
    made("Organization", "council", ODS, "Z9C01"),
    made("Organization", "twin", ODS, "Z9C01"),
    made("Organization", "other", ODS, "Z9C02"),
    made("Organization", "team"),
    made("Location", "place", ODS, "Z9C01"),
    made("Practitioner", "w1", SDS, "1"),
    made("Practitioner", "w1b", SDS, "1"),
    made("Practitioner", "w2", SDS, "2"),
    made("Practitioner", "left", SDS, "3", active=False),
    role("r1", "w1", "team", period={"start": "2020-01-01"}),
    role("r2", "w1", "past", period={"start": "2020-01-01", "end": "2021-01-01"}),
    role("r3", "w1", "future", period={"start": "2999-01-01"}),
    role("r4", "w1", "inactive", active=False),
    role("r5", "w2", "two"),
    role("r6", "left", "team"),
    role("r7", "w1b", "open"),
]


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that sees everything, with a few organisations and workers."""
    await put(database, *WORLD)
    connection = await connected(database)
    await connection.execute(
        "INSERT INTO fhirgw.identifier VALUES ($1, 'n1', 'p1', 'test', ''), ($1, 'n2', 'p2', 'test', ''),"
        " ($1, 'n2', 'p3', 'test', ''), ('other', 'n1', 'p4', 'test', '')",
        NHS,
    )
    yield connection
    await connection.close()


async def of(connection: asyncpg.Connection, **asker: Any) -> Caller:
    return await registrations.caller(connection, Asker(**asker))


async def test_an_application_is_known_as_its_organisation(connection: asyncpg.Connection) -> None:
    added = await registrations.add(connection, APP)
    found = await of(connection, registration="app")
    assert found == Caller(
        registration=replace(added, jwks=None),
        valid=True,
        agreed=False,
        parties=(f"{ODS}|Z9C01", "Organization/council", "Organization/twin"),
        practitioners=(),
        patients=(),
    )


async def test_who_asks_together_is_known_as_if_alone(connection: asyncpg.Connection) -> None:
    await registrations.add(connection, APP)
    await registrations.add(connection, replace(APP, id="other", organisation="Z9C02", agreement="DSA-1"))
    await registrations.issue(connection, "j1", "app", SOON)
    await registrations.issue(connection, "j2", "other", SOON)
    askers = [
        *(Asker("app", "j1"), Asker("other", "j2"), Asker("app", "j2"), Asker("nobody", "j1"), Asker("other")),
        *(Asker("app", "j1", organisation="Z9C02"), Asker(organisation="X"), Asker("app", "j1")),
    ]
    found = await registrations.callers(connection, askers)
    assert found == [await registrations.caller(connection, each) for each in askers]
    assert [each.valid for each in found] == [True, True, False, False, True, True, True, True]
    assert [each.agreed for each in found] == [False, True, False, False, True, False, False, False]
    named = ("Z9C01", "Z9C02", "Z9C01", None, "Z9C02", "Z9C02", "X", "Z9C01")
    assert [each.parties[:1] for each in found] == [(f"{ODS}|{code}",) if code else () for code in named]
    assert "Organization/other" in found[1].parties and "Organization/other" in found[5].parties


async def test_what_nobody_registered_is_nobody(connection: asyncpg.Connection) -> None:
    assert await of(connection, registration="app", jti="j") == Caller(None, False, False, (), (), ())
    assert await of(connection) == Caller(None, True, False, (), (), ())


async def test_another_issuers_caller_is_known_by_their_organisation(connection: asyncpg.Connection) -> None:
    found = await of(connection, organisation="Z9C02")
    assert (found.registration, found.parties) == (None, (f"{ODS}|Z9C02", "Organization/other"))
    unknown = await of(connection, organisation="X")
    assert unknown.parties == (f"{ODS}|X",)


async def test_a_practitioner_is_known_with_the_teams_they_are_in_now(connection: asyncpg.Connection) -> None:
    found = await of(connection, organisation="Z9C02", practitioner="w1")
    assert found.practitioners == ("w1",)
    assert found.parties == (f"{ODS}|Z9C02", "Organization/other", "Practitioner/w1", "Organization/team")


async def test_a_national_id_finds_every_record_of_a_practitioner(connection: asyncpg.Connection) -> None:
    found = await of(connection, sds_user="1")
    assert found.practitioners == ("w1", "w1b")
    expected = ("Practitioner/w1", "Practitioner/w1b", "Organization/open", "Organization/team")
    assert found.parties == expected


@pytest.mark.parametrize("asker", [{"practitioner": "left"}, {"sds_user": "3"}, {"practitioner": "nobody"}])
async def test_a_practitioner_who_left_is_nobody(connection: asyncpg.Connection, asker: dict[str, str]) -> None:
    found = await of(connection, **asker)
    assert (found.practitioners, found.parties) == ((), ())


@pytest.mark.parametrize(("number", "patients"), [("n1", ("p1",)), ("n2", ("p2", "p3")), ("n3", ())])
async def test_a_person_is_found_by_nhs_number(
    connection: asyncpg.Connection, number: str, patients: tuple[str, ...]
) -> None:
    assert (await of(connection, nhs_number=number)).patients == patients


async def test_a_token_is_valid_until_it_is_revoked(connection: asyncpg.Connection) -> None:
    await registrations.add(connection, APP)
    await registrations.issue(connection, "j1", "app", SOON)
    await registrations.issue(connection, "j2", "app", SOON)
    await registrations.issue(connection, "j3", "other", SOON)
    await registrations.issue(connection, "j4", "app", PAST)

    async def valid(jti: str) -> tuple[bool, bool]:
        alive = await registrations.alive(connection, jti, "app")
        return (await of(connection, registration="app", jti=jti)).valid, alive

    assert [await valid(each) for each in ("j1", "j2", "j3", "j4", "j5")] == [(True,) * 2] * 2 + [(False,) * 2] * 3
    await registrations.revoke(connection, "j1", "other")
    assert await valid("j1") == (True, True)
    await registrations.revoke(connection, "j1", "app")
    assert [await valid(each) for each in ("j1", "j2")] == [(False, False), (True, True)]
    await registrations.activate(connection, "app", False)
    await registrations.activate(connection, "app", True)
    assert await valid("j2") == (False, False)
    await registrations.issue(connection, "j6", "app", SOON)
    assert await valid("j6") == (True, True)


async def test_other_keys_take_back_what_the_old_ones_got(connection: asyncpg.Connection) -> None:
    await registrations.add(connection, APP)
    await registrations.issue(connection, "j1", "app", SOON)
    await registrations.rekey(connection, "app", None, "https://app.test/keys")
    found = await registrations.find(connection, "app")
    assert found is not None
    assert (found.jwks, found.jwks_url) == (None, "https://app.test/keys")
    assert not await registrations.alive(connection, "j1", "app")


@pytest.mark.parametrize(
    ("agreement", "until", "agreed"),
    [(None, None, False), ("DARS-1", None, True), ("DARS-1", SOON, True), ("DARS-1", PAST, False), (None, SOON, False)],
)
async def test_an_agreement_is_in_force_until_it_ends(
    connection: asyncpg.Connection, agreement: str | None, until: datetime | None, agreed: bool
) -> None:
    await registrations.add(connection, replace(APP, agreement=agreement, agreement_until=until))
    assert (await of(connection, registration="app")).agreed == agreed


async def test_a_registration_is_kept_as_it_was_made(connection: asyncpg.Connection) -> None:
    whole = Registration(
        id="whole",
        organisation="Z9C02",
        scopes="patient/*.rs user/Task.rs",
        sector="council",
        purposes=("research", "planning"),
        name="The whole of it",
        jwks_url="https://app.test/keys",
        roles=("introspect",),
        clearance=5,
        patient="p1",
        practitioner="w1",
        delegate="RelatedPerson/x",
        agreement="DARS-1",
        agreement_until=SOON,
        rate=7,
        active=False,
    )
    await registrations.add(connection, whole)
    await registrations.add(connection, APP)
    assert await registrations.find(connection, "whole") == whole
    assert await registrations.listed(connection) == [replace(APP, name="app"), whole]
    assert await registrations.find(connection, "nobody") is None


async def test_a_name_is_taken_once(connection: asyncpg.Connection) -> None:
    await registrations.add(connection, APP)
    with pytest.raises(FhirError, match="already"):
        await registrations.add(connection, replace(APP, scopes="system/*.cruds"))
    replaced = await registrations.add(connection, replace(APP, scopes="system/Task.rs"), replace_it=True)
    assert replaced.scopes == "system/Task.rs"


async def test_an_assertion_is_used_once_whoever_tries(connection: asyncpg.Connection, database: str) -> None:
    async def attempt() -> bool:
        mine = await asyncpg.connect(database)
        try:
            async with mine.transaction():
                used = await registrations.use(mine, b"digest", SOON)
                await asyncio.sleep(0.02)
                return used
        finally:
            await mine.close()

    assert sorted(await asyncio.gather(*(attempt() for _ in range(5)))) == [False] * 4 + [True]


async def test_an_assertion_is_used_up_only_with_the_token_it_was_for(connection: asyncpg.Connection) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connection.transaction():
            assert await registrations.use(connection, b"digest", SOON)
            raise ZeroDivisionError
    assert await registrations.use(connection, b"digest", SOON)


async def test_what_expired_is_swept(connection: asyncpg.Connection) -> None:
    long_ago = PAST - timedelta(hours=2)
    await registrations.issue(connection, "old", "app", long_ago)
    await registrations.use(connection, b"old", long_ago)
    await registrations.use(connection, b"new", PAST)
    await registrations.issue(connection, "new", "app", SOON)
    assert [row[0] for row in await connection.fetch("SELECT jti FROM fhirgw.issued_token")] == ["new"]
    assert [row[0] for row in await connection.fetch("SELECT digest FROM fhirgw.used_assertion")] == [b"new"]
