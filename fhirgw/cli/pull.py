"""`fhirgw pull`: another server's bulk export, fetched into a folder, and loaded if asked; interrupted, it goes on.

Long, as its options are declared and explained here.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
import typer

from fhirgw.access import jose
from fhirgw.cli import pull_load
from fhirgw.cli.apps import check_name, keep_key, key_file, made_key, private
from fhirgw.cli.audited import audited
from fhirgw.cli.commands import PLAIN
from fhirgw.cli.console import Console, Stage
from fhirgw.cli.data import Json
from fhirgw.cli.loading import Controller, whose
from fhirgw.cli.pull_load import Loaded, Way
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.jobs.files import MANIFEST
from fhirgw.jobs.pull import pull as pulling
from fhirgw.jobs.pull.address import Reach
from fhirgw.jobs.pull.manifest import TYPE
from fhirgw.jobs.pull.pull import Asked, Pulled
from fhirgw.jobs.pull.server import Credentials
from fhirgw.jobs.pull.trouble import Ended, Interrupted
from fhirgw.settings import Settings
from fhirgw.store import pulls
from fhirgw.store.database import Connection, Engine, direct

app = typer.Typer(**PLAIN, help="Fetch another server's bulk export: `pull --from URL --as NAME`.")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
ID = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)


Accepting = Annotated[
    bool, typer.Option("--accept-refused", help="Let it count as loaded though lines of it were refused.")
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Leave the files of what is loaded in the data folder; else they are removed.")
]


# Long, because each option is declared and explained.
@app.callback(invoke_without_command=True)
def pull(
    context: typer.Context,
    base: Annotated[str | None, typer.Option("--from", help="The other server's FHIR base, as https://…/fhir.")] = None,
    name: Annotated[str | None, typer.Option("--as", help="What that server knows us by: OAuth's client_id.")] = None,
    source: Annotated[str | None, typer.Option(help="What we know it by; the base's host if left out.")] = None,
    key: Annotated[Path | None, typer.Option(help="Our private JWK; <data>/keys/NAME.json if left out.")] = None,
    to: Annotated[Path | None, typer.Option(help="An empty folder; else one below <data>/pulls.")] = None,
    types: Annotated[list[str], typer.Option("--type", help="Only this type; may be repeated.")] = [],  # noqa: B006
    filters: Annotated[list[str], typer.Option("--filter", help="_typeFilter, as Observation?status=final.")] = [],  # noqa: B006
    patients: Annotated[bool, typer.Option("--patients", help="Only what is in somebody's record.")] = False,
    group: Annotated[str | None, typer.Option(help="Only the records of that Group's members.")] = None,
    load: Annotated[bool, typer.Option("--load", help="Load it too; what changed since the last that was.")] = False,
    accepting: Accepting = False,
    keep: Keep = False,
    controller: Controller = None,
    full: Annotated[bool, typer.Option("--full", help="All of it, not what changed since the last pull.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Give up a pull that is open, and begin anew.")] = False,
    scope: Annotated[str, typer.Option(help="What to ask the token for.")] = "system/*.rs",
    token_url: Annotated[
        str | None, typer.Option(help="The token endpoint, if the server does not say, or it has another host.")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, max=32, help="Files to fetch at once.")] = 4,
    most: Annotated[float, typer.Option("--most-gigabytes", min=0.000001, help="Give up when there is more.")] = 200,
    hours: Annotated[float, typer.Option(min=0.0001, help="Stop when it takes longer; the next run goes on.")] = 24,
    gzip: Annotated[bool, typer.Option("--gzip/--plain", help="Whether to ask for files that are packed.")] = True,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="http too, on this machine alone.")] = False,
    json: Json = False,
) -> None:
    """Fetch another server's bulk export into a folder: what changed since the last time, whole, checked.

    With --load it is taken in as well, and what that server brought and has deleted is deleted here. Interrupted, the
    same command goes on where it was.
    """
    if context.invoked_subcommand is not None:
        return
    if base is None or name is None:
        raise CommandError("Say which server, and what it knows us by: fhirgw pull --from URL --as NAME.", 2)
    console, given = Console(json), settings()
    reach = Reach(base.rstrip("/"), allow_http, token_url)
    asked = Asked(
        source=_source(source, reach),
        reach=reach,
        level=_level(patients, group),
        types=tuple(_types(types)),
        filters=tuple(filters),
        full=full,
        load=load,
        restart=restart,
        gzip=gzip,
        at_once=at_once,
        most=int(most * 1e9),
        seconds=hours * 3600,
    )
    way = Way(accepting, keep, whose(given, controller))
    credentials = Credentials(name, _key(given, name, key), scope, token_url)

    async def work() -> tuple[Pulled, list[Loaded]]:
        what, loaded = (asked.source, reach.base, asked.kick_off), []
        async with opened(given) as (_, engine):
            if load and not full:
                loaded = await pull_load.load_waiting(console, engine, given, what, way)
            done = await _pulled(console, given, engine, credentials, asked, to)
            if load:
                loaded += await pull_load.load_waiting(console, engine, given, what, way)
        return done, loaded

    done, loaded = run(work())
    _show(console, done, loaded, loading=load)


@app.command("load")
def load_pulled(
    source: Annotated[str, typer.Argument(help="What we know the other server by, as `fhirgw pull ls` says.")],
    accepting: Accepting = False,
    keep: Keep = False,
    controller: Controller = None,
    json: Json = False,
) -> None:
    """Load what was pulled from a server and is not loaded yet, without asking that server again."""
    console, given = Console(json), settings()
    way = Way(accepting, keep, whose(given, controller))

    async def work() -> list[Loaded]:
        async with opened(given) as (_, engine):
            async with direct(engine) as connection:
                every = [each for each in await pulls.listed(connection) if each.source == source]
            if not every:
                raise CommandError(f"Nothing was pulled from {source[:64]!r}: `fhirgw pull ls` names what was.", 2)
            asked = dict.fromkeys((each.source, each.base, each.asked) for each in every)
            return [each for what in asked for each in await pull_load.load_waiting(console, engine, given, what, way)]

    done = run(work())
    if not done:
        console.line("There is nothing to load: what was pulled is loaded, or is to be pulled anew (--load).")
    console.document([each.as_json() for each in done])
    pull_load.show(console, done)


@app.command("key")
def make_key(
    name: Annotated[str, typer.Argument(help="What the other server is to know us by: OAuth's client_id.")],
    json: Json = False,
) -> None:
    """Make a key to pull with, and print its public half: the other server's operator registers that."""
    console, given = Console(json), settings()
    check_name(name)
    if key_file(given, name).exists():
        raise CommandError(f"{key_file(given, name)} is there already: remove it first, or choose another name.", 6)
    made = made_key()
    keep_key(given, name, made)
    public = {"keys": [made.as_dict(private=False)]}
    console.note(f"The private half lies in {key_file(given, name)}. To register, as a JWK set:")
    console.line(orjson.dumps(public).decode())
    console.document(public)


