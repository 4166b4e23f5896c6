"""What R4 itself says of an object: its elements, their kinds, how often they come, codes, references, invariants.

Each context (`Patient`, `Patient.contact`, `Period` under `Patient.identifier`) is compiled when it is first met, and
each element of it too. Longer than a module is, because an object's rules and those of what stands in it are made of
each other. https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fhirgw.fhir.elements import Element, ancestry, children, is_resource
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.nhs import NHS_NUMBER, ODS_ORGANISATION, ODS_SITE
from fhirgw.fhir.table import Table
from fhirgw.terminology import shaped
from fhirgw.validation import binding, invariant
from fhirgw.validation.claim import by_claim
from fhirgw.validation.extension import Extensions, extensions, homes
from fhirgw.validation.ids import twice
from fhirgw.validation.primitive import answers, is_remembered, primitive
from fhirgw.validation.reference import reference
from fhirgw.validation.scope import Check, Found, Scope, below, remembered
from fhirgw.validation.shape import (
    LIST,
    NOTHING,
    NULL,
    OBJECT,
    ONE,
    ONLY_ID,
    UNPAIRED,
    One,
    Rule,
    alone,
    many_objects,
    many_primitives,
    one_object,
    one_primitive,
    ruled,
    stem,
    together,
    unknown,
)

NO_TYPE = Issue("structure", "Not a resource of R4: give its type as resourceType")
DISAGREES = Issue("value", "The fullUrl of an entry ends with its resource's type and id: correct one of them")
NO_PROFILE = Issue("value", "A SimpleQuantity has no comparator: leave it out")
RULES = Issue("not-supported", "Rules that change what a resource means are not understood here: send it without them")
MOST_NAMED = 6
"""Types of a choice that are named in an issue."""
CODED = ("CodeableConcept", "Coding")
RESET = ("Extension", "Resource")
"""Contexts that are the same wherever they stand: no path leads through them."""


@cache
def judge(context: str, above: tuple[str, ...] = ()) -> Check:
    """The judge of an object in a context; `above` are the paths by which an extension's definition may mean it."""
    rules = Rules(context, above)
    required = tuple(needed(context))
    invariants = invariant.of_context(context)

    def check(value: Any, scope: Scope) -> Found | None:
        if value.__class__ is not dict:
            return [("", OBJECT)]
        if not value:
            return [("", NOTHING)]
        found: Found | None = None
        for name, held in value.items():
            more = rules[name](held, value, scope)
            if more:
                if found is None:
                    found = []  # ours to add to: what a rule answers with may be the same list each time
                found += more
        for first, names, missing in required:
            if first not in value and names.isdisjoint(value):
                found = [*(found or ()), *missing]
        for each in invariants:
            more = each(value, scope)
            if more:
                found = more if found is None else found + more
        return found

    return check


def needed(context: str) -> list[tuple[str, frozenset[str], Found]]:
    """What must be there: a name to look for first, all names that will do, and what is found without."""
    found: dict[str, tuple[str, frozenset[str], Found]] = {}
    for element in children(context).values():
        if element.min:
            stem = element.name[: -len(element.type)] if element.choices else element.name
            names = element.choices or (element.name,)
            told = f"{stem}[x], which is one of {len(names)} types" if len(names) > MOST_NAMED else " or ".join(names)
            issue = Issue("required", f"{context} needs {told}: add it")
            found[stem] = (names[0], frozenset((*names, *(f"_{each}" for each in names))), [(f".{stem}", issue)])
    return list(found.values())


