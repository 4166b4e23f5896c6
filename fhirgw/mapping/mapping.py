"""A Mapping: one declaration, read from row to resource and from resource to row.

`to_fhir` without `onto` runs the compiled function (fhirgw.mapping.compile); everything else goes field by field,
which is the meaning of a mapping and what the compiled function is tested against. Both directions take `onto`,
because each side holds things the other does not know: what the mapping owns is written, the rest is kept.

Long because it holds both directions of fields and of child rows: read side by side, they show that they are inverse.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fhirgw.fhir.issue import Resource
from fhirgw.mapping.identity import PERSON, Identifiers
from fhirgw.mapping.leaf import Fixed, Leaf
from fhirgw.mapping.path import Path
from fhirgw.mapping.refusal import Fault, Refusal, RefusedRow, value_class

Row = dict[str, Any]
"""Column -> text or None (blank); a child table's name -> its rows."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column at one path. `both`: it is also written back. `person`: the column that names a reference's person."""

    column: str
    path: Path
    leaf: Leaf
    both: bool = True
    person: str | None = None

    def filled(self, cell: str | None) -> bool:
        """Whether the cell has a value to write."""
        return cell is not None and (not isinstance(self.leaf, Fixed) or self.leaf.stands(cell))

    def get(self, resource: Resource) -> Any:
        """The value at the path, or None."""
        container = self.path.container(resource)
        if container is None or self.path.leaf is None:
            return None
        found = container.get(self.path.leaf.name)
        if found is None or not self._within_list:
            return found
        position = self._position(found)
        return None if position is None else found[position]

    def set(self, resource: Resource, cell: str, person: str | None) -> None:
        """Writes the cell at the path; Refusal where it cannot."""
        value = self.leaf.write(cell, self.get(resource), person)
        container = self.path.ensure(resource)
        place = self.path.leaf
        assert place is not None
        if not self._within_list:
            container[place.name] = value
            return
        elements = container.setdefault(place.name, [])
        position = self._position(elements)
        if position is not None:
            elements[position] = value
        else:
            elements.append(value)

    def clear(self, resource: Resource) -> None:
        """Takes the value away, and every container that then holds nothing of its own."""
        container = self.path.container(resource)
        place = self.path.leaf
        if container is None or place is None or place.name not in container:
            return
        if self._within_list:
            elements = container[place.name]
            position = self._position(elements)
            if position is None:
                return
            kept = elements[:position] + elements[position + 1 :]
            container[place.name] = kept
            if not kept:
                del container[place.name]
        else:
            del container[place.name]
        self.path.prune(resource)

    @property
    def _within_list(self) -> bool:
        place = self.path.leaf
        return place is not None and place.is_list and not self.leaf.many

    def _position(self, elements: list[Any]) -> int | None:
        place = self.path.leaf
        assert place is not None
        if place.index == 0 and not self._primitive:
            return next((at for at, element in enumerate(elements) if self.leaf.knows(element)), None)
        return place.index if place.index < len(elements) else None

    @property
    def _primitive(self) -> bool:
        return self.path.element.is_primitive


@dataclass(frozen=True, slots=True)
class Children:
    """A child table: each of its rows is one element of a list of the resource, known again by the child's key."""

    table: str
    parent: str
    key: str
    order: str
    path: Path
    fields: tuple[Field, ...]
    itself: Field | None = None
    both: bool = True
    lines: tuple[tuple[Field, Field], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the child table that the mapping reads, in its own order."""
        return tuple(dict.fromkeys((self.key, *(each.column for each in self.fields))))

    @property
    def known(self) -> Field:
        """The field that tells which child an element is."""
        return self.itself or next(field for field in self.fields if field.column == self.key)


@dataclass(frozen=True)
class Mapping:
    """A table's rows as resources of one type. Built by fhirgw.mapping.load."""

    system: str
    name: str
    table: str
    key: str
    type: str
    profile: str | None
    person: str | None
    ids: Identifiers
    when: ReadOnly[str, tuple[str, ...] | None]
    constants: tuple[tuple[Path, Any], ...]
    fields: tuple[Field, ...]
    required: tuple[str, ...]
    ordered: tuple[tuple[Field, Field], ...]
    lines: tuple[tuple[Field, Field], ...]
    children: tuple[Children, ...]
    fingerprint: str
    source: str = ""
    compiled: Callable[[Row], Resource] | None = field(default=None, compare=False)

    def applies(self, row: Row) -> bool:
        """Whether the mapping is for this row."""
        for column, values in self.when.items():
            cell = row.get(column)
            if cell is None or (values is not None and cell not in values):
                return False
        return True

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that the mapping reads, in its own order."""
        named = [self.key, *([self.person] if self.person else []), *self.when, *self.required]
        named += [column for one in self.fields for column in (one.column, one.person) if column]
        return tuple(dict.fromkeys(named))

    @cached_property
    def owned(self) -> tuple[str, ...]:
        """The columns that are written back."""
        single = [column for column, values in self.when.items() if values is not None and len(values) == 1]
        return tuple(dict.fromkeys([*(one.column for one in self.fields if one.both), *single]))

    def identify(self, row: Row) -> str:
        """The id of the row's resource."""
        key = row[self.key]
        if self.name == PERSON:
            return self.ids.person(key)
        return self.ids.about(self.name, key, row[self.person]) if self.person else self.ids.plain(self.name, key)

    def to_fhir(self, row: Row, onto: Resource | None = None) -> Resource:
        """The row as a resource; RefusedRow names all that is wrong with it."""
        if onto is None and self.compiled is not None:
            try:
                return self.compiled(row)
            except (Refusal, KeyError, TypeError, AttributeError):
                pass  # told in full, field by field, below
        return self.write(row, onto)

    def write(self, row: Row, onto: Resource | None = None) -> Resource:
        """The same, field by field."""
        faults = list(self._missing(row))
        if faults:
            raise RefusedRow(faults)
        resource = self._begin(row, onto)
        for each in reversed(self.fields):
            if not each.filled(row.get(each.column)):
                each.clear(resource)
        person = row.get(self.person) if self.person else None
        faults = list(_write(self, row, self.fields, resource, row, person))
        for path, value in self.constants:
            _put(path, value, resource)
        for children in self.children:
            faults += self._write_children(children, row, resource, person)
        faults += self._disorder(row, resource)
        if faults:
            raise RefusedRow(faults)
        return resource

    def to_row(self, resource: Resource, onto: Row | None = None) -> Row:
        """The resource as a row, written over `onto`; RefusedRow names what the source cannot hold."""
        row: Row = dict(onto or {})
        faults: list[Fault] = []
        for column, values in self.when.items():
            if values is not None and len(values) == 1:
                row[column] = values[0]
        for each in self.fields:
            if each.both:
                row[each.column] = self._read(each, resource, row, faults)
        for children in self.children:
            if children.both:
                row[children.table] = self._read_children(children, resource, row, faults)
        if faults:
            raise RefusedRow(faults)
        return row

    def _begin(self, row: Row, onto: Resource | None) -> Resource:
        resource: Resource = {"resourceType": self.type, "id": self.identify(row)}
        if onto is not None:
            resource |= copy.deepcopy(onto)
        if self.profile and self.profile not in resource.get("meta", {}).get("profile", ()):
            meta = resource.setdefault("meta", {})
            meta["profile"] = [*meta.get("profile", ()), self.profile]
        return resource

    def _missing(self, row: Row) -> Iterator[Fault]:
        for column in self.required:
            if row.get(column) is None:
                refusal = Refusal("required", "this column must be filled", "Fill it at its source")
                yield self._fault(row, column, refusal)
        yield from self._gaps(row, self.lines, row)
        for children in self.children if any(each.lines for each in self.children) else ():
            for child in row.get(children.table) or ():
                yield from self._gaps(row, children.lines, child, f"{children.table}.")

    def _gaps(self, row: Row, lines: tuple[tuple[Field, Field], ...], cells: Row, prefix: str = "") -> Iterator[Fault]:
        """Lines that follow a blank one: the list they become has no gaps, so they would come back elsewhere."""
        for earlier, following in lines:
            if cells.get(earlier.column) is None and (cell := cells.get(following.column)) is not None:
                rule = f"{earlier.column} must be filled before {following.column}"
                yield self._fault(row, prefix + following.column, Refusal("order", rule, "Move the text up"), cell)

    def _disorder(self, row: Row, resource: Resource) -> Iterator[Fault]:
        for first, second in self.ordered:
            before, after = first.get(resource), second.get(resource)
            if before is not None and after is not None and later(before, after):
                rule = f"{first.column} must not be after {second.column}"
                yield self._fault(row, second.column, Refusal("order", rule, "Correct one of the two"))

    def _write_children(self, children: Children, row: Row, resource: Resource, person: str | None) -> list[Fault]:
        container = children.path.ensure(resource)
        place = children.path.leaf
        assert place is not None
        old = container.pop(place.name, None) or []
        theirs = {key: element for element in old if (key := self._child_key(children, element)) is not None}
        made = [element for element in old if self._child_key(children, element) is None]
        faults: list[Fault] = []
        for child in sorted_children(row.get(children.table) or (), children.order):
            key = child.get(children.key)
            if key is None:
                refusal = Refusal("required", "this column must be filled", "Fill it at its source")
                faults.append(self._fault(row, f"{children.table}.{children.key}", refusal))
                continue
            element = copy.deepcopy(theirs.get(key))
            if children.itself:
                made.append(children.itself.leaf.write(key, element, person))
                continue
            element = place.create() if element is None else element
            for each in reversed(children.fields):
                if not each.filled(child.get(each.column)):
                    each.clear(element)
            faults += _write(self, row, children.fields, element, child, person, f"{children.table}.")
            made.append(element)
        if made:
            container[place.name] = made
        else:
            children.path.prune(resource)
        return faults

    def _child_key(self, children: Children, element: Any) -> str | None:
        place = children.path.leaf
        assert place is not None
        if children.itself:
            return children.itself.leaf.read(element) if children.itself.leaf.knows(element) else None
        if not isinstance(element, dict) or not place.matches(element):
            return None
        value = children.known.get(element)
        try:
            return None if value is None else children.known.leaf.read(value)
        except Refusal:
            return None

    def _read_children(self, children: Children, resource: Resource, row: Row, faults: list[Fault]) -> list[Row]:
        container = children.path.container(resource) or {}
        place = children.path.leaf
        assert place is not None
        before = {child.get(children.key): child for child in row.get(children.table) or ()}
        rows: list[Row] = []
        for element in container.get(place.name) or ():
            key = self._child_key(children, element)
            if key is None:
                continue
            child: Row = dict(before.get(key, {}))
            child |= {children.parent: row.get(self.key), children.key: key}
            for each in children.fields:
                if each.both:
                    child[each.column] = self._read(each, element, row, faults)
            rows.append(child)
        return rows

    def _read(self, each: Field, resource: Resource, row: Row, faults: list[Fault]) -> str | None:
        value = each.get(resource)
        try:
            return None if value is None else each.leaf.read(value)
        except Refusal as refusal:
            faults.append(
                Fault(
                    self.table, str(row.get(self.key)), each.column, refusal.reason, value_class(value),
                    refusal.rule, f"{refusal.remedy} (at {self.type}.{each.path.text})",
                )
            )  # fmt: skip
            return None

    def _fault(self, row: Row, column: str, refusal: Refusal, value: object = None) -> Fault:
        return Fault(
            self.table, str(row.get(self.key)), column, refusal.reason,
            value_class(row.get(column) if value is None else value), refusal.rule, refusal.remedy,
        )  # fmt: skip


def _write(
    mapping: Mapping,
    row: Row,
    fields: tuple[Field, ...],
    onto: Resource,
    cells: Row,
    person: str | None,
    prefix: str = "",
) -> Iterator[Fault]:
    """Writes the filled cells; yields what was refused."""
    for each in fields:
        cell = cells.get(each.column)
        if cell is None or not each.filled(cell):
            continue
        try:
            each.set(onto, cell, row.get(each.person) if each.person else person)
        except Refusal as refusal:
            yield mapping._fault(row, prefix + each.column, refusal, cell)


def _put(path: Path, value: Any, resource: Resource) -> None:
    place = path.leaf
    assert place is not None
    container = path.ensure(resource)
    if not place.is_list:
        container[place.name] = copy.deepcopy(value)
    elif value not in container.setdefault(place.name, []):
        container[place.name].append(copy.deepcopy(value))


def sorted_children(rows: Any, order: str) -> Any:
    """Child rows by their order column, whole numbers as numbers."""
    if len(rows) < 2:
        return rows
    return sorted(rows, key=lambda child: _rank(child.get(order)))


def _rank(cell: str | None) -> tuple[int, str]:
    return (len(cell), cell) if cell is not None and cell.isdigit() else (0 if cell is None else 99, cell or "")


def later(first: str, second: str) -> bool:
    """Whether a FHIR date or dateTime is after another, at the precision of the coarser."""
    from datetime import datetime

    if len(first) <= 10 or len(second) <= 10:
        width = min(len(first), len(second))
        return first[:width] > second[:width]
    return datetime.fromisoformat(first) > datetime.fromisoformat(second)
