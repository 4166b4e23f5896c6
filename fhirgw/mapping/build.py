"""From a declaration to a Mapping: names become paths, codecs and references; what does not fit, a Problem.

Long because each rule of a declaration is a short function of its own, and all of them report to one place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass, replace
from typing import Any

from fhirgw.fhir import elements
from fhirgw.mapping.codec import CODECS, Options
from fhirgw.mapping.compile import compiled, grouped, in_order
from fhirgw.mapping.concept import CodeMap
from fhirgw.mapping.declaration import ChildrenFile, FieldFile, MappingFile, SystemFile
from fhirgw.mapping.identity import PERSON, Identifiers
from fhirgw.mapping.leaf import Coded, Fixed, Leaf, Primitive, Referring
from fhirgw.mapping.mapping import Children, Field, Mapping
from fhirgw.mapping.path import Path, PathError, Step, resolve
from fhirgw.mapping.positions import Location

REVISION = b"1"
"""Changed when the meaning of declarations changes: rows are then mapped anew."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where in the declaration."""

    location: Location
    message: str


class Builder:
    """Builds the mappings of one system. `unread`: declarations with faults of their own, which others may name."""

    def __init__(
        self,
        system: SystemFile,
        ids: Identifiers,
        codes: ReadOnly[str, CodeMap],
        files: ReadOnly[str, MappingFile],
        unread: frozenset[str] = frozenset(),
    ) -> None:
        self.system = system
        self.ids = ids
        self.codes = codes
        self.files = files
        self.unread = unread
        self.context = REVISION + repr((system, sorted(codes.items()))).encode()

    def build(self, name: str, fingerprint: str, problems: list[Problem]) -> Mapping | None:
        """The mapping called `name`, or None; what is wrong with it is added to `problems`."""
        declared = self.files[name]
        if not elements.is_resource(declared.resource):
            problems.append(Problem(("resource",), f"R4 has no resource type {declared.resource}"))
            return None
        made = _Making(self, name, declared, problems)
        mapping = made.mapping(fingerprint)
        problems += _repeated(declared)
        problems += [Problem(("fields",), message) for message in _at_odds(made.fields)]
        problems += [Problem(("fields",), message) for message in _unknown(made.fields)]
        if problems:
            return None
        return replace(mapping, compiled=compiled(mapping))


