"""A profile with everything its bases say: the differentials laid one over the other, and over R4's own elements.

`tree` is what validation is compiled from. `snapshot` writes it out as the published snapshots are, by element id.
https://hl7.org/fhir/R4/profiling.html#snapshot
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from fhirgw.fhir.differential import DEFINITIONS, Constraint
from fhirgw.fhir.elements import Element, children, kind
from fhirgw.fhir.profile import profile

ADDED = ("invariants",)
"""Facts of which a profile adds to its base's; the others it replaces."""


@dataclass(slots=True)
class Node:
    """What is said of one element: itself, what is under it, its slices by name. `[x]` stands in a choice's name."""

    facts: Constraint = field(default_factory=dict)
    children: dict[str, Node] = field(default_factory=dict)
    slices: dict[str, Node] = field(default_factory=dict)

    def copied(self) -> Node:
        return Node(
            {name: list(value) if name in ADDED else value for name, value in self.facts.items()},
            {name: each.copied() for name, each in self.children.items()},
            {name: each.copied() for name, each in self.slices.items()},
        )

    def add(self, facts: Constraint) -> None:
        for name, value in facts.items():
            self.facts[name] = [*self.facts.get(name, ()), *value] if name in ADDED else value


@cache
def tree(url: str) -> Node | None:
    """The profile's tree; None when nobody here knows it, or one of its bases. Never to be changed."""
    return _tree(url, ())


def _tree(url: str, within: tuple[str, ...]) -> Node | None:
    known = profile(url)
    if known is None or url in within:
        return None
    root = Node()
    if not is_r4s_own(known.base, known.type):
        above = _tree(known.base.partition("|")[0], (*within, url))
        if above is None:
            return None
        root = above.copied()
    narrow(root, known.type, known.constraints)
    for path, facts in known.constraints.items():
        at(root, known.type, path).add(facts)
    return root


def narrow(root: Node, context: str, paths: Iterable[str]) -> None:
    """Leave a choice the types that a differential names for it by themselves: valueQuantity, for value[x].

    https://hl7.org/fhir/R4/profiling.html#shortcuts
    """
    left: dict[int, tuple[Node, list[str]]] = {}
    for above, name in dict.fromkeys(_steps(paths)):
        node = at(root, context, above)
        found = children(context_of(root, context, above)).get(name)
        if found is not None and found.choices:
            choice = node.children.setdefault(f"{name[: -len(found.type)]}[x]", Node())
            left.setdefault(id(choice), (choice, []))[1].append(found.type)
    for choice, types in left.values():
        choice.facts["types"] = types


