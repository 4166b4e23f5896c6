"""What is served below /homecare, as OpenAPI describes it: visit_openapi.yaml, and the schema of a visit itself.

That is made of the fields and words that rows are read by (fhirgw.visits.field), so that neither can say another thing.
https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from fhirgw import shipped
from fhirgw.visits.field import ENTRIES, ID, Shape, schema, shapes
from fhirgw.visits.moment import moment
from fhirgw.visits.reading import OWN
from fhirgw.visits.rules import rules

FILE = Path(__file__).with_name("visit_openapi.yaml")
FHIR, JSON = "application/fhir+json", "application/json"
PLACES = {"visit": {"type": "string"}, "submission": {"type": "string", "format": "uuid"}, "id": {"type": "string"}}
Made = dict[str, Any]


@cache
def told() -> Made:
    """The file. Nobody changes what it says."""
    found: Made = yaml.safe_load(FILE.read_text())
    return found


def paths(root: str) -> dict[str, Made]:
    """Each path, as served at an address without `/fhir`."""
    given = told()["paths"].items()
    return {
        path: {"servers": [{"url": root}], **{method: _operation(method, path, each) for method, each in about.items()}}
        for path, about in given
    }


def schemas() -> dict[str, Made]:
    """What requests and answers are made of."""
    return {**told()["schemas"], **_visit(shapes(rules(shipped.path("mappings"))))}


def _operation(method: str, path: str, given: Made) -> Made:
    known = told()["parameters"]
    places = (each[1:-1] for each in path.split("/") if each.startswith("{"))
    made: Made = {
        "operationId": method + path.replace("/", "_").translate({ord(each): None for each in "{}$"}),
        "summary": given["summary"],
        "tags": ["homecare"],
        "parameters": [
            *({"name": each, "in": "path", "required": True, "schema": PLACES[each]} for each in places),
            *(known[each] for each in given.get("parameters", ())),
        ],
        "responses": {status: _answer(kinds) for status, kinds in given["answers"].items()}
        | {"default": _answer("OperationOutcome")},
    }
    made |= {"description": given["description"]} if "description" in given else {}
    if "takes" in given:
        made["requestBody"] = {"required": "optional" not in given, "content": given["takes"]}
    return made


def _answer(kinds: str | list[str]) -> Made:
    listed = [kinds] if isinstance(kinds, str) else kinds
    return {"description": " or ".join(listed), "content": dict(map(_content, listed))}


def _content(kind: str) -> tuple[str, Made]:
    """The type of media, and its schema: what is no schema's name is a type of media of text."""
    if "/" in kind:
        return kind, {"schema": {"type": "string"}}
    return FHIR if kind == "OperationOutcome" else JSON, {"schema": {"$ref": f"#/components/schemas/{kind}"}}


def _visit(parts: Mapping[str, Shape]) -> dict[str, Made]:
    """The schema of a visit, and of each of its parts, by name."""
    made = {_name(part): _part(shape) for part, shape in parts.items()}
    own: Made = {
        "visit": {"type": "string", "pattern": f"^{ID.pattern}$", "description": "Your own id of it"},
        "version": {"type": "integer", "minimum": 0},
        "changed": schema(moment),
        "provider": {"type": "string", "description": "Of the many that a council's own system sends for: an ODS code"},
    }
    assert own.keys() == set(OWN)
    properties = {**own, **dict(_fields(parts))}
    return made | {
        "Visit": {
            "type": "object",
            "required": ["visit"],
            "additionalProperties": False,
            "properties": properties,
            "description": "A part that is left out stays as it was; null takes it back.",
        }
    }


def _fields(parts: Mapping[str, Shape]) -> Iterator[tuple[str, Made]]:
    for part, shape in parts.items():
        one: Made = {"$ref": f"#/components/schemas/{_name(part)}"}
        whole = {"type": "array", "maxItems": ENTRIES, "items": one} if shape.many else one
        yield part, {"oneOf": [whole, {"type": "null"}]}


def _part(shape: Shape) -> Made:
    required = [name for name, field in shape.fields.items() if field.required]
    told = {"type": "object", "additionalProperties": False, "minProperties": 1}
    properties = {name: schema(field.codec) for name, field in shape.fields.items()}
    return {**told, **({"required": required} if required else {}), "properties": properties}


def _name(part: str) -> str:
    return f"Visit{part[0].upper()}{part[1:]}"
