"""Commands about FHIR packages: added, listed, removed. A server knows of a change when it starts again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fhirgw import packages
from fhirgw.cli.commands import PLAIN
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, settings
from fhirgw.validation.package import Package

app = typer.Typer(
    **PLAIN, help="FHIR packages of profiles to validate by, besides those that are here.", no_args_is_help=True
)
KINDS = {"profiles": "StructureDefinition", "value_sets": "ValueSet", "code_systems": "CodeSystem"}


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="An official FHIR package, a .tgz for R4.", exists=True, dir_okay=False)],
    json: Json = False,
) -> None:
    """Keep a package, in place of one of the same name. Servers that run know of it when they start again."""
    console = Console(json)
    try:
        package = packages.add(settings().data, file)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}. Look at the file and the data folder.", 6) from None
    console.document(_told(package))
    console.line(f"Added {package.title}: {_counts(package)}. Restart servers to validate by it.")


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the packages that were added."""
    console = Console(json)
    found = packages.listed(settings().data)
    console.document({"packages": [_told(each) for each in found]})
    for each in found:
        console.line(f"{each.title}: {_counts(each)}")
    if not found:
        console.line("No package was added. What is here without: R4, UK Core, and the profiles of this gateway.")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The package's name, as `fhirgw profiles ls` shows it.")],
    json: Json = False,
) -> None:
    """Take a package away. Servers that run forget it when they start again."""
    console = Console(json)
    if not packages.remove(settings().data, name):
        raise CommandError("No package of that name was added: fhirgw profiles ls shows those that were.", 3)
    console.document({"removed": name.partition("#")[0]})
    console.line(f"Removed {name.partition('#')[0]}. Restart servers to forget it.")


def _told(package: Package) -> dict[str, object]:
    counts = {name: package.count(kind) for name, kind in KINDS.items()}
    return {"name": package.name, "version": package.version, **counts}


def _counts(package: Package) -> str:
    return ", ".join(f"{package.count(kind)} {name.replace('_', ' ')}" for name, kind in KINDS.items())
