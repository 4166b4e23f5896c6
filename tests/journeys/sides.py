"""One council as two systems of record tell it: resources made comparable by leaving out what is each system's own."""

import re
from typing import Any

from tests.journeys.exported import Resource

OWN = "https://fhirgw.uk/Id/"
"""Local identifiers are `<this><system>/<mapping>`, kept codes `<this><system>/codes/<list>`."""

NUMBER = re.compile(r"\d+$")
UNNUMBERED = ("Device",)
"""meadow numbers devices apart from the referrals they came of; harbour has one row, and one number, for both."""


def comparable(resource: Resource, system: str) -> Resource:
    """The resource without its id, version, local identifiers and kept codes; references by the number they mean."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name in ("profile", "security")}
    content = {name: value for name, value in resource.items() if name not in ("id", "meta")}
    kept: Resource = _kept(content | ({"meta": meta} if meta else {}), f"{OWN}{system}/")
    return kept


def number(key: str) -> int:
    """Of `P-000017` or `17`: 17."""
    found = NUMBER.search(key)
    assert found, "a key ends with a number"
    return int(found[0])


def _kept(node: Any, own: str) -> Any:
    """The node without what is the system's own; None when nothing is left."""
    if isinstance(node, list):
        return [each for each in (_kept(one, own) for one in node) if each is not None] or None
    if not isinstance(node, dict):
        return node
    if str(node.get("system", "")).startswith(own):
        return None
    if isinstance(node.get("reference"), str):
        return _meant(node, own)
    return {name: kept for name, value in node.items() if (kept := _kept(value, own)) is not None}


def _meant(reference: Resource, own: str) -> Resource:
    """A reference by its type and the number of the record it means."""
    kind, local = reference["reference"].partition("/")[0], reference["identifier"]
    assert local["system"].startswith(own)
    rest = {name: value for name, value in reference.items() if name not in ("reference", "identifier")}
    return rest | {"to": kind} | ({} if kind in UNNUMBERED else {"number": number(local["value"])})
