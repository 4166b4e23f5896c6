"""`fhirgw openapi`: the OpenAPI description of what is served, without serving it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer


def openapi(
    base: Annotated[str, typer.Option(help="The FHIR address that callers use.")] = "http://127.0.0.1:8080/fhir",
) -> None:
    """Print the OpenAPI description of what is served."""
    from fhirgw.api.openapi import description
    from fhirgw.app import create_app
    from fhirgw.cli.running import settings
    from fhirgw.fhir.canonical import encode
    from fhirgw.fhir.pretty import pretty

    made = description(create_app(settings()).routes, version("fhirgw"), base.rstrip("/"))
    print(pretty(encode(made)).decode(), end="")
