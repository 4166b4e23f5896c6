"""Derives fhirgw/fhir/facts/*.json from the published definitions: facts only, none of the prose.

    python profiles/derive.py PATH-TO-DATA

PATH-TO-DATA holds `r4/hl7.fhir.r4.core-4.0.1.tgz` and the folders `ukcore-stu2` and `ukcore-stu3-draft` of
FHIR JSON. Run again on the same data it writes the same bytes. README.md here says where the definitions come
from. Longer than a module is: it is seven tables, one after the other.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fhirgw.fhir.differential import bare, extension_facts, facts_of, invariants, profile_facts, type_text
from fhirgw.fhir.issue import Resource

FACTS = Path(__file__).parent.parent / "fhirgw" / "fhir" / "facts"
SEARCH_PARAMETERS = "http://hl7.org/fhir/SearchParameter/"
VALUE_SETS = "http://hl7.org/fhir/ValueSet/"
CHECKED_STRENGTHS = {"required": "!", "extensible": "~"}
ABSTRACT = ("Resource", "DomainResource", "Element", "BackboneElement")
BULK_DATA = {
    "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter": {
        "status": "active",
        "version": "3.0.0",
        "contexts": ["Group"],
        "min": 0,
        "max": "*",
        "modifier": True,
        "values": ["Expression"],
    },
    "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/members-refreshed": {
        "status": "active",
        "version": "3.0.0",
        "contexts": ["Group"],
        "min": 0,
        "max": "1",
        "values": ["dateTime"],
    },
}
"""Two extensions of the Bulk Data guide, whose package has no R4 core: https://hl7.org/fhir/uv/bulkdata/artifacts.html"""


def main(data: Path, folder: Path = FACTS) -> None:
    """Write every table to the folder, and say how large each is."""
    core = list(core_definitions(data / "r4" / "hl7.fhir.r4.core-4.0.1.tgz"))
    elements = element_table(core)
    tables = {
        "elements": elements,
        "codes": code_table(core, required_value_sets(elements)),
        "parameters": parameter_table(core),
        "extensions": {
            structure["url"]: extension_facts(structure)
            for structure in of_type(core, "StructureDefinition")
            if is_extension(structure)
        }
        | BULK_DATA,
        "rules": {"primitives": primitive_table(core), "invariants": invariant_table(core)},
        "profiles": {
            structure["url"]: profile_facts(structure)
            for structure in of_type(core, "StructureDefinition")
            if structure.get("derivation") == "constraint" and not is_extension(structure)
        },
        "ukcore": ukcore_table(data / "ukcore-stu2", data / "ukcore-stu3-draft"),
    }
    for name, table in tables.items():
        text = lines(table)
        (folder / f"{name}.json").write_text(text, "utf-8")
        print(f"{name:12} {len(text):9,} bytes")


def core_definitions(package: Path) -> Iterator[Resource]:
    """The conformance resources of an official FHIR package."""
    with tarfile.open(package) as archive:
        for member in archive:
            if member.name.startswith("package/") and member.name.count("/") == 1 and member.isfile():
                content = archive.extractfile(member)
                definition = json.load(content) if content else {}
                if "resourceType" in definition:
                    yield definition


def of_type(definitions: Iterable[Resource], name: str) -> list[Resource]:
    """Those of one resource type, in the order of their urls."""
    found = [definition for definition in definitions if definition["resourceType"] == name]
    return sorted(found, key=lambda definition: str(definition.get("url")))


def is_extension(structure: Resource) -> bool:
    return structure["type"] == "Extension" and structure.get("derivation") == "constraint"


# --- elements ----------------------------------------------------------------------------------------------


def element_table(core: list[Resource]) -> dict[str, Any]:
    """Type -> `{"": "kind base", path: "min..max types binding"}`, with only the elements the type itself
    adds.
    """
    table = {}
    for structure in of_type(core, "StructureDefinition"):
        if structure["kind"] == "logical" or structure.get("derivation") == "constraint":
            continue
        base = bare(structure.get("baseDefinition", ""))
        table[structure["type"]] = {"": f"{structure['kind']} {base}".strip()} | own_elements(structure)
    return table


