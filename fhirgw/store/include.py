"""What a search sends along: resources that its matches refer to, and resources that refer to its matches.

With `:iterate` what comes along brings more, round by round. No more than MOST of those that refer to one page, and
MOST_ALONG in all: a note says so when there were more.
https://hl7.org/fhir/R4/search.html#include
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import FromClause, Select, Text, any_, bindparam, literal, or_, select, union_all
from sqlalchemy.sql.selectable import SelectBase

from fhirgw.access.permit import Permit
from fhirgw.fhir import tokens
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.query import Include, Query
from fhirgw.store import visibility
from fhirgw.store.criterion import IDS, TOKENS
from fhirgw.store.database import Connection, once
from fhirgw.store.references import canonicals, references
from fhirgw.store.schema import RENDERED_AS, among, held
from fhirgw.store.visibility import visible

MOST = 1000
"""Resources referring to the matches of one page, for each `_revinclude`."""

MOST_ALONG = 5000
"""Resources that come along with one page."""

DEEPEST = 5
"""Rounds of `:iterate`."""


class Found(NamedTuple):
    """A resource on its way out; `body` is its JSON as stored, `person` the id of the Patient whose record it is in."""

    type: str
    id: str
    body: str
    person: str | None = None


async def included(
    connection: Connection, permit: Permit, query: Query, matches: Sequence[Found]
) -> tuple[list[Found], list[Issue]]:
    """What the matches bring along, each once and none of the matches, and what to tell the caller about it."""
    if not (query.include or query.revinclude):
        return [], []
    known = {(match.type, match.id): match for match in matches}
    notes: dict[str, Issue] = {}
    news, rounds = list(matches), 0
    while news:
        found = await _brought(connection, permit, query, news, known, notes, rounds > 0)
        room = len(matches) + MOST_ALONG - len(known)
        if len(found) > room:
            notes["along"] = _cut()
        news = found[:room]
        known |= {(each.type, each.id): each for each in news}
        rounds += 1
        if rounds > DEEPEST and news:
            notes["along"] = _cut()
            break
    return list(known.values())[len(matches) :], list(notes.values())


async def beside(
    fetch: Callable[[Iterable[tuple[str, str]]], Awaitable[list[Found]]], query: Query, matches: Sequence[Found]
) -> tuple[list[Found], list[Issue]]:
    """The same for a query that nothing is included by but `_include` without `:iterate`: `fetch` is all it asks."""
    known = {match[:2] for match in matches}
    named = dict.fromkeys(each for each in _wanted(query.include, matches) if each not in known)
    found = await fetch(named) if named else []
    return found[:MOST_ALONG], [_cut()] if len(found) > MOST_ALONG else []


async def _brought(
    connection: Connection,
    permit: Permit,
    query: Query,
    news: Sequence[Found],
    known: Mapping[tuple[str, str], Found],
    notes: dict[str, Issue],
    again: bool,
) -> list[Found]:
    """What one round brings: by everything that is asked for at first, then (`again`) by what is to be iterated."""
    wanted = [each for each in query.include if each.iterate or not again]
    named = dict.fromkeys(each for each in _wanted(wanted, news) if each not in known)
    found = await fetch(connection, permit, named)
    for each in wanted:
        if each.parameter.canonical:
            found += await _defined(connection, permit, each, news)
    for include in query.revinclude:
        targets = [each for each in news if include.target in (None, each.type)]
        if targets and (include.iterate or not again):
            referring = await _referring(connection, permit, include, targets)
            if len(referring) > MOST:
                notes[f"{include.source}:{include.parameter.name}"] = _note(include)
            found += referring[:MOST]
    return list({each[:2]: each for each in found if each[:2] not in known}.values())


async def fetch(connection: Connection, permit: Permit, wanted: Iterable[tuple[str, str]]) -> list[Found]:
    """The resources named by type and id that exist and may be seen, in the order of types and ids."""
    by_type: dict[str, list[str]] = {}
    for resource_type, id in wanted:
        if resource_type in HELD:
            by_type.setdefault(resource_type, []).append(id)
    if not by_type:
        return []
    types = tuple(sorted(by_type))
    made = once(("fetch", types, visibility.shape(permit)), lambda: _named(permit, types))
    asked = visibility.values(permit) | {f"ids_{each}": by_type[each] for each in types}
    return sorted(Found(*row) for row in await connection.fetch(made.sql, *made.arguments(asked)))


async def _referring(connection: Connection, permit: Permit, include: Include, matches: Sequence[Found]) -> list[Found]:
    name = include.parameter.name
    if include.parameter.canonical:
        urls = [orjson.loads(each.body).get("url") for each in matches]
        targets = [tokens.uri(name, each) for each in urls if each]
    else:
        targets = [tokens.plain_reference(name, f"{match.type}/{match.id}") for match in matches]
    return await _holding(connection, permit, include.source, name, targets, [match.id for match in matches])


async def _defined(connection: Connection, permit: Permit, include: Include, matches: Sequence[Found]) -> list[Found]:
    """The definitions that the matches name by their urls; of a version, where they name one."""
    asked = {
        each
        for match in matches
        if match.type == include.source
        for source in include.parameter.sources
        for each in canonicals(orjson.loads(match.body), source)
    }
    targets = [tokens.uri("url", url) for url, _ in asked]
    kinds = [each for each in include.parameter.targets if each in HELD and include.target in (None, each)]
    found = [row for each in kinds if targets for row in await _holding(connection, permit, each, "url", targets, [])]
    return [each for each in found if not asked.isdisjoint(_versions(each))]


def _versions(found: Found) -> Iterator[tuple[str, str]]:
    """How a definition may be named: by its url, and by that and its version."""
    body = orjson.loads(found.body)
    yield from ((body["url"], each) for each in ("", body.get("version", "")))


async def _holding(
    connection: Connection, permit: Permit, kind: str, name: str, targets: Sequence[int], ids: Sequence[str]
) -> list[Found]:
    """The resources of a type that have one of the tokens, which are the parameter's."""
    made = once(("revinclude", kind, name, visibility.shape(permit)), lambda: _naming(permit, kind, name))
    asked = visibility.values(permit) | {"targets": targets, "target_ids": ids}
    return [Found(*row) for row in await connection.fetch(made.sql, *made.arguments(asked))]