@app.command("ls")
def ls(json: Json = False) -> None:
    """Say which pulls there are, how each ended, and whether it was loaded."""
    console = Console(json)

    async def work() -> list[pulls.Pull]:
        async with opened(settings()) as (_, engine), direct(engine) as connection:
            return await pulls.listed(connection)

    found = run(work())
    rows = [
        [each.source, each.state, each.time or "", each.since or "", _loaded(each), each.reason or each.place]
        for each in found
    ]
    console.table("Pulls", ["source", "state", "as of", "since", "loaded", "where, or why not"], rows)
    if not found:
        console.line("There is no pull: fhirgw pull --from URL --as NAME")
    console.document([pulls.as_json(each) for each in found])


def _loaded(each: pulls.Pull) -> str:
    """Whether it is in the store."""
    if each.state != "done":
        return ""
    if each.refused is None:
        return "no"
    told = f"{each.refused:,} refused" if each.refused else "all"
    return told if each.loaded else f"in part, {told}"


async def _pulled(
    console: Console, given: Settings, engine: Engine, credentials: Credentials, asked: Asked, to: Path | None
) -> Pulled:
    def place(id: str) -> Path:
        folder = (to or given.data / "pulls" / asked.source / id).absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CommandError(f"{folder} is not an empty folder: name another, or one that is not there yet.", 6)
        return folder

    async def audit(connection: Connection) -> None:
        await audited(connection, given.controller, "pull")

    console.note("If it is interrupted, the same command goes on with it.")
    with _Progress(console) as progress:
        try:
            return await pulling.pull(engine, credentials, asked, place, progress, audit)
        except Interrupted as error:
            told = f"{error}.\nNothing is lost: the same command goes on where it was."
            raise CommandError(told, 3) from None


