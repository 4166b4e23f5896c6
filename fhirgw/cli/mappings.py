"""Commands about mappings: check, map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fhirgw import shipped
from fhirgw.cli import steps
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, run
from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.topics import topics
from fhirgw.fhir.view_path import ViewError
from fhirgw.fhir.views import views
from fhirgw.mapping.load import SystemDefinition
from fhirgw.mapping.mapping import Mapping
from fhirgw.systems.csv import CsvSystem
from fhirgw.systems.system import Child, Row, nearest
from fhirgw.visits.certify import cases
from fhirgw.visits.field import shapes
from fhirgw.visits.layout import layouts
from fhirgw.visits.quality import standard
from fhirgw.visits.rules import rules


def check(json: Json = False) -> None:
    """Load every mapping, view, layout and topic, try mappings on a sample; report every fault, with file and line."""
    from fhirgw.mapping.sample import judged  # brings in the FHIR models, which take a second

    console = Console(json)
    systems = steps.definitions(judged).systems
    try:
        console.line(f"Views, without a fault: {', '.join(views())}")
    except ViewError as error:
        raise CommandError(str(error), 3) from None
    try:
        folder = shipped.path("mappings")
        known = layouts(folder, shapes(rules(folder)))
        standard(folder), cases(folder)
    except ValueError as error:
        raise CommandError(f"Layouts of visits: {error}", 3) from None
    console.line(f"Layouts of visits, without a fault: {', '.join(known)}")
    try:
        told = [each.rpartition("/")[2] for each in topics()]
    except ValueError as error:
        raise CommandError(str(error), 3) from None
    console.line(f"Topics to subscribe to, without a fault: {', '.join(told)}")
    rows = [[name, len(each.mappings), len(each.tables()), len(each.codes)] for name, each in systems.items()]
    console.table("Mappings, without a fault", ["system", "mappings", "tables", "code maps"], rows)
    console.document({name: sorted(each.mappings) for name, each in systems.items()})


def map_file(
    file: Annotated[Path, typer.Argument(help="Rows (CSV or JSON), or with --back resources (JSON or NDJSON).")],
    mapping: Annotated[str, typer.Option(help="Which mapping: meadow/person, or person where FILE tells the system.")],
    back: Annotated[bool, typer.Option("--back", help="From resources to rows.")] = False,
) -> None:
    """Show rows as resources, or resources as rows, one JSON object a line."""
    definition, found = _named(mapping, file)
    items = _objects(file) if back or file.suffix != ".csv" else run(_rows(file, definition, found))
    faults: list[str] = []
    for item in items:
        try:
            print(encode(found.to_row(item) if back else found.to_fhir(item)).decode())
        except FhirError as error:
            faults += [issue.diagnostics for issue in error.issues]
    if faults:
        raise CommandError("\n".join(faults), 3)


def _named(name: str, file: Path) -> tuple[SystemDefinition, Mapping]:
    """The mapping of that name; where no system is named, of the one whose table the file is called after."""
    system, _, mapping = name.rpartition("/")
    systems = steps.definitions().systems
    having = [each for each in systems.values() if mapping in each.mappings]
    tables = [each.name for each in having if each.mappings[mapping].table == file.stem]
    definition = steps.defined(system or next(iter(tables or [each.name for each in having]), name))
    if mapping not in definition.mappings:
        meant = nearest(mapping, definition.mappings)
        raise CommandError(f"There is no mapping {mapping!r} under mappings/{system}/: {meant}.", 2)
    return definition, definition.mappings[mapping]


def _objects(file: Path) -> list[dict[str, Any]]:
    """What a JSON file holds: an object or a list of them; in a .ndjson file, an object a line."""
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(
            f"{file}: it cannot be read ({type(error).__name__}). Name a file of JSON in UTF-8.", 3
        ) from None
    if file.suffix == ".ndjson":
        return [_object(f"{file}:{number}", line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if text.lstrip().startswith("["):
        return list(_object(str(file), f'{{"list": {text}}}')["list"])
    return [_object(str(file), text)]


def _object(place: str, text: str) -> dict[str, Any]:
    try:
        return decode(text)
    except FhirError as error:
        raise CommandError(f"{place}: {error}", 3) from None


async def _rows(file: Path, definition: SystemDefinition, mapping: Mapping) -> list[Row]:
    """The rows of a CSV file that the mapping applies to, with child rows from the files beside it."""
    form = definition.declared.csv
    extract = CsvSystem(definition.name, file.parent, form.delimiter, form.encoding)
    there = [each for each in mapping.children if (file.parent / f"{each.table}.csv").exists()]
    children = [Child(each.table, each.parent, each.order) for each in there]
    nobody: Row = {each.table: [] for each in mapping.children}
    async with extract:
        batches = extract.extract(file.stem, mapping.key, mapping.columns, children)
        return [nobody | row async for rows in batches for row in rows if mapping.applies(row)]
