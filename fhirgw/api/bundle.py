"""Bundles as bytes: stored bodies go in as they are, nothing is parsed or written again.

https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from fhirgw.fhir.issue import Issue, outcome
from fhirgw.store.history import Version

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
    return _bundle("searchset", total, links, [*_found(base, entries), advice])


def graded(base: str, rows: Iterable[tuple[str, str, str, dict[str, Any]]], links: Links) -> bytes:
    """A searchset of (type, id, body, search), each `search` with a score of its own."""
    found = [
        {**each, "search": search}
        for kind, id, body, search in rows
        for each in _found(base, [(kind, id, body, "match")])
    ]
    advice = {"resource": outcome([ADVICE]), "search": {"mode": "outcome"}}
    return _bundle("searchset", len(found), links, [*found, advice])


def opened(links: Links) -> bytes:
    """The beginning of a searchset that is sent as it is read: `entries` follow, with commas, and `closed`."""
    return _bundle("searchset", None, links, ())[:-1] + b',"entry":['


def entries(base: str, found: Iterable[tuple[str, str, str, str]]) -> bytes:
    """Entries of (type, id, body, mode), with commas between them."""
    return b",".join(orjson.dumps(each) for each in _found(base, found))


def closed() -> bytes:
    """The end of a searchset that was sent as it was read: the advice, and the brackets."""
    return orjson.dumps({"resource": outcome([ADVICE]), "search": {"mode": "outcome"}}) + b"]}"


def _found(base: str, entries: Iterable[tuple[str, str, str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "fullUrl": f"{base}/{resource_type}/{id}",
            "resource": orjson.Fragment(body),
            "search": {"mode": mode},
        }
        for resource_type, id, body, mode in entries
    ]


def counted(total: int | None, links: Links, notes: Sequence[Issue] = ()) -> bytes:
    """The searchset of a search that asks for the total alone: no match is in it, but the advice and the notes are.

    A count says less than a list of what was withheld, so it needs the advice the more; what _summary=count leaves out
    are the matches. https://hl7.org/fhir/R4/search.html#summary
    """
    return searchset("", (), total, links, notes)


def history(base: str, versions: Iterable[Version], total: int | None, links: Links) -> bytes:
    """Versions in their order, each with the request that made it as far as is known."""
    return _bundle("history", total, links, [_version(base, each) for each in versions])


def changed(total: int, links: Links) -> bytes:
    """The history that is asked for its total alone."""
    return _bundle("history", total, links, ())


def _version(base: str, made: Version) -> dict[str, Any]:
    where = f"{made.type}/{made.id}"
    method, status = ("DELETE", "204") if made.deleted else ("PUT", "200") if made.version > 1 else ("POST", "201")
    answered = {"status": status, "etag": f'W/"{made.version}"', "lastModified": made.updated}
    asked = {"method": method, "url": made.type if method == "POST" else where}
    entry: dict[str, Any] = {"fullUrl": f"{base}/{where}", "request": asked, "response": answered}
    return entry if made.deleted else entry | {"resource": orjson.Fragment(made.body)}


def _bundle(kind: str, total: int | None, links: Links, entries: Sequence[dict[str, Any]]) -> bytes:
    made: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    if total is not None:
        made["total"] = total
    made["link"] = [{"relation": relation, "url": url} for relation, url in links]
    if entries:
        made["entry"] = entries
    return orjson.dumps(made, option=orjson.OPT_UTC_Z)
