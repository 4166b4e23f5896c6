"""Applications on the command line: registered, shown, kept out, given other keys; and a token to try things with."""

import stat
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from joserfc.jwk import ECKey, RSAKey

from fhirgw.access import jose
from fhirgw.cli.apps import ensured, got
from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from tests.cli.conftest import Command, Ended

EC = ECKey.generate_key("P-384", auto_kid=True)
DEMO = ("app", "add", "demo", "--scope", "system/*.rs", "--generate")


@pytest.fixture
def app(command: Command, database: str) -> Command:
    """A command on the test's own database."""
    return lambda *arguments, **environment: command(*arguments, FHIRGW_DATABASE_URL=database, **environment)


def done(ended: Ended) -> Any:
    assert ended.code == 0, ended.err
    return orjson.loads(ended.out)


def jwks(path: Path, *keys: Any) -> Path:
    path.write_bytes(orjson.dumps({"keys": [key.as_dict(private=False) for key in keys]}))
    return path


def claims(token: str) -> dict[str, Any]:
    return jose.read(token.strip()).claims


def test_an_application_is_registered_with_a_key_of_its_own(app: Command, tmp_path: Path) -> None:
    made = done(app(*DEMO, "--json", FHIRGW_CONTROLLER="Z9C07"))
    path = tmp_path / "data" / "keys" / "demo.json"
    assert made["key_file"] == str(path)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    private = orjson.loads(path.read_bytes())
    assert (private["alg"], private["crv"], "d" in private) == ("ES384", "P-384", True)
    (public,) = made["jwks"]["keys"]
    assert (public["kid"], "d" in public) == (private["kid"], False)
    kept = ("id", "organisation", "scopes", "purposes", "clearance", "roles", "rate", "active", "sector")
    assert {name: made[name] for name in kept} == {
        "id": "demo",
        "organisation": "Z9C07",
        "scopes": ["system/*.rs"],
        "purposes": ["direct-care"],
        "clearance": [],
        "roles": [],
        "rate": 6000,
        "active": True,
        "sector": "nhs",
    }


def test_everything_about_it_can_be_said(app: Command, tmp_path: Path) -> None:
    arguments = [
        *("--scope", "user/*.rs", "--scope", "user/Task.cruds", "--jwks", str(jwks(tmp_path / "k.json", EC))),
        *("--organisation", "RX1", "--sector", "care-provider", "--purpose", "research", "--purpose", "direct-care"),
        *("--role", "break-glass", "--clear", "restricted", "--clear", "safeguarding", "--clear", "restricted"),
        *("--patient", "p1", "--practitioner", "w1", "--agreement", "DARS-1"),
        *("--agreement-until", "2030-01-31", "--rate", "7", "--title", "A study"),
    ]
    made = done(app("app", "add", "study", *arguments, "--json"))
    assert made["key_file"] is None
    assert made == made | {
        "name": "A study",
        "organisation": "RX1",
        "sector": "care-provider",
        "scopes": ["user/*.rs", "user/Task.cruds"],
        "purposes": ["research", "direct-care"],
        "roles": ["break-glass"],
        "clearance": ["restricted", "safeguarding"],
        "patient": "p1",
        "practitioner": "w1",
        "agreement": "DARS-1",
        "agreement_until": "2030-01-31T00:00:00+00:00",
        "rate": 7,
    }
    assert done(app("app", "show", "study", "--json")) == made
    shown = app("app", "show", "study").out
    assert "user/*.rs, user/Task.cruds" in shown
    assert str(EC.kid) in shown


