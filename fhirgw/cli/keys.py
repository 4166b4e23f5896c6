"""The command that makes a key of the gateway's own: for a cluster, whose processes share them, and to rotate them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fhirgw.api import keys as kept
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import settings


def keys(
    folder: Annotated[Path | None, typer.Argument(help="The folder of keys; FHIRGW_KEYS if none is said.")] = None,
    json: Json = False,
) -> None:
    """Make a key that signs access tokens from now on; tokens of the older ones hold until their files are removed."""
    console, where = Console(json), folder or settings().key_folder
    made = kept.add(where)
    console.line(f"{made} signs within a minute. Remove older keys in ten, when no token of theirs is left.")
    console.document({"key": str(made), "keys": sorted(str(each) for each in where.glob("*.json"))})
