"""A definition as facts: what a profile narrows, an extension holds, a code list lists, without the prose.

The same reading serves the published packages (`profiles/derive.py`) and our own definitions in `profiles/`.
https://hl7.org/fhir/R4/profiling.html

A constraint is a dict with only the keys that the differential states:
`min`, `max` ("*" or a number as text), `types` (as in the elements table: `code`, `Reference(Patient,Group)`,
`Extension(url)`), `fixed` and `pattern` (the value), `binding` ("required url"), `must_support` (true),
`discriminators` (list of [type, path]), `rules` (of slicing), `max_length`, `invariants` (list of [key,
severity, expression]).
"""

from __future__ import annotations

from typing import Any

from fhirgw.fhir.issue import Resource

Constraint = dict[str, Any]

DEFINITIONS = "http://hl7.org/fhir/StructureDefinition/"


def facts_of(definition: Resource) -> tuple[str, dict[str, Any]] | None:
    """The kind of a definition (profiles, extensions, systems, sets) and its facts; None for what is no such thing."""
    match definition.get("resourceType"):
        case "StructureDefinition" if definition.get("derivation") != "constraint":
            return None
        case "StructureDefinition" if definition["type"] == "Extension":
            return "extensions", extension_facts(definition)
        case "StructureDefinition":
            return "profiles", profile_facts(definition)
        case "CodeSystem":
            codes = {each["code"]: each.get("display") for each in definition.get("concept", ())}
            return "systems", {"status": definition["status"], "codes": codes}
        case "ValueSet":
            return "sets", {"status": definition["status"], **value_set_facts(definition.get("compose", {}))}
    return None


def value_set_facts(compose: dict[str, Any]) -> dict[str, Any]:
    """`include` and `exclude`: lists of `system`, `codes`, `filter` ([property, op, value]) and `sets`."""
    facts = {key: [_include_facts(each) for each in compose.get(key, ())] for key in ("include", "exclude")}
    return {key: value for key, value in facts.items() if value}


def _include_facts(include: dict[str, Any]) -> dict[str, Any]:
    facts = {
        "system": include.get("system"),
        "codes": [concept["code"] for concept in include.get("concept", ())] or None,
        "filter": [[each["property"], each["op"], each["value"]] for each in include.get("filter", ())] or None,
        "sets": include.get("valueSet"),
    }
    return {key: value for key, value in facts.items() if value is not None}


def profile_facts(structure: Resource) -> dict[str, Any]:
    """A profile: `type`, `base`, `version`, `status`, and `elements` by the id within the type
    (`identifier:nhsNumber.value`; "" for the invariants of the whole).
    """
    constraints = {id: constraint(element) for id, element in by_id(structure).items()}
    whole = constraints.pop(structure["type"], {}).get("invariants")
    constraints |= {"": {"invariants": whole}} if whole else {}
    return {
        "type": structure["type"],
        "base": structure["baseDefinition"],
        "version": structure.get("version"),
        "status": structure["status"],
        "elements": {path.partition(".")[2]: facts for path, facts in constraints.items() if facts},
    }


def extension_facts(structure: Resource) -> dict[str, Any]:
    """An extension: `status`, `version`, `contexts` (element paths), `modifier`, and what `part_facts` gives
    for its root.
    """
    elements = by_id(structure)
    facts = {
        "status": structure["status"],
        "version": structure.get("version"),
        "contexts": [
            context["expression"] for context in structure.get("context", ()) if context.get("type") == "element"
        ],
        "modifier": elements.get("Extension", {}).get("isModifier"),
        **part_facts(elements, "Extension"),
    }
    return {key: value for key, value in facts.items() if value is not None}


def by_id(structure: Resource) -> dict[str, Resource]:
    """The elements that a definition states, by id: of its differential, or of its snapshot where it has none.

    Where an element has no id it is made of its path and the names of the slices it stands in.
    """
    found: dict[str, Resource] = {}
    latest: dict[str, str] = {}
    for element in (structure.get("differential") or structure["snapshot"])["element"]:
        path = element["path"]
        above, _, name = path.rpartition(".")
        sliced = f":{element['sliceName']}" if "sliceName" in element else ""
        made = f"{latest.get(above, above)}.{name}{sliced}" if above else name
        latest[path] = element.get("id") or made
        found[latest[path]] = element
    return found


def part_facts(elements: dict[str, Resource], root: str) -> dict[str, Any]:
    """One extension or nested part: `min`, `max`, `values` (types of its value), `fixed`, `binding`, `parts`
    (by their url).
    """
    facts: dict[str, Any] = {
        key: value for key, value in constraint(elements.get(root, {})).items() if key in ("min", "max")
    }
    for path, element in elements.items():
        name = path.removeprefix(f"{root}.")
        if name == path or "." in name:
            continue
        if name.startswith("value") and element.get("max") != "0":
            value = constraint(element)
            facts |= {"values": value.get("types") or facts.get("values", [])}
            facts |= {key: value[key] for key in ("binding", "fixed", "pattern") if key in value}
        elif name.startswith("extension:"):
            url = elements.get(f"{path}.url", {}).get("fixedUri") or name.partition(":")[2]
            facts.setdefault("parts", {})[url] = part_facts(elements, path)
    return facts


def constraint(element: Resource) -> Constraint:
    """What one element of a differential states."""
    slicing = element.get("slicing", {})
    binding = element.get("binding", {})
    facts = {
        "min": element.get("min"),
        "max": element.get("max"),
        "types": [type_text(kind) for kind in element.get("type", ())] or None,
        "fixed": _open_choice(element, "fixed"),
        "pattern": _open_choice(element, "pattern"),
        "binding": f"{binding['strength']} {bare(binding['valueSet'])}" if "valueSet" in binding else None,
        "must_support": element.get("mustSupport") or None,
        "discriminators": [[each["type"], each["path"]] for each in slicing.get("discriminator", ())] or None,
        "rules": slicing.get("rules"),
        "max_length": element.get("maxLength"),
        "invariants": invariants(element) or None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def invariants(element: Resource, of: str | None = None) -> list[list[str]]:
    """[key, severity, expression] of the element's rules; with `of`, only those this type states, none inherited."""
    return [
        [each["key"], each["severity"], each["expression"]]
        for each in element.get("constraint", ())
        if "expression" in each and (of is None or each.get("source", of) in (of, DEFINITIONS + of))
    ]


def type_text(kind: Resource) -> str:
    """An element type as text: `code`, `Reference(Patient,Group)`, `Extension(url)`."""
    code = _fhir_type(kind) or kind["code"]
    profiles = kind.get("targetProfile") or kind.get("profile") or ()
    return f"{code}({','.join(bare(url) for url in profiles)})" if profiles else code


def bare(url: str) -> str:
    """A canonical without its version, and without the host where it is R4's own StructureDefinition."""
    return url.partition("|")[0].removeprefix(DEFINITIONS)


def _fhir_type(kind: Resource) -> str | None:
    """R4 gives ids and urls a FHIRPath system type and says the FHIR type in an extension."""
    for extension in kind.get("extension", ()):
        if extension["url"].endswith("structuredefinition-fhir-type"):
            return str(extension["valueUrl"])
    return None


def _open_choice(element: Resource, prefix: str) -> Any:
    """The value of `fixedUri`, `patternCodeableConcept` ...; None when the element states none."""
    return next((value for key, value in element.items() if key.startswith(prefix) and key != prefix), None)
