"""Applications on the command line: registered, shown, kept out, given other keys; and a token to try things with."""

import asyncio
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
from fhirgw.store import registration as registrations
from fhirgw.store.registration import ODS_CODE, Registration
from tests.cli.conftest import Command, Ended
from tests.put import put

EC = ECKey.generate_key("P-384", auto_kid=True)
ADDED = ("add", "x", "--scope", "system/*.rs", "--generate")
DEMO = ("app", "add", "demo", "--scope", "system/*.rs", "--generate")


@pytest.fixture
def app(command: Command, database: str) -> Command:
    """A command on the test's own database."""
    return lambda *arguments, **environment: command(*arguments, FHIRGW_DATABASE_URL=database, **environment)


@pytest.fixture
def peopled(app: Command, database: str) -> Command:
    """The same, where somebody is held."""
    practitioner = {"resourceType": "Practitioner", "active": True}
    asyncio.run(
        put(
            database,
            {"resourceType": "Patient", "id": "p1"},
            {**practitioner, "id": "w1"},
            {**practitioner, "id": "left", "active": False},
            {"resourceType": "RelatedPerson", "id": "d", "patient": {"reference": "Patient/p1"}},
            {"resourceType": "Organization", "id": "o1", "identifier": [{"system": ODS_CODE, "value": "RX1"}]},
        )
    )
    return app


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
        "sector": "council",
    }


def test_everything_about_it_can_be_said(peopled: Command, tmp_path: Path) -> None:
    arguments = [
        *("--scope", "user/*.rs", "--scope", "user/Task.cruds", "--jwks", str(jwks(tmp_path / "k.json", EC))),
        *("--organisation", "RX1", "--sector", "care-provider", "--purpose", "research", "--purpose", "direct-care"),
        *("--role", "break-glass", "--clear", "restricted", "--clear", "safeguarding", "--clear", "restricted"),
        *("--patient", "p1", "--practitioner", "w1", "--agreement", "DARS-1", "--identifiable"),
        *("--agreement-until", "2030-01-31", "--rate", "7", "--title", "A study"),
    ]
    made = done(peopled("app", "add", "study", *arguments, "--json"))
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
    assert done(peopled("app", "show", "study", "--json")) == made
    shown = peopled("app", "show", "study").out
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
        (["add", "x", "--scope", "system/*.rs", "--jwks-url", "https://localhost/k"], 2, "this machine's own"),
        (["add", "x", "--scope", "system/*.rs", "--jwks-url", "https://10.0.0.1/k"], 2, "public addresses alone"),
        (["add", "x", "--scope", "system/*.rs", "--jwks-url", "https://[::ffff:169.254.169.254]/"], 2, "public addr"),
        (
            ["add", "x", "--scope", "system/*.rs", "--jwks", "nowhere.json"],
            3,
            "nowhere.json cannot be read (No such file",
        ),
        (["add", "operator", *ADDED[2:]], 2, "operator is what the audit calls the gateway's own"),
        ([*ADDED, "--organisation", "NOPE!"], 2, "--organisation is an ODS code"),
        ([*ADDED, "--organisation", "z9c01"], 2, "--organisation is an ODS code"),
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


def test_a_token_for_less_than_was_asked_says_so(app: Command) -> None:
    done(app(*DEMO, "--json"))
    narrower = app("token", "--app", "demo", "--scope", "system/*.cruds")
    assert (narrower.code, claims(narrower.out)["scope"]) == (0, "system/*.rs")
    assert narrower.err == (
        "Narrower than asked: demo is not registered for all of system/*.cruds. The token is for: system/*.rs\n"
    )
    assert "Narrower than asked" in app("token", "--app", "demo", "--scope", "system/*.cruds", "--json").err
    for whole in ("system/*.rs", "system/Patient.read", "system/Patient.r system/Task.s"):
        assert app("token", "--app", "demo", "--scope", whole).err == ""


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
        (["--scope", "system/*.cud"], "(invalid_scope). None of these scopes can be granted"),
        (["--scope", ""], "(invalid_scope). A scope is needed"),
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


def test_a_token_of_before_stays_out(app: Command, database: str) -> None:
    """Whoever was shut out and let in again asks for another token: the old one may be why."""
    done(app(*DEMO, "--json"))
    tokens = [claims(app("token", "--app", "demo").out)["jti"]]
    app("app", "deactivate", "demo")
    app("app", "activate", "demo")
    tokens.append(claims(app("token", "--app", "demo").out)["jti"])

    async def alive() -> list[bool]:
        connection = await asyncpg.connect(database)
        try:
            return [await registrations.alive(connection, each, "demo") for each in tokens]
        finally:
            await connection.close()

    assert asyncio.run(alive()) == [False, True]


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
    assert app("app", "rotate", "ics", "--jwks-url", "https://8.8.8.8/keys").code == 0


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