def test_applications_are_listed(app: Command) -> None:
    assert "fhirgw app add" in app("app", "list").out
    done(app(*DEMO, "--json"))
    assert [each["id"] for each in done(app("app", "list", "--json"))] == ["demo"]
    assert "demo" in app("app", "list").out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["add", "x", "--scope", "system/*.rs"], 2, "one of --jwks FILE, --jwks-url URL and --generate"),
        (["add", "x", "--scope", "system/*.rs", "--generate", "--jwks-url", "https://a.test/k"], 2, "one of --jwks"),
        (["add", "x", "--generate"], 2, "Missing option '--scope'"),
        (["add", "x", "--scope", "system/*.sr", "--generate"], 2, "--scope: A scope is not one this gateway knows"),
        (["add", "../x", "--scope", "system/*.rs", "--generate"], 2, "An application's name has letters"),
        (["add", "x", "--scope", "system/*.rs", "--generate", "--purpose", "fun"], 2, "--purpose: there is no 'fun'"),
        (
            ["add", "x", "--scope", "system/*.rs", "--generate", "--purpose", "operations"],
            2,
            "there is no 'operations'",
        ),
        (["add", "x", "--scope", "system/*.rs", "--generate", "--role", "king"], 2, "--role: there is no 'king'"),
        (["add", "x", "--scope", "system/*.rs", "--generate", "--clear", "all"], 2, "--clear: there is no 'all'"),
        (["add", "x", "--scope", "system/*.rs", "--jwks-url", "http://a.test/k"], 2, "is not an https address"),
        (["add", "x", "--scope", "system/*.rs", "--jwks", "nowhere.json"], 3, "nowhere.json is no JWK set"),
        (["show", "x"], 2, "There is no application 'x'"),
        (["activate", "x"], 2, "There is no application 'x'"),
        (["rotate", "x", "--generate"], 2, "There is no application 'x'"),
    ],
)
def test_what_cannot_be_meant_is_told(app: Command, arguments: list[str], code: int, message: str) -> None:
    ended = app("app", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert message in " ".join(ended.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"keys": [EC.as_dict(private=True)]}, "a key is private"),
        (EC.as_dict(private=True), "a key is private"),
        ({"keys": [ECKey.generate_key("P-256", auto_kid=True).as_dict(private=False)]}, "no key is for ES384"),
        ({"keys": []}, "no key is for ES384"),
        ({"keys": 7}, "is no JWK set"),
        ([], "is no JWK set"),
    ],
)
def test_keys_that_cannot_be_registered_are_refused(app: Command, tmp_path: Path, keys: Any, message: str) -> None:
    path = tmp_path / "k.json"
    path.write_bytes(orjson.dumps(keys))
    ended = app("app", "add", "x", "--scope", "system/*.rs", "--jwks", str(path))
    assert (ended.code, ended.out) == (3, "")
    assert message in ended.err
    assert app("app", "show", "x").code == 2


def test_a_name_is_taken_once_and_its_key_is_kept(app: Command, tmp_path: Path) -> None:
    done(app(*DEMO, "--json"))
    path = tmp_path / "data" / "keys" / "demo.json"
    before = path.read_bytes()
    ended = app(*DEMO)
    assert (ended.code, "There is an application 'demo' already" in ended.err) == (3, True)
    assert path.read_bytes() == before


def test_a_token_is_printed_and_nothing_else(app: Command) -> None:
    done(app(*DEMO, "--json"))
    printed = app("token", "--app", "demo", "--scope", "system/Patient.read")
    assert (printed.code, printed.out.count("\n")) == (0, 1)
    said = claims(printed.out)
    assert (said["client_id"], said["scope"], said["purpose"]) == ("demo", "system/Patient.read", "direct-care")
    answered = done(app("token", "--app", "demo", "--json"))
    assert (answered["scope"], answered["expires_in"]) == ("system/*.rs", 300)
    assert claims(answered["access_token"])["aud"] == said["aud"]