class Rules(dict[str, Rule]):
    """The rule of each property that a context may have, compiled when it is first asked for."""

    def __init__(self, context: str, above: tuple[str, ...]) -> None:
        super().__init__()
        self.context, self.above = context, above

    def __missing__(self, name: str) -> Rule:
        made = self.made(name)
        if made is None:
            return unknown(self.context, name)
        self[name] = made
        return made

    def made(self, name: str) -> Rule | None:
        if name == "resourceType" and is_resource(self.context):
            return lambda value, holder, scope: None
        if name.startswith("_"):
            element = children(self.context).get(name[1:])
            if element is None or not element.is_primitive:
                return None
            return beside(element, homes(self.context, element.name, element.type, self.above))
        element = children(self.context).get(name)
        if element is None:
            return None
        if name == "implicitRules" and is_resource(self.context):
            return implicit
        rule = APART.get((self.context, name)) or self.of_element(element)
        if name == "id" and not is_resource(self.context):
            return named(rule)
        if not element.choices:
            return rule
        return alone(element, rule)

    def of_element(self, element: Element) -> Rule:
        path = f"{self.context}.{element.name}"
        place = f".{stem(element)}.ofType({element.type})" if element.choices else f".{element.name}"
        if element.is_primitive:
            one, known = judge_primitive(element, path)
            rule = many_primitives(element.name, place, one) if element.is_list else one_primitive(place, one, known)
            invariants = invariant.of_path(path)
            return ruled(rule, place, invariants) if invariants and not element.is_list else rule
        if element.type == "Extension":
            stands = self.stands(element)
            return many_extensions(place, extensions(stands, element.name == "modifierExtension"), stands)
        each = self.object(element, path)
        return many_objects(place, each, element.max) if element.is_list else one_object(place, each)

    def stands(self, element: Element) -> tuple[str, ...]:
        """What an extension of this object stands on."""
        inherited = ancestry(self.context)
        backbone = ("BackboneElement",) if "." in self.context else ()
        return tuple(dict.fromkeys((*self.above, self.context, *inherited, *backbone)))

    def object(self, element: Element, path: str) -> Check:
        """The judge of one value of the element, an object."""
        if element.type == "Resource":
            return resource
        above = (
            ()
            if element.inner in RESET or "." in element.inner
            else homes(self.context, element.name, element.type, self.above)
        )
        checks = [judge(element.inner, above)]
        if element.type == "Reference":
            checks.append(reference(element.targets))
        if element.type in ALSO:
            checks.append(ALSO[element.type])
        if element.binding and element.type in ("CodeableConcept", "Coding", "Quantity"):
            checks.append(binding.bound(element.type, element.binding))
        if "SimpleQuantity" in element.profiles:
            checks.append(simple_quantity)
        if element.inner != path:
            checks += invariant.of_path(f"{self.context}.{stem(element)}[x]" if element.choices else path)
        every = together(tuple(checks))
        return remembered(every) if element.type in CODED else every


def judge_primitive(element: Element, path: str) -> tuple[One, Table | None]:
    """The judge of one value of a primitive element, and its answers where those are remembered."""
    bound = element.binding
    if element.name == "language" and element.type == "code" and not bound:
        known, plain = binding.language(primitive("code")), primitive("code")
        return lambda value: known[value] if value.__class__ is str else plain(value), known
    if bound and element.type in ("code", "string", "uri"):
        return binding.code(element.type, bound), binding.answers(element.type, bound)
    return primitive(element.type), answers(element.type) if is_remembered(element.type) else None