class _Making:
    """One declaration on its way to a Mapping."""

    def __init__(self, builder: Builder, name: str, declared: MappingFile, problems: list[Problem]) -> None:
        self.builder = builder
        self.name = name
        self.declared = declared
        self.problems = problems
        self.fields = [
            made
            for at, each in enumerate(declared.fields)
            if (made := self.field(declared.resource, each, ("fields", at))) is not None
        ]

    def problem(self, location: Location, message: str) -> None:
        self.problems.append(Problem(location, message))

    def mapping(self, fingerprint: str) -> Mapping:
        declared = self.declared
        constants = tuple(self.constants())
        fields = tuple(in_order(grouped(self.fields)))
        children = tuple(
            made for at, each in enumerate(declared.children) if (made := self.children(each, ("children", at)))
        )
        return Mapping(
            system=self.builder.system.system,
            name=self.name,
            table=declared.table,
            key=declared.key,
            type=declared.resource,
            profile=declared.profile,
            person=None if self.name == PERSON else declared.person,
            ids=self.builder.ids,
            when={column: _values(wanted) for column, wanted in declared.when.items()},
            constants=constants,
            fields=fields,
            ordered=tuple(self.ordered()),
            required=tuple(self.required(constants, children)),
            lines=tuple(self.lines(self.fields)),
            children=children,
            fingerprint=fingerprint,
            source=f"{self.builder.system.system}/{self.name}.yaml",
        )

    def field(self, context: str, each: FieldFile, at: Location) -> Field | None:
        path = self.path(context, each.path, (*at, "path"))
        leaf = self.leaf(each, path, at) if path else None
        if path is None or leaf is None:
            return None
        if path.leaf is not None and path.leaf.template:
            self.problem((*at, "path"), "the last element takes a value: name the one inside the selector")
            return None
        return Field(each.column, path, leaf, each.direction == "both", each.person)

    def path(self, context: str, text: str, at: Location) -> Path | None:
        try:
            path = resolve(context, text)
        except PathError as error:
            self.problem(at, str(error))
            return None
        for outer, inner in zip(path.containers, (*path.containers[1:], path.leaf), strict=False):
            if inner is not None and inner.name in outer.create():
                self.problem(at, f"the selector of {outer.name} creates {inner.name} too: select on the inner element")
            if outer.index:
                self.problem(at, f"{outer.name}[{outer.index}] may be another's: select it with where(...)")
        return path

    def leaf(self, each: FieldFile, path: Path, at: Location) -> Leaf | None:
        if each.value is not None:
            return Fixed(each.value, tuple(each.only))
        if each.codes is not None:
            return self.coded(each, path, at)
        if each.reference is not None:
            return self.referring(each.reference, path.element, at)
        return self.primitive(each, path, at)

    def coded(self, each: FieldFile, path: Path, at: Location) -> Leaf | None:
        codes = self.builder.codes.get(each.codes or "")
        form = path.element.type
        if codes is None:
            self.problem((*at, "codes"), f"codes.yaml has no {each.codes}")
            return None
        if form not in ("code", "Coding", "CodeableConcept"):
            self.problem((*at, "codes"), f"{each.path} is a {form}, which holds no code")
            return None
        keeps = codes.keep and form == "CodeableConcept"
        if codes.merged() and not keeps and each.direction == "both":
            self.problem(
                (*at, "codes"),
                f"{codes.name} is not one-to-one: keep the source codes (keep: true, on a CodeableConcept),"
                " or say direction: in",
            )
        if form == "code":
            self.check_codes(codes, path, at)
        return Coded(codes, form)

    def check_codes(self, codes: CodeMap, path: Path, at: Location) -> None:
        binding = path.element.binding
        allowed = elements.codes(binding.value_set) if binding and binding.strength == "required" else None
        known = set().union(*allowed.values()) if allowed else None
        used = {codes.concept.standard[name]["code"] for name in codes.codes.values() if name in codes.concept.standard}
        for target in sorted(used - known) if known is not None else ():
            self.problem((*at, "codes"), f"{path.text} does not know the code {target} that {codes.name} leads to")

    def referring(self, name: str, element: elements.Element, at: Location) -> Leaf | None:
        target = self.builder.files.get(name)
        if name in self.builder.unread:
            return None
        if target is None:
            self.problem((*at, "reference"), f"there is no mapping {name}.yaml to refer to")
            return None
        if element.type != "Reference":
            self.problem((*at, "reference"), f"{element.name} is a {element.type}, not a Reference")
            return None
        if "Resource" not in element.targets and element.targets and target.resource not in element.targets:
            self.problem((*at, "reference"), f"{element.name} cannot refer to a {target.resource}")
        return Referring(
            self.builder.ids,
            name,
            target.resource,
            f"{self.builder.system.namespace}/{name}",
            bool(target.person),
        )

    def primitive(self, each: FieldFile, path: Path, at: Location) -> Leaf | None:
        name = each.codec or "text"
        if name not in CODECS or each.item not in CODECS:
            self.problem((*at, "codec"), f"there is no codec {name if name not in CODECS else each.item}")
            return None
        options = Options(each.format, self.builder.system.timezone, each.values, each.separator, each.item)
        try:
            codec = CODECS[name](options)
        except (ValueError, KeyError) as error:
            self.problem((*at, "codec"), str(error))
            return None
        if path.element.type not in codec.types:
            self.problem((*at, "path"), f"{each.path} is a {path.element.type}: the codec {name} cannot fill it")
        if codec.many and not path.element.is_list:
            self.problem((*at, "path"), f"{each.path} holds one value, the codec {name} makes several")
        return Primitive(codec)

    def constants(self) -> Iterator[tuple[Path, Any]]:
        shared: set[Step] = {each.path.containers[0] for each in self.fields if each.path.containers}
        for at, each in enumerate(self.declared.constants):
            path = self.path(self.declared.resource, each.path, ("constants", at, "path"))
            if path is None:
                continue
            if path.containers and path.containers[0] in shared:
                self.problem(("constants", at), "a column fills this element: put the constant in its selector")
            yield path, each.value

    def children(self, each: ChildrenFile, at: Location) -> Children | None:
        path = self.path(self.declared.resource, each.path, (*at, "path"))
        if path is None:
            return None
        if not path.element.is_list:
            self.problem((*at, "path"), f"{each.path} is no list")
            return None
        fields, itself = [], None
        for number, one in enumerate(each.fields):
            place: Location = (*at, "fields", number)
            if one.path == "$this":
                leaf = self.leaf(one, path, place)
                itself = Field(one.column, path, leaf) if leaf else None
            elif made := self.field(path.element.inner, one, place):
                fields.append(made)
        if itself is None and not any(made.column == each.key for made in fields):
            self.problem((*at, "key"), f"{each.key} must be one of the fields: it tells the children apart")
            return None
        ordered = tuple(in_order(grouped(fields)))
        both = each.direction == "both"
        lines = tuple(self.lines(ordered))
        order = each.order or each.key
        return Children(each.table, each.parent, each.key, order, path, ordered, itself, both, lines)

    def required(self, constants: tuple[tuple[Path, Any], ...], children: tuple[Children, ...]) -> Iterator[str]:
        """The columns without which there is no resource: its key, its person, and what fills a mandatory element."""
        named = [self.declared.key, *([self.declared.person] if self.declared.person else [])]
        named += [column for check in self.declared.checks for column in check.required or ()]
        filled = {_first(path) for path, _ in constants} | {_first(each.path) for each in children}
        for name, element in elements.children(self.declared.resource).items():
            if element.min and not filled & set(element.choices or (name,)):
                columns = [f.column for f in self.fields if _first(f.path) in (element.choices or (name,))]
                if len(columns) == 1:
                    named += columns
                elif not columns and not self.problems and not self.builder.unread:
                    self.problem(
                        ("fields",),
                        f"{self.declared.resource}.{name} is mandatory: map it, or make it a constant",
                    )
        yield from dict.fromkeys(named)

    def lines(self, fields: Iterable[Field]) -> Iterator[tuple[Field, Field]]:
        """Fields at neighbouring positions of one list: the second is filled only where the first is."""
        placed = {(f.path.containers, f.path.leaf.name, f.path.leaf.index): f for f in fields if f.path.leaf}
        for (containers, name, position), later in placed.items():
            if position and (earlier := placed.get((containers, name, position - 1))):
                yield earlier, later
            elif position:
                self.problem(("fields",), f"{later.path.text} needs a column for the position before it")

    def ordered(self) -> Iterator[tuple[Field, Field]]:
        by_column = {each.column: each for each in reversed(self.fields) if isinstance(each.leaf, Primitive)}
        for at, check in enumerate(self.declared.checks):
            for first, second in [check.order] if check.order else []:
                if first in by_column and second in by_column:
                    yield by_column[first], by_column[second]
                else:
                    self.problem(("checks", at), "order names columns that are mapped as dates or times")


