"""A check at the edge: whether a resource is R4, and keeps to the profiles it claims. Never on a hot path.

The fhir.resources models (R4B, which for the types held here is R4) judge names, types and cardinality; what
they do not know is judged here by the tables: required codes, what a reference may name, extensions, the
profile's own rules. Slices and invariants are not judged. No message carries a value: values are personal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from fhirgw.fhir.elements import Binding, Element, children, codes, is_resource, step
from fhirgw.fhir.issue import Issue, Resource
from fhirgw.fhir.profile import OURS, UK_CORE, Extension, Profile, extension, profile

DEFINED_HERE = (OURS, UK_CORE.rpartition("/")[0], "http://hl7.org/fhir/StructureDefinition/")
"""Where an extension that is not in the tables is a mistake, and not somebody else's."""


def check(resource: Resource) -> list[Issue]:
    """Everything found wrong with a resource, in its own order; an empty list when nothing is."""
    resource_type = resource.get("resourceType", "")
    if not is_resource(resource_type):
        return [Issue("structure", "Not a resource of R4: resourceType names none", "resourceType")]
    issues = list(_model_issues(resource_type, resource))
    issues += _walk(resource_type, resource_type, resource, (resource_type,))
    for url in resource.get("meta", {}).get("profile", ()):
        issues += _profile_issues(url, resource)
    return issues


def _model_issues(resource_type: str, resource: Resource) -> Iterator[Issue]:
    try:
        get_fhir_model_class(resource_type).model_validate(resource)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            place = ".".join(str(each) for each in fault["loc"])
            yield Issue("structure", f"The R4 model refuses it: {fault['type']}", f"{resource_type}.{place}")


def _walk(context: str, place: str, value: dict[str, Any], homes: tuple[str, ...]) -> Iterator[Issue]:
    """The issues of every element of an object, by the rules of its context.

    `place` is its path with positions; `homes` the names by which an extension's context may mean it.
    """
    for name, inner in value.items():
        found = step(context, name)
        if found is None:
            continue  # the model has refused it; or resourceType
        for at, each in enumerate(inner if isinstance(inner, list) else [inner]):
            there = f"{place}.{name}" + (f"[{at}]" if isinstance(inner, list) else "")
            if found.type == "Extension":
                yield from _extension_issues(there, each, homes)
            else:
                bare = name.removeprefix("_")
                below = children(context)[bare]
                yield from _element_issues(found, there, each, (f"{context}.{bare}", below.type, below.inner))


def _element_issues(found: Element, place: str, value: Any, homes: tuple[str, ...]) -> Iterator[Issue]:
    if found.binding:
        yield from _binding_issues(found.binding, value, place)
    if not isinstance(value, dict):
        return
    if found.type == "Resource":
        inner = value.get("resourceType", "")
        yield from _walk(inner, place, value, (inner,))
        return
    if found.type == "Reference":
        yield from _reference_issues(found, value, place)
    yield from _walk(found.inner, place, value, homes)


def _binding_issues(binding: Binding, value: Any, place: str) -> Iterator[Issue]:
    """A required code that is in none of its value set's systems. Sets that cannot be listed judge nothing."""
    known = codes(binding.value_set) if binding.strength == "required" else None
    if known is None:
        return
    if isinstance(value, str):
        fits = any(value in listed for listed in known.values())
    elif isinstance(value, dict):
        codings = value.get("coding", [value] if "code" in value else [])
        fits = not codings or any(each.get("code") in known.get(each.get("system", ""), ()) for each in codings)
    else:
        return
    if not fits:
        yield Issue("code-invalid", f"The code is not in the required value set {binding.value_set}", place)


def _reference_issues(found: Element, value: dict[str, Any], place: str) -> Iterator[Issue]:
    target = value.get("reference", "")
    kind = target.partition("/")[0] if "/" in target and "://" not in target else value.get("type")
    if kind and "Resource" not in found.targets and found.targets and kind not in found.targets:
        yield Issue("value", f"The reference may name {' or '.join(found.targets)}", place)


def _extension_issues(place: str, value: Any, homes: tuple[str, ...]) -> Iterator[Issue]:
    """Known, at home here, and holding what it may. One that others define is theirs to judge: a warning."""
    url = value.get("url", "") if isinstance(value, dict) else ""
    known = extension(url)
    if known is None:
        severity = "error" if url.startswith(DEFINED_HERE) else "warning"
        yield Issue("value", f"Nobody here knows the extension {url}: add it to profiles/", place, severity)
        return
    if not known.fits(*homes):
        yield Issue("value", f"The extension {url} belongs on {' or '.join(known.contexts)}", place)
    yield from _part_issues(known, place, value)


def _part_issues(known: Extension, place: str, value: dict[str, Any]) -> Iterator[Issue]:
    """The value or the parts of an extension against what it may hold."""
    held = next((name for name in value if name.startswith("value")), None)
    allowed = tuple(f"value{each[0].upper()}{each[1:]}" for each in known.value_types)
    if allowed and held not in allowed:
        yield Issue("value", f"The extension holds one of {', '.join(allowed)}", place)
    if held:
        yield from _walk("Extension", place, {held: value[held]}, ())
    parts = value.get("extension", [])
    for at, part in enumerate(parts if known.parts else ()):
        there = f"{place}.extension[{at}]"
        if part.get("url") not in known.parts:
            yield Issue("value", f"The extension has parts {', '.join(known.parts)}", there)
        else:
            yield from _part_issues(known.parts[part["url"]], there, part)
    for name, part in known.parts.items():
        if part.min and all(each.get("url") != name for each in parts):
            yield Issue("required", f"The extension needs its part {name}", place)


def _profile_issues(url: str, resource: Resource) -> Iterator[Issue]:
    known = profile(url)
    if known is None:
        yield Issue("not-found", f"Nobody here knows the profile {url}", "meta.profile", "warning")
        return
    if known.type != resource["resourceType"]:
        yield Issue("invalid", f"The profile {url} is for {known.type}", "meta.profile")
        return
    for names in known.required:
        if not any(name in resource or f"_{name}" in resource for name in names):
            yield Issue("required", f"{known.type} needs {' or '.join(names)}: {url}", f"{known.type}.{names[0]}")
    yield from _constraint_issues(known, resource)


def _constraint_issues(known: Profile, resource: Resource) -> Iterator[Issue]:
    """Minimum, maximum and fixed value of the elements that the profile narrows outside of slices."""
    for path, rule in known.constraints.items():
        if ":" in path or "[x]" in path:
            continue
        above, _, name = path.rpartition(".")
        for holder in _at(resource, above.split(".") if above else []):
            values = holder.get(name, [])
            values = values if isinstance(values, list) else [values]
            place = f"{known.type}.{path}"
            if above and len(values) < rule.get("min", 0):
                yield Issue("required", f"{path} must be there at least {rule['min']} times: {known.url}", place)
            if rule.get("max", "*") != "*" and len(values) > int(rule["max"]):
                yield Issue("structure", f"{path} may be there at most {rule['max']} times: {known.url}", place)
            if "fixed" in rule and any(value != rule["fixed"] for value in values):
                yield Issue("value", f"{path} has a fixed value: {known.url}", place)


def _at(value: Any, path: list[str]) -> Iterator[dict[str, Any]]:
    """Every object at a path of names below a value."""
    if isinstance(value, list):
        for each in value:
            yield from _at(each, path)
    elif isinstance(value, dict):
        if not path:
            yield value
        elif path[0] in value:
            yield from _at(value[path[0]], path[1:])
