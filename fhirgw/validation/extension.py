"""Extensions: known, at home where they stand, holding what they may, as often as they may.

One that others define is theirs to judge: a warning, unless it changes what the element means. https://hl7.org/fhir/R4/extensibility.html
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fhirgw.fhir.elements import Binding, is_resource
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.profile import OURS, UK_CORE, Extension, extension
from fhirgw.validation import binding
from fhirgw.validation.pattern import matches, spelt
from fhirgw.validation.reference import reference
from fhirgw.validation.scope import Check, Found, Scope, below

DEFINED_HERE = (OURS, UK_CORE.rpartition("/")[0], "http://hl7.org/fhir/StructureDefinition/")
"""Where an extension that is not in the tables is a mistake, and not somebody else's."""

NO_URL = Issue("required", "An extension has a url that says what it is")
MODIFIES = Issue("extension", "This extension changes what the element means: it belongs in modifierExtension")
DOES_NOT = Issue("extension", "This extension does not change what the element means: it belongs in extension")
KEPT = 4096
"""Urls nobody knows that are remembered."""


class Extensions:
    """The judge of extensions that stand on an element by its names: `Patient.identifier`, `Identifier`, `Element`."""

    def __init__(self, homes: tuple[str, ...], modifier: bool) -> None:
        self.homes, self.modifier = homes, modifier
        self.known: dict[str, Check] = {}

    def __call__(self, value: dict[str, Any], scope: Scope) -> Found | None:
        url = value.get("url")
        if url.__class__ is not str:
            return None  # the structure has told
        known = self.known.get(url)
        if known is None:
            known = self.compiled(url)
            if len(self.known) < KEPT and len(url) < KEPT:
                self.known[url] = known
        return known(value, scope)

    def compiled(self, url: str) -> Check:
        found = extension(url)
        if found is None:
            if ":" not in url:
                return told(
                    Issue(
                        "extension", "An extension's url is absolute, unless it is a part of another: write it in full"
                    )
                )
            severity = "error" if self.modifier or url.startswith(DEFINED_HERE) else "warning"
            return told(
                Issue(
                    "extension",
                    "Nobody here knows this extension: correct its url, or add its definition",
                    None,
                    severity,
                )
            )
        if found.modifier is not self.modifier:
            return told(MODIFIES if found.modifier else DOES_NOT)
        if not found.fits(*self.homes):
            return told(Issue("extension", f"This extension belongs on {' or '.join(found.contexts)}: put it there"))
        return part(found)

    def too_many(self, values: list[Any]) -> Found | None:
        """Those that come more often than their definition allows."""
        counts: dict[str, int] = {}
        for at, each in enumerate(values):
            url = each.get("url") if each.__class__ is dict else None
            if url.__class__ is str:
                counts[url] = counts.get(url, 0) + 1
                if counts[url] > 1 and (found := extension(url)) and found.max and counts[url] > found.max:
                    return [
                        (f"[{at}]", Issue("structure", f"This extension comes at most {found.max} times: leave one"))
                    ]
        return None


def told(issue: Issue) -> Check:
    found: Found = [("", issue)]
    return lambda value, scope: found


@cache
def extensions(homes: tuple[str, ...], modifier: bool = False) -> Extensions:
    return Extensions(homes, modifier)


def part(known: Extension) -> Check:
    """The judge of an extension, or a part of one, by its definition."""
    types = {f"value{each[0].upper()}{each[1:]}": each for each in known.value_types}
    wrong: Found = [("", Issue("extension", f"This extension holds {' or '.join(types) or 'parts'}: write it as such"))]
    held = {name: of_value(known, text) for name, text in zip(types, known.values, strict=False)}
    parts = {name: part(each) for name, each in known.parts.items()}

    def check(value: dict[str, Any], scope: Scope) -> Found | None:
        name = next((each for each in value if each.startswith(("value", "_value"))), None)
        if name is not None and (types or parts) and name.lstrip("_") not in types:
            return wrong
        found: Found = []
        if name in held:
            for each in held[name]:
                found += below(f".value.ofType({types[name]})", each(value[name], scope) or [])
        return found + _parts(known, parts, value, scope) if parts else found

    return check


def of_value(known: Extension, text: str) -> list[Check]:
    """The judges of a value of one of the types that an extension may hold (`Reference(Patient)`)."""
    type_code, _, named = text.partition("(")
    found: list[Check] = []
    strength, _, value_set = (known.binding or "").partition(" ")
    if strength in binding.SEVERITY and type_code in binding.CODED:
        url = value_set if "://" in value_set else f"http://hl7.org/fhir/ValueSet/{value_set}"
        found.append(binding.bound(type_code, Binding(strength, url)))
    if type_code == "Reference" and named:
        targets = named.rstrip(")").split(",")
        if all(map(is_resource, targets)):
            referring = reference(tuple(targets))
            found.append(lambda value, scope: referring(value, scope) if value.__class__ is dict else None)
    for key, wanted in (("fixed", known.fixed), ("pattern", known.pattern)):
        if wanted is not None:
            found.append(equal(wanted, exact=key == "fixed"))
    return found


def equal(wanted: Any, exact: bool) -> Check:
    """The judge of a value that is fixed, or that has all a pattern has."""
    what = f"{'is fixed: write' if exact else 'follows a pattern: have'} {spelt(wanted)}"
    wrong: Found = [("", Issue("value", f"This {what}"))]
    if exact:
        return lambda value, scope: None if value == wanted and value.__class__ is wanted.__class__ else wrong
    return lambda value, scope: None if matches(value, wanted) else wrong


def _parts(known: Extension, parts: dict[str, Check], value: dict[str, Any], scope: Scope) -> Found:
    found: Found = []
    held = value.get("extension")
    counts: dict[str, int] = {}
    for at, each in enumerate(held if isinstance(held, list) else ()):
        url = each.get("url") if each.__class__ is dict else None
        if not isinstance(url, str):
            continue
        judge = parts.get(url)
        if judge is None:
            if ":" in url:
                found += below(f".extension[{at}]", extensions((known.url, "Extension"))(each, scope) or [])
            else:
                what = f"This extension has the parts {', '.join(parts)}: no other"
                found.append((f".extension[{at}]", Issue("extension", what)))
            continue
        counts[url] = counts.get(url, 0) + 1
        most = known.parts[url].max
        if most is not None and counts[url] > most:
            found.append(
                (f".extension[{at}]", Issue("structure", f"The part {url} comes at most {most} times: leave one"))
            )
        found += below(f".extension[{at}]", judge(each, scope) or [])
    for name, each in known.parts.items():
        if counts.get(name, 0) < each.min:
            found.append(("", Issue("required", f"This extension needs its part {name}: add it")))
    return found


@cache
def homes(context: str, name: str, type_code: str, above: tuple[str, ...]) -> tuple[str, ...]:
    """The names by which an extension's context may mean an element."""
    within = tuple(f"{each}.{name}" for each in above if each.count(".") < 3)
    return tuple(dict.fromkeys((f"{context}.{name}", *within, type_code)))
