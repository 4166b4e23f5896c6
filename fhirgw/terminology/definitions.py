"""The definitions carried: R4's and UK Core's as facts, ours in `profiles/` as they stand, by canonical url and by id.

`carry` adds others, as those of a package an operator installed or the ConceptMaps of the mappings; nothing that was
there before is replaced. https://hl7.org/fhir/R4/terminology-module.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from hashlib import sha256
from types import MappingProxyType

import orjson

from fhirgw import shipped
from fhirgw.fhir.facts import table
from fhirgw.fhir.issue import FhirError, Issue, Resource

SEARCHED = ("_id", "url", "version", "name", "title", "status")
"""What definitions are searched by, in R4's words."""
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
KINDS = ("CodeSystem", "ValueSet", "ConceptMap", "StructureDefinition", "Measure")

_added: dict[tuple[str, str], Resource] = {}
_forget: list[Callable[[], None]] = []


def definition(kind: str, url: str) -> Resource | None:
    """The definition of that kind and canonical url, whatever version follows a |; None when it is not carried.

    The value set of all codes of a code system is carried where the code system is.
    """
    bare = url.partition("|")[0]
    found = carried(kind).get(bare)
    return _implied().get(bare) if found is None and kind == "ValueSet" else found


class NotHeld(FhirError):
    """What is asked needs a definition that is not carried, or codes that are not: another server may have them."""

    def __init__(self, told: str, code: str = "not-found") -> None:
        super().__init__(Issue(code, told))


REMEDY = "whoever runs the gateway can add a package of it, or name a terminology server (FHIRGW_TERMINOLOGY_URL)"
"""What whoever runs the gateway can do about what is not carried."""


def wanted(kind: str, url: str, version: str | None = None) -> Resource:
    """The definition asked for by its url, and by its version where one is said (or stands in the url after a |).

    Raises NotHeld saying which version there is.
    """
    found = definition(kind, url)
    if found is None:
        raise NotHeld(f"This {kind} is not carried here; {REMEDY}. GET [base]/{kind} lists those that are")
    held = found.get("version")
    said = version or url.partition("|")[2]
    if said and said != held:
        there = f"in version {held}" if held else "without a version"
        raise NotHeld(f"This {kind} is carried here {there}, and in no other: leave the version out, or name that")
    return found


def by_id(kind: str, id: str) -> Resource | None:
    """The definition of that kind and id; None when it is not carried."""
    return _by_id(kind).get(id)


@cache
def carried(kind: str) -> Mapping[str, Resource]:
    """Every definition of a kind by url. Shared and never to be changed."""
    published = {"CodeSystem": "systems", "ValueSet": "sets"}.get(kind)
    found: dict[str, Resource] = {}
    ids: set[str] = set()
    for each in (
        *(each for each in _ours() if each["resourceType"] == kind),
        *(table("terminology")[published].values() if published else ()),
        *(each for (of, _), each in _added.items() if of == kind),
    ):
        if each["url"] not in found:
            found[each["url"]] = _identified(each, ids)
    return MappingProxyType(dict(sorted(found.items())))


def carry(definitions: Iterable[Resource]) -> None:
    """Adds definitions for as long as the process runs. What was compiled before is compiled again."""
    for each in definitions:
        if each.get("resourceType") in KINDS and "url" in each:
            _added[each["resourceType"], each["url"]] = each
    for forget in (carried.cache_clear, _by_id.cache_clear, _implied.cache_clear, *_forget):
        forget()


def rests_on_these(forget: Callable[[], None]) -> None:
    """Names what to call when definitions are added: whoever keeps something made of them forgets it."""
    _forget.append(forget)


@cache
def _implied() -> Mapping[str, Resource]:
    """The value sets that code systems name as those of all their codes.

    https://hl7.org/fhir/R4/codesystem-definitions.html#CodeSystem.valueSet
    """
    return MappingProxyType(
        {each["valueSet"]: _whole(each) for each in carried("CodeSystem").values() if "valueSet" in each}
    )


def _whole(system: Resource) -> Resource:
    same: Resource = {
        key: system[key] for key in ("version", "name", "title", "status", "publisher", "copyright") if key in system
    }
    include = {"system": system["url"]}
    return {"resourceType": "ValueSet", "url": system["valueSet"], **same, "compose": {"include": [include]}}


def _identified(definition: Resource, taken: set[str]) -> Resource:
    """The definition with an id of its own: what two publishers gave one id to is told apart by its url."""
    id = definition.get("id")
    if not isinstance(id, str) or not ID.fullmatch(id) or id in taken:
        name = id if isinstance(id, str) and ID.fullmatch(id) else definition["resourceType"].lower()
        id = f"{name[:50]}-{sha256(definition['url'].encode()).hexdigest()[:12]}"
    taken.add(id)
    return {**definition, "id": id}


@cache
def _by_id(kind: str) -> Mapping[str, Resource]:
    return MappingProxyType({each["id"]: each for each in carried(kind).values()})


@cache
def _ours() -> tuple[Resource, ...]:
    paths = sorted(path for kind in KINDS for path in shipped.path("profiles").glob(f"{kind}-*.json"))
    return tuple(orjson.loads(path.read_bytes()) for path in paths)
