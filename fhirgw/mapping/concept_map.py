"""The code maps of systems of record as FHIR: a ConceptMap from each own list to the standard's, and the list itself.

https://hl7.org/fhir/R4/conceptmap.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fhirgw.fhir.issue import Resource
from fhirgw.fhir.profile import OURS
from fhirgw.mapping.concept import CodeMap, Concept


def definitions(systems: Iterable[tuple[str, Iterable[CodeMap]]], concepts: Iterable[Concept]) -> Iterator[Resource]:
    """The ConceptMaps and CodeSystems of systems of record, by their names, and of the standard lists they share."""
    for system, code_maps in systems:
        for each in code_maps:
            yield own_list(system, each)
            yield concept_map(system, each)
    for concept in concepts:
        if concept.also:
            yield translations(concept)


def own_list(system: str, codes: CodeMap) -> Resource:
    """The system's own codes as a CodeSystem."""
    concepts = [
        {"code": code} | ({"display": codes.labels[code]} if code in codes.labels else {}) for code in codes.codes
    ]
    known = _known("CodeSystem", system, codes.name) | {"url": codes.own, "caseSensitive": True}
    return known | {"content": "complete", "count": len(concepts), "concept": concepts}


def concept_map(system: str, codes: CodeMap) -> Resource:
    """From the system's own codes to the standard's: `wider` where the standard says less, and why in the comment."""
    merged = codes.merged()
    pairs = []
    for source, name in codes.codes.items():
        lost = codes.lost.get(source)
        equivalence = "wider" if lost or source in merged else "equivalent"
        said = {"equivalence": equivalence} | ({"comment": lost} if lost else {})
        display = {"display": codes.labels[source]} if source in codes.labels else {}
        pairs.append(({"code": source} | display, codes.concept.standard[name], said))
    return _known("ConceptMap", system, codes.name) | {"group": list(_groups(codes.own, pairs))}


def translations(concept: Concept) -> Resource:
    """From a standard list to the codings written beside it, which say no more than it does."""
    found: dict[str, list[tuple[Resource, Resource, Resource]]] = {}
    for name, codings in concept.also.items():
        source = concept.standard[name]
        found.setdefault(source["system"], []).extend(
            (_part(source), target, {"equivalence": "relatedto"}) for target in codings
        )
    groups = [group for system, pairs in found.items() for group in _groups(system, pairs)]
    return _known("ConceptMap", "concept", concept.name) | {"group": groups}


def _known(kind: str, system: str, name: str) -> Resource:
    id = f"{system}-{name}".replace("_", "-")
    title = f"{system}: {name.replace('_', ' ')}"
    plain = id.title().replace("-", "")
    return {
        "resourceType": kind,
        "id": id,
        "url": f"{OURS}/{kind}/{id}",
        "name": plain,
        "title": title,
        "status": "active",
        "publisher": "fhirgw",
    }


def _groups(source: str, pairs: list[tuple[Resource, Resource, Resource]]) -> Iterator[Resource]:
    """A group for each system that is led to; of each source code, all its targets there."""
    for system in dict.fromkeys(target["system"] for _, target, _ in pairs):
        elements: dict[str, dict[str, Any]] = {}
        for code, target, said in pairs:
            if target["system"] == system:
                element = elements.setdefault(code["code"], code | {"target": []})
                element["target"].append(_part(target) | said)
        yield {"source": source, "target": system, "element": list(elements.values())}


def _part(coding: Resource) -> Resource:
    return {key: coding[key] for key in ("code", "display") if key in coding}
