"""From a token to a permit: what each caller may do, at every request, and what no token is."""

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from joserfc.jwk import RSAKey

from fhirgw.access import jose, token
from fhirgw.access.audit_facets import facets
from fhirgw.access.label import EVERY, SEALED
from fhirgw.access.permit import Permit
from fhirgw.access.scope import scopes
from fhirgw.api.authenticate import as_registered
from fhirgw.store import break_glass
from fhirgw.store import registration as registrations
from fhirgw.store.looked import listed
from fhirgw.store.registration import ODS_CODE, SDS_USER
from tests.api.smart_world import BASE, EC, World, claims, form, signed, world
from tests.put import connected, put

NHS = "https://fhir.nhs.uk/Id/nhs-number"
CODE = f"{ODS_CODE}|Z9C01"
SECTOR = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing|{}"
SOON = datetime.now(UTC) + timedelta(hours=1)
LOGIN = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
ISSUER = "https://login.test"
STAFF = {
    "issuer": ISSUER,
    "audience": "fhirgw",
    "jwks": {"keys": [LOGIN.as_dict(private=False)]},
    "scopes": "user/*.rs",
    "claims": {"organisation": "org", "sds_user": "uid", "roles": "roles"},
    "roles": {"senior": "break-glass"},
    "clearance": {"senior": ["safeguarding"]},
}
PEOPLE = {
    "issuer": "https://people.test",
    "audience": "fhirgw",
    "jwks": {"keys": [LOGIN.as_dict(private=False)]},
    "scopes": "patient/*.rs",
    "purposes": ["person"],
    "claims": {"nhs_number": "nhs_number"},
    "fixed": {"organisation": "Z9C01"},
    "registration": "portal",
}


def made(kind: str, id: str, system: str | None = None, value: str = "", **elements: Any) -> dict[str, Any]:
    named = {"identifier": [{"system": system, "value": value}]} if system else {}
    return {"resourceType": kind, "id": id, **named, **elements}