def many_extensions(place: str, known: Extensions, stands: tuple[str, ...]) -> Rule:
    """Extensions: as objects, and by their definitions."""
    generic = judge("Extension")

    def one(value: Any, scope: Scope) -> Found | None:
        found = generic(value, scope)
        if value.__class__ is dict and (more := known(value, scope)):
            return (found or []) + more
        return found

    every = many_objects(place, remembered(one), None)

    def check(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        found = every(value, holder, scope)
        if value.__class__ is list and len(value) > 1 and (more := known.too_many(value)):
            return (found or []) + below(place, more)
        return found

    def parts(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        """Below an extension, whose definition judges them: here only as objects."""
        return many_objects(place, generic, None)(value, holder, scope)

    return parts if "Extension" in stands else check


def beside(element: Element, above: tuple[str, ...]) -> Rule:
    """The rule of `_name`: the ids and extensions beside a primitive."""
    place = f".{stem(element)}" if element.choices else f".{element.name}"
    each = judge("Element", above)
    name = element.name

    def judged(value: Any, scope: Scope, alone: bool) -> Found | None:
        if value.__class__ is list:
            return [("", ONE)]
        if alone and value.__class__ is dict and value.keys() == {"id"}:
            return [("", ONLY_ID)]
        return each(value, scope)

    def single(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        return below(place, judged(value, scope, name not in holder) or [])

    def several(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        if value.__class__ is not list:
            return [(place, LIST)]
        values = holder.get(name)
        count = len(values) if isinstance(values, list) else len(value)
        found: Found = []
        if len(value) != count or not value or all(inner is None for inner in value):
            found.append((place, UNPAIRED))
        for at, inner in enumerate(value):
            bare = not isinstance(values, list) or at >= len(values) or values[at] is None
            if inner is None and not bare:
                continue
            found += below(f"{place}[{at}]", [("", NULL)] if inner is None else judged(inner, scope, bare) or [])
        return found

    return several if element.is_list else single


def identifier(value: dict[str, Any], scope: Scope) -> Found | None:
    """An NHS number by its check digit; an ODS code by its shape; any by whether its system says whose it is.

    https://hl7.org/fhir/R4/datatypes.html#Identifier
    """
    system, text = value.get("system"), value.get("value")
    if system.__class__ is str and binding.SYSTEMS[system] is binding.RELATIVE:
        return [(".system", binding.RELATIVE)]
    if system == URI and text.__class__ is str and binding.ABSOLUTE.match(text) is None:
        return [(".value", NO_URI)]
    if system.__class__ is str and text.__class__ is str and system in NATIONAL and shaped(system, text) is False:
        return [(".value", NATIONAL[system])]
    return None


def implicit(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
    """Rules that change what a resource means are for who knows them; nobody here knows any.

    https://hl7.org/fhir/R4/resource-definitions.html#Resource.implicitRules
    """
    return [(".implicitRules", RULES)]


def named(rule: Rule) -> Rule:
    """The rule of an element's id, which tells the resource that it has such: no other may be the same."""

    def check(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        scope.named = True
        return rule(value, holder, scope)

    return check


def simple_quantity(value: dict[str, Any], scope: Scope) -> Found | None:
    return [(".comparator", NO_PROFILE)] if "comparator" in value else None


def resource(value: Any, scope: Scope) -> Found | None:
    """A resource inside another: by its own type, and by the profiles it claims."""
    if value.__class__ is not dict:
        return [("", OBJECT)]
    kind = value.get("resourceType")
    if kind.__class__ is not str or not is_resource(kind) or kind in ("Resource", "DomainResource"):
        return [(".resourceType", NO_TYPE)]
    found = [*(judge(kind)(value, scope) or ()), *(by_claim(value, (), scope) or ())]
    return found + twice(value) if value is scope.resource and (scope.named or "contained" in value) else found


def entry_resource(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
    """A resource of a Bundle's entry: it stands for itself, where the Bundle says, and refers to the others there."""
    full_url = holder.get("fullUrl")
    url = full_url if isinstance(full_url, str) else ""
    found = below(".resource", resource(value, Scope(value, scope, url)) or [])
    if "/" in url and value.__class__ is dict and isinstance(value.get("id"), str):
        kind, id = value.get("resourceType"), value["id"]
        if "://" in url and not url.endswith(f"/{kind}/{id}"):
            found.append((".fullUrl", DISAGREES))
    return found


def parameter_resource(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
    return below(".resource", resource(value, Scope(value)) or [])


URI = "urn:ietf:rfc:3986"
NO_URI = Issue("value", "An identifier of this system is a uri in full: write urn:uuid:, urn:oid: or http:// before it")
NATIONAL = {
    NHS_NUMBER: Issue("value", "Not an NHS number: ten digits without spaces, the last the check of the others"),
    ODS_ORGANISATION: Issue("value", "Not an ODS code: three to ten capital letters and digits"),
    ODS_SITE: Issue("value", "Not an ODS code: three to ten capital letters and digits"),
}
"""Systems whose identifiers tell by themselves that they are wrong."""

ALSO: dict[str, Check] = {
    "Coding": binding.coding,
    "Identifier": identifier,
    **dict.fromkeys(("Quantity", "Age", "Count", "Distance", "Duration"), binding.quantity),
}
"""What is said of a datatype besides its elements."""

APART: dict[tuple[str, str], Rule] = {
    ("Bundle.entry", "resource"): entry_resource,
    ("Parameters.parameter", "resource"): parameter_resource,
}
"""Where a resource does not belong to the one around it."""
