"""The token endpoint and its neighbours: whoever keeps SMART's rules is given a token, and nobody else."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from fhirgw.access import assertion, jose
from fhirgw.access.assertion import LEEWAY, LONGEST
from fhirgw.access.scope import Scope
from fhirgw.api.exchange import Exchange
from fhirgw.store import registration as registrations
from fhirgw.store.registration import Registration
from tests.api.smart_world import BASE, EC, OTHER, RSA, TOKEN, World, claims, form, jwks, signed, world

SOON = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
async def here(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """A gateway with one application."""
    async with world(database, tmp_path / "keys") as made:
        await made.register()
        yield made


def said(token: str) -> dict[str, Any]:
    return jose.read(token).claims


async def test_the_configuration_says_where_and_how(here: World) -> None:
    answered = await here.http.get(f"{BASE}/.well-known/smart-configuration", headers={"accept": "text/html"})
    assert (answered.status_code, answered.headers["content-type"]) == (200, "application/json")
    told = answered.json()
    assert told["token_endpoint"] == TOKEN
    assert told["grant_types_supported"] == ["client_credentials"]
    supported = set(told["scopes_supported"])
    assert {"system/*.cruds", "user/*.cruds", "patient/*.rs", "system/*.write", "system/AuditEvent.r"} <= supported
    assert all(Scope.parse(each) for each in supported)
    assert told["code_challenge_methods_supported"] == ["S256"]
    assert {"client-confidential-asymmetric", "permission-v1", "permission-v2"} <= set(told["capabilities"])
    metadata = AuthorizationServerMetadata(told)
    metadata.validate_token_endpoint_auth_methods_supported()
    metadata.validate_token_endpoint_auth_signing_alg_values_supported()
    metadata.validate_introspection_endpoint_auth_methods_supported()
    metadata.validate_revocation_endpoint_auth_methods_supported()


@pytest.mark.parametrize("key", [EC, RSA])
async def test_an_assertion_is_exchanged_for_a_token(here: World, key: jose.Key) -> None:
    answered = await here.ask(signed(claims(), key))
    assert answered.status_code == 200
    assert (answered.headers["cache-control"], answered.headers["pragma"]) == ("no-store", "no-cache")
    told = answered.json()
    token = told.pop("access_token")
    assert told == {"token_type": "bearer", "expires_in": 300, "scope": "system/*.rs"}
    assert jose.read(token).header["typ"] == "at+jwt"
    gateway = here.smart.exchange.keyring.gateway
    found = {name: value for name, value in said(token).items() if name not in ("iat", "exp", "jti")}
    assert found == {
        "iss": gateway,
        "aud": gateway,
        "sub": "app",
        "client_id": "app",
        "scope": "system/*.rs",
        "purpose": "direct-care",
    }
    assert (await here.get(token)).status_code == 200


async def test_another_implementation_gets_a_token_too(here: World) -> None:
    """Authlib's way of signing a request, which knows nothing of this gateway."""
    expires = {"exp": int(time.time()) + 300}
    method = PrivateKeyJWT(TOKEN, claims=expires, headers={"kid": EC.kid, "typ": "JWT"}, alg="ES384")
    application = SimpleNamespace(client_id="app", client_secret=EC)
    asked = "grant_type=client_credentials&scope=system/*.rs"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    _, headers, body = method(application, "POST", TOKEN, headers, asked)
    answered = await here.http.post(TOKEN, content=body, headers=headers)
    assert (answered.status_code, answered.json()["scope"]) == (200, "system/*.rs")


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("system/*.read", "system/*.read"),
        ("system/Patient.rs system/Task.read", "system/Patient.rs system/Task.read"),
        ("system/*.cruds", "system/*.rs"),
        ("system/Patient.*", "system/Patient.rs"),
        ("system/Observation.rs?status=final", "system/Observation.rs?status=final"),
        ("system/Patient.rs patient/*.rs user/*.rs", "system/Patient.rs"),
        ("openid system/*.rs launch/patient offline_access", "system/*.rs"),  # what is not about records is left out
    ],
)
async def test_scopes_are_granted_within_what_is_registered(here: World, asked: str, given: str) -> None:
    answered = (await here.ask(scope=asked)).json()
    assert answered["scope"] == given
    assert said(answered["access_token"])["scope"] == given


