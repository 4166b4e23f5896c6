"""Where in a resource a value lives: a small part of FHIRPath that can be read *and* written.

    name.where(use = 'official').family        address[0].line[1]
    extension('https://...').valueCodeableConcept.coding.where(system = 'x').code

The selector that finds an element is also the content that creates it: that is what lets one line of a mapping work
both ways. Content it makes and does not ask for (a display, a text) is written with `:=` in place of `=`. Elements are
named as JSON names them (valueString, not value.ofType(string)). A list without a selector means its first element.
https://hl7.org/fhirpath/

Long, because reading, finding and making are kept side by side: they must not come apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fhirgw.fhir.elements import Element, step

Literal = str | bool | int
Template = dict[str, Any]


class PathError(ValueError):
    """The path cannot be read, or the standard has no such element."""


@dataclass(frozen=True, slots=True)
class Step:
    """One element on the way: its name, whether it is a list, what selects (and creates) one, or its position."""

    name: str
    is_list: bool
    template: tuple[tuple[tuple[str, ...], Literal, bool], ...] = ()
    index: int = 0

    def create(self) -> Template:
        """A new element holding just what selects it."""
        made: Template = {}
        for names, literal, _ in self.template:
            _put(made, names, literal)
        return made

    def empty(self, element: Template) -> bool:
        """Whether the element holds nothing but what selects it, or what it was created with."""
        asked: Template = {}
        for names, literal, required in self.template:
            if required:
                _put(asked, names, literal)
        return element in (asked, self.create())

    def matches(self, element: Any) -> bool:
        """Whether the element holds what selects it."""
        return isinstance(element, dict) and all(
            _holds(element, names, literal) for names, literal, asked in self.template if asked
        )

    def find(self, node: dict[str, Any]) -> Any:
        """The element of `node` this step leads to, or None."""
        value = node.get(self.name)
        if value is None:
            return None
        if not self.is_list:
            return value if not self.template or self.matches(value) else None
        if self.template:
            return next((element for element in value if self.matches(element)), None)
        return value[self.index] if self.index < len(value) else None

    def make(self, node: dict[str, Any]) -> Template:
        """Creates the element in `node`, after those that are there; returns it."""
        made = self.create()
        if self.is_list:
            node.setdefault(self.name, []).append(made)
        else:
            node[self.name] = made
        return made

    def drop(self, node: dict[str, Any], element: Any) -> None:
        """Takes the element out of `node`, and the list with its last element."""
        if not self.is_list:
            node.pop(self.name, None)
            return
        kept = [other for other in node.get(self.name, ()) if other is not element]
        if kept:
            node[self.name] = kept
        else:
            node.pop(self.name, None)


@dataclass(frozen=True, slots=True)
class Path:
    """A path resolved against the standard: the containers on the way, the leaf, and what the leaf is."""

    text: str
    containers: tuple[Step, ...]
    leaf: Step | None
    element: Element

    def container(self, resource: dict[str, Any]) -> dict[str, Any] | None:
        """The element that holds the leaf, or None where it does not exist."""
        node: Any = resource
        for place in self.containers:
            node = place.find(node)
            if node is None:
                return None
        return node  # type: ignore[no-any-return]

    def ensure(self, resource: dict[str, Any]) -> dict[str, Any]:
        """The element that holds the leaf, created where it does not exist."""
        node: Any = resource
        for place in self.containers:
            found = place.find(node)
            node = place.make(node) if found is None else found
        return node  # type: ignore[no-any-return]

    def prune(self, resource: dict[str, Any]) -> None:
        """Takes away, from the leaf upwards, what holds nothing but its own selectors."""
        nodes: list[Any] = [resource]
        for place in self.containers:
            found = place.find(nodes[-1])
            if found is None:
                break
            nodes.append(found)
        for place, parent, node in reversed(list(zip(self.containers, nodes, nodes[1:], strict=False))):
            if not place.empty(node):
                return
            place.drop(parent, node)


def resolve(resource_type: str, text: str) -> Path:
    """The path `text` from `resource_type`, checked against the standard; PathError says what it does not know."""
    if text == "$this":
        raise PathError("$this has a meaning only inside children")
    context = resource_type
    steps: list[Step] = []
    element: Element | None = None
    for name, qualifier in _split(text):
        element = step(context, name)
        if element is None:
            raise PathError(f"{context} has no element {name}")
        steps.append(_step(element, qualifier, text))
        context = element.inner
    if element is None:
        raise PathError("the path is empty")
    return Path(text, tuple(steps[:-1]), steps[-1], element)


def _step(element: Element, qualifier: str | int | None, text: str) -> Step:
    if isinstance(qualifier, int):
        if not element.is_list:
            raise PathError(f"{element.name} is no list, so [{qualifier}] has no meaning in {text}")
        return Step(element.name, True, index=qualifier)
    if qualifier is None:
        return Step(element.name, element.is_list)
    template = tuple(_conditions(element.inner, qualifier))
    return Step(element.name, element.is_list, template)


_NAME = re.compile(r"\s*([A-Za-z_][A-Za-z0-9]*)")
_INDEX = re.compile(r"\[(\d+)\]")
_CONDITION = re.compile(r"\s*([A-Za-z][\w.]*)\s*(:?=)\s*('(?:[^'\\]|\\.)*'|true|false|-?\d+)\s*(and\b)?")


def _split(text: str) -> list[tuple[str, str | int | None]]:
    """The elements of a path, each with its selector (text between the brackets), index, or None."""
    found: list[tuple[str, str | int | None]] = []
    at = 0
    while at < len(text):
        name = _NAME.match(text, at)
        if not name:
            raise PathError(f"cannot read the path from position {at}: {text}")
        at = name.end()
        if name[1] == "extension" and text[at : at + 1] == "(":
            end = _closing(text, at)
            found.append(("extension", f"url = {text[at + 1 : end - 1]}"))
            at = end
        elif text.startswith(".where(", at):
            end = _closing(text, at + 6)
            found.append((name[1], text[at + 7 : end - 1]))
            at = end
        elif index := _INDEX.match(text, at):
            found.append((name[1], int(index[1])))
            at = index.end()
        else:
            found.append((name[1], None))
        if at < len(text):
            if text[at] != ".":
                raise PathError(f"cannot read the path from position {at}: {text}")
            at += 1
    return found


def _closing(text: str, at: int) -> int:
    """The position after the bracket that closes the one at `at`, strings passed over."""
    quoted = False
    for position in range(at, len(text)):
        if text[position] == "'" and text[position - 1] != "\\":
            quoted = not quoted
        elif text[position] == ")" and not quoted:
            return position + 1
    raise PathError(f"a bracket is not closed: {text}")


def _conditions(context: str, text: str) -> list[tuple[tuple[str, ...], Literal, bool]]:
    """The content a selector makes: names, literal, whether it asks for it; a name of a list is written `name[]`."""
    conditions: list[tuple[tuple[str, ...], Literal, bool]] = []
    at = 0
    while True:
        found = _CONDITION.match(text, at)
        if not found:
            raise PathError(f"cannot read the selector: {text} (write element = 'text' and ...)")
        conditions.append((_names(context, found[1]), _literal(found[3]), found[2] == "="))
        at = found.end()
        if not found[4]:
            break
    if text[at:].strip():
        raise PathError(f"cannot read the selector from: {text[at:]}")
    return conditions


def _names(context: str, dotted: str) -> tuple[str, ...]:
    names: list[str] = []
    for name in dotted.split("."):
        element = step(context, name)
        if element is None:
            raise PathError(f"{context} has no element {name}, named in a selector")
        names.append(f"{name}[]" if element.is_list else name)
        context = element.inner
    return tuple(names)


def _literal(text: str) -> Literal:
    if text[0] == "'":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text == "true" if text in ("true", "false") else int(text)


def _put(node: dict[str, Any], names: tuple[str, ...], literal: Literal) -> None:
    """Writes a selector's content; conditions that share a container (coding.system, coding.code) share the element."""
    *way, last = names
    for name in way:
        node = node.setdefault(name[:-2], [{}])[0] if name.endswith("[]") else node.setdefault(name, {})
    if last.endswith("[]"):
        node[last[:-2]] = [literal]
    else:
        node[last] = literal


def _holds(node: Any, names: tuple[str, ...], literal: Literal) -> bool:
    for at, name in enumerate(names):
        if not isinstance(node, dict):
            return False
        if name.endswith("[]"):
            inside = node.get(name[:-2]) or ()
            return any(_holds(element, names[at + 1 :], literal) for element in inside)
        node = node.get(name)
    return bool(node == literal and type(node) is type(literal))
