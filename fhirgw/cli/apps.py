"""Applications: who may ask for tokens, with which keys, for what; and a token to try things with.

A private key that is made here lies in `<data>/keys/NAME.json`, for this account alone; the database has its public
half.

Long, as `add` is, because every option of a registration is declared and explained here.
"""

from __future__ import annotations

import re
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from joserfc.jwk import ECKey

from fhirgw.access import jose
from fhirgw.access.address import literal, loopback_name, public
from fhirgw.access.assertion import OAuthError, signed
from fhirgw.access.audit_event import Seen
from fhirgw.access.label import CLASSES
from fhirgw.access.permit import OWN
from fhirgw.access.purpose import GRANTED
from fhirgw.access.scope import scopes as read_scopes
from fhirgw.api.exchange import ASSERTION_TYPE, GRANT, Exchange
from fhirgw.api.jwks import KeySets, Unfetched, check_address
from fhirgw.api.keys import Keyring, keep
from fhirgw.cli.audited import audited, patients
from fhirgw.cli.commands import PLAIN
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.nhs import is_ods_code
from fhirgw.private import private_folder
from fhirgw.settings import Settings
from fhirgw.store import registration as registrations
from fhirgw.store.database import Connection, direct
from fhirgw.store.registration import RATE, ROLES, SECTORS, Registration
from fhirgw.store.soundness import blind, organisation_held, unheld, unmet

app = typer.Typer(**PLAIN, name="app", help="Applications that may ask for access tokens.", no_args_is_help=True)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
ADDRESS = "http://localhost/fhir/oauth/token"
"""What a token endpoint is called that nobody reaches over HTTP."""

Name = Annotated[str, typer.Argument(help="The application's name: OAuth's client_id.")]
Jwks = Annotated[Path | None, typer.Option(help="A file with its public keys, as a JWK set or one JWK.")]
JwksUrl = Annotated[str | None, typer.Option(help="The https address where it publishes its public keys.")]
Generate = Annotated[
    bool, typer.Option("--generate", help="Make its keys; the private one goes to <data>/keys/NAME.json.")
]
Many = list[str]