@pytest.mark.parametrize(
    "scope",
    [
        *("", " ", "launch fhirUser", "openid", "system/*.dus", "system/*.xyz", "system/Nonsense.rs", "system/*.c"),
        *("patient/*.rs", "user/*.rs", "system/Observation.rs?date=2025", "system/*.rs  system/Task.rs"),
        *("system/*.rs openidx", "system/*.rs launch/", "system/*.sr"),
    ],
)
async def test_scopes_that_grant_nothing_are_refused(here: World, scope: str) -> None:
    answered = await here.ask(scope=scope)
    assert (answered.status_code, answered.json()["error"]) == (400, "invalid_scope")


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"grant_type": None}, 400, "invalid_request"),
        ({"grant_type": "authorization_code"}, 400, "unsupported_grant_type"),
        ({"scope": None}, 400, "invalid_scope"),
        ({"client_assertion_type": None}, 401, "invalid_client"),
        ({"client_assertion_type": "urn:x"}, 401, "invalid_client"),
        ({"client_assertion": None}, 401, "invalid_client"),
        ({"client_assertion": "a.b.c"}, 401, "invalid_client"),
        ({"client_id": "other"}, 401, "invalid_client"),
        ({"purpose": "research"}, 400, "invalid_request"),
    ],
)
async def test_a_request_that_lacks_something_is_refused(
    here: World, changes: dict[str, str | None], status: int, error: str
) -> None:
    assert (await here.ask(client_id="app", purpose="direct-care")).status_code == 200
    answered = await here.ask(signed(claims()), **changes)
    assert (answered.status_code, answered.json()["error"]) == (status, error)
    assert (answered.headers["cache-control"], answered.headers["pragma"]) == ("no-store", "no-cache")
    assert ("www-authenticate" in answered.headers) == (status == 401)


async def test_a_request_is_a_form_each_field_once(here: World) -> None:
    good = form(signed(claims()))
    pairs = [*good.items(), ("scope", "system/*.cruds")]
    body = "&".join(f"{name}={value}" for name, value in pairs)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for sent in (
        here.http.post(TOKEN, json=good),
        here.http.post(TOKEN, content=body, headers=headers),
        here.http.post(TOKEN, content=b"\xff", headers=headers),
        here.http.post(TOKEN, content=b"x=1&" * 100, headers=headers),
        here.http.post(TOKEN, data=good | {"x": "y" * 70_000}),
        here.http.post(TOKEN, data=good, headers={"authorization": "Basic YTpi"}),
    ):
        answered = await sent
        assert (answered.status_code, answered.json()["error"]) == (400, "invalid_request")
    assert (await here.http.post(TOKEN, data=good)).status_code == 200


@pytest.mark.parametrize(
    "made",
    [
        lambda: signed(claims(), OTHER),
        lambda: signed(claims("nobody")),
        lambda: signed(claims("out")),
        lambda: signed(claims("elsewhere")),
        lambda: signed(claims(sub="other")),
        lambda: signed(claims(aud=f"{BASE}/oauth/introspect")),
        lambda: signed(claims(aud=[TOKEN, "http://other.test"])),
        lambda: signed(claims(exp=int(time.time()) + LONGEST + LEEWAY + 5)),
        lambda: signed(claims(exp=int(time.time()) - 1)),
        lambda: signed(claims(jti=None)),
        lambda: signed(claims(), jku="http://gateway.test/keys"),
    ],
)
async def test_an_assertion_that_breaks_a_rule_is_refused(here: World, made: Any) -> None:
    """Every rule is judged in tests/access/test_access_assertion.py: here, that the endpoint judges."""
    await here.register("out", active=False)
    await here.register("elsewhere", jwks=None)
    assert (await here.ask(signed(claims()))).status_code == 200
    answered = await here.ask(made())
    assert (answered.status_code, answered.json()["error"]) == (401, "invalid_client")
    assert (await here.http.get(f"{BASE}/Patient", params={"access_token": "x"})).status_code == 401


async def test_an_access_token_is_no_assertion(here: World) -> None:
    answered = await here.ask(await here.token())
    assert (answered.status_code, answered.json()["error"]) == (401, "invalid_client")


async def test_an_assertion_is_used_once(here: World, tmp_path: Path) -> None:
    """Not again at once, nor at another process, nor after a restart, nor for something else."""
    used = signed(claims())
    tried = await asyncio.gather(*(here.ask(used) for _ in range(5)))
    assert sorted(each.status_code for each in tried) == [200, 401, 401, 401, 401]
    assert {each.json()["error_description"] for each in tried if each.status_code == 401} == {
        "The client assertion is refused: its jti was used before"
    }
    async with world(here.url, tmp_path / "other keys") as restarted:
        assert (await restarted.ask(used)).status_code == 401
        assert (await restarted.ask(signed(claims()))).status_code == 200
    revoking = await here.http.post(f"{BASE}/oauth/revoke", data=form(used, token="x"))
    assert revoking.status_code == 401


async def test_two_applications_may_use_one_jti(here: World) -> None:
    await here.register("other")
    for name in ("app", "other"):
        assert (await here.ask(signed(claims(name, jti="one")))).status_code == 200


async def test_other_keys_shut_out_the_old_ones_at_once(here: World) -> None:
    await here.register(jwks=jwks(OTHER))
    assert (await here.ask(signed(claims()))).status_code == 401
    assert (await here.ask(signed(claims(), OTHER))).status_code == 200