def own_elements(structure: Resource) -> dict[str, str]:
    name = structure["type"]
    inherited = tuple(f"{each}." for each in ABSTRACT if each != name)
    found = {}
    for element in structure["snapshot"]["element"]:
        path = element["path"].partition(".")[2]
        if not path or element["base"]["path"].startswith(inherited):
            continue
        if structure["kind"] == "primitive-type" and path == "value":
            continue
        found[path] = element_text(element)
    return found


def element_text(element: Resource) -> str:
    """`1..1 code !task-status`, `0..* Reference(Patient,Group)`, `0..* #item`."""
    kinds = "|".join(type_text(kind) for kind in element.get("type", ()))
    if "contentReference" in element:
        kinds = "#" + element["contentReference"].partition(".")[2]
    if element["path"] == "Resource.id":
        kinds = "id"
    binding = element.get("binding", {})
    mark = CHECKED_STRENGTHS.get(binding.get("strength", ""))
    bound = f" {mark}{short_value_set(binding['valueSet'])}" if mark and "valueSet" in binding else ""
    return f"{element['min']}..{element['max']} {kinds}{bound}"


def short_value_set(url: str) -> str:
    return url.partition("|")[0].removeprefix(VALUE_SETS)


# --- codes -------------------------------------------------------------------------------------------------


def required_value_sets(elements: dict[str, Any]) -> set[str]:
    return {
        text.rpartition(" !")[2]
        for type_elements in elements.values()
        for text in type_elements.values()
        if " !" in text
    }


def code_table(core: list[Resource], wanted: set[str]) -> dict[str, Any]:
    """`sets`: value set -> list of [system, codes, or null for all of the system]; `systems`: system ->
    codes.

    A value set that cannot be listed (MIME types, languages) is left out: nothing can be said of its codes.
    """
    systems = {system["url"]: system for system in of_type(core, "CodeSystem")}
    value_sets = {short_value_set(each["url"]): each for each in of_type(core, "ValueSet")}
    listed = {name: included(value_sets, systems, name) for name in sorted(wanted) if name in value_sets}
    sets = {name: includes for name, includes in listed.items() if includes is not None}
    whole = {system for includes in sets.values() for system, codes in includes if codes is None}
    return {
        "sets": sets,
        "systems": {system: all_codes(systems[system].get("concept", [])) for system in sorted(whole)},
    }


def included(value_sets: dict[str, Resource], systems: dict[str, Resource], name: str) -> list[list[Any]] | None:
    found: list[list[Any]] = []
    for include in value_sets[name].get("compose", {}).get("include", ()):
        system = systems.get(include.get("system", ""))
        if "concept" in include:
            found.append([include["system"], [concept["code"] for concept in include["concept"]]])
        elif "filter" in include and system and (codes := filtered(system, include["filter"])):
            found.append([include["system"], codes])
        elif system and "filter" not in include and system.get("content") == "complete":
            found.append([include["system"], None])
        elif "system" not in include and "valueSet" in include:
            for url in include["valueSet"]:
                nested = included(value_sets, systems, short_value_set(url))
                if nested is None:
                    return None
                found += nested
        else:
            return None
    return found or None


def filtered(system: Resource, filters: list[Resource]) -> list[str]:
    """The codes under a concept, where that is the only filter; nothing where it is another kind."""
    if len(filters) != 1 or filters[0]["op"] not in ("is-a", "descendent-of"):
        return []
    root = filters[0]["value"]
    codes = descendants(system.get("concept", []), root)
    return codes if filters[0]["op"] == "is-a" else [code for code in codes if code != root]


def descendants(concepts: list[Resource], root: str) -> list[str]:
    for concept in concepts:
        if concept["code"] == root:
            return all_codes([concept])
        if found := descendants(concept.get("concept", []), root):
            return found
    return []


def all_codes(concepts: list[Resource]) -> list[str]:
    return [code for concept in concepts for code in (concept["code"], *all_codes(concept.get("concept", [])))]


# --- rules -------------------------------------------------------------------------------------------------


def primitive_table(core: list[Resource]) -> dict[str, str]:
    """Primitive type -> the regular expression its values match, where R4 gives one."""
    table = {}
    for structure in of_type(core, "StructureDefinition"):
        if structure["kind"] == "primitive-type":
            value = next(each for each in structure["snapshot"]["element"] if each["path"].endswith(".value"))
            found = [each for kind in value["type"] for each in kind.get("extension", ())]
            for each in found:
                if each["url"].endswith("/regex"):
                    table[structure["type"]] = each["valueString"]
    return table