class _Progress:
    """What people see while it goes on: one stage to wait, one to fetch."""

    def __init__(self, console: Console) -> None:
        self._console, self._stack, self._fetching = console, ExitStack(), False
        self._stage: Stage | None = None

    def __enter__(self) -> _Progress:
        self._stack.__enter__()
        self._stage = self._stack.enter_context(self._console.stage("export of the other server", "looks"))
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def waiting(self, told: str) -> None:
        """It is not ready yet."""
        if self._stage:
            self._stage.detail = told
            self._stage.update(self._stage.done + 1)

    def retrying(self, told: str) -> None:
        """Something does not come, and is asked for again."""
        self._console.note(told)

    def fetching(self, done: int, files: int, size: int) -> None:
        """So many files of so many lie there; so many bytes have come."""
        if not self._fetching:
            self._fetching = True
            self._stack.close()
            self._stage = self._stack.enter_context(self._console.stage("files", "kB"))
        if self._stage:
            self._stage.detail = f"{done} of {files} files"
            self._stage.update(size // 1000)


def _show(console: Console, done: Pulled, loaded: list[Loaded], *, loading: bool) -> None:
    counted: dict[tuple[str, str], list[int]] = {}
    for each in done.files:
        row = counted.setdefault((each.kind, each.type), [0, 0, 0])
        row[:] = [row[0] + 1, row[1] + (each.lines or 0), row[2] + (each.bytes or 0)]
    rows = [[kind, type, *numbers] for (kind, type), numbers in counted.items()]
    listed = Path(done.pull.place) / MANIFEST
    where = f"to {done.pull.place}" if listed.exists() else "and removed once it was loaded"
    console.table(f"Pulled {where}", ["list", "type", "files", "lines", "bytes"], rows)
    if not rows:
        console.line(f"Nothing {'has changed' if done.pull.since else 'is there'}: the manifest lists no file.")
    said = [[severity, code, count] for (severity, code), count in sorted(done.issues.items())]
    console.table("What the server says of it", ["severity", "code", "issues"], said)
    console.line()
    to_load = f"fhirgw pull load {done.pull.source}"
    console.line(f"As of {done.pull.time}." + ("" if loading else f" To take it in: {to_load}"))
    console.document(
        pulls.as_json(done.pull)
        | ({"loads": [each.as_json() for each in loaded]} if loading else {"load": to_load})
        | {
            "manifest": str(listed) if listed.exists() else None,
            "files": [
                {"list": kind, "type": type, "files": files, "lines": lines, "bytes": bytes}
                for (kind, type), (files, lines, bytes) in counted.items()
            ],
            "issues": [{"severity": severity, "code": code, "count": count} for severity, code, count in said],
        }
    )
    pull_load.show(console, loaded)
    if loading and not (loaded and loaded[-1].pull.id == done.pull.id):
        raise CommandError("It was pulled, and follows on what is not loaded: `fhirgw pull --load` asks anew.", 3)


def _key(given: Settings, name: str, path: Path | None) -> jose.Key:
    if path is None:
        check_name(name)
        if not key_file(given, name).exists():
            hint = f"name it with --key, or make one and register its public half: fhirgw pull key {name}"
            raise CommandError(f"There is no private key {key_file(given, name)}: {hint}.", 3)
        return private(given, name)
    try:
        return jose.private_key(orjson.loads(path.read_bytes()))
    except (OSError, ValueError, jose.Untrusted) as error:
        raise CommandError(f"{path} is no private JWK ({type(error).__name__}).", 3) from None


def _source(named: str | None, reach: Reach) -> str:
    try:
        reach.checked(reach.base, "base")
    except Ended as error:
        raise CommandError(f"--from: {error}.", 2) from None
    found = named or str(urlsplit(reach.base).hostname)
    if not NAME.fullmatch(found):
        raise CommandError("--source has letters, digits, dots, - and _, at most 64.", 2)
    return found


def _level(patients: bool, group: str | None) -> str:
    if group is None:
        return "Patient" if patients else ""
    if patients or not ID.fullmatch(group):
        raise CommandError("--group is a Group's id, without --patients.", 2)
    return f"Group/{group}"


def _types(given: list[str]) -> list[str]:
    if wrong := [each for each in given if not TYPE.fullmatch(each)]:
        raise CommandError(f"--type: {wrong[0]!r} is no type of resource.", 2)
    return given