# Long, because each option is declared and explained.
@app.command()
def add(
    name: Name,
    scope: Annotated[Many, typer.Option(help="What it may ask for, as system/*.rs; may be repeated.")],
    jwks: Jwks = None,
    jwks_url: JwksUrl = None,
    generate: Generate = False,
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="It has no keys: an issuer of FHIRGW_ISSUERS has.")
    ] = False,
    organisation: Annotated[str | None, typer.Option(help="ODS code of who asks; the gateway's own if none.")] = None,
    sector: Annotated[
        str | None,
        typer.Option(help=f"What consents call it: {', '.join(SECTORS)}; council for the gateway's own, else nhs."),
    ] = None,
    purpose: Annotated[Many, typer.Option(help=f"One of {', '.join(GRANTED)}; the first is meant unless asked.")] = [],  # noqa: B006
    role: Annotated[Many, typer.Option(help=f"What it may do besides: {', '.join(ROLES)}.")] = [],  # noqa: B006
    clear: Annotated[Many, typer.Option(help=f"A class of record it is cleared for: {', '.join(CLASSES)}.")] = [],  # noqa: B006
    patient: Annotated[str | None, typer.Option(help="The id of the Patient whose application it is.")] = None,
    practitioner: Annotated[str | None, typer.Option(help="The id of the Practitioner who uses it.")] = None,
    delegate: Annotated[str | None, typer.Option(help="Who looks for the Patient, as RelatedPerson/ID.")] = None,
    agreement: Annotated[str | None, typer.Option(help="What planning or research rests on.")] = None,
    agreement_until: Annotated[datetime | None, typer.Option(help="When the agreement ends, in UTC.")] = None,
    pseudonyms: Annotated[
        bool | None,
        typer.Option("--pseudonymised/--identifiable", help="What the agreement is for."),
    ] = None,
    rate: Annotated[int, typer.Option(min=1, help="Requests a minute.")] = RATE,
    title: Annotated[str, typer.Option(help="What people call it.")] = "",
    json: Json = False,
) -> None:
    """Register an application."""
    console, given = Console(json), settings()
    check_name(name)
    if name in OWN:
        raise CommandError(f"{name} is what the audit calls the gateway's own: choose another name.", 2)
    if organisation is not None and not is_ods_code(organisation):
        raise CommandError("--organisation is an ODS code: 3 to 10 capital letters and digits, as Z9C01.", 2)
    wanted = Registration(
        id=name,
        organisation=organisation or given.controller,
        scopes=_scopes(scope),
        sector=_sector(sector, organisation or given.controller, given),
        purposes=tuple(_one_of(each, GRANTED, "--purpose") for each in purpose) or ("direct-care",),
        name=title,
        jwks_url=jwks_url,
        roles=tuple(_one_of(each, ROLES, "--role") for each in role),
        clearance=sum({CLASSES[_one_of(each, CLASSES, "--clear")] for each in clear}),
        patient=patient,
        practitioner=practitioner,
        delegate=delegate,
        agreement=agreement,
        agreement_until=agreement_until and agreement_until.replace(tzinfo=UTC),
        pseudonyms=bool(pseudonyms),
        rate=rate,
    )
    if agreement is not None and pseudonyms is None:
        told = "Say what the agreement is for: --pseudonymised (exports with pseudonyms alone), or --identifiable."
        raise CommandError(told, 2)
    if lacking := list(unmet(wanted, elsewhere=elsewhere)):
        raise CommandError("\n".join(f"{each}." for each in lacking), 2)
    made, public = (None, None) if elsewhere else _keys(given, name, jwks, jwks_url, generate)

    async def work() -> Registration:
        async with opened(given) as (_, engine), direct(engine) as connection, connection.transaction():
            if unknown := await unheld(connection, wanted):
                raise CommandError("\n".join(f"{each}." for each in unknown), 2)
            if not organisation:
                console.note(f"It asks as {wanted.organisation}, the controller: say --organisation for another.")
            elif not await organisation_held(connection, wanted):
                console.note(f"No organisation with the code {wanted.organisation} is held yet: no record names it.")
            if (nobody := blind(wanted, given.controllers)) is not None:
                console.note(nobody)
            found = await registrations.add(connection, replace(wanted, jwks=public))
            keep_key(given, name, made)
            await audited(connection, given.controller, "app-add", application=name, seen=_of(found))
            return found

    _show(console, given, run(work()))


def _sector(named: str | None, organisation: str, given: Settings) -> str:
    if named is None:
        return "council" if organisation == given.controller else "nhs"
    return _one_of(named, SECTORS, "--sector")


@app.command("list")
def listed(json: Json = False) -> None:
    """Say which applications there are."""
    console = Console(json)

    async def work() -> list[Registration]:
        async with opened(settings()) as (_, engine), direct(engine) as connection:
            return await registrations.listed(connection)

    found = run(work())
    rows = [(each.id, each.organisation, " ".join(each.purposes), each.scopes, _state(each)) for each in found]
    console.table("Applications", ["name", "organisation", "purposes", "scopes", "state"], rows)
    if not found:
        console.line("There is no application: fhirgw app add NAME --scope 'system/*.rs' --generate")
    console.document([_as_json(each) for each in found])


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Say what an application may ask for."""
    given = settings()

    async def work() -> Registration:
        async with opened(given) as (_, engine), direct(engine) as connection:
            return await _found(connection, name)

    _show(Console(json), given, run(work()))


@app.command()
def deactivate(name: Name, json: Json = False) -> None:
    """Keep an application out, from its next request on."""
    _activate(name, False, Console(json))


@app.command()
def activate(name: Name, json: Json = False) -> None:
    """Let an application in again."""
    _activate(name, True, Console(json))


@app.command()
def rotate(
    name: Name, jwks: Jwks = None, jwks_url: JwksUrl = None, generate: Generate = False, json: Json = False
) -> None:
    """Give an application other keys: the old ones, and every token got with them, stop working at once."""
    console, given = Console(json), settings()
    made, public = _keys(given, name, jwks, jwks_url, generate)

    async def work() -> Registration:
        async with opened(given) as (_, engine), direct(engine) as connection, connection.transaction():
            await _found(connection, name)
            await registrations.rekey(connection, name, public, jwks_url)
            keep_key(given, name, made)
            found = await _found(connection, name)
            await audited(connection, given.controller, "app-rotate", application=name, seen=_of(found))
            return found

    _show(console, given, run(work()))


def token(
    name: Annotated[str, typer.Option("--app", help="The application: its private key lies in <data>/keys/NAME.json.")],
    scope: Annotated[
        str | None, typer.Option(help="What for, as 'system/*.rs'; all it is registered for if left out.")
    ] = None,
    purpose: Annotated[str | None, typer.Option(help="Its first purpose if left out.")] = None,
    json: Json = False,
) -> None:
    """Print an access token, to try things with: it is got with the application's own key, and holds five minutes."""
    console, given = Console(json), settings()

    async def work() -> dict[str, Any]:
        async with opened(given) as (_, engine), direct(engine) as connection:
            asked = (await _found(connection, name)).scopes if scope is None else scope
            try:
                async with connection.transaction():
                    answered = await got(connection, given, name, asked, purpose)
                    await audited(connection, given.controller, "token", application=name)
            except CommandError:
                await audited(connection, given.controller, "token", application=name, refused=True)
                raise
            return answered

    answered = run(work())
    if left := _left_out(scope or "", answered["scope"]):
        told = f"Narrower than asked: {name} is not registered for all of {', '.join(left)}"
        print(f"{told}. The token is for: {answered['scope']}", file=sys.stderr, flush=True)
    if not json:
        print(answered["access_token"])
    console.document(answered)


