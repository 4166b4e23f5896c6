"""What a resource is found by: its tokens, strings, dates and patient, from the parameters of its type.

Each type's parameters are made once into a straight-line Python function that follows the JSON and visits only what
is there: microseconds a resource, where FHIRPath would take milliseconds and closures for each element half as long
again. `tests/fhir/test_fhir_index.py` holds it against an independent reading of R4's expressions, and against those
closures. Long because one writer makes all of the function.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from fhirgw.fhir import leaves, tokens
from fhirgw.fhir.dates import Span, span
from fhirgw.fhir.elements import Element, children
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.numbers import READ, Number, quantity
from fhirgw.fhir.parameters import (
    COLUMNS,
    DECEASED,
    NUMERIC,
    SLOTS,
    Group,
    Parameter,
    Source,
    own_parts,
    place,
    supported,
)

VERSION = 4
"""Of the layout: what stands in which bit, slot, place and token; and of how labels, Consents and relationships are
read (fhirgw.access). A change needs every row indexed again, and does so (fhirgw.store.reindex)."""

NamedSpan = tuple[str, datetime, datetime]
"""A parameter, and one of the spans it is found by."""

NAME_PARTS = ("text", "family", "given", "prefix", "suffix")
ADDRESS_PARTS = ("text", "line", "city", "district", "state", "postalCode", "country")
PARTS = {"HumanName": NAME_PARTS, "Address": ADDRESS_PARTS}
"""What a string parameter looks at in a name or an address."""


@dataclass(slots=True)
class Index:
    """What the store keeps beside a body.

    `tokens` without repeats; `strings` as (parameter, normalised value); `dates` by slot 1..4; `patient` an
    id, None for what is nobody's record; `present` a bit for each parameter that has a value
    (fhirgw.fhir.parameters.bit); `numbers` and `spans` as rows.
    """

    tokens: list[int] = field(default_factory=list)
    strings: list[tuple[str, str]] = field(default_factory=list)
    dates: list[Span | None] = field(default_factory=lambda: [None] * SLOTS)
    patient: str | None = None
    present: int = 0
    numbers: list[Number] = field(default_factory=list)
    spans: list[NamedSpan] = field(default_factory=list)


def index(resource: Resource) -> Index:
    """The index of one resource.

    Raises FhirError(structure) where an element has the wrong shape, FhirError(value) for a date that does
    not exist.
    """
    resource_type = resource.get("resourceType", "")
    try:
        return _function(resource_type)(resource)
    except (AttributeError, TypeError, KeyError):
        raise FhirError(
            Issue("structure", f"An element of this {resource_type} has the wrong shape", resource_type)
        ) from None


@dataclass(slots=True)
class _Node:
    """One property in the tree of what a type's parameters look at. `present`: the bits of those that find a value in
    it, by what it must be; `beside`: the composites of which it is the last part, in the element that holds it."""

    element: Element
    below: dict[str, _Node] = field(default_factory=dict)
    here: list[tuple[Parameter, Source]] = field(default_factory=list)
    present: dict[tuple[str, str] | None, int] = field(default_factory=dict)
    beside: list[tuple[Parameter, Group]] = field(default_factory=list)


@cache
def _function(resource_type: str) -> Callable[[Resource], Index]:
    """The function of a type; its source can be read in tracebacks."""
    writer = _Writer(resource_type)
    source = writer.source()
    name = f"<index of {resource_type}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), writer.names)  # noqa: S102 - made from R4's own definitions, not from data
    function: Callable[[Resource], Index] = writer.names["found"]
    return function


def _tree(resource_type: str) -> dict[str, _Node]:
    top: dict[str, _Node] = {}
    for parameter in (*supported(resource_type).values(), *own_parts(resource_type)):
        for source in parameter.sources:
            if parameter.name not in COLUMNS:
                _plant(top, parameter, source)
        for group in parameter.groups:
            for source in group.parts[-1].sources if group.path else ():
                _node(top, (*group.path, *source.path)).beside.append((parameter, group))
    return top


def _node(nodes: dict[str, _Node], path: tuple[Element, ...]) -> _Node:
    for element in path:
        node = nodes.setdefault(element.name, _Node(element))
        nodes = node.below
    return node


def _plant(nodes: dict[str, _Node], parameter: Parameter, source: Source) -> None:
    """Notes a parameter at the element it looks at; at each part of it, where that is a name or an address."""
    node = _node(nodes, source.path)
    nodes = node.below
    parts = PARTS.get(source.leaf.type) if parameter.kind == "string" else None
    if parameter.bit is not None and source.only_type is None:
        node.present[source.only_where] = node.present.get(source.only_where, 0) | 1 << parameter.bit
    if parts is None:
        node.here.append((parameter, source))
        return
    inner = children(source.leaf.inner)
    for part in parts:
        nodes.setdefault(part, _Node(inner[part])).here.append((parameter, source))


class _Writer:
    """Collects the lines of the function and what they name.

    t: tokens, s: strings, d1 to d4: dates, p: patient, h: which parameters have a value, n: numbers, z: spans.
    """

    def __init__(self, resource_type: str) -> None:
        self.type = resource_type
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "Index": Index,
            "FhirError": FhirError,
            "wrong_date": leaves.wrong_date,
            "identifier": tokens.identifier,
        }

    def source(self) -> str:
        self.add(0, "def found(r):")
        self.add(1, "t = []; s = []; n = []; z = []; h = 0; d1 = d2 = d3 = d4 = p = None")
        if self.type == "Patient":
            self.add(1, "p = r.get('id')")
        for node in _tree(self.type).values():
            self.node(node, "r", self.type, 1)
        if any(parameter.expression == DECEASED for parameter in supported(self.type).values()):
            self.deceased()
        self.whole()
        self.add(1, "if s: s = list(dict.fromkeys(s))")
        self.add(1, "return Index(list(set(t)), s, [d1, d2, d3, d4], p, h, n, z)")
        return "\n".join(self.lines) + "\n"

    def add(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def name(self, value: Any) -> str:
        """A name in the function's globals for an object."""
        name = f"_{len(self.names)}"
        self.names[name] = value
        return name

    def node(self, node: _Node, holder: str, path: str, depth: int) -> None:
        """The lines for an element: for each of its values, where it is a list."""
        name, path, value = node.element.name, f"{path}.{node.element.name}", f"v{depth}"
        self.add(depth, f"if {name!r} in {holder} and ({value} := {holder}[{name!r}]) is not None:")
        depth += 1
        if node.element.is_list:
            self.add(depth, f"for {value} in {value}:")
            self.add(depth + 1, f"if {value} is None: continue")  # a primitive of which there is only an extension
            depth += 1
        self.leaves(node, holder, value, path, depth)
        self.beside(node, holder, value, depth)
        for child in node.below.values():
            self.node(child, value, path, depth)

    def leaves(self, node: _Node, holder: str, value: str, path: str, depth: int) -> None:
        """The lines for what is looked for in the value itself, grouped so that each kind looks once."""
        if bits := node.present.get(None):
            self.add(depth, f"h |= {bits}")
        kinds: dict[tuple[str, tuple[str, str] | None], list[tuple[Parameter, Source]]] = {}
        for parameter, source in node.here:
            kinds.setdefault((parameter.kind, source.only_where), []).append((parameter, source))
        for (kind, where), looking in kinds.items():
            if where:
                self.add(depth, f"if {value}.get({where[0]!r}) == {where[1]!r}:")
                self.add(depth + 1, f"h |= {node.present.get(where, 0)}")
            names = tuple(parameter.name for parameter, _ in looking)
            at = depth + bool(where)
            if kind == "token":
                self.token(names, node.element.type, value, at)
            elif kind == "string":
                self.add(at, f"a, b = {self.name(leaves.texts(names))}[{value}]; s += a; t += b")
            elif kind == "uri":
                self.add(at, f"t += {self.name(leaves.uris(names))}[{value}]")
            elif kind == "date":
                self.dates(looking, node.element.type, value, path, at)
            elif kind in NUMERIC:
                self.numbers(node, looking[0][1], holder, value, depth)
            elif node.element.type == "Reference":
                self.reference(looking, value, at)
            else:
                self.add(at, f"t += {self.name(leaves.canonicals(names))}[{value}]")

    def token(self, names: tuple[str, ...], type: str, value: str, depth: int) -> None:
        """Each as https://hl7.org/fhir/R4/search.html#token says."""
        if type == "CodeableConcept":
            self.add(depth, f"for c in {value}.get('coding', ()):")
            self.add(depth + 1, f"t += {self.name(leaves.codings(names))}[c.get('system'), c.get('code')]")
        elif type == "Coding":
            codings = self.name(leaves.codings(names))
            self.add(depth, f"t += {codings}[{value}.get('system'), {value}.get('code')]")
        elif type == "Identifier":
            for name in names:  # nothing to remember: each is one resource's own
                self.add(depth, f"t += identifier({name!r}, {value}.get('system'), {value}.get('value'))")
            of_type = self.name(leaves.of_type)
            self.add(depth, f"if 'type' in {value}: t += {of_type}({names!r}, {value})")
        elif type == "ContactPoint":
            self.add(depth, f"t += {self.name(leaves.contact)}({names!r}, {value}.get('value'))")
        elif type == "boolean":
            self.add(depth, f"t += {self.name(leaves.codes(names))}['true' if {value} else 'false']")
        else:
            self.add(depth, f"t += {self.name(leaves.codes(names))}[{value}]")

    def dates(self, looking: list[tuple[Parameter, Source]], type: str, value: str, path: str, depth: int) -> None:
        read = self.name(leaves.DATES.get(type, span))
        slots = "".join(f"d{parameter.slot} = " for parameter, _ in looking if parameter.slot)
        self.add(depth, f"try: {slots}x = {read}({value})")
        self.add(depth, f"except FhirError as error: raise wrong_date(error, {path!r}) from None")
        for parameter, _ in looking:
            if not parameter.slot:
                self.add(depth, f"if x: z.append(({parameter.name!r}, *x))")

    def numbers(self, node: _Node, source: Source, holder: str, value: str, depth: int) -> None:
        """A row for each number, with the tokens of what a composite wants beside it."""
        read = self.name(READ.get(node.element.type, quantity))
        groups = {group.name: group for _, group in node.beside}
        tokens = "".join(f", {self.name(leaves.heads(group))}({holder})" for group in groups.values())
        self.add(depth, f"n += {read}({place(source.path)!r}, {value}{tokens})")

    def reference(self, looking: list[tuple[Parameter, Source]], value: str, depth: int) -> None:
        """Whose record it is, the first reference to a Patient says that a parameter for it looks at."""
        self.add(depth, f"i = {value}.get('identifier') or {{}}")
        key = f"{value}.get('reference'), {value}.get('type'), i.get('system'), i.get('value')"
        self.add(depth, f"a, b, m = {self.name(leaves.references(looking))}[{key}]; t += a; h |= m")
        if any(parameter.name in leaves.PRIMARY for parameter, _ in looking):
            self.add(depth, "if p is None: p = b")

    def deceased(self) -> None:
        """`deceased`: true for a true boolean or any date of death, and false for the living."""
        self.add(1, "dead = r.get('deceasedDateTime') is not None or r.get('deceasedBoolean')")
        self.add(1, f"t += {self.name(leaves.codes(('deceased',)))}['true' if dead else 'false']")
        self.add(1, f"h |= {1 << (supported(self.type)['deceased'].bit or 0)}")

    def beside(self, node: _Node, holder: str, value: str, depth: int) -> None:
        """The lines for the last part of a composite: a token for each way to ask for the pair, and that there is one.

        (A number's row has the tokens of what it is beside.)
        """
        done: set[str] = set()
        for parameter, group in node.beside:
            firsts = (source.leaf.name for source in group.parts[0].sources)
            here = " or ".join(f"{holder}.get({name!r}) is not None" for name in firsts)
            self.add(depth, f"if {here}: h |= {1 << (parameter.bit or 0)}")
            if group.parts[-1].kind not in NUMERIC and group.name not in done:
                done.add(group.name)
                self.add(depth, f"t += {self.name(leaves.pairs(group, node.element))}({holder}, {value})")

    def whole(self) -> None:
        """Which composites of the resource itself have a value: those of which each part has one."""
        for parameter in supported(self.type).values():
            for group in parameter.groups:
                if not group.path:
                    parts = (
                        " or ".join(f"r.get({source.path[0].name!r}) is not None" for source in part.sources)
                        for part in group.parts
                    )
                    self.add(1, f"if {' and '.join(f'({part})' for part in parts)}: h |= {1 << (parameter.bit or 0)}")