@pytest.fixture
async def here(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """A gateway with an organisation, a worker in a team, two people, and two issuers elsewhere."""
    await put(
        database,
        made("Organization", "o1", ODS_CODE, "Z9C01"),
        made("Practitioner", "w1", SDS_USER, "111"),
        made(
            "PractitionerRole",
            "r1",
            practitioner={"reference": "Practitioner/w1"},
            organization={"reference": "Organization/team"},
        ),
    )
    connection = await connected(database)
    await connection.execute(
        "INSERT INTO fhirgw.identifier VALUES ($1, '9000000009', 'p1', 'test', ''),"
        " ($1, '9000000017', 'p2', 'test', ''), ($1, '9000000017', 'p3', 'test', '')",
        NHS,
    )
    await connection.close()
    (tmp_path / "issuers.yaml").write_text(json.dumps([STAFF, PEOPLE]))
    async with world(database, tmp_path / "keys", issuers=tmp_path / "issuers.yaml") as made_world:
        await made_world.register()
        yield made_world


def login(issuer: str = ISSUER, header: dict[str, Any] | None = None, **changes: Any) -> str:
    now = int(time.time())
    said = {"iss": issuer, "aud": "fhirgw", "iat": now, "exp": now + 300, "org": "Z9C01", "uid": "111", "roles": ["x"]}
    said = {name: value for name, value in (said | changes).items() if value is not None}
    return jose.sign({"alg": "RS256", "typ": "at+jwt"} | (header or {}), said, LOGIN)


async def permitted(here: World, token: str, **headers: str) -> dict[str, Any]:
    answered = await here.get(token, **headers)
    assert answered.status_code == 200, answered.text
    told: dict[str, Any] = answered.json()
    return {name: value for name, value in told.items() if value}


async def refused(here: World, token: str | None, status: int = 401, **headers: str) -> str:
    answered = await here.get(token, **headers)
    assert answered.status_code == status, answered.text
    told = answered.json()
    assert told["resourceType"] == "OperationOutcome"
    assert told["issue"][0]["code"] == {401: "login", 403: "forbidden", 429: "throttled", 503: "transient"}[status]
    if status == 401:
        assert answered.headers["www-authenticate"].startswith('Bearer realm="fhirgw"')
    return str(told["issue"][0]["diagnostics"])


async def test_an_application_has_its_organisations_permit(here: World) -> None:
    assert await permitted(here, await here.token()) == {
        "organisation": "Z9C01",
        "purpose": "direct-care",
        "scopes": ["system/*.rs"],
        "parties": [CODE, "Organization/o1", SECTOR.format("nhs")],
        "registration": "app",
    }


async def test_what_a_registration_says_is_in_the_permit(here: World) -> None:
    await here.register(
        "study", purposes=("research",), agreement="DARS-1", agreement_until=SOON, clearance=3, sector="council"
    )
    found = await permitted(here, await here.token("study"))
    assert (found["purpose"], found["agreement"], found["clearance"]) == ("research", "DARS-1", 3)
    assert SECTOR.format("council") in found["parties"]


async def test_a_practitioner_is_known_with_their_team(here: World) -> None:
    await here.register("worker", scopes="user/*.rs", practitioner="w1")
    found = await permitted(here, await here.token("worker", scope="user/*.rs"))
    assert found["practitioner"] == "w1"
    assert found["parties"] == [CODE, "Organization/o1", "Practitioner/w1", "Organization/team", SECTOR.format("nhs")]


async def test_a_delegate_asks_as_family(here: World) -> None:
    await here.register(
        "carer",
        purposes=("person",),
        scopes="patient/*.rs",
        patient="p1",
        delegate="RelatedPerson/d1",
        sector="council",
    )
    found = await permitted(here, await here.token("carer", scope="patient/*.rs"))
    assert (found["patient"], found["delegate"], found["purpose"]) == ("p1", "RelatedPerson/d1", "person")
    assert found["parties"] == ["RelatedPerson/d1", SECTOR.format("family")]


async def test_a_practitioner_who_is_not_known_is_not_let_in_as_their_organisation(here: World) -> None:
    await here.register("worker", scopes="system/*.rs", practitioner="nobody")
    assert "practitioner of this token is not known" in await refused(here, await here.token("worker"), 403)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer x"},
        {"authorization": "Bearer a.b.c"},
        {"authorization": "Bearer a b"},
        {"authorization": "Bearer " + "a" * 50_000},
    ],
)
async def test_without_a_token_nobody_gets_in(here: World, header: dict[str, str]) -> None:
    answered = await here.http.get(f"{BASE}/Patient", headers=header)
    assert (answered.status_code, answered.json()["issue"][0]["code"]) == (401, "login")
    assert answered.headers["www-authenticate"].startswith('Bearer realm="fhirgw"')


async def test_a_token_is_sent_in_one_header(here: World) -> None:
    good = await here.token()
    twice = [("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}")]
    assert (await here.http.get(f"{BASE}/Patient", headers=twice)).status_code == 401
    assert (await here.http.get(f"{BASE}/Patient", params={"access_token": good})).status_code == 401
    assert (await here.http.get(f"{BASE}/Patient", headers={"Authorization": f"bearer {good}"})).status_code == 200


