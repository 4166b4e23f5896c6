"""The index element by element: closures that follow the JSON. What the straight-line functions are held against.

This was the gateway's own way until November 2026; it is slower by half, and written without a thought of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from fhirgw.fhir import tokens
from fhirgw.fhir.dates import Span, outer, period, span
from fhirgw.fhir.elements import Element
from fhirgw.fhir.index import Index
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.parameters import COLUMNS, DECEASED, Group, Parameter, Part, Source, supported
from fhirgw.fhir.strings import normalise

NOBODY: dict[str, str] = {}
"""Stands where a reference has no identifier."""

NAME_PARTS = ("text", "family", "given", "prefix", "suffix")
ADDRESS_PARTS = ("text", "line", "city", "district", "state", "postalCode", "country")
PRIMARY = ("patient", "subject")
"""The parameters that say whose record a resource belongs to."""


Handler = Callable[[Any, Index], None]


def token(name: str, element: Element) -> Handler:
    """A code, coding, identifier, contact or boolean, each as https://hl7.org/fhir/R4/search.html#token says."""
    coding, code = tokens.coding, tokens.code

    def concept(value: Any, found: Index) -> None:
        for each in value.get("coding", ()):
            found.tokens += coding(name, each.get("system"), each.get("code"))

    def one_coding(value: Any, found: Index) -> None:
        found.tokens += coding(name, value.get("system"), value.get("code"))

    def identifier(value: Any, found: Index) -> None:
        found.tokens += tokens.identifier(name, value.get("system"), value.get("value"))

    def contact(value: Any, found: Index) -> None:
        if number := value.get("value"):
            found.tokens.append(tokens.contact(name, number))

    def boolean(value: Any, found: Index) -> None:
        found.tokens.append(code(name, "true" if value else "false"))

    def bare(value: Any, found: Index) -> None:
        found.tokens.append(code(name, value))

    by_type = {
        "CodeableConcept": concept,
        "Coding": one_coding,
        "Identifier": identifier,
        "ContactPoint": contact,
        "boolean": boolean,
    }
    return by_type.get(element.type, bare)


def string(name: str, element: Element) -> Handler:
    """A text, or every part of a name or address."""
    exact = tokens.exact
    parts = {"HumanName": NAME_PARTS, "Address": ADDRESS_PARTS}.get(element.type)

    def plain(value: Any, found: Index) -> None:
        found.strings.append((name, normalise(value, name)))
        found.tokens.append(exact(name, value))

    def every_part(value: Any, found: Index) -> None:
        for part in parts or ():
            inner = value.get(part)
            for text in (inner,) if isinstance(inner, str) else inner or ():
                if text is not None:
                    found.strings.append((name, normalise(text, name)))
                    found.tokens.append(exact(name, text))

    return every_part if parts else plain


def uri(name: str, element: Element) -> Handler:
    """A uri, compared exactly; a url also by every url its path leads through, itself the last."""

    def handle(value: Any, found: Index) -> None:
        found.tokens.append(tokens.uri(name, value))
        scheme, mark, rest = value.partition("://")
        steps = rest.split("/") if mark else []
        tops = {scheme + mark + "/".join(steps[: most + 1]) for most in range(min(len(steps), tokens.DEEPEST))}
        found.tokens.extend(tokens.token(f"{name}:below|{top}") for top in tops)

    return handle


def canonical(name: str, element: Element) -> Handler:
    """A canonical is found with its version and without."""

    def handle(value: Any, found: Index) -> None:
        found.tokens.append(tokens.uri(name, value))
        if "|" in value:
            found.tokens.append(tokens.uri(name, value.partition("|")[0]))

    return handle


def reference(looking: Sequence[tuple[Parameter, Source]]) -> Handler:
    """All reference parameters of one element: those for any type, and those for the type it turns out to name."""
    always = tuple(parameter.name for parameter, source in looking if source.only_type is None)
    kinds = {source.only_type for _, source in looking} - {None}
    by_kind = {
        kind: tuple(parameter.name for parameter, source in looking if source.only_type in (None, kind))
        for kind in kinds
    }
    primary = any(parameter.name in PRIMARY for parameter, _ in looking)

    def handle(value: Any, found: Index) -> None:
        target = value.get("reference")
        if target:
            kind, _, rest = target.partition("/")
            if not rest or "/" in rest or target[0] == "#":
                target, kind = _target(target)
            names = by_kind.get(kind, always)
            if target and primary and kind == "Patient" and found.patient is None and target.startswith("Patient/"):
                found.patient = target[8:]
        else:
            names = by_kind.get(value.get("type"), always)
        logical = value.get("identifier") or NOBODY
        found.tokens += tokens.referring(names, target, logical.get("system"), logical.get("value"))

    return handle