def _left_out(asked: str, granted: str) -> list[str]:
    """Those of the scopes that were asked for and are not granted whole."""
    given = read_scopes(granted)
    return [str(each) for each in read_scopes(asked) if not any(each.within(other) for other in given)]


async def got(
    connection: Connection, given: Settings, name: str, scope: str, purpose: str | None = None
) -> dict[str, Any]:
    """What the token endpoint would answer an application whose private key lies in the data folder."""
    audience = f"{given.base_url.rstrip('/')}/oauth/token" if given.base_url else ADDRESS
    form = {
        "grant_type": GRANT,
        "scope": scope,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": asserted(private(given, name), name, audience),
        **({"purpose": purpose} if purpose else {}),
    }
    exchange = Exchange(Keyring(given.key_folder), KeySets(given.loopback_jwks))
    try:
        return await exchange.token(connection, form, audience)
    except OAuthError as error:
        raise CommandError(f"No token for {name} ({error.error}). {error.description}.", 3) from None


def asserted(key: jose.Key, name: str, audience: str) -> str:
    """A client assertion, as any application signs one."""
    return signed(key, name, audience, int(time.time()))


async def ensured(connection: Connection, given: Settings, wanted: Registration) -> Registration:
    """The application registered as wanted, with the key that lies in the data folder or a new one: twice is once."""
    key = private(given, wanted.id) if key_file(given, wanted.id).exists() else made_key()
    async with connection.transaction():
        made = replace(wanted, jwks={"keys": [key.as_dict(private=False)]})
        found = await registrations.add(connection, made, replace_it=True)
        if not key_file(given, wanted.id).exists():
            keep_key(given, wanted.id, key)
    return found


def key_file(given: Settings, name: str) -> Path:
    """Where the private key of an application lies."""
    return given.data / "keys" / f"{name}.json"


def _activate(name: str, active: bool, console: Console) -> None:
    given = settings()

    async def work() -> Registration:
        async with opened(given) as (_, engine), direct(engine) as connection, connection.transaction():
            await registrations.activate(connection, name, active)
            found = await _found(connection, name)
            operation = "app-activate" if active else "app-deactivate"
            await audited(connection, given.controller, operation, application=name, seen=_of(found))
            return found

    found = run(work())
    console.line(f"{name} is {_state(found)}.")
    console.document(_as_json(found))


def _of(found: Registration) -> list[Seen]:
    """The person whose application it is, who is told of it."""
    return patients([found.patient]) if found.patient else []


async def _found(connection: Connection, name: str) -> Registration:
    found = await registrations.find(connection, name)
    if found is None:
        raise CommandError(f"There is no application {name!r}: `fhirgw app list` names them.", 2)
    return found


