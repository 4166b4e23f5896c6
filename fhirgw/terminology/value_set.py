"""Value sets compiled from what they are composed of, and whether a code is in one: dictionary look-ups, kept.

https://hl7.org/fhir/R4/valueset.html#compositions
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from fhirgw.fhir.issue import Resource
from fhirgw.terminology.code_system import code_system
from fhirgw.terminology.definitions import definition, rests_on_these
from fhirgw.terminology.extent import EMPTY, UNKNOWN, Answer, Extent, Part, both, union, without
from fhirgw.terminology.shape import LANGUAGES, MEDIA_TYPES, shaped

GRAMMARS = (LANGUAGES, MEDIA_TYPES)
"""Systems whose codes are known by their shape alone."""
MOST_NAMES = 4096
"""Spellings of value sets remembered, with versions and without."""
MOST_ANSWERS = 32_768
"""Answers remembered: validation asks the same few thousand again and again."""


@dataclass(frozen=True, slots=True)
class ValueSet:
    """A value set carried here. `codes` are all its listed codes, whatever their systems."""

    url: str
    version: str | None
    name: str
    extent: Extent
    codes: frozenset[str]

    def has(self, system: str | None, code: str) -> Answer:
        """Whether the code of the system is in it; None where nobody here knows.

        `system` None: the code stands without its system, as in an element of type code.
        """
        if system is None:
            if code in self.codes:
                return True
            answers = [self._beyond(each, code) for each in self.extent.parts]
            return True if True in answers else (None if None in (*answers, self.extent.elsewhere) else False)
        part = self.extent.parts.get(system)
        if part is not None and code in part.codes:
            return True
        return self._beyond(system, code)

    def _beyond(self, system: str, code: str) -> Answer:
        """For a code that is not listed: another case, a grammar, or a system that is not held."""
        part = self.extent.part(system)
        held = code_system(system)
        if held is not None and not held.is_case_sensitive and (found := held.find(code)):
            return part.has(found.code)
        answer = part.has(code)
        if answer is False or shaped(system, code) is False:
            return False
        return answer if system in GRAMMARS else None


@lru_cache(maxsize=MOST_ANSWERS)
def membership(value_set: str, system: str | None, code: str) -> bool | None:
    """Whether the code is in the value set of that url (with a version or without).

    None where that is not known here: the value set is not carried, or draws on a system that is not held and the code
    has that system's shape. `system` None: whichever it is.
    """
    found = value_set_of(value_set)
    return None if found is None else found.has(system, code)


def listed(value_set: str, most: int) -> tuple[str, ...]:
    """The codes of a value set that is no more than `most` of them; none where there are more, or others unknown."""
    found = value_set_of(value_set)
    if found is None or len(found.codes) > most or found.extent.elsewhere is not False:
        return ()
    told = all(part.rest is False and None not in part.others.values() for part in found.extent.parts.values())
    return tuple(code for part in found.extent.parts.values() for code in part.codes) if told else ()


@lru_cache(maxsize=MOST_NAMES)
def value_set_of(url: str) -> ValueSet | None:
    """The value set of that url (a version after | is ignored); None when it is not carried."""
    found = definition("ValueSet", url)
    return _compiled(found["url"]) if found else None


@cache
def _compiled(url: str) -> ValueSet:
    return compiled(definition("ValueSet", url) or {})


def compiled(found: Resource) -> ValueSet:
    """A value set that is a sound FHIR resource, carried or sent along."""
    extent = composed(found)
    url = found.get("url", "")
    return ValueSet(
        url=url,
        version=found.get("version"),
        name=found.get("title") or found.get("name") or url,
        extent=extent,
        codes=frozenset().union(*(part.codes for part in extent.parts.values())),
    )


rests_on_these(value_set_of.cache_clear)
rests_on_these(membership.cache_clear)
rests_on_these(_compiled.cache_clear)


def composed(value_set: Resource, within: tuple[str, ...] = ()) -> Extent:
    """What a value set comes to. One that imports itself, by `within`, is unknown there."""
    compose = value_set.get("compose")
    here = (*within, value_set.get("url", ""))
    if compose:
        found = union(_included(each, here) for each in compose.get("include", ()))
        return found.joined(without, union(_included(each, here) for each in compose.get("exclude", ())))
    if "contains" in value_set.get("expansion", {}):
        return union(_listed(value_set["expansion"]["contains"]))
    return UNKNOWN


def _included(part: Resource, within: tuple[str, ...]) -> Extent:
    """One include: all its conditions together."""
    imported = [_imported(url, within) for url in part.get("valueSet", ())]
    extents = [Extent({part["system"]: _of_system(part)}), *imported] if "system" in part else imported
    found = extents[0] if extents else EMPTY
    for each in extents[1:]:
        found = found.joined(both, each)
    return found


def _imported(url: str, within: tuple[str, ...]) -> Extent:
    found = definition("ValueSet", url)
    if found is None or found["url"] in within:
        return UNKNOWN
    return composed(found, within)


def _of_system(part: Resource) -> Part:
    """Of the one system an include names: the codes it lists, those its filters pass, or all."""
    if "concept" in part:
        return Part({each["code"]: each.get("display") for each in part["concept"]})
    held = code_system(part["system"])
    if "filter" not in part:
        return Part({} if held is None else dict.fromkeys(held.concepts), rest=not (held and held.complete))
    passed = held.filtered(part["filter"]) if held else None
    if held is None or passed is None:
        return Part(rest=None)
    return Part({code: None for code in held.concepts if code in passed}, rest=False if held.complete else None)


def _listed(contains: list[Resource]) -> list[Extent]:
    """The codes of an expansion, nested ones too; its headings are none."""
    found = []
    for each in contains:
        if "code" in each and not each.get("abstract"):
            found.append(Extent({each.get("system", ""): Part({each["code"]: each.get("display")})}))
        found += _listed(each.get("contains", []))
    return found