def _first(path: Path) -> str:
    place = path.containers[0] if path.containers else path.leaf
    return place.name if place else ""


def _values(wanted: str | list[str]) -> tuple[str, ...] | None:
    if wanted == "present":
        return None
    return (wanted,) if isinstance(wanted, str) else tuple(wanted)


def _at_odds(fields: list[Field]) -> Iterator[str]:
    """Elements that are no lists, named with different selectors: one would undo the other."""
    chosen: dict[tuple[Step, ...], set[Step]] = {}
    for each in fields:
        for depth, step in enumerate(each.path.containers):
            if not step.is_list:
                above = tuple(Step(s.name, s.is_list, s.template) for s in each.path.containers[:depth])
                chosen.setdefault((*above, Step(step.name, False)), set()).add(step)
    for way, steps in chosen.items():
        if len(steps) > 1:
            yield f"{way[-1].name} is one element: select it with the same where(...) everywhere, or with none"


def _unknown(fields: list[Field]) -> Iterator[str]:
    """Cells that a value is said to stand for and the column's code list does not have: it would never stand."""
    known = {each.column: each.leaf.codes for each in fields if isinstance(each.leaf, Coded)}
    for each in fields:
        if isinstance(each.leaf, Fixed) and each.leaf.only and each.column in known:
            codes = known[each.column]
            for cell in sorted(set(each.leaf.only) - set(codes.codes)):
                yield f"only names {cell}, which the code list {codes.name} does not have"


def _repeated(declared: MappingFile) -> Iterator[Problem]:
    """Columns written back twice, and paths written twice."""
    back = Counter(each.column for each in declared.fields if each.direction == "both")
    kinds = Counter((each.path, each.codes, each.reference) for each in declared.fields)
    plain = Counter(each.path for each in declared.fields if not each.codes and not each.reference)
    for at, each in enumerate(declared.fields):
        if each.direction == "both" and back[each.column] > 1:
            yield Problem(("fields", at, "column"), f"{each.column} is written back twice: say direction: in on one")
        if kinds[each.path, each.codes, each.reference] > 1 or plain[each.path] > 1:
            yield Problem(("fields", at, "path"), f"{each.path} is written twice")
