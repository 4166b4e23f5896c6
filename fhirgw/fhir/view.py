"""A ViewDefinition of SQL on FHIR, compiled: resources of a type as rows of a table.

https://build.fhir.org/ig/FHIR/sql-on-fhir-v2/StructureDefinition-ViewDefinition.html. A view is compiled once, whole or
not at all: every fault is told with its place. Rows come out in the order of the specification's algorithm: those of
one select are combined with those of the next, and `unionAll` puts them one after another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from fhirgw.fhir.elements import is_primitive, is_resource
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.view_path import Found, ViewError, compiled, primitive

NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
UNKNOWN = ("repeat",)
"""Of later versions of the specification, and not done here: refused by name."""

Row = tuple[Any, ...]
Rows = Callable[[Any], list[Row]]


class Several(ValueError):
    """A column that holds one value was to hold several."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its FHIR type (a primitive's), whether it holds a list, and whether its path may find several."""

    name: str
    type: str
    collection: bool
    several: bool


@dataclass(frozen=True, slots=True)
class View:
    """A table of resources of a type; `rows` makes the rows of one, each with a value for each column.

    A value is as JSON has it (a decimal is a Decimal), None where there is none, and a list in a collection. `rows`
    raises Several.
    """

    name: str
    resource: str
    url: str
    columns: tuple[Column, ...]
    rows: Callable[[Resource], list[Row]]
    paths: tuple[str, ...]
    """The path of each column, as it is written."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A select, compiled."""

    columns: tuple[Column, ...]
    paths: tuple[str, ...]
    rows: Rows


def view(definition: Mapping[str, Any]) -> View:
    """The view of a ViewDefinition. Raises ViewError."""
    resource = definition.get("resource")
    if not isinstance(resource, str) or not is_resource(resource):
        raise ViewError("resource: name a type of R4")
    constants = {each.get("name"): _constant(each) for each in definition.get("constant", ())}
    part = _Compiling(constants).selects(definition.get("select"), resource, "select")
    names = [each.name for each in part.columns]
    if twice := {each for each in names if names.count(each) > 1}:
        raise ViewError(f"{', '.join(sorted(twice))}: a column of this name is there already")
    tests = [
        _condition(each, resource, constants, f"where[{at}]") for at, each in enumerate(definition.get("where", ()))
    ]

    def rows(found: Resource) -> list[Row]:
        return part.rows(found) if all(test(found) == [True] for test in tests) else []

    name, url = str(definition.get("name", "")), str(definition.get("url", ""))
    return View(name, resource, url, part.columns, rows, part.paths)


def _constant(given: Mapping[str, Any]) -> Any:
    values = [value for name, value in given.items() if name.startswith("value")]
    if len(values) != 1 or not given.get("name"):
        raise ViewError("constant: each has a name and one value")
    return values[0]


def _condition(given: Any, resource: str, constants: Mapping[str, Any], place: str) -> Callable[[Any], list[Any]]:
    found = _path(given.get("path") if isinstance(given, dict) else None, resource, constants, f"{place}.path")
    if found.type not in (None, "boolean"):
        raise ViewError(f"{place}.path: it says neither yes nor no: {given['path']}")
    return found.run


def _path(text: Any, context: str | None, constants: Mapping[str, Any], place: str) -> Found:
    try:
        return compiled(text, context, constants)
    except ViewError as error:
        raise ViewError(f"{place}: {error}") from None


class _Compiling:
    """Compiles selects, each from the element where it stands."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self._constants = constants

    def selects(self, given: Any, context: str | None, place: str) -> _Part:
        if not isinstance(given, list) or not given:
            raise ViewError(f"{place}: say what to select, in a list")
        return _combined([self._select(each, context, f"{place}[{at}]") for at, each in enumerate(given)])

    def _select(self, given: Any, context: str | None, place: str) -> _Part:
        if not isinstance(given, dict):
            raise ViewError(f"{place}: it is an object")
        if unknown := [each for each in UNKNOWN if each in given]:
            raise ViewError(f"{place}.{unknown[0]}: not supported here: leave it out")
        each = next((name for name in ("forEach", "forEachOrNull") if name in given), None)
        if each is None:
            return self._parts(given, context, place)
        found = _path(given[each], context, self._constants, f"{place}.{each}")
        return _repeated(found, self._parts(given, found.type, place), each == "forEachOrNull")

    def _parts(self, given: Mapping[str, Any], context: str | None, place: str) -> _Part:
        parts = []
        if given.get("column"):
            parts.append(self._columns(given["column"], context, f"{place}.column"))
        if given.get("select"):
            parts.append(self.selects(given["select"], context, f"{place}.select"))
        if given.get("unionAll"):
            parts.append(self._union(given["unionAll"], context, f"{place}.unionAll"))
        if not parts:
            raise ViewError(f"{place}: it selects nothing: column, select or unionAll")
        return _combined(parts)

    def _columns(self, given: Sequence[Mapping[str, Any]], context: str | None, place: str) -> _Part:
        made = [self._column(each, context, f"{place}[{at}]") for at, each in enumerate(given)]
        readers = tuple(read for _, read in made)
        return _Part(
            tuple(column for column, _ in made),
            tuple(str(each["path"]) for each in given),
            lambda item: [tuple(read(item) for read in readers)],
        )

    def _column(self, given: Mapping[str, Any], context: str | None, place: str) -> tuple[Column, Callable[[Any], Any]]:
        name, collection = given.get("name"), given.get("collection") is True
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ViewError(f"{place}.name: letters, digits and underscores, a letter first")
        found = _path(given.get("path"), context, self._constants, f"{place}.path")
        type = given.get("type") or found.type or "string"
        if not primitive(found) or not is_primitive(type):
            raise ViewError(f"{place}: {found.type or type} does not fit in a column: name what of it")
        column = Column(name, type, collection, found.many and not collection)
        return column, found.run if collection else _one(found.run, name)

    def _union(self, given: Any, context: str | None, place: str) -> _Part:
        parts = [self._select(each, context, f"{place}[{at}]") for at, each in enumerate(given)]
        shapes = {tuple((each.name, each.collection) for each in part.columns) for part in parts}
        if len(shapes) != 1:
            raise ViewError(f"{place}: all of it has the same columns, in the same order")
        makers = tuple(part.rows for part in parts)
        return _Part(parts[0].columns, parts[0].paths, lambda item: [row for make in makers for row in make(item)])


def _one(run: Callable[[Any], list[Any]], name: str) -> Callable[[Any], Any]:
    def read(item: Any) -> Any:
        found = run(item)
        if len(found) > 1:
            raise Several(f"the column {name} would hold several values: first(), join() or collection says which")
        return found[0] if found else None

    return read


def _repeated(found: Found, part: _Part, or_null: bool) -> _Part:
    run, make = found.run, part.rows
    nothing: Row = tuple([] if each.collection else None for each in part.columns)

    def rows(item: Any) -> list[Row]:
        found = run(item)
        if or_null and not found:
            return [nothing]
        return [row for each in found for row in make(each)]

    return _Part(part.columns, part.paths, rows)


def _combined(parts: Sequence[_Part]) -> _Part:
    """Each row of one with each row of the next."""
    if len(parts) == 1:
        return parts[0]
    makers = tuple(part.rows for part in parts)

    def rows(item: Any) -> list[Row]:
        return [tuple(_flat(each)) for each in product(*(make(item) for make in makers))]

    columns = tuple(column for part in parts for column in part.columns)
    return _Part(columns, tuple(path for part in parts for path in part.paths), rows)


def _flat(rows: Sequence[Row]) -> Iterator[Any]:
    for row in rows:
        yield from row
