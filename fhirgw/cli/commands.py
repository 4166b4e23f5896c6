"""All commands, by name."""

from __future__ import annotations

from importlib.metadata import version as installed

import typer

from fhirgw.cli import access, apps, audit, data, demo, mappings, serving
from fhirgw.cli.running import CODES

app = typer.Typer(
    help="An async FHIR R4 gateway between adult social care and the NHS.",
    epilog=CODES.replace("\n", "\n\n"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    demo.demo,
    data.generate,
    data.migrate,
    data.sync,
    data.export,
    serving.serve,
    mappings.check,
    mappings.map_file,
    apps.token,
    access.explain,
):
    name = command.__name__.partition("_")[0]
    app.command(name)(command)

app.add_typer(apps.app, name="app")
app.add_typer(audit.app, name="audit")
app.add_typer(access.app, name="break-glass")
app.command("opt-outs")(access.opt_outs)


@app.command()
def version() -> None:
    """Say which version this is."""
    print(installed("fhirgw"))
