"""What a search sends along: resources that its matches refer to, and resources that refer to its matches.

One level, and no more than MOST of those that refer here: a note says so when there were more.
https://hl7.org/fhir/R4/search.html#include
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Select, Text, any_, bindparam, literal, select, union_all
from sqlalchemy.sql.selectable import SelectBase

from fhirgw.access.permit import Permit
from fhirgw.fhir import tokens
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.parameters import HELD, Source
from fhirgw.fhir.query import Include, Query
from fhirgw.store import visibility
from fhirgw.store.criterion import IDS, TOKENS
from fhirgw.store.database import Connection, once
from fhirgw.store.schema import resource
from fhirgw.store.visibility import visible

MOST = 1000
"""Resources referring to the matches of one page, for each `_revinclude`."""

LOCAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/.*)?", re.ASCII)


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
    known = {(match.type, match.id) for match in matches}
    wanted = dict.fromkeys(each for each in _wanted(query, matches) if each not in known)
    found = await fetch(connection, permit, wanted)
    notes: list[Issue] = []
    for include in query.revinclude if matches else ():
        referring = await _referring(connection, permit, include, matches)
        if len(referring) > MOST:
            notes.append(_note(include))
        found += referring[:MOST]
    return list({(each.type, each.id): each for each in found if each[:2] not in known}.values()), notes


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
    targets = [tokens.plain_reference(name, f"{match.type}/{match.id}") for match in matches]
    shape = ("revinclude", include.source, name, visibility.shape(permit))
    made = once(shape, lambda: _naming(permit, include.source, name))
    asked = visibility.values(permit) | {"targets": targets}
    return [Found(*row) for row in await connection.fetch(made.sql, *made.arguments(asked))]


def _named(permit: Permit, types: Sequence[str]) -> SelectBase:
    """One branch for each type, because the type chooses the partition when the statement is planned."""
    branches = [
        _visible(permit, each).where(resource.c.id == any_(bindparam(f"ids_{each}", type_=IDS, required=False)))
        for each in types
    ]
    return union_all(*branches) if len(branches) > 1 else branches[0]


def _naming(permit: Permit, source: str, name: str) -> SelectBase:
    targets = bindparam("targets", type_=TOKENS, required=False)
    found = _visible(permit, source).where(resource.c.tokens.overlap(targets))
    if visibility.withheld(source, name):
        found = found.where(visibility.whole(permit))
    return found.order_by(resource.c.id).limit(MOST + 1)


def _visible(permit: Permit, resource_type: str) -> Select[Any]:
    return select(resource.c.type, resource.c.id, visibility.body(permit, resource_type), resource.c.patient).where(
        resource.c.type == literal(resource_type, Text, literal_execute=True), visible(permit, "r", resource_type)
    )


def _wanted(query: Query, matches: Sequence[Found]) -> Iterator[tuple[str, str]]:
    """What the matches refer to by the parameters asked for. Bodies are read for this alone, and sent as they were."""
    for match in matches if query.include else ():
        body = orjson.loads(match.body)
        for include in query.include:
            for source in include.parameter.sources:
                yield from _references(body, source, include.target)


def _references(body: Any, source: Source, target: str | None) -> Iterator[tuple[str, str]]:
    for value in _at(body, [element.name for element in source.path]):
        spelt = value.get("reference") if isinstance(value, dict) else value
        local = LOCAL.fullmatch(spelt) if isinstance(spelt, str) else None
        if local and local[1] in (source.only_type or local[1], "Resource") and target in (None, local[1]):
            yield local[1], local[2]


def _at(value: Any, names: Sequence[str]) -> Iterator[Any]:
    """The values at a path of property names, through every list on the way."""
    if isinstance(value, list):
        for each in value:
            yield from _at(each, names)
    elif not names:
        yield value
    elif isinstance(value, dict) and names[0] in value:
        yield from _at(value[names[0]], names[1:])


def _note(include: Include) -> Issue:
    asked = f"{include.source}:{include.parameter.name}"
    return Issue(
        "incomplete",
        f"More than {MOST} resources refer to this page by {asked}: search {include.source} for the rest",
        severity="warning",
    )