WHO = ("app", "add", "x", "--generate", "--json")
PERSON = ("--scope", "patient/*.rs", "--purpose", "person")
NEVER: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "a user scope of nobody": (("--scope", "user/*.rs"), "say --practitioner ID", ("--practitioner", "w1")),
    "a patient scope of nobody": (("--scope", "patient/*.rs"), "say --patient ID", ("--patient", "p1")),
    "nobody's own access": (PERSON, "say --patient ID", ("--patient", "p1")),
    "research without leave": (
        *(("--scope", "system/*.rs", "--purpose", "research"), "say --agreement TEXT"),
        ("--agreement", "DARS-1", "--identifiable"),
    ),
    "planning without leave": (
        *(("--scope", "system/*.rs", "--purpose", "planning"), "say --agreement TEXT"),
        ("--agreement", "DARS-1", "--pseudonymised"),
    ),
    "an agreement that does not say of what": (
        ("--scope", "system/*.rs", "--purpose", "research", "--agreement", "A"),
        "Say what the agreement is for: --pseudonymised",
        ("--pseudonymised",),
    ),
    "pseudonyms without leave": (
        ("--pseudonymised", "--scope", "system/*.rs"),
        "say --agreement TEXT",
        ("--agreement", "DARS-1", "--purpose", "planning"),
    ),
    "pseudonyms for care": (
        ("--scope", "system/*.rs", "--agreement", "A", "--purpose", "research", "--purpose", "direct-care"),
        "Say what the agreement is for",
        ("--identifiable",),
    ),
    "an agreement that is over": (
        ("--scope", "system/*.rs", "--purpose", "research", "--agreement", "A", "--identifiable", "--agreement-until"),
        "give --agreement-until a date to come",
        ("2050-01-01",),
    ),
    "safeguarding without the role": (
        ("--scope", "user/*.rs", "--purpose", "direct-care", "--purpose", "safeguarding", "--practitioner", "w1"),
        "say --role safeguarding",
        ("--role", "safeguarding"),
    ),
    "safeguarding without the purpose": (
        ("--scope", "user/*.rs", "--role", "safeguarding", "--practitioner", "w1"),
        "say --purpose safeguarding",
        ("--purpose", "direct-care", "--purpose", "safeguarding"),
    ),
    "a glass that nobody breaks": (
        ("--scope", "system/*.rs", "--scope", "user/*.rs", "--role", "break-glass"),
        "say --practitioner ID",
        ("--practitioner", "w1"),
    ),
    "a glass in no scope": (
        ("--scope", "system/*.rs", "--role", "break-glass", "--practitioner", "w1"),
        "say --scope 'user/*.rs'",
        ("--scope", "user/*.rs"),
    ),
    "a delegate for care": (
        ("--scope", "patient/*.rs", "--patient", "p1", "--delegate", "RelatedPerson/d"),
        "say --purpose person, and no other",
        ("--purpose", "person"),
    ),
    "nobody's record": ((*PERSON, "--patient"), "--patient: no such Patient is held", ("p1",)),
    "a worker who is not": (("--scope", "user/*.rs", "--practitioner"), "no such Practitioner is held", ("w1",)),
    "a delegate who is not": (
        (*PERSON, "--patient", "p1", "--delegate"),
        "--delegate: nobody of that name is held",
        ("RelatedPerson/d",),
    ),
}
WRONG = {"an agreement that is over": "2020-01-01", "a worker who is not": "left"}


@pytest.mark.parametrize("told", NEVER)
def test_what_could_never_work_is_refused_with_what_would(peopled: Command, tmp_path: Path, told: str) -> None:
    arguments, message, remedy = NEVER[told]
    wrong = (WRONG.get(told, "nobody"),) if arguments[-1].startswith("--") else ()
    refused = peopled(*WHO, *arguments, *wrong)
    assert (refused.code, refused.out) == (2, "")
    assert message in refused.err
    assert not (tmp_path / "data" / "keys" / "x.json").exists()
    done(peopled(*WHO, *arguments, *remedy))
    assert peopled("token", "--app", "x").code == 0


def test_an_application_elsewhere_says_itself_who_asks(app: Command) -> None:
    for scope in ("user/*.rs", "patient/*.rs"):
        done(app("app", "add", scope[:4], "--scope", scope, "--purpose", "person", "--elsewhere", "--json"))
    refused = app("app", "add", "y", "--scope", "system/*.rs", "--purpose", "research", "--elsewhere")
    assert (refused.code, "say --agreement TEXT" in refused.err) == (2, True)


def test_an_organisation_of_whom_nothing_is_held_is_told(peopled: Command) -> None:
    unknown = peopled("app", "add", "a", "--scope", "system/*.rs", "--generate", "--organisation", "ZZ1")
    assert (unknown.code, "No organisation with the code ZZ1 is held yet" in unknown.err) == (0, True)
    known = peopled("app", "add", "b", "--scope", "system/*.rs", "--generate", "--organisation", "RX1")
    assert (known.code, "is held yet" in known.err) == (0, False)


def test_a_faulty_list_of_issuers_ends_serve_with_its_line(app: Command, tmp_path: Path) -> None:
    file = tmp_path / "issuers.yaml"
    file.write_text("- issuer: https://login.test\n  audience: fhirgw\n  scopes: nonsense\n")
    ended = app("serve", "--port", "0", FHIRGW_ISSUERS=str(file))
    assert (ended.code, ended.out) == (3, "")
    assert f"{file}:1: issuer 1:" in ended.err and "Traceback" not in ended.err


def test_a_key_of_the_gateways_own_is_made_where_it_is_told(command: Command, tmp_path: Path) -> None:
    made = done(command("keys", str(tmp_path / "secret"), "--json"))
    assert [Path(each).parent for each in made["keys"]] == [tmp_path / "secret"]
    assert jose.private_key(orjson.loads(Path(made["key"]).read_bytes()))