def _steps(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each step of the paths, with the path above it."""
    for path in paths:
        steps = path.split(".")
        for count, step in enumerate(steps):
            yield ".".join(steps[:count]), step


def context_of(node: Node, context: str, path: str) -> str:
    """The context a path leads to."""
    for step in path.split(".") if path else ():
        name, _, slice_name = step.partition(":")
        found = children(context).get(name)
        if found is not None and found.choices and not name.endswith("[x]"):
            name, slice_name = f"{name[: -len(found.type)]}[x]", name
        node = node.children[name]
        node = node.slices[slice_name] if slice_name else node
        context = inner(context, name, slice_name, node)
    return context


def is_r4s_own(base: str, type_code: str) -> bool:
    """Whether a base is the type itself, or what that specialises: no profile."""
    return kind(base.partition("|")[0].removeprefix(DEFINITIONS)) is not None


def at(node: Node, context: str, path: str) -> Node:
    """The node at a path (`identifier:nhsNumber.value`), made where it is not there yet."""
    for step in path.split(".") if path else ():
        name, _, slice_name = step.partition(":")
        found = children(context).get(name)
        if found is not None and found.choices and not name.endswith("[x]"):
            name, slice_name = f"{name[: -len(found.type)]}[x]", name  # valueQuantity, for value[x]:valueQuantity
        node = node.children.setdefault(name, Node())
        if slice_name:
            node = node.slices.setdefault(slice_name, Node())
        context = inner(context, name, slice_name, node)
    return node


def inner(context: str, name: str, slice_name: str, node: Node) -> str:
    """The context under an element of a context."""
    if not name.endswith("[x]"):
        found = children(context).get(name)
        return found.inner if found else ""
    types = node.facts.get("types") or [slice_name.removeprefix(name.removesuffix("[x]"))]
    type_code = str(types[0]).partition("(")[0]
    return type_code if kind(type_code) else type_code[:1].lower() + type_code[1:]


def of_choice(context: str, name: str) -> tuple[Element, ...]:
    """The elements of R4 that a name stands for: one, or each type of a choice."""
    held = children(context)
    if not name.endswith("[x]"):
        return (held[name],) if name in held else ()
    stem = name.removesuffix("[x]")
    return tuple(each for each in held.values() if each.choices and each.name[: -len(each.type)] == stem)


def snapshot(url: str) -> dict[str, Constraint]:
    """Element id -> `min`, `max`, `types`, `binding` of every element of the profile, in R4's order.

    Raises KeyError for a profile that nobody here knows.
    """
    root, known = tree(url), profile(url)
    if root is None or known is None:
        raise KeyError(url)
    return dict(_below(root, known.type, known.type))


def _below(node: Node, context: str, path: str, within: tuple[str, ...] = ()) -> Iterator[tuple[str, Constraint]]:
    for name, elements in _named(context):
        child = node.children.get(name, Node())
        yield from _written(child, elements, context, name, f"{path}.{name}", node)
        for slice_name, each in child.slices.items():
            sliced = merged(child, each)
            yield from _written(sliced, elements, context, name, f"{path}.{name}:{slice_name}", node, slice_name)


def _written(
    node: Node, elements: tuple[Element, ...], context: str, name: str, path: str, above: Node, slice_name: str = ""
) -> Iterator[tuple[str, Constraint]]:
    first = elements[0]
    facts = node.facts
    backbone = first.inner == f"{context}.{name}"
    elsewhere = "." in first.inner and not backbone  # another element says what is in it: so its type is not said
    own = {
        "min": facts.get("min", 0 if slice_name else first.min),
        "max": facts.get("max", "*" if first.max is None else str(first.max)),
        "types": facts.get("types") or ([] if elsewhere else [each.type for each in elements]),
        "binding": facts.get("binding")
        or (f"{first.binding.strength} {first.binding.value_set}" if first.binding else None),
    }
    yield path, own
    if backbone or node.children:
        yield from _below(node, inner(context, name, slice_name, node), path)


def _named(context: str) -> Iterator[tuple[str, tuple[Element, ...]]]:
    """The elements of a context in order, a choice as one."""
    seen: dict[str, list[Element]] = {}
    for each in children(context).values():
        name = f"{each.name[: -len(each.type)]}[x]" if each.choices else each.name
        seen.setdefault(name, []).append(each)
    for name, elements in seen.items():
        yield name, tuple(elements)


def merged(general: Node, special: Node) -> Node:
    """What a slice says with what is said of every value of its element."""
    found = Node({key: value for key, value in general.facts.items() if key not in ("min", "discriminators", "rules")})
    found.add(special.facts)
    for name in dict.fromkeys((*general.children, *special.children)):
        ours, theirs = general.children.get(name), special.children.get(name)
        found.children[name] = merged_child(ours, theirs)
    found.slices = special.slices
    return found


def merged_child(ours: Node | None, theirs: Node | None) -> Node:
    if ours is None or theirs is None:
        return (ours or theirs or Node()).copied()
    found = Node(dict(ours.facts))
    found.add(theirs.facts)
    for name in dict.fromkeys((*ours.children, *theirs.children)):
        found.children[name] = merged_child(ours.children.get(name), theirs.children.get(name))
    found.slices = {**ours.slices, **theirs.slices}
    return found
