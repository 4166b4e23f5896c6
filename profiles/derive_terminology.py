"""Derives fhirgw/fhir/facts/terminology.json from the published code systems and value sets: facts, without the prose.

    python profiles/derive_terminology.py PATH-TO-DATA

PATH-TO-DATA is that of derive.py. Each entry is a FHIR CodeSystem or ValueSet pared down to what is fact: identity,
status, codes, displays, hierarchy, what a value set is composed of. Taken are those that R4 binds elements of the types
held to (required for every type), what UK Core binds, and all they are composed of.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from derive import FACTS, core_definitions, lines

from fhirgw.fhir.issue import Resource
from fhirgw.fhir.parameters import HELD

IDENTITY = ("resourceType", "id", "url", "version", "name", "title", "status", "publisher")
OF_SYSTEM = ("caseSensitive", "valueSet", "hierarchyMeaning", "content", "supplements")
SHORT = 100
"""Characters up to which a definition says what a code is, and no more."""
TOO_LARGE = "http://hl7.org/fhir/ValueSet/c80-doc-typecodes"
"""Six thousand codes of LOINC, which R4 only prefers for documents: as much again as all the rest."""
UK_NOTICE = "Copyright © HL7 UK, licensed under the Apache License, Version 2.0"
WORDY = ("http://terminology.hl7.org/CodeSystem/v", "http://dicom.nema.org/", "http://hl7.org/fhir/spdx-license")
"""Systems whose definitions are prose, or say the display again."""
KEPT_PROPERTIES = ("notSelectable", "abstract", "child")


def main(data: Path, folder: Path = FACTS) -> None:
    """Write the table to the folder, and say how large it is."""
    text = lines(terminology_table(data))
    (folder / "terminology.json").write_text(text, "utf-8")
    print(f"terminology  {len(text):9,} bytes")


def terminology_table(data: Path) -> dict[str, Any]:
    """`systems` and `sets` by url. Of two definitions with one url the published one counts, not the draft."""
    core = list(core_definitions(data / "r4" / "hl7.fhir.r4.core-4.0.1.tgz"))
    national = [
        json.loads(path.read_text("utf-8"))
        for folder in ("ukcore-stu2", "ukcore-stu3-draft")
        for path in sorted((data / folder).rglob("*.json"))
    ]
    known: dict[str, Resource] = {}
    for each in [*national, *core]:
        if each.get("resourceType") in ("CodeSystem", "ValueSet"):
            known.setdefault(each["url"], each)
    wanted = {each["url"] for each in national if each["resourceType"] in ("CodeSystem", "ValueSet")}
    wanted |= set(bound(core, held_only=True)) | set(bound(national, held_only=False))
    taken = closed(known, wanted - {TOO_LARGE})
    return {
        "systems": {url: pared_system(known[url]) for url in sorted(taken) if is_a(known[url], "CodeSystem")},
        "sets": {url: pared_set(known[url]) for url in sorted(taken) if is_a(known[url], "ValueSet")},
    }


def is_a(definition: Resource, kind: str) -> bool:
    return bool(definition["resourceType"] == kind)


def bound(definitions: Iterable[Resource], held_only: bool) -> Iterator[str]:
    """The value sets that elements are bound to: as required, or of a type held (or a datatype) at all but example."""
    for structure in definitions:
        if structure["resourceType"] != "StructureDefinition" or structure["kind"] == "logical":
            continue
        held = structure["type"] in HELD or structure["kind"] != "resource" or not held_only
        for element in structure.get("snapshot", structure["differential"])["element"]:
            binding = element.get("binding", {})
            if binding.get("strength") == "required" or (held and binding.get("strength") != "example"):
                yield binding.get("valueSet", "").partition("|")[0]


def closed(known: dict[str, Resource], urls: set[str]) -> set[str]:
    """The definitions of these urls and of all that they are composed of."""
    found: set[str] = set()
    waiting = [url for url in urls if url in known]
    while waiting:
        url = waiting.pop()
        if url in found:
            continue
        found.add(url)
        waiting += [each for each in named(known[url]) if each in known]
    return found


def named(definition: Resource) -> Iterator[str]:
    """The code systems and value sets that a definition rests on."""
    compose = definition.get("compose", {})
    for part in (*compose.get("include", ()), *compose.get("exclude", ())):
        if "system" in part:
            yield part["system"]
        yield from (url.partition("|")[0] for url in part.get("valueSet", ()))


def pared_system(system: Resource) -> Resource:
    found = identity(system) | {key: system[key] for key in OF_SYSTEM if key in system}
    prose = not system["url"].startswith(WORDY)
    concepts = [pared_concept(each, prose) for each in system.get("concept", ())]
    return found | ({"concept": concepts} if concepts else {})


def pared_concept(concept: Resource, prose: bool) -> Resource:
    found = {key: concept[key] for key in ("code", "display") if concept.get(key)}
    definition = concept.get("definition", "").strip()
    if prose and definition and len(definition) <= SHORT and definition.rstrip(".") != concept.get("display"):
        found["definition"] = definition
    if properties := [each for each in concept.get("property", ()) if kept(each)]:
        found["property"] = properties
    if concept.get("concept"):
        found["concept"] = [pared_concept(each, prose) for each in concept["concept"]]
    return found


def kept(found: Resource) -> bool:
    """Whether a property says more than that a code is in use."""
    if found["code"] == "status":
        return found.get("valueCode") not in (None, "A", "active")
    return found["code"] in KEPT_PROPERTIES


def pared_set(value_set: Resource) -> Resource:
    compose = value_set.get("compose", {})
    parts = {kind: [pared_part(each) for each in compose[kind]] for kind in ("include", "exclude") if compose.get(kind)}
    return identity(value_set) | {"compose": parts}


def pared_part(part: Resource) -> Resource:
    found = {key: part[key] for key in ("system", "version", "filter", "valueSet") if key in part}
    if "concept" in part:
        found["concept"] = [{key: each[key] for key in ("code", "display") if key in each} for each in part["concept"]]
    return found


def identity(definition: Resource) -> Resource:
    found = {key: definition[key] for key in IDENTITY if key in definition}
    national = definition["url"].startswith("https://fhir.hl7.org.uk/")
    if notice := UK_NOTICE if national else definition.get("copyright"):
        found["copyright"] = notice
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