def test_a_token_is_got_with_an_rsa_key_too(app: Command, tmp_path: Path) -> None:
    key = RSAKey.generate_key(2048, {"alg": "RS384"}, auto_kid=True)
    done(app("app", "add", "rsa", "--scope", "system/*.rs", "--jwks", str(jwks(tmp_path / "k.json", key)), "--json"))
    assert "There is no private key" in app("token", "--app", "rsa").err
    (tmp_path / "data" / "keys").mkdir(exist_ok=True, parents=True)
    (tmp_path / "data" / "keys" / "rsa.json").write_bytes(orjson.dumps(key.as_dict(private=True)))
    assert claims(app("token", "--app", "rsa").out)["client_id"] == "rsa"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scope", "system/*.cud"], "No token for demo (invalid_scope). None of these scopes"),
        (["--scope", "patient/*.rs"], "(invalid_scope)"),
        (["--scope", "nonsense"], "(invalid_scope)"),
        (["--purpose", "research"], "(invalid_request)"),
    ],
)
def test_a_token_is_refused_as_the_endpoint_would(app: Command, arguments: list[str], message: str) -> None:
    done(app(*DEMO, "--json"))
    ended = app("token", "--app", "demo", *arguments)
    assert (ended.code, ended.out) == (3, "")
    assert message in ended.err


def test_who_is_kept_out_gets_no_token(app: Command) -> None:
    done(app(*DEMO, "--json"))
    assert app("app", "deactivate", "demo").out == "demo is kept out.\n"
    assert "no longer active" in app("token", "--app", "demo").err
    assert done(app("app", "activate", "demo", "--json"))["active"] is True
    assert app("token", "--app", "demo").code == 0


def test_other_keys_take_the_old_ones_place(app: Command, tmp_path: Path) -> None:
    done(app(*DEMO, "--json"))
    path = tmp_path / "data" / "keys" / "demo.json"
    old = path.read_bytes()
    rotated = done(app("app", "rotate", "demo", "--generate", "--json"))
    assert rotated["jwks"]["keys"][0]["kid"] == orjson.loads(path.read_bytes())["kid"] != orjson.loads(old)["kid"]
    assert app("token", "--app", "demo").code == 0
    path.write_bytes(old)
    assert "(invalid_client)" in app("token", "--app", "demo").err


def test_an_application_may_have_its_keys_elsewhere(app: Command) -> None:
    made = done(app("app", "add", "staff", "--scope", "user/*.rs", "--elsewhere", "--json"))
    assert (made["jwks"], made["jwks_url"], made["key_file"]) == (None, None, None)
    published = done(
        app("app", "add", "ics", "--scope", "system/*.rs", "--jwks-url", "https://ics.test/keys", "--json")
    )
    assert published["jwks_url"] == "https://ics.test/keys"


async def test_an_application_can_be_ensured_twice(database: str, tmp_path: Path) -> None:
    given = Settings(database_url=database, data=tmp_path)
    connection = await asyncpg.connect(database)
    try:
        first = await ensured(connection, given, Registration("demo", "Z9C01", "system/*.rs"))
        again = await ensured(connection, given, Registration("demo", "Z9C01", "system/*.r", clearance=1))
        assert first.jwks == again.jwks
        assert (again.scopes, again.clearance) == ("system/*.r", 1)
        assert (await got(connection, given, "demo", "system/*.rs"))["scope"] == "system/*.r"
    finally:
        await connection.close()


def test_nobody_is_asked_for_outside_the_keys_folder(app: Command, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(orjson.dumps(EC.as_dict(private=True)))
    ended = app("token", "--app", "../../x", "--scope", "system/*.rs")
    assert (ended.code, "An application's name has letters" in ended.err) == (2, True)


def test_a_delegate_is_registered_for_the_person_and_for_nothing_else(app: Command) -> None:
    asked = (
        "app",
        "add",
        "carer",
        "--scope",
        "patient/*.rs",
        "--generate",
        "--patient",
        "p1",
        "--delegate",
        "RelatedPerson/d",
    )
    refused = app(*asked)
    assert (refused.code, "say --purpose person" in refused.err) == (2, True)
    assert done(app(*asked, "--purpose", "person", "--json"))["delegate"] == "RelatedPerson/d"
