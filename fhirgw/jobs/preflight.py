"""What can be known to be wrong with an extract before a row of it is read.

Nothing is deleted on the word of an extract, or of a changed mapping, that is more likely broken than right: somebody
has to say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fhirgw.jobs.table import Table
from fhirgw.mapping.load import SystemDefinition
from fhirgw.mapping.mapping import Mapping
from fhirgw.store import lineage
from fhirgw.store.database import Connection
from fhirgw.systems.system import Child, ExtractError, System

SHRUNK = 0.5
"""An extract of this share of the last one, or less, is taken for a broken one, unless told otherwise."""
FEW = 5
"""Rows whose absence is no sign of a broken extract, unless nothing is left."""


class ShrunkenExtract(ExtractError):
    """The extract lost much of what the last one had: taking it would delete that."""


def in_turn(definition: SystemDefinition) -> Iterable[tuple[str, list[Mapping]]]:
    """The tables in the order their first mapping is loaded; in each, people before what is about them."""
    return definition.tables().items()


def child_tables(mappings: list[Mapping]) -> list[Child]:
    """The child tables of a table, whichever of its mappings reads them."""
    found = {each.table: each for mapping in mappings for each in mapping.children}
    return [Child(each.table, each.parent, each.order) for each in found.values()]


async def retired(definition: SystemDefinition, reader: Connection, force: bool) -> list[tuple[str, str]]:
    """Mappings, with types, that made what is held and are not declared any more; ShrunkenExtract unless `force`."""
    declared = {(mapping.name, mapping.type) for mapping in definition.mappings.values()}
    found = sorted(await lineage.kinds(reader, definition.name) - declared)
    if found and not force:
        raise ShrunkenExtract(
            f"mappings/{definition.name}",
            f"{', '.join(f'{name} ({kind})' for name, kind in found)} made resources and is not declared any more",
            "Put it back; --force deletes what it made",
            code="conflict",
        )
    return found


async def preflight(definition: SystemDefinition, system: System, sizes: dict[str, int], force: bool) -> None:
    """Everything that can be known to be wrong before a row is read."""
    there = await system.tables()
    for name, mappings in in_turn(definition):
        _columns_there(system, there, name, Table(name, mappings[0].key, mappings, set()).columns)
        for children in (each for mapping in mappings for each in mapping.children):
            named = (children.parent, children.key, *(field.column for field in children.fields))
            _columns_there(system, there, children.table, named)
        for each in () if force else (name, *(child.table for child in child_tables(mappings))):
            count = await system.count(each)
            if count is not None and shrunk(count, sizes.get(each, 0)):
                raise ShrunkenExtract(
                    f"{system.name}, table {each}",
                    f"the extract has {count:,} rows where the last one had {sizes[each]:,}",
                    "Check that it is whole; --force takes it and deletes what is not in it",
                    code="conflict",
                )


def shrunk(count: int, before: int) -> bool:
    """Whether so much is missing that the extract is more likely broken than right; a few rows may always go."""
    return count <= SHRUNK * before and (before - count >= FEW or count == 0) and before > 0


def _columns_there(system: System, there: dict[str, tuple[str, ...]], table: str, columns: Sequence[str]) -> None:
    place = f"{system.name}, table {table}"
    if table not in there:
        raise ExtractError(place, "the extract has no such table", "Add it to the extract", code="not-found")
    missing = sorted(set(columns) - set(there[table]))
    if missing:
        rule = f"the extract has no column {', '.join(missing)}"
        raise ExtractError(place, rule, "Add it to the extract, or change the mapping")