async def test_keys_replaced_meanwhile_give_no_token(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old key was good when it was looked at, and is not when the token would be written down."""

    async def replaced(exchange: Exchange, found: Registration, given: assertion.Assertion) -> list[jose.Key]:
        async with here.smart.connect() as connection:
            await registrations.rekey(connection, "app", jwks(OTHER), None)
        return jose.public_keys(found.jwks)

    monkeypatch.setattr(Exchange, "_keys", replaced)
    answered = await here.ask()
    assert (answered.status_code, answered.json()["error"]) == (401, "invalid_client")
    assert "has just been changed" in answered.json()["error_description"]


async def test_a_token_is_for_one_purpose(here: World) -> None:
    await here.register("study", purposes=("research", "direct-care"), agreement="DARS-1", agreement_until=SOON)
    assert said(await here.token("study"))["purpose"] == "research"
    assert said(await here.token("study", purpose="direct-care"))["purpose"] == "direct-care"
    refused = await here.ask(signed(claims("study")), purpose="planning")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"purposes": ("research",)}, "unauthorized_client"),
        (
            {"purposes": ("research",), "agreement": "X", "agreement_until": SOON - timedelta(days=1)},
            "unauthorized_client",
        ),
        ({"purposes": ("person",)}, "unauthorized_client"),
        ({"purposes": ("emergency",)}, "invalid_request"),
        ({"purposes": ("operations",)}, "invalid_request"),
    ],
)
async def test_a_purpose_has_what_it_rests_on(here: World, changes: dict[str, Any], error: str) -> None:
    await here.register(**changes)
    answered = await here.ask()
    assert (answered.status_code, answered.json()["error"]) == (400, error)


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ("user/*.rs", "user/*.rs: the application is registered without the practitioner that a user scope needs"),
        ("patient/*.rs", "patient/*.rs: the application is registered without the patient that a patient scope needs"),
        ("system/Task.rs", "registered for user/*.rs, patient/*.rs, system/Patient.rs, and not for system/Task.rs"),
        ("system/Task.rs?code=urn:x|Canary", "and not for system/Task.rs?..."),
        ("system/Patient.rs system/Canary.rs", "Scope 2 of 2: A scope is not one this gateway knows"),
    ],
)
async def test_a_scope_that_is_refused_is_told_truly_why(here: World, scope: str, told: str) -> None:
    await here.register("bare", scopes="user/*.rs patient/*.rs system/Patient.rs")
    answered = await here.ask(signed(claims("bare")), scope=scope)
    assert (answered.status_code, answered.json()["error"]) == (400, "invalid_scope")
    assert told in answered.json()["error_description"]
    assert "Canary" not in answered.text
    assert (await here.ask(signed(claims("bare")), scope="system/Patient.rs")).status_code == 200


async def test_a_persons_application_is_told_whose_record_it_is(here: World) -> None:
    await here.register("portal", purposes=("person",), scopes="patient/*.rs", patient="p1")
    answered = (await here.ask(signed(claims("portal")), scope="patient/*.read")).json()
    assert (answered["patient"], answered["scope"]) == ("p1", "patient/*.read")
    assert said(answered["access_token"])["patient"] == "p1"


async def test_who_asks_too_often_waits(here: World) -> None:
    await here.register("eager", rate=2)
    tried = [await here.ask(signed(claims("eager"))) for _ in range(3)]
    assert [each.status_code for each in tried] == [200, 200, 429]
    assert [each.headers["ratelimit"].split(";")[1] for each in tried] == ["r=1", "r=0", "r=0"]
    assert {each.headers["ratelimit-policy"] for each in tried} == {'"registration";q=2;w=60'}
    assert tried[2].json()["error"] == "temporarily_unavailable"
    assert int(tried[2].headers["retry-after"]) in (29, 30)
    assert (await here.ask()).status_code == 200


async def introspected(here: World, token: str, by: str | None = None, **headers: str) -> Any:
    known = {"authorization": f"Bearer {by}"} if by else {}
    answered = await here.http.post(f"{BASE}/oauth/introspect", data={"token": token}, headers=known | headers)
    assert answered.status_code == 200, answered.text
    return answered.json()


async def test_introspection_tells_an_application_what_its_token_is(here: World) -> None:
    token = await here.token()
    found = said(token)
    expected = {
        "active": True,
        "scope": "system/*.rs",
        "client_id": "app",
        "sub": "app",
        "token_type": "bearer",
        "iss": found["iss"],
        "exp": found["exp"],
        "purpose": "direct-care",
    }
    assert await introspected(here, token, by=token) == expected
    asked = await here.http.post(f"{BASE}/oauth/introspect", data=form(signed(claims()), token=token))
    assert asked.json() == expected


async def test_introspection_tells_nobody_of_anothers_token(here: World) -> None:
    await here.register("other")
    await here.register("inspector", roles=("introspect",))
    token = await here.token()
    assert await introspected(here, token, by=await here.token("other")) == {"active": False}
    assert (await introspected(here, token, by=await here.token("inspector")))["client_id"] == "app"


async def test_what_is_no_token_is_not_active(here: World) -> None:
    mine, gone = await here.token(), await here.token()
    await here.http.post(f"{BASE}/oauth/revoke", data=form(signed(claims()), token=gone))
    for token in (gone, "x", "a.b.c", signed(claims()), mine[:-4] + "AAAA"):
        assert await introspected(here, token, by=mine) == {"active": False}


@pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
async def test_neighbours_are_told_which_token(here: World, endpoint: str) -> None:
    """And count against the rate. https://www.rfc-editor.org/rfc/rfc7662#section-2.1"""
    await here.register("rare", rate=3)
    sent = [{"token": "x"}, {"token": ""}, {}, {"token": "x"}]
    answers = [
        await here.http.post(f"{BASE}/oauth/{endpoint}", data=form(signed(claims("rare")), **each)) for each in sent
    ]
    assert [each.status_code for each in answers] == [200, 400, 400, 429]
    assert answers[1].json() == {"error": "invalid_request", "error_description": "token: say which"}
    assert answers[3].json()["error"] == "temporarily_unavailable"
    assert [each.headers["ratelimit"].split(";")[1] for each in answers] == ["r=2", "r=1", "r=0", "r=0"]


async def test_introspection_tells_what_the_gate_would_take(here: World) -> None:
    """Not what was true when the token was made."""
    both = {"scopes": "patient/*.rs system/Task.rs", "patient": "p1"}
    await here.register("narrowed", **both)
    token = await here.token("narrowed", scope="patient/*.rs system/Task.rs")
    assert (await introspected(here, token, by=token))["scope"] == "patient/*.rs system/Task.rs"
    await here.register("narrowed", **both | {"scopes": "patient/Task.rs"})
    assert (await introspected(here, token, by=token))["scope"] == "patient/Task.rs"
    await here.register("narrowed", **both | {"patient": "p2"})
    await here.register("inspector", roles=("introspect",))
    assert await introspected(here, token, by=await here.token("inspector")) == {"active": False}
    assert (await here.get(token)).status_code == 401


@pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
async def test_neighbours_answer_nobody_they_do_not_know(here: World, endpoint: str) -> None:
    token = await here.token()
    address = f"{BASE}/oauth/{endpoint}"
    for sent in (
        here.http.post(address, data={"token": token}),
        here.http.post(address, data=form(signed(claims(), OTHER), token=token)),
        here.http.post(address, data={"token": token}, headers={"authorization": "Bearer x"}),
        here.http.post(address, data={"token": token}, headers={"authorization": "Basic YTpi"}),
    ):
        answered = await sent
        assert answered.status_code == 401
        assert answered.headers["www-authenticate"].startswith("Bearer")
        assert answered.json().keys() == {"error", "error_description"}  # one shape: RFC 6749, 5.2
        assert answered.json()["error"] in ("invalid_client", "invalid_token")
    assert (await here.get(token)).status_code == 200


async def test_a_revoked_token_is_none_from_the_next_request(here: World) -> None:
    token, other = await here.token(), await here.token()
    assert (await here.get(token)).status_code == 200
    for _ in range(2):
        answered = await here.http.post(f"{BASE}/oauth/revoke", data=form(signed(claims()), token=token))
        assert (answered.status_code, answered.content) == (200, b"")
    assert (await here.get(token)).status_code == 401
    assert (await here.get(other)).status_code == 200


async def test_nobody_revokes_anothers_token(here: World) -> None:
    await here.register("other")
    token = await here.token()
    answered = await here.http.post(f"{BASE}/oauth/revoke", data=form(signed(claims("other")), token=token))
    assert answered.status_code == 200
    assert (await here.get(token)).status_code == 200


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
async def test_the_endpoints_are_posted_to(here: World, endpoint: str) -> None:
    known = {} if endpoint == "token" else {"authorization": f"Bearer {await here.token()}"}
    answered = await here.http.get(f"{BASE}/oauth/{endpoint}", headers=known)
    assert (answered.status_code, answered.headers["allow"]) == (405, "OPTIONS, POST")


async def test_registrations_that_differ_in_keys_alone_do_not_share_them(here: World) -> None:
    made = await here.register("other", jwks=jwks(OTHER))
    assert made == replace(made, jwks=jwks(OTHER))
    assert (await here.ask(signed(claims("other"), EC))).status_code == 401
    assert (await here.ask(signed(claims("app"), OTHER))).status_code == 401