def _named(permit: Permit, types: Sequence[str]) -> SelectBase:
    """One branch for each type, because the type chooses the partition when the statement is planned."""
    branches = [
        _visible(permit, each, table).where(*among(table, bindparam(f"ids_{each}", type_=IDS, required=False)))
        for each in types
        for table in held(each)
    ]
    return union_all(*branches) if len(branches) > 1 else branches[0]


def _naming(permit: Permit, source: str, name: str) -> SelectBase:
    """Visits are looked through by whose they are, or by their id: no index has their references.

    In the order of an expression: by the id itself the plan for any values walks a whole type of a million in order,
    because it does not know how few refer to one (3.7 s in place of 0.6 ms).
    """
    targets = bindparam("targets", type_=TOKENS, required=False)
    found = []
    for table in held(source):
        referring = _visible(permit, source, table).where(table.c.tokens.overlap(targets))
        if table in RENDERED_AS:
            ids = bindparam("target_ids", type_=IDS, required=False)
            referring = referring.where(or_(table.c.patient == any_(ids), table.c.visit == any_(ids)))
        if visibility.withheld(source, name):
            referring = referring.where(visibility.whole(permit))
        found.append(referring.order_by(table.c.id.concat("")).limit(MOST + 1))
    if len(found) == 1:
        return found[0]
    every = union_all(*(each.subquery().select() for each in found)).subquery("every")
    return select(every).order_by(every.c.id).limit(MOST + 1)


def _visible(permit: Permit, resource_type: str, table: FromClause) -> Select[Any]:
    shown = visibility.body(permit, resource_type, table).label("body")
    return select(table.c.type, table.c.id, shown, table.c.patient).where(
        table.c.type == literal(resource_type, Text, literal_execute=True), visible(permit, "r", resource_type, table)
    )


def _wanted(include: Sequence[Include], matches: Sequence[Found]) -> Iterator[tuple[str, str]]:
    """What the matches refer to by the parameters asked for. Bodies are read for this alone, and sent as they were."""
    sources = {each.source for each in include}
    for match in matches:
        if match.type not in sources:
            continue
        body = orjson.loads(match.body)
        for each in include:
            if each.source == match.type:
                for source in each.parameter.sources:
                    yield from references(body, source, each.target)


def _note(include: Include) -> Issue:
    asked = f"{include.source}:{include.parameter.name}"
    return Issue(
        "incomplete",
        f"More than {MOST} resources refer to this page by {asked}: search {include.source} for the rest",
        severity="warning",
    )


def _cut() -> Issue:
    return Issue(
        "incomplete",
        f"More comes along than {MOST_ALONG} resources or {DEEPEST} steps: ask for shorter pages, or for the rest",
        severity="warning",
    )
