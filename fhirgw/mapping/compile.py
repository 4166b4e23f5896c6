"""A mapping as one straight-line Python function, for the hot path: a row to a new resource.

Fields are grouped by the elements they share, so that each container is built once and only where something fills it.
The function knows no diagnosis: at the first thing it cannot do it raises, and the mapping goes field by field to say
what is wrong. Why generated code: closures field by field cost three to five times a hand-written function, this costs
about the same as one (`make bench BENCH=mapping`); cattrs and attrs do the same for the same reason.

Long, because the code that is generated can only be followed beside the code that generates it.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fhirgw.fhir.issue import Resource
from fhirgw.fhir.table import Table
from fhirgw.mapping.codec import text_value
from fhirgw.mapping.identity import PERSON
from fhirgw.mapping.leaf import Coded, Fixed, Primitive, Referring
from fhirgw.mapping.mapping import Children, Field, Mapping, Row, later, sorted_children
from fhirgw.mapping.path import Path, Step
from fhirgw.mapping.refusal import Refusal


@dataclass
class Group:
    """An element several fields share: what it is called, and what it holds, in order."""

    step: Step | None
    items: list[Group | Field] = field(default_factory=list)

    def child(self, step: Step) -> Group:
        """The group for a step, made where it is new."""
        for item in self.items:
            if isinstance(item, Group) and item.step == step:
                return item
        made = Group(step)
        self.items.append(made)
        return made


def grouped(fields: Sequence[Field]) -> Group:
    """The fields as a tree of the elements they share."""
    root = Group(None)
    for each in fields:
        group = root
        for step in each.path.containers:
            group = group.child(step)
        group.items.append(each)
    return root


def in_order(group: Group) -> list[Field]:
    """The fields in the order in which the compiled function writes them: what shares an element stands together."""
    found: list[Field] = []
    for item in group.items:
        found += in_order(item) if isinstance(item, Group) else [item]
    return found


def compiled(mapping: Mapping) -> Callable[[Row], Resource]:
    """The function for a mapping; its source can be read in tracebacks."""
    writer = _Writer(mapping)
    source = writer.source()
    name = f"<mapping {mapping.system}/{mapping.name}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), writer.names)  # noqa: S102 - made from checked declarations, not from data
    function: Callable[[Row], Resource] = writer.names["to_fhir"]
    return function


def _only(group: Group) -> Field | None:
    """The one field of a group, where it has no more and its value needs no statement of its own."""
    if len(group.items) != 1:
        return None
    (item,) = group.items
    if isinstance(item, Group):
        return _only(item)
    place = item.path.leaf
    return item if place is not None and (not place.is_list or item.leaf.many) else None


class _Writer:
    """Collects the lines of the function, and the objects they name."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "text_value": text_value, "later": later, "sorted_children": sorted_children,
            "Refusal": Refusal, "person_id": mapping.ids.person, "about": mapping.ids.about, "plain": mapping.ids.plain,
        }  # fmt: skip
        self.begun = {("r['meta']", "profile")}
        self.watched = {each.column for pair in mapping.ordered for each in pair}

    def source(self) -> str:
        mapping = self.mapping
        self.add(0, "def to_fhir(row):")
        if mapping.required:
            blank = " or ".join(f"row[{column!r}] is None" for column in mapping.required)
            self.add(1, f"if {blank}: raise Refusal('required', '', '')")
        self.add(1, f"key = row[{mapping.key!r}]")
        self.add(1, f"person = row[{mapping.person!r}]" if mapping.person else "person = None")
        for column in sorted(self.watched):
            self.add(1, f"{self.watch(column)} = None")
        self.add(1, f"r = {{'resourceType': {mapping.type!r}, 'id': {self.identity()}}}")
        self.add(1, f"r['meta'] = {{'profile': [{mapping.profile!r}]}}" if mapping.profile else "pass")
        self.group(grouped(mapping.fields), "r", "row", 1)
        for path, value in mapping.constants:
            self.constant(path, value)
        for children in mapping.children:
            self.children(children)
        for first, second in mapping.ordered:
            a, b = self.watch(first.column), self.watch(second.column)
            self.add(
                1,
                f"if {a} is not None and {b} is not None and later({a}, {b}): raise Refusal('order', '', '')",
            )
        self.add(1, "return r")
        return "\n".join(self.lines) + "\n"

    def constant(self, path: Path, value: Any) -> None:
        """Content all resources share, object and all: whoever changes a resource works on a copy."""
        place = path.leaf
        assert place is not None
        node = f"{self.name(path)}.ensure(r)" if path.containers else "r"
        if path.containers:
            self.first(path.containers[0].name, "r")
        made = repr(value) if isinstance(value, str | int) else self.name(value)
        if place.is_list and node == "r" and self.first(place.name, "r"):
            self.add(1, f"r[{place.name!r}] = [{made}]")
        elif place.is_list:
            self.add(1, f"{node}.setdefault({place.name!r}, []).append({made})")
        else:
            self.add(1, f"{node}[{place.name!r}] = {made}")

    def add(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def name(self, value: Any) -> str:
        """A name in the function's globals for an object."""
        name = f"_{len(self.names)}"
        self.names[name] = value
        return name

    def watch(self, column: str) -> str:
        return f"at_{sorted(self.watched).index(column)}"

    def identity(self) -> str:
        if self.mapping.name == PERSON:
            return "person_id(key)"
        if self.mapping.person:
            return f"about({self.mapping.name!r}, key, person)"
        return f"plain({self.mapping.name!r}, key)"

    def group(self, group: Group, node: str, row: str, depth: int) -> None:
        """The lines that fill the element called `node`."""
        for item in group.items:
            if isinstance(item, Field):
                self.field(item, node, row, depth)
                continue
            step = item.step
            assert step is not None
            inner = f"n{len(self.lines)}"
            if step.name == "meta" and node == "r" and self.mapping.profile:
                self.group(item, "r['meta']", row, depth)
                continue
            only = _only(item)
            if only is not None and only.column not in self.watched:
                self.add(depth, f"c = {row}[{only.column!r}]")
                self.add(depth, self.filled(only))
                self.attach(step, node, self.nested(item), depth + 1)
                continue
            made = step.create()
            self.add(depth, f"{inner} = {made!r}")
            self.group(item, inner, row, depth)
            self.add(depth, f"if len({inner}) > {len(made)}:")
            self.attach(step, node, inner, depth + 1)

    def nested(self, group: Group) -> str:
        """The expression for an element that one cell fills, however deep it lies."""
        (item,) = group.items
        assert group.step is not None
        if isinstance(item, Field):
            assert item.path.leaf is not None
            name, value = item.path.leaf.name, self.value(item)
        else:
            assert item.step is not None
            name, value = item.step.name, self.nested(item)
            value = f"[{value}]" if item.step.is_list else value
        held = "".join(f"{key!r}: {content!r}, " for key, content in group.step.create().items())
        return f"{{{held}{name!r}: {value}}}"

    def attach(self, step: Step, node: str, value: str, depth: int) -> None:
        if not step.is_list:
            self.add(depth, f"{node}[{step.name!r}] = {value}")
        elif not self.first(step.name, node):
            self.add(depth, f"{node}.setdefault({step.name!r}, []).append({value})")
        else:
            self.add(depth, f"{node}[{step.name!r}] = [{value}]")

    def field(self, each: Field, node: str, row: str, depth: int) -> None:
        place = each.path.leaf
        assert place is not None
        self.add(depth, f"c = {row}[{each.column!r}]")
        self.add(depth, self.filled(each))
        value = self.value(each)
        if row == "row" and each.column in self.watched and isinstance(each.leaf, Primitive):
            self.add(depth + 1, f"{self.watch(each.column)} = v = {value}")
            value = "v"
        if not place.is_list or each.leaf.many:
            self.first(place.name, node)
            self.add(depth + 1, f"{node}[{place.name!r}] = {value}")
        elif place.index:
            self.add(
                depth + 1,
                f"if len({node}.get({place.name!r}, ())) != {place.index}: raise Refusal('order', '', '')",
            )
            self.add(depth + 1, f"{node}[{place.name!r}].append({value})")
        elif self.first(place.name, node):
            self.add(depth + 1, f"{node}[{place.name!r}] = [{value}]")
        else:
            self.add(depth + 1, f"{node}.setdefault({place.name!r}, []).append({value})")

    def first(self, name: str, node: str) -> bool:
        """Whether nothing was put there by the lines before, so that there is no list to add to."""
        new = (node, name) not in self.begun
        self.begun.add((node, name))
        return new

    def filled(self, each: Field) -> str:
        """The line that asks whether the cell `c` has a value to write."""
        only = each.leaf.only if isinstance(each.leaf, Fixed) else ()
        return f"if c in {self.name(frozenset(only))}:" if only else "if c is not None:"

    def value(self, each: Field) -> str:
        """The expression for the cell `c` as the field's value."""
        leaf = each.leaf
        if isinstance(leaf, Primitive):
            if leaf.codec.encode is text_value:
                return "c if c.isprintable() and not c.isspace() else text_value(c)"
            return f"{self.name(leaf.codec.encode)}(c)"
        if isinstance(leaf, Fixed):
            return self.name(leaf.value)
        if isinstance(leaf, Coded):
            return f"{self.name({cell: leaf.write(cell, None, None) for cell in leaf.codes.codes})}[c]"
        assert isinstance(leaf, Referring)
        if not leaf.about and leaf.mapping != PERSON:  # organisations and workers, of which there are few
            return f"{self.name(Table(partial(leaf.write, old=None, person=None)))}[c]"
        return f"{{'reference': {self.reference(leaf, each)}, 'identifier': {{'system': {leaf.system!r}, 'value': c}}}}"

    def reference(self, leaf: Referring, each: Field) -> str:
        prefix = repr(f"{leaf.type}/")
        if leaf.mapping == PERSON:
            return f"{prefix} + person_id(c)"
        person = f"row[{each.person!r}]" if each.person else "person"
        return f"{prefix} + about({leaf.mapping!r}, c, {person})"

    def children(self, children: Children) -> None:
        place = children.path.leaf
        assert place is not None
        self.add(1, f"rows = row[{children.table!r}]")
        self.add(1, "if rows:")
        self.add(2, "made = []")
        self.add(2, f"for child in sorted_children(rows, {children.order!r}):")
        self.add(3, f"if child[{children.key!r}] is None: raise Refusal('required', '', '')")
        if children.itself:
            self.add(3, f"c = child[{children.key!r}]")
            self.add(3, f"made.append({self.value(children.itself)})")
        else:
            self.add(3, f"e = {place.create()!r}")
            self.group(grouped(children.fields), "e", "child", 3)
            self.add(3, "made.append(e)")
        node = f"{self.name(children.path)}.ensure(r)" if children.path.containers else "r"
        self.add(2, f"{node}.setdefault({place.name!r}, []).extend(made)")