def _target(reference: str) -> tuple[str, str]:
    """What a reference names, without a version, and the resource type; two blanks within the same resource."""
    if reference[0] == "#":
        return "", ""
    target = reference.partition("/_history/")[0]
    kind, _, rest = target.partition("/")
    if kind.endswith(":"):
        kind = target.rpartition("/")[0].rpartition("/")[2]
    return target, kind if rest else ""


def date(parameter: Parameter, kind: str, path: str) -> Handler:
    """The span of a date, Period or Timing, in the parameter's slot; `path` is for the issue with a wrong one."""
    slot = (parameter.slot or 1) - 1
    read = {"Period": period, "Timing": _timing}.get(kind, span)

    def handle(value: Any, found: Index) -> None:
        try:
            covered = read(value)
        except FhirError as error:
            raise FhirError(Issue("value", error.issues[0].diagnostics, path)) from None
        if parameter.slot is not None:
            found.dates[slot] = covered
        elif covered is not None:
            found.spans.append((parameter.name, *covered))

    return handle


def _timing(value: dict[str, Any]) -> Span | None:
    """The outer limits of a Timing: of its events and of the bounds of its repetition."""
    spans = [span(each) for each in value.get("event", ()) if each is not None]
    bounds = period(value.get("repeat", {}).get("boundsPeriod", {}))
    return outer([*spans, bounds] if bounds else spans)


DEAD_OR_ALIVE = frozenset(("deceasedBoolean", "deceasedDateTime"))


def plain_index(resource: Resource) -> Index:
    """The index of one resource.

    Raises FhirError(structure) where an element has the wrong shape, FhirError(value) for a date that does
    not exist.
    """
    found = Index()
    resource_type = resource.get("resourceType", "")
    handlers = _compiled(resource_type)
    try:
        for name, value in resource.items():
            if handler := handlers.get(name):
                handler(value, found)
    except (AttributeError, TypeError, KeyError):
        raise FhirError(
            Issue("structure", f"An element of this {resource_type} has the wrong shape", resource_type)
        ) from None
    if resource_type == "Patient":
        found.patient = resource.get("id")
        if DEAD_OR_ALIVE.isdisjoint(resource):
            found.tokens.append(tokens.code("deceased", "false"))
    for parameter in supported(resource_type).values():
        for group in parameter.groups:
            _composite(parameter, group, resource, found)
    found.tokens = list(dict.fromkeys(found.tokens))
    if found.strings:
        found.strings = list(dict.fromkeys(found.strings))
    return found


def _composite(parameter: Parameter, group: Group, resource: Resource, found: Index) -> None:
    """The tokens of pairs in the elements that a composite is of; the string of one that is of the resource itself."""
    holders: list[Any] = [resource]
    for step in group.path:
        inner = [each.get(step.name) for each in holders]
        holders = [one for each in inner for one in (each if isinstance(each, list) else [each]) if one is not None]
    for holder in holders:
        heads, tails = ([*_values(holder, part)] for part in group.parts)
        if group.path and group.parts[1].kind in ("token", "reference"):
            for one in heads:
                found.tokens += [tokens.token(f"{group.name}${one}${two}") for two in tails]
        elif not group.path and group.parts[1].kind == "string" and isinstance(holder.get("valueString"), str):
            string(f"{parameter.name}.2", group.parts[1].sources[0].leaf)(holder["valueString"], found)


def _values(holder: dict[str, Any], part: Part) -> Iterable[str]:
    """The texts of a part's tokens, which stand behind a parameter's name."""
    for source in part.sources:
        value = holder.get(source.leaf.name)
        if value is None:
            continue
        if source.leaf.type == "Reference":
            target = (value.get("reference") or "#").partition("/_history/")[0]
            yield from [] if target.startswith("#") else [target]
        elif isinstance(value, str | bool):
            yield f"|{str(value).lower() if isinstance(value, bool) else value}"
        else:
            for each in value.get("coding", ()) if source.leaf.type == "CodeableConcept" else [value]:
                system, code = each.get("system"), each.get("code")
                if system:
                    yield f"{system}|"
                if code:
                    yield f"|{code}"
                    yield f"{system or ' '}|{code}"