def _keys(
    given: Settings, name: str, jwks: Path | None, jwks_url: str | None, generate: bool
) -> tuple[jose.Key | None, dict[str, Any] | None]:
    """The private key, where it is made here, and the public ones, where they are registered here."""
    if [jwks is not None, jwks_url is not None, generate].count(True) != 1:
        raise CommandError("Say where the keys are: one of --jwks FILE, --jwks-url URL and --generate.", 2)
    if jwks_url is not None:
        try:
            host, _ = check_address(jwks_url, loopback=given.loopback_jwks)
        except Unfetched as error:
            raise CommandError(f"--jwks-url: {error}.", 2) from None
        if loopback_name(host) and not given.loopback_jwks:
            raise CommandError("--jwks-url: this machine's own is never asked; FHIRGW_LOOPBACK_JWKS lets it be.", 2)
        if literal(host) and not public(host) and not given.loopback_jwks:
            raise CommandError("--jwks-url: keys are fetched from public addresses alone, and this one is not.", 2)
        return None, None
    if jwks is not None:
        return None, _read(jwks)
    made = made_key()
    return made, {"keys": [made.as_dict(private=False)]}


def made_key() -> ECKey:
    """A private key for ES384."""
    return ECKey.generate_key("P-384", {"use": "sig", "alg": "ES384"}, auto_kid=True)


def _read(path: Path) -> dict[str, Any]:
    """The JWK set of a file. Every key must be usable: what is passed over in silence is looked for later."""
    try:
        document = orjson.loads(path.read_bytes())
        listed = document.get("keys", [document])
        keys = [jose.public_key(each) for each in listed]
        if not any(jose.fits(key, each) for key in keys for each in ("ES384", "RS384")):
            raise jose.Untrusted("no key is for ES384 (curve P-384) or RS384 (RSA)")
    except OSError as error:
        raise CommandError(
            f"--jwks: {path} cannot be read ({error.strerror}): name a file with public keys.", 3
        ) from None
    except (ValueError, TypeError, AttributeError):
        raise CommandError(f'{path} is no JWK set: send {{"keys": [...]}} as JSON, or one public JWK.', 3) from None
    except jose.Untrusted as error:
        raise CommandError(f"{path}: {error}.", 3) from None
    return {"keys": [key.as_dict(private=False) for key in keys]}


def private(given: Settings, name: str) -> jose.Key:
    """The private key of an application that lies in the data folder. Raises CommandError."""
    path = key_file(given, name)
    check_name(name)
    try:
        return jose.private_key(orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        hint = f"the application signs with its own; or make one: fhirgw app rotate {name} --generate"
        raise CommandError(f"There is no private key {path}: {hint}.", 3) from None
    except (OSError, ValueError, jose.Untrusted) as error:
        raise CommandError(f"{path} is no private JWK ({type(error).__name__}).", 3) from None


def keep_key(given: Settings, name: str, key: jose.Key | None) -> None:
    """Puts a private key in the data folder."""
    if key is not None:
        path = key_file(given, name)
        private_folder(path.parent)
        keep(path, orjson.dumps(key.as_dict(private=True), option=orjson.OPT_INDENT_2).decode() + "\n")


def check_name(name: str) -> None:
    """Raises CommandError for a name that no application can have."""
    if not NAME.fullmatch(name):
        raise CommandError("An application's name has letters, digits, dots, - and _, at most 64.", 2)


def _scopes(given: list[str]) -> str:
    text = " ".join(given)
    try:
        read_scopes(text)
    except FhirError as error:
        raise CommandError(f"--scope: {error}.", 2) from None
    return text


def _one_of(value: str, known: Any, option: str) -> str:
    if value not in known:
        raise CommandError(f"{option}: there is no {value!r}; choose from {', '.join(known)}.", 2)
    return value


def _state(found: Registration) -> str:
    return "active" if found.active else "kept out"


def _as_json(found: Registration) -> dict[str, Any]:
    cleared = [name for name, bit in CLASSES.items() if found.clearance & bit]
    return asdict(found) | {"clearance": cleared, "scopes": found.scopes.split(" ")}


def _show(console: Console, given: Settings, found: Registration) -> None:
    told = _as_json(found) | {
        "key_file": str(key_file(given, found.id)) if key_file(given, found.id).exists() else None
    }
    keys = [f"{each['kty']} {each['kid']}" for each in (found.jwks or {}).get("keys", [])]
    rows = [
        (name, _written(value)) for name, value in (told | {"jwks": keys}).items() if value not in (None, [], (), "")
    ]
    console.table(found.id, ["what", "value"], rows)
    console.document(told)


def _written(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