def part(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_what_only_looks_like_a_token_is_none(here: World) -> None:
    good = await here.token()
    assert (await here.get(good)).status_code == 200
    first, second, third = good.split(".")
    header, said = jose.read(good).header, jose.read(good).claims
    keyring = here.smart.exchange.keyring
    key, stranger = keyring.signer(), RSAKey.generate_key(2048, {"kid": str(header["kid"])})
    secret = keyring.verifying()[0].as_pem(private=False)
    hs = f"{part(header | {'alg': 'HS256'})}.{second}"
    for forged in (
        f"{part(header | {'alg': 'none'})}.{second}.AA",
        f"{part(header | {'alg': 'none'})}.{second}.",
        f"{hs}.{urlsafe_b64encode(hmac.digest(secret, hs.encode(), 'sha256')).rstrip(b'=').decode()}",
        f"{first}.{part(said | {'scope': 'system/*.cruds'})}.{third}",
        jose.sign({"alg": "RS256", "typ": "at+jwt"}, said, stranger),
        jose.sign(
            {"alg": "RS384", "typ": "at+jwt"}, said, RSAKey.import_key(key.as_dict(private=True) | {"alg": "RS384"})
        ),
        jose.sign({"alg": "RS256", "typ": "JWT"}, said, key),
        jose.sign({"alg": "RS256", "typ": "at+jwt"}, said | {"aud": "other"}, key),
        jose.sign({"alg": "RS256", "typ": "at+jwt"}, said | {"iss": "https://evil.test"}, key),
        jose.sign({"alg": "RS256", "typ": "at+jwt"}, said | {"exp": int(time.time())}, key),
        jose.sign({"alg": "RS256", "typ": "at+jwt", "jku": "https://evil.test/keys"}, said, key),
        jose.sign({"alg": "RS256", "typ": "at+jwt", "jwk": stranger.as_dict(private=False)}, said, key),
        signed(claims()),
    ):
        await refused(here, forged)


async def test_a_token_nobody_wrote_down_is_none(here: World) -> None:
    """Signed with the gateway's own key, as whoever steals it might: it would be in the database."""
    keyring = here.smart.exchange.keyring
    said = token.claims(keyring.gateway, "app", "j", "system/*.rs", "direct-care", int(time.time()))
    assert "revoked" in await refused(here, token.sign(said, keyring.signer()))


async def test_a_registration_decides_at_every_request(here: World) -> None:
    good = await here.token(scope="system/*.rs")
    assert (await permitted(here, good))["scopes"] == ["system/*.rs"]
    await here.register(scopes="system/Patient.r")
    assert (await permitted(here, good))["scopes"] == ["system/Patient.r"]
    await here.register(clearance=4)
    assert (await permitted(here, good))["clearance"] == 4
    await here.register(patient="p2")
    assert "registered for another" in await refused(here, good)
    await here.register(purposes=("planning",))
    assert "may no longer ask for the purpose" in await refused(here, good, 403)
    await here.register(active=False)
    assert "no longer active" in await refused(here, good)
    await here.register()
    assert (await here.get(good)).status_code == 200


async def test_a_deactivated_application_is_out_at_every_process_at_once(here: World, tmp_path: Path) -> None:
    good = await here.token()
    async with world(here.url, here.keys) as other:
        assert (await other.get(good)).status_code == 200
        async with here.smart.connect() as connection:
            await registrations.activate(connection, "app", False)
        assert [each.status_code for each in (await here.get(good), await other.get(good))] == [401, 401]
        async with here.smart.connect() as connection:
            await registrations.activate(connection, "app", True)
            await registrations.revoke_all(connection, "app")
        assert [each.status_code for each in (await here.get(good), await other.get(good))] == [401, 401]


async def test_an_agreement_that_ends_takes_the_permit_with_it(here: World) -> None:
    await here.register("study", purposes=("research",), agreement="DARS-1", agreement_until=SOON)
    good = await here.token("study")
    assert (await here.get(good)).status_code == 200
    await here.register("study", purposes=("research",), agreement="DARS-1", agreement_until=SOON - timedelta(hours=2))
    assert "agreement" in await refused(here, good, 403)


async def test_who_asks_too_often_waits(here: World) -> None:
    await here.register("eager", rate=3)
    good = await here.token("eager")
    tried = [await here.get(good) for _ in range(4)]
    assert [each.status_code for each in tried] == [200, 200, 200, 429]
    assert [each.headers["ratelimit"].split(";")[1] for each in tried] == ["r=2", "r=1", "r=0", "r=0"]
    assert tried[0].headers["ratelimit-policy"] == '"registration";q=3;w=60'
    assert int(tried[3].headers["retry-after"]) in (19, 20)
    assert tried[3].json()["issue"][0]["code"] == "throttled"
    assert (await here.get(await here.token())).status_code == 200


async def test_a_database_that_is_away_is_no_permit(here: World) -> None:
    good = await here.token()

    def away() -> Any:
        raise OSError

    here.smart.gatekeeper.connect = away
    answered = await here.get(good)
    assert (answered.status_code, answered.headers["retry-after"]) == (503, "5")
    assert answered.json()["issue"][0]["code"] == "transient"


async def test_keys_that_cannot_be_had_are_no_permit(database: str, tmp_path: Path) -> None:
    there = {**STAFF, "jwks": None, "jwks_url": "https://127.0.0.1:1/keys"}
    (tmp_path / "issuers.yaml").write_text(json.dumps([there]))
    async with world(database, tmp_path / "keys", issuers=tmp_path / "issuers.yaml") as here:
        assert "cannot be verified now" in await refused(here, login(), 503)
        assert "nobody here knows its issuer" in await refused(here, login("https://other.test"))


async def test_a_practitioner_from_another_issuer(here: World) -> None:
    assert await permitted(here, login(roles=["senior", "junior"])) == {
        "organisation": "Z9C01",
        "purpose": "direct-care",
        "scopes": ["user/*.rs"],
        "practitioner": "w1",
        "parties": [CODE, "Organization/o1", "Practitioner/w1", "Organization/team", SECTOR.format("nhs")],
        "clearance": 2,
        "registration": ISSUER,
        "roles": ["break-glass"],
    }


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({"typ": "JWT"}, {}),
        ({"alg": "PS256"}, {}),
        ({"alg": "RS384"}, {}),
        ({}, {"aud": "other"}),
        ({}, {"iss": "https://other.test"}),
        ({}, {"iss": "https://login.test/"}),
        ({}, {"exp": int(time.time()) - 10}),
        ({}, {"nonce": "n"}),
        ({}, {"uid": None}),
        ({}, {"org": None}),
    ],
)
async def test_another_issuers_other_tokens_are_none(
    here: World, header: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert (await here.get(login())).status_code == 200
    key = RSAKey.import_key({name: value for name, value in LOGIN.as_dict(private=True).items() if name != "alg"})
    now = int(time.time())
    said = {"iss": ISSUER, "aud": "fhirgw", "iat": now, "exp": now + 300, "org": "Z9C01", "uid": "111", "roles": ["x"]}
    said = {name: value for name, value in (said | changes).items() if value is not None}
    await refused(here, jose.sign({"alg": "RS256", "typ": "at+jwt"} | header, said, key))


async def test_an_issuer_elsewhere_cannot_speak_for_the_gateway(here: World) -> None:
    keyring = here.smart.exchange.keyring
    said = token.claims(keyring.gateway, "app", "j", "system/*.cruds", "direct-care", int(time.time()))
    await refused(here, jose.sign({"alg": "RS256", "typ": "at+jwt"}, said, LOGIN))


async def test_a_practitioner_nobody_knows_is_not_let_in(here: World) -> None:
    assert "practitioner of this token is not known" in await refused(here, login(uid="222"), 403)


async def test_a_person_is_the_one_patient_with_their_number(here: World) -> None:
    await here.register("portal", purposes=("person",), scopes="patient/*.rs", jwks=None)

    def person(number: str) -> str:
        return login("https://people.test", nhs_number=number)

    found = await permitted(here, person("9000000009"))
    assert (found["patient"], found["purpose"], found["registration"]) == ("p1", "person", "portal")
    for number in ("9000000017", "9000000025"):
        told = await refused(here, person(number), 403)
        assert number not in told
        assert "No record can be told" in told
    await refused(here, person("9000000001"))


async def test_people_of_an_issuer_do_not_share_a_rate(here: World) -> None:
    await here.register("portal", purposes=("person",), scopes="patient/*.rs", jwks=None, rate=1)
    one, other = (login("https://people.test", nhs_number=each) for each in ("9000000009", "9000000017"))
    assert [(await here.get(each)).status_code for each in (one, one, other, other)] == [200, 429, 403, 429]


async def test_a_registration_shuts_out_a_whole_issuer(here: World) -> None:
    person = login("https://people.test", nhs_number="9000000009")
    await refused(here, person)
    await here.register("portal", purposes=("person",), scopes="patient/Task.r", jwks=None)
    assert (await permitted(here, person))["scopes"] == ["patient/Task.r"]
    await here.register("portal", purposes=("person",), scopes="patient/*.rs", jwks=None, active=False)
    await refused(here, person)


async def granted(here: World, practitioner: str = "w1", minutes: int = 0) -> str:
    """A grant for one person, so many minutes ago."""
    permit = Permit("Z9C01", "direct-care", scopes("user/*.rs"), practitioner=practitioner)
    async with here.smart.connect() as connection:
        made = await break_glass.grant(connection, permit, "p9", "found unconscious at home", lambda grant: None)
        earlier = "UPDATE fhirgw.break_glass SET granted = granted - $2::interval, expires = expires - $2::interval"
        await connection.execute(f"{earlier} WHERE id = $1", made.id, timedelta(minutes=minutes))
    return made.id


async def test_a_broken_glass_shows_one_person(here: World) -> None:
    grant = await granted(here)
    assert await permitted(here, login(roles=["senior"]), **{"x-break-glass": grant}) == {
        "organisation": "Z9C01",
        "purpose": "emergency",
        "scopes": ["user/*.rs"],
        "patient": "p9",
        "practitioner": "w1",
        "parties": [CODE, "Organization/o1", "Practitioner/w1", "Organization/team", SECTOR.format("nhs")],
        "clearance": EVERY & ~SEALED,
        "grant": grant,
        "registration": ISSUER,
        "roles": ["break-glass"],
    }
    assert (await permitted(here, login(roles=["senior"])))["purpose"] == "direct-care"


async def test_a_glass_is_broken_by_whom_it_was_granted(here: World) -> None:
    mine = await granted(here)
    for grant in (await granted(here, practitioner="w2"), await granted(here, minutes=31), "nothing"):
        assert "no such grant" in await refused(here, login(roles=["senior"]), 403, **{"x-break-glass": grant})
    assert "needs the role" in await refused(here, login(roles=["junior"]), 403, **{"x-break-glass": mine})
    await here.register(roles=("break-glass",))
    assert "user scope" in await refused(here, await here.token(), 403, **{"x-break-glass": mine})


async def test_a_safeguarding_case_is_named_by_whoever_has_the_role(here: World) -> None:
    case = {"x-safeguarding-case": "f1"}
    both = ("direct-care", "safeguarding")
    await here.register("lead", scopes="user/*.rs", practitioner="w1", roles=("safeguarding",), purposes=both)
    found = await permitted(here, await here.token("lead", scope="user/*.rs"), **case)
    assert (found["purpose"], found["case"]) == ("safeguarding", "f1")
    await here.register("worker", scopes="user/*.rs", practitioner="w1")
    assert "needs the role" in await refused(here, await here.token("worker", scope="user/*.rs"), 403, **case)
    await here.register("former", scopes="user/*.rs", practitioner="w1", roles=("safeguarding",))
    told = await refused(here, await here.token("former", scope="user/*.rs"), 403, **case)
    assert "registered for safeguarding" in told


async def test_a_glass_ends_for_every_process_at_once(here: World, tmp_path: Path) -> None:
    """By the database's clock, which all of them share, to the moment."""
    grant = {"x-break-glass": await granted(here, minutes=29)}
    async with world(here.url, tmp_path / "keys", issuers=tmp_path / "issuers.yaml") as other:
        for each in (here, other):
            assert (await permitted(each, login(roles=["senior"]), **grant))["purpose"] == "emergency"
        async with here.smart.connect() as connection:
            await connection.execute("UPDATE fhirgw.break_glass SET expires = clock_timestamp()")
        for each in (here, other):
            assert "no such grant" in await refused(each, login(roles=["senior"]), 403, **grant)


async def audited(here: World) -> tuple[str, str, str, str, list[str]]:
    """The newest AuditEvent: its outcome, application, organisation, purpose, and the staff it names."""
    async with here.smart.connect() as connection:
        (newest,) = await listed(connection, count=1)
    event = orjson.loads(newest.body)
    found = facets(event)
    staff = [each["who"]["reference"] for each in event["agent"] if "reference" in each["who"]]
    return event.get("outcomeDesc", ""), found.registration, found.organisation, found.purpose, staff


async def test_a_refusal_is_audited_with_who_asked(here: World) -> None:
    """Whoever has a token that was signed here, or by a known issuer, is not nobody to the person and the auditors."""
    ordinary, glass, case = await here.token(), {"x-break-glass": "none"}, {"x-safeguarding-case": "f1"}
    assert (await here.get(ordinary)).status_code == 200
    assert await audited(here) == ("", "app", "Z9C01", "direct-care", [])
    for sent in (glass, case):
        await refused(here, ordinary, 403, **sent)
        assert await audited(here) == ("refused: 403", "app", "Z9C01", "direct-care", [])
    await refused(here, login(roles=["senior"], org="RX1"), 403, **glass)
    assert await audited(here) == ("refused: 403", ISSUER, "RX1", "direct-care", ["Practitioner/w1"])
    async with here.smart.connect() as connection:
        await registrations.revoke_all(connection, "app")
    assert "revoked" in await refused(here, ordinary)
    assert await audited(here) == ("refused: 401", "app", "Z9C01", "direct-care", [])
    await refused(here, "nothing")
    assert await audited(here) == ("refused: 401", "", "", "", [])


async def test_a_request_too_many_is_audited_with_who_asked(here: World) -> None:
    await here.register("mine", purposes=("person",), scopes="patient/*.rs", patient="p1", rate=1)
    good = await here.token("mine", scope="patient/*.rs")
    assert (await here.get(good)).status_code == 200
    await refused(here, good, 429)
    assert await audited(here) == ("refused: 429", "mine", "Z9C01", "person", ["Patient/p1"])


async def test_a_purpose_that_was_taken_away_is_audited_with_who_asked(here: World) -> None:
    both = await here.register("lead", scopes="user/*.rs", practitioner="w1", purposes=("direct-care", "safeguarding"))
    good = await here.token("lead", scope="user/*.rs", purpose="safeguarding")
    assert "needs a case" in await refused(here, good, 403)
    assert await audited(here) == ("refused: 403", "lead", "Z9C01", "safeguarding", ["Practitioner/w1"])
    async with here.smart.connect() as connection:
        await registrations.add(connection, replace(both, purposes=("direct-care",)), replace_it=True)
    assert "no longer" in await refused(here, good, 403)
    assert await audited(here) == ("refused: 403", "lead", "Z9C01", "safeguarding", ["Practitioner/w1"])


async def test_an_application_is_looked_through_as_it_would_ask(here: World) -> None:
    """What `fhirgw explain --who app` and `export --app` use is what the application's own token comes to."""
    made = await here.register(
        "carer", purposes=("person",), scopes="patient/*.rs", patient="p1", delegate="RelatedPerson/d1"
    )
    told = await permitted(here, await here.token("carer", scope="patient/*.rs"))
    async with here.smart.gatekeeper.connect() as connection:
        permit = await as_registered(connection, made)
    found = {name: value for name, value in asdict(permit).items() if value and name != "controls"}
    assert found | {"scopes": [str(each) for each in permit.scopes], "parties": list(permit.parties)} == told


async def test_no_token_is_told_in_an_answer(here: World) -> None:
    """What was sent is not repeated: a token in a log is a token."""
    sent = form(signed(claims(), EC), scope="nonsense canary")
    answered = await here.http.post(f"{BASE}/oauth/token", data=sent)
    assert "canary" not in answered.text
    answered = await here.get("canary.canary.canary")
    assert "canary" not in answered.text + str(answered.headers)
