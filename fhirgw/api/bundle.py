"""Bundles as bytes: stored bodies go in as they are, nothing is parsed or written again.

https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from fhirgw.fhir.issue import Issue, outcome
from fhirgw.store.resources import Stored

ADVICE = Issue(
    "informational",
    "Some information may be withheld under the sharing rules of the organisations that hold it",
    severity="information",
)
"""Every searchset with entries carries it, whatever was found: it informs people, and says nothing about the data."""

Links = Sequence[tuple[str, str]]


def searchset(
    base: str,
    entries: Iterable[tuple[str, str, str, str]],
    total: int | None,
    links: Links,
    notes: Sequence[Issue] = (),
) -> bytes:
    """A searchset of (type, id, body, mode), with the advice and notes at its end; `links` as (relation, url)."""
    advice = {"resource": outcome([ADVICE, *notes]), "search": {"mode": "outcome"}}
    found: list[dict[str, Any]] = [
        {
            "fullUrl": f"{base}/{resource_type}/{id}",
            "resource": orjson.Fragment(body),
            "search": {"mode": mode},
        }
        for resource_type, id, body, mode in entries
    ]
    return _bundle("searchset", total, links, [*found, advice])


def counted(total: int | None, links: Links) -> bytes:
    """The searchset of a search that asks for the total alone: it has no entries."""
    return _bundle("searchset", total, links, ())


def history(base: str, resource_type: str, id: str, versions: Sequence[Stored]) -> bytes:
    """The versions of one resource, the newest first."""
    where = f"{resource_type}/{id}"
    entries = [_version(base, where, stored) for stored in versions]
    return _bundle("history", len(entries), [("self", f"{base}/{where}/_history")], entries)


def _version(base: str, where: str, stored: Stored) -> dict[str, Any]:
    method, status = ("DELETE", "204") if stored.deleted else ("PUT", "200") if stored.version > 1 else ("POST", "201")
    answered = {"status": status, "etag": f'W/"{stored.version}"', "lastModified": stored.updated}
    asked = {"method": method, "url": where.partition("/")[0] if method == "POST" else where}
    entry: dict[str, Any] = {"fullUrl": f"{base}/{where}", "request": asked, "response": answered}
    return entry if stored.deleted else entry | {"resource": orjson.Fragment(stored.body)}


def _bundle(kind: str, total: int | None, links: Links, entries: Sequence[dict[str, Any]]) -> bytes:
    made: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    if total is not None:
        made["total"] = total
    made["link"] = [{"relation": relation, "url": url} for relation, url in links]
    if entries:
        made["entry"] = entries
    return orjson.dumps(made, option=orjson.OPT_UTC_Z)
