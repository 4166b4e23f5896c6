"""Codes translated by the ConceptMaps carried, either way.

https://hl7.org/fhir/R4/conceptmap-operation-translate.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from fhirgw.fhir.issue import Resource
from fhirgw.terminology.coded import asked, parameters, part
from fhirgw.terminology.definitions import NotHeld, carried, rests_on_these, wanted
from fhirgw.terminology.inputs import Inputs
from fhirgw.terminology.value_set import membership

TRANSLATE = {
    "url": "uri",
    "conceptMap": "ConceptMap",
    "conceptMapVersion": "string",
    "code": "code",
    "system": "uri",
    "version": "string",
    "source": "uri",
    "coding": "Coding",
    "codeableConcept": "CodeableConcept",
    "target": "uri",
    "targetsystem": "uri",
    "dependency": "Parts",
    "reverse": "boolean",
}
INVERSE = {"wider": "narrower", "narrower": "wider", "subsumes": "specializes", "specializes": "subsumes"}
"""What an equivalence is when it is read from the target back: "the target is wider" is then "narrower"."""
NONE = ("unmatched", "disjoint")
"""Equivalences that say there is no translation."""

Pair = tuple[str, str]
"""A system and a code."""


@dataclass(frozen=True, slots=True)
class Match:
    """A translation, and the url of the ConceptMap it is by. `display` and `comment` are the map's."""

    system: str
    code: str
    display: str | None
    equivalence: str
    comment: str | None
    by: str

    @property
    def is_translation(self) -> bool:
        return self.equivalence not in NONE


def translate(inputs: Inputs, concept_map: str | None = None) -> Resource:
    """What the map of `url` or of the instance makes of a code; without one, all maps that lead from its system.

    `source` and `target` are value sets the code and its translations are in. Raises NotHeld.
    """
    url = concept_map or inputs.text("url")
    if url:
        url = wanted("ConceptMap", url, inputs.text("conceptMapVersion"))["url"]
    reverse = bool(inputs.flag("reverse"))
    matches = []
    for coded in asked(inputs):
        maps = (url,) if url else about(coded.system, reverse)
        if not maps:
            raise NotHeld(
                "No ConceptMap carried here is about this system: GET [base]/ConceptMap lists those there are"
            )
        if _is_in(inputs.text("source"), coded.system, coded.code):
            matches += translated((coded.system, coded.code), maps, reverse)
    found = [each for each in matches if _fits(each, inputs)]
    result = any(each.is_translation for each in found)
    told = [] if result else [part("message", "String", "There is no translation for this code")]
    return parameters([part("result", "Boolean", result), *told, *map(_match, found)])


def _fits(match: Match, inputs: Inputs) -> bool:
    wanted_system = inputs.text("targetsystem")
    if wanted_system and match.system != wanted_system:
        return False
    return not match.code or _is_in(inputs.text("target"), match.system, match.code)


def _is_in(value_set: str | None, system: str, code: str) -> bool:
    """Whether the code may be in a value set; in none, if none is asked for. Raises NotHeld."""
    if value_set is None:
        return True
    wanted("ValueSet", value_set)
    return membership(value_set, system, code) is not False


def _match(match: Match) -> Resource:
    parts = [part("equivalence", "Code", match.equivalence)]
    if match.code:
        coding = {"system": match.system, "code": match.code} | ({"display": match.display} if match.display else {})
        parts.append(part("concept", "Coding", coding))
    return {"name": "match", "part": [*parts, part("source", "Uri", match.by)]}


def translated(coded: Pair, maps: Iterable[str], reverse: bool = False) -> list[Match]:
    """What the maps of these urls make of a code, in their order."""
    return [match for url in maps for match in _pairs(url)[1 if reverse else 0].get(coded, ())]


def about(system: str, reverse: bool = False) -> tuple[str, ...]:
    """The urls of the maps that lead from the system, or to it."""
    return _by_system()[1 if reverse else 0].get(system, ())


@cache
def _pairs(url: str) -> tuple[Mapping[Pair, tuple[Match, ...]], Mapping[Pair, tuple[Match, ...]]]:
    """What a map says of each source code, and of each target code."""
    forward: dict[Pair, tuple[Match, ...]] = {}
    back: dict[Pair, tuple[Match, ...]] = {}
    for source, shown, target, match in _read(url, carried("ConceptMap")[url]):
        forward[source] = (*forward.get(source, ()), match)
        if target and match.is_translation:
            equivalence = INVERSE.get(match.equivalence, match.equivalence)
            there = Match(*source, shown, equivalence, match.comment, url)
            back[target] = (*back.get(target, ()), there)
    return MappingProxyType(forward), MappingProxyType(back)


@cache
def _by_system() -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    found: tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]] = ({}, {})
    for url, definition in carried("ConceptMap").items():
        for known, end in zip(found, ("source", "target"), strict=True):
            for system in dict.fromkeys(group.get(end, "") for group in definition.get("group", ())):
                known[system] = (*known.get(system, ()), url)
    return found


rests_on_these(_pairs.cache_clear)
rests_on_these(_by_system.cache_clear)


def _read(url: str, definition: Resource) -> Iterator[tuple[Pair, str | None, Pair | None, Match]]:
    """Each line of a map: the source, its display, the target if there is one, and the match."""
    for group in definition.get("group", ()):
        source, target = group.get("source", ""), group.get("target", "")
        for element in group.get("element", ()):
            for each in element.get("target", ()):
                code = each.get("code", "")
                match = Match(
                    target, code, each.get("display"), each.get("equivalence", "relatedto"), each.get("comment"), url
                )
                yield (source, element.get("code", "")), element.get("display"), (target, code) if code else None, match
