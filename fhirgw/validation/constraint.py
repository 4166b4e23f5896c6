"""What a profile adds to R4, compiled from its tree: cardinality, types, fixed values and patterns, bindings, slices.

Only what some differential states is compiled; R4's own rules are judged once, by `structure`. Longer than a module is:
each thing a profile can say of an element is a method of one class.
https://hl7.org/fhir/R4/profiling.html
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from fhirgw.fhir.differential import DEFINITIONS
from fhirgw.fhir.elements import Binding, is_resource
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.profile import profile
from fhirgw.validation import binding, invariant
from fhirgw.validation.pattern import matches, spelt
from fhirgw.validation.reference import reference
from fhirgw.validation.scope import Check, Found, Scope, below
from fhirgw.validation.slicing import Slice, matcher
from fhirgw.validation.snapshot import Node, inner, of_choice, tree

READABLE = 6
"""Names that are listed in an issue."""
Held = tuple[str, str, Any]
"""A value of an element: its place, its JSON name, itself (None where it has only extensions)."""


@cache
def conforms(url: str) -> Check | None:
    """The judge of an object by a profile; None when nobody here knows it, or one of its bases."""
    known = profile(url)
    root = tree(url.partition("|")[0])
    if known is None or root is None:
        return None
    rules = invariant.checks(root.facts.get("invariants", ()), known.type)
    inside = under(root, known.type, known.url)

    def check(value: Any, scope: Scope) -> Found | None:
        found = inside(value, scope) or []
        for each in rules:
            found = found + (each(value, scope) or [])
        return found

    return check


def under(node: Node, context: str, url: str) -> Check:
    """The judge of what stands under an object."""
    made = (Child(context, name, each, url).compiled() for name, each in node.children.items())
    checks = tuple(each for each in made if each is not None)

    def check(value: Any, scope: Scope) -> Found | None:
        if value.__class__ is not dict:
            return None
        found: Found | None = None
        for each in checks:
            more = each(value, scope)
            if more:
                found = more if found is None else found + more
        return found

    return check


class Child:
    """One element of a profile: how it is read from an object, and what its values must be."""

    def __init__(self, context: str, name: str, node: Node, url: str, slice_name: str = "") -> None:
        self.context, self.name, self.node, self.url = context, name, node, url
        self.stem = name.removesuffix("[x]")
        self.elements = of_choice(context, name)
        self.slice_name = slice_name
        self.label = f"{name}:{slice_name}" if slice_name else name

    def issue(self, code: str, text: str, severity: str = "error") -> Issue:
        return Issue(code, f"{text} ({self.url})", None, severity)

    def compiled(self) -> Check | None:
        if not self.elements:
            return None
        read = self.reader()
        counted, each, sliced = self.counted(), self.value(), self.sliced()
        if counted is None and each is None and sliced is None:
            return None

        def check(holder: dict[str, Any], scope: Scope) -> Found | None:
            held = read(holder)
            found: Found | None = None
            if counted is not None and (issue := counted(len(held))):
                found = [(f".{self.stem}", issue)]
            if held and each is not None:
                for place, name, value in held:
                    more = each(name, value, scope)
                    if more:
                        found = found or []
                        found += below(place, more)
            if sliced is not None and (more := sliced(held, scope)):
                found = (found or []) + more
            return found

        return check

    def reader(self) -> Callable[[dict[str, Any]], list[Held]]:
        """Every value with its place."""
        if len(self.elements) > 1 or self.elements[0].choices:
            names = {each.name: f".{self.stem}.ofType({each.type})" for each in self.elements}
            return lambda holder: [(names[name], name, value) for name, value in holder.items() if name in names]
        name, place = self.name, f".{self.name}"
        if not self.elements[0].is_list:
            beside = f"_{name}"

            def one(holder: dict[str, Any]) -> list[Held]:
                if name in holder:
                    return [(place, name, holder[name])]
                return [(place, name, None)] if beside in holder else []

            return one

        def many(holder: dict[str, Any]) -> list[Held]:
            values = holder.get(name)
            if values.__class__ is not list:
                return []
            return [(f"{place}[{at}]", name, value) for at, value in enumerate(values)]

        return many

    def counted(self) -> Callable[[int], Issue | None] | None:
        """How often it comes, where the profile is stricter than R4."""
        first = self.elements[0]
        least = int(self.node.facts.get("min", 0))
        most = self.node.facts.get("max", "*")
        stricter = most != "*" and (first.max is None or int(most) < first.max or self.slice_name)
        if not stricter and (not least or (least <= first.min and not self.slice_name)):
            return None
        limit = int(most) if stricter else None
        missing = self.issue("required", f"{self.label} comes at least {least} times: add it")
        many = self.issue("structure", f"{self.label} comes at most {most} times: leave out the others")

        def check(count: int) -> Issue | None:
            if count < least:
                return missing
            return many if limit is not None and count > limit else None

        return check

    def value(self) -> Callable[[str, Any, Scope], Found | None] | None:
        """The judge of one value."""
        checks = tuple(self.checks())
        allowed = self.allowed()
        if not checks and allowed is None:
            return None
        wrong: Found = [("", self.issue("structure", f"{self.label} is {named(sorted(allowed or ()))}: use that type"))]

        def check(name: str, value: Any, scope: Scope) -> Found | None:
            if allowed is not None and name not in allowed:
                return wrong
            found: Found | None = None
            if value is not None:
                for each in checks:
                    more = each(value, scope)
                    if more:
                        found = more if found is None else found + more
            return found

        return check

    def types(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each type it may have, with the profiles or targets that are named for it."""
        found = []
        for text in self.node.facts.get("types", ()):
            code, _, named = text.partition("(")
            found.append((code, tuple(named.rstrip(")").split(",")) if named else ()))
        return found

    def allowed(self) -> frozenset[str] | None:
        """The JSON names of a choice that are left; None where all are."""
        codes = {code for code, _ in self.types()}
        if not self.elements[0].choices or not codes:
            return None
        left = frozenset(each.name for each in self.elements if each.type in codes)
        return left if len(left) < len(self.elements) else None

    def checks(self) -> list[Check]:
        facts = self.node.facts
        found: list[Check] = []
        found += [self.equal(facts[key], exact=key == "fixed") for key in ("fixed", "pattern") if key in facts]
        if "max_length" in facts:
            found.append(self.short(facts["max_length"]))
        for code, named in self.types():
            if code in ("Reference", "canonical") and named:
                found.append(self.referring(named) if code == "Reference" else lambda value, scope: None)
            elif code not in ("Extension", "Resource") and named:
                found += self.typed(code, named)
        found += self.bound()
        found += invariant.checks(facts.get("invariants", ()), self.inner())
        if self.node.children:
            found.append(under(self.node, self.inner(), self.url))
        return found

    def inner(self) -> str:
        return inner(self.context, self.name, self.slice_name, self.node)

    def equal(self, wanted: Any, exact: bool) -> Check:
        what = f"{'is fixed: write' if exact else 'follows a pattern: have'} {spelt(wanted)}"
        wrong: Found = [("", self.issue("value", f"{self.label} {what}"))]
        if exact:
            return lambda value, scope: None if value == wanted and value.__class__ is wanted.__class__ else wrong
        return lambda value, scope: None if matches(value, wanted) else wrong

    def short(self, longest: int) -> Check:
        wrong: Found = [("", self.issue("too-long", f"{self.label} has at most {longest} characters: shorten it"))]
        return lambda value, scope: wrong if isinstance(value, str) and len(value) > longest else None

    def bound(self) -> list[Check]:
        strength, _, value_set = self.node.facts.get("binding", "").partition(" ")
        if strength not in binding.SEVERITY:
            return []
        rule = Binding(strength, value_set)
        if len(self.elements) == 1:
            type_code = self.elements[0].type
            return [binding.bound(type_code, rule)] if type_code in binding.CODED else []
        whole, single = binding.bound("CodeableConcept", rule), binding.bound("Coding", rule)

        def check(value: Any, scope: Scope) -> Found | None:
            if value.__class__ is not dict:
                return None
            return whole(value, scope) if "coding" in value else single(value, scope) if "code" in value else None

        return [check]

    def typed(self, code: str, named: tuple[str, ...]) -> list[Check]:
        """A datatype that keeps to a profile."""
        judges = [judge for url in named if (judge := conforms(full(url)))]
        if len(judges) != 1 or (self.elements[0].choices and len(self.types()) > 1):
            return []
        return judges

    def referring(self, named: tuple[str, ...]) -> Check:
        """A Reference by the types of its targets; by their profiles too, where what it leads to is here."""
        types = [target_type(each) for each in named]
        judge = reference(tuple(dict.fromkeys(each for each in types if each))) if all(types) else None
        profiles = tuple(full(each) for each in named if "://" in each)
        wrong: Found = [
            ("", self.issue("invalid", "What this refers to does not keep to the profile asked of it: correct that"))
        ]

        def check(value: Any, scope: Scope) -> Found | None:
            if value.__class__ is not dict:
                return None
            if judge is not None and (found := judge(value, scope)):
                return [each for each in found if each[0] == ""]
            target = (
                scope.resolved(value["reference"]) if profiles and isinstance(value.get("reference"), str) else None
            )
            return wrong if target and not keeps_to_one(target, profiles, scope) else None

        return check

    def sliced(self) -> Callable[[list[Held], Scope], Found | None] | None:
        """The judge of all values by their slices."""
        if not self.node.slices:
            return None
        slices = [self.slice(name, node) for name, node in self.node.slices.items()]
        known = [each for each in slices if each is not None]
        rules = self.node.facts.get("rules", "open")
        closed = self.issue("structure", f"{self.label} is closed: each value is one of {', '.join(self.node.slices)}")
        late = self.issue("structure", f"{self.label}: what is none of {', '.join(self.node.slices)} comes last")
        if not known:
            return None

        def check(held: list[Held], scope: Scope) -> Found | None:
            found: Found = []
            counts = [0] * len(known)
            unmatched = ""
            for place, name, value in held:
                for at, each in enumerate(known):
                    if each.matches(name, value, scope):
                        counts[at] += 1
                        if each.value is not None and (more := each.value(name, value, scope)):
                            found += below(place, more)
                        if unmatched and rules == "openAtEnd":
                            found.append((unmatched, late))
                        break
                else:
                    unmatched = place
                    if rules == "closed" and len(known) == len(slices):
                        found.append((place, closed))
            for each, count in zip(known, counts, strict=True):
                if each.counted is not None and (issue := each.counted(count)):
                    found.append((f".{self.stem}", issue))
            return found

        return check

    def slice(self, name: str, node: Node) -> Slice | None:
        match = matcher(self.context, self.name, name, self.node, node, self.elements)
        if match is None:
            return None
        child = Child(self.context, self.name, Node(node.facts, node.children, node.slices), self.url, name)
        return Slice(match, child.counted(), child.value())


def named(names: list[str]) -> str:
    """Some names, so many as can be read."""
    return " or ".join(names) if len(names) <= READABLE else f"{' or '.join(names[:READABLE])} or another of its types"


def keeps_to_one(target: dict[str, Any], profiles: tuple[str, ...], scope: Scope) -> bool:
    """Whether a resource keeps to one of the profiles, those of its own type. True where that cannot be known."""
    judged = False
    for url in profiles:
        known, judge = profile(url), conforms(url)
        key = (id(target), url)
        if known is None or judge is None or key in scope.judging:
            return True
        if known.type == target.get("resourceType"):
            judged = True
            scope.judging.add(key)
            try:
                found = judge(target, scope.of_target(target))
            finally:
                scope.judging.discard(key)
            if not any(issue.severity == "error" for _, issue in found or ()):
                return True
    return not judged


def target_type(named: str) -> str | None:
    """The resource type of a target; None where it is not known here."""
    if is_resource(named):
        return named
    known = profile(full(named))
    return known.type if known else None


def full(url: str) -> str:
    """A canonical as written in the facts, with R4's host."""
    return url if "://" in url else DEFINITIONS + url
