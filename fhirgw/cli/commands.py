"""All commands, by name.

A command's module is imported when that command is run: all of them together take a second, of which nobody needs most.
"""

from __future__ import annotations

import gc
from importlib import import_module
from importlib.metadata import version as installed
from typing import Any

import typer
from typer.core import TyperGroup

from fhirgw.cli import imported
from fhirgw.cli.running import CODES

PLAIN: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
COMMANDS = {
    "demo": "demo:demo",
    "generate": "data:generate",
    "migrate": "data:migrate",
    "sync": "data:sync",
    "load": "load:load_files",
    "export": "export:app",
    "serve": "serving:serve",
    "worker": "worker:worker",
    "pull": "pull:app",
    "check": "mappings:check",
    "map": "mappings:map_file",
    "token": "apps:token",
    "explain": "explain:explain",
    "openapi": "openapi:openapi",
    "version": "commands:version",
    "app": "apps:app",
    "keys": "keys:keys",
    "audit": "audit:app",
    "break-glass": "break_glass:app",
    "homecare": "homecare:app",
    "opt-outs": "opt_outs:opt_outs",
    "profiles": "profiles:app",
    "subscription": "subscription:app",
}
"""Where each command is: a function, or an app with commands of its own."""


class Commands(TyperGroup):
    """The commands of COMMANDS, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All of them, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
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


@app.callback()
def everything() -> None:
    """Makes of the app a group, whose help is its own."""


def version() -> None:
    """Say which version this is."""
    print(installed("fhirgw"))
