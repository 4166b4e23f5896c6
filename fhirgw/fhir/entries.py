"""The entries of a batch or transaction Bundle: what each asks for, and what its neighbours call it.

https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhirgw.fhir import incoming, patch
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.references import references, referred, replaced

ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
"""In which order a transaction's entries are done. https://hl7.org/fhir/R4/http.html#trules"""
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
CONDITION = re.compile(r"([A-Z][A-Za-z]{1,63})\?(.+)", re.DOTALL)
RELATIVE = re.compile(r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64}")
ASKED = ("$expand", "$lookup", "$match", "$translate", "$validate", "$validate-code")
"""Operations that are asked by POST and change nothing. https://hl7.org/fhir/R4/operations.html#executing"""
OWN = ("urn:uuid:", "urn:oid:")
"""How a Bundle names what has no address yet."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One entry: `method` and `path` (of the address below the base, in parts), its `query`, and what goes with them.

    `kind` is the type it writes, `id` of an instance. `given` is the resource, or a patch's operations.
    """

    number: int
    method: str
    path: tuple[str, ...]
    query: str
    kind: str
    id: str | None
    given: Any
    full_url: str | None
    match: str | None
    none_match: str | None
    none_exist: str | None

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"Bundle.entry[{self.number}]"

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return ORDER[self.method] == ORDER["GET"] or self.path[-1] in ASKED

    @property
    def condition(self) -> str | None:
        """What it searches for before it writes; None where it is about an instance, or plainly creates."""
        if self.method == "POST":
            return None if self.none_exist is None else self.none_exist.rpartition("?")[2]
        return self.query if self.id is None else None


def entries(bundle: Resource, most: int, base: str) -> list[Entry]:
    """The entries of a Bundle, in its order. Raises FhirError (400, 413) naming the first that is none."""
    found = bundle.get("entry", [])
    if not isinstance(found, list):
        raise FhirError(Issue("structure", "entry is a list", "Bundle.entry"))
    if len(found) > most:
        raise FhirError(Issue("too-long", f"A Bundle has at most {most} entries: send it in parts", "Bundle.entry"))
    return [entry(number, each, base) for number, each in enumerate(found)]


def entry(number: int, given: Any, base: str) -> Entry:
    """One entry. Raises FhirError (400)."""
    place = f"Bundle.entry[{number}]"
    asked = given.get("request") if isinstance(given, dict) else None
    if not isinstance(asked, dict):
        raise FhirError(Issue("required", "An entry says in request what to do", f"{place}.request"))
    texts = {name: asked.get(name) for name in ("method", "url", "ifMatch", "ifNoneMatch", "ifNoneExist")}
    texts["fullUrl"] = given.get("fullUrl")
    for name, value in texts.items():
        if not isinstance(value, str) and (value is not None or name in ("method", "url")):
            raise FhirError(Issue("structure", f"{name} is a text, and method and url are needed", f"{place}.request"))
    method, url = str(texts["method"]), str(texts["url"])
    if method not in ORDER:
        raise FhirError(Issue("value", f"method is one of {', '.join(ORDER)}", f"{place}.request.method"))
    address, _, query = url.removeprefix(f"{base}/").removeprefix("/").partition("?")
    path = tuple(address.split("/"))
    kind, id = path[0], path[1] if len(path) > 1 else None
    if ORDER[method] < ORDER["GET"]:
        _check(method, path, query, given.get("resource"), place)
    resource = _operations(given["resource"], place) if method == "PATCH" else given.get("resource")
    full, match, none_match = texts["fullUrl"], texts["ifMatch"], texts["ifNoneMatch"]
    return Entry(number, method, path, query, kind, id, resource, full, match, none_match, texts["ifNoneExist"])