def invariant_table(core: list[Resource]) -> dict[str, list[list[str]]]:
    """Path (`Patient.contact`) -> [key, severity, expression] of each rule that it states itself."""
    table: dict[str, list[list[str]]] = {}
    for structure in of_type(core, "StructureDefinition"):
        if structure["kind"] != "logical" and structure.get("derivation") != "constraint":
            inherited = tuple(f"{each}." for each in ABSTRACT if each != structure["type"])
            for element in structure["snapshot"]["element"]:
                own = element["path"] == structure["type"] or not element["base"]["path"].startswith(inherited)
                if own and (found := invariants(element, of=element["path"].partition(".")[0])):
                    table[element["path"]] = found
    return table


# --- search parameters -------------------------------------------------------------------------------------


def parameter_table(core: list[Resource]) -> dict[str, Any]:
    """`types`: type -> {name: [kind, expression, id, parts]}; `compartment`: type -> parameters that lead to the
    patient.

    The id is left out where it is `Type-name`; `parts` are a composite's, as [kind, expression]. What a reference may
    point at is left out: the elements table says it, per type, and says it better.
    """
    types: dict[str, dict[str, Any]] = {}
    definitions = of_type(core, "SearchParameter")
    kinds = {definition["url"]: definition["type"] for definition in definitions}
    for definition in definitions:
        if "expression" not in definition or "extension(" in definition["expression"].lower():
            continue
        for base in definition.get("base", ()):
            if expression := expression_for(base, definition["expression"]):
                name, url = definition["code"], definition["url"].removeprefix(SEARCH_PARAMETERS)
                published: list[Any] = [] if url == f"{base}-{name}" else [url]
                if parts := definition.get("component"):
                    published = [url, [[kinds[each["definition"]], each["expression"]] for each in parts]]
                types.setdefault(base, {})[name] = [definition["type"], expression, *published]
    compartment = next(each for each in of_type(core, "CompartmentDefinition") if each["url"].endswith("/patient"))
    return {
        "types": {name: dict(sorted(parameters.items())) for name, parameters in sorted(types.items())},
        "compartment": {each["code"]: each["param"] for each in compartment["resource"] if "param" in each},
    }


def expression_for(base: str, expression: str) -> str:
    """The branches that start at this type, without the type's name; `(X as T)` and `ofType(T)` as `X.as(T)`.

    The type itself, which composites are of, is `$this`.
    """
    if " and " in expression:
        return expression.replace(f"{base}.", "")
    branches = (branch.strip() for branch in expression.split(" | "))
    return " | ".join(
        re.sub(r"\.ofType\((\w+)\)", r".as(\1)", branch).removeprefix(f"{base}.") if branch != base else "$this"
        for branch in (re.sub(r"^\(([\w.]+) as (\w+)\)", r"\1.as(\2)", branch) for branch in branches)
        if branch == base or branch.startswith(f"{base}.")
    )


# --- UK Core -----------------------------------------------------------------------------------------------


def ukcore_table(published: Path, drafts: Path) -> dict[str, Any]:
    """`profiles`, `extensions`, `systems` and `sets` by url. A draft never stands in for what is published."""
    table: dict[str, dict[str, Any]] = {"profiles": {}, "extensions": {}, "systems": {}, "sets": {}}
    for folder, draft in ((published, False), (drafts, True)):
        for path in sorted(folder.rglob("*.json")):
            definition = json.loads(path.read_text("utf-8"))
            kind, facts = facts_of(definition) or (None, {})
            if kind and definition["url"] not in table[kind]:
                table[kind][definition["url"]] = facts | {"draft": True} if draft else facts
    return {kind: dict(sorted(entries.items())) for kind, entries in table.items()}


def lines(table: dict[str, Any]) -> str:
    """JSON with a line for each entry (two levels for tables of tables of tables), so that a diff can be read."""
    deep = all(isinstance(value, dict) for value in table.values()) and not any(
        isinstance(each, str) for value in table.values() for each in value.values()
    )

    def compact(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def block(entries: dict[str, Any]) -> str:
        return "{\n" + ",\n".join(f"{compact(key)}:{compact(value)}" for key, value in entries.items()) + "\n}"

    if not deep:
        return block(table) + "\n"
    return "{\n" + ",\n".join(f"{compact(key)}:{block(value)}" for key, value in table.items()) + "\n}\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