@dataclass(slots=True)
class _Node:
    """One property in the tree of what a type's parameters look at."""

    element: Element
    below: dict[str, _Node] = field(default_factory=dict)
    here: list[tuple[Parameter, Source]] = field(default_factory=list)


@cache
def _compiled(resource_type: str) -> dict[str, Handler]:
    """The handler of each top-level property that some parameter looks at."""
    top: dict[str, _Node] = {}
    known = supported(resource_type)
    for parameter in known.values():
        for source in parameter.sources:
            if parameter.name not in COLUMNS:
                _plant(top, parameter, source)
    handlers = {name: _handler(node, resource_type) for name, node in top.items()}
    if any(parameter.expression == DECEASED for parameter in known.values()):
        handlers |= _deceased(handlers)
    return handlers


def _plant(nodes: dict[str, _Node], parameter: Parameter, source: Source) -> None:
    node = None
    for element in source.path:
        node = nodes.setdefault(element.name, _Node(element))
        nodes = node.below
    if node is not None:
        node.here.append((parameter, source))


def _handler(node: _Node, path: str) -> Handler:
    """One handler for all that is looked for at and below a node, over each value where the element is a list."""
    path = f"{path}.{node.element.name}"
    parts = list(_leaves(node, path))
    if node.below:
        parts.append(_branch({name: _handler(child, path) for name, child in node.below.items()}))
    handler = parts[0] if len(parts) == 1 else _all(tuple(parts))
    return _each(handler) if node.element.is_list else handler


def _all(parts: tuple[Handler, ...]) -> Handler:
    def handle(value: Any, found: Index) -> None:
        for part in parts:
            part(value, found)

    return handle


def _each(handler: Handler) -> Handler:
    def handle(values: Any, found: Index) -> None:
        for value in values:
            if value is not None:  # a primitive of which there is only an extension
                handler(value, found)

    return handle


def _branch(below: dict[str, Handler]) -> Handler:
    steps = tuple(below.items())

    def handle(value: Any, found: Index) -> None:
        for name, handler in steps:
            inner = value.get(name)
            if inner is not None:
                handler(inner, found)

    return handle


MAKERS = {"token": token, "string": string, "uri": uri, "reference": canonical}
"""Handlers by kind, for an element at a time; references and dates are made otherwise."""


def _leaves(node: _Node, path: str) -> Iterable[Handler]:
    """The handlers for the values of an element, grouped so that each value is looked at once for each kind."""
    kinds: dict[str, list[tuple[Parameter, Source]]] = {}
    for parameter, source in node.here:
        kinds.setdefault(parameter.kind, []).append((parameter, source))
    for kind, looking in kinds.items():
        if kind == "reference" and node.element.type == "Reference":
            yield reference(looking)
        elif kind == "quantity":
            continue  # held against R4's own expressions, in test_fhir_index
        elif kind == "date":
            yield from (date(parameter, node.element.type, path) for parameter, _ in looking)
        else:
            make = MAKERS[kind]
            for parameter, source in looking:
                handler = make(parameter.name, node.element)
                yield _where(*source.only_where, handler) if source.only_where else handler


def _where(name: str, wanted: str, handler: Handler) -> Handler:
    def handle(value: Any, found: Index) -> None:
        if value.get(name) == wanted:
            handler(value, found)

    return handle


def _deceased(handlers: dict[str, Handler]) -> dict[str, Handler]:
    """`deceased`: true for a true boolean or any date of death, whatever else looks at those properties."""

    def boolean(value: Any, found: Index) -> None:
        found.tokens.append(tokens.code("deceased", "true" if value else "false"))

    def moment(value: Any, found: Index) -> None:
        found.tokens.append(tokens.code("deceased", "true"))

    known = (("deceasedBoolean", boolean), ("deceasedDateTime", moment))
    return {name: _all((handler, handlers[name])) if name in handlers else handler for name, handler in known}