def _check(method: str, path: tuple[str, ...], query: str, resource: Any, place: str) -> None:
    """Raises FhirError where the address and the resource are not what the method wants."""
    kind, *below = path
    if method == "POST" and path[-1] in ASKED:
        if not isinstance(resource, dict):
            told = "An operation by POST needs a resource: its Parameters, or what it is about"
            raise FhirError(Issue("required", told, f"{place}.resource"))
        return
    if any(each.startswith("$") or each == "_search" for each in path):
        told = f"Searches are asked in a Bundle by GET, with what they are asked in the url; by POST {', '.join(ASKED)}"
        raise FhirError(Issue("not-supported", told, f"{place}.request.url"))
    if kind not in HELD:
        raise FhirError(Issue("not-supported", "url begins with a type that is held here", f"{place}.request.url"))
    instance = len(below) == 1 and ID.fullmatch(below[0]) and not query
    if not (not below and not query if method == "POST" else instance or (not below and query)):
        wanted = "[type]" if method == "POST" else "[type]/[id] or [type]?criteria"
        raise FhirError(Issue("value", f"url of {method} is {wanted}", f"{place}.request.url"))
    if method == "DELETE":
        return
    wanted = "Binary" if method == "PATCH" else kind
    if not isinstance(resource, dict) or resource.get("resourceType") != wanted:
        told = f"{method} needs a resource, of the type {wanted}"
        raise FhirError(Issue("required", told, f"{place}.resource"))
    own = resource.get("id")
    if own is not None and not (isinstance(own, str) and ID.fullmatch(own)):
        raise FhirError(
            Issue("value", "An id has 1 to 64 characters: letters, digits, - and .", f"{place}.resource.id")
        )
    if method == "PUT" and instance and own != below[0]:
        raise FhirError(Issue("value", "The id of the resource is that of the url", f"{place}.resource.id"))


def _operations(binary: Resource, place: str) -> Any:
    """The operations of the JSON Patch in a Binary. https://hl7.org/fhir/R4/http.html#jsonpatch"""
    if binary.get("contentType") != patch.MEDIA:
        told = f"A patch in a Bundle is a Binary whose contentType is {patch.MEDIA}"
        raise FhirError(Issue("value", told, f"{place}.resource.contentType"))
    try:
        text = base64.b64decode(binary.get("data", ""), validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise FhirError(Issue("value", "data is no base64", f"{place}.resource.data")) from None
    return incoming.parse(text)


def conditions(asked: Sequence[Entry]) -> set[tuple[str, str]]:
    """The conditional references in the resources, as (type, criteria)."""
    found: set[tuple[str, str]] = set()
    for each in asked:
        for text in referred(each.given):
            if "?" in text and (known := CONDITION.fullmatch(text)) and known[1] in HELD:
                found.add((known[1], known[2]))
    return found


@dataclass(slots=True)
class Names:
    """What the names in a Bundle lead to: its full URLs each to a reference, its conditions each to the id it `found`.

    `addressed`: some of the full URLs are addresses, below which relative references may lead.
    """

    base: str
    own: dict[str, str] = field(default_factory=dict)
    found: dict[tuple[str, str], str] = field(default_factory=dict)
    addressed: bool = False

    def call(self, full_url: str, reference: str) -> bool:
        """Gives a full URL its reference; false where it has another."""
        self.addressed = self.addressed or not full_url.startswith("urn:")
        return self.own.setdefault(full_url, reference) == reference


def renamed(asked: Entry, given: Resource, names: Names) -> Resource:
    """What an entry gives, with names of the Bundle's own, and conditional references, as what they lead to."""
    # Most have none of them, which their text tells in a tenth of the time that it takes to look at every element.
    if not names.addressed and not names.found and b"urn:" not in encode(given):
        return given
    roots = [*_root(asked), f"{names.base}/"]

    def reference(text: str) -> str:
        if text in names.own:
            return names.own[text]
        if (condition := CONDITION.fullmatch(text)) and (condition[1], condition[2]) in names.found:
            return f"{condition[1]}/{names.found[condition[1], condition[2]]}"
        if RELATIVE.fullmatch(text):
            return next((names.own[root + text] for root in roots if root + text in names.own), text)
        return text

    return replaced(given, names.own, reference)


def resolved(asked: Entry, names: Names) -> Resource:
    """Its resource, once everything has a name. Raises FhirError where it uses one that nothing in the Bundle has."""
    made = renamed(asked, asked.given, names)
    if any(text.startswith(OWN) for text in referred(made)):
        path = next(path for path, text in references(made) if text.startswith(OWN))
        told = "Nothing in the Bundle has this name as its fullUrl"
        raise FhirError(Issue("not-found", told, f"{asked.place}.resource.{path}"), status=400)
    return made


def _root(asked: Entry) -> Iterator[str]:
    """The base that relative references of an entry are below, where its fullUrl is an address."""
    full, own = asked.full_url or "", f"{asked.kind}/"
    before, there, _ = full.rpartition(own)
    if there and full.startswith(("http://", "https://")):
        yield before
