"""Pages by key: where the last one ended, never how many rows to pass over.

A cursor says the sort keys and the id of the last match, for the very search it came from: another search, or a
changed character, is refused. Rows that others add meanwhile move nothing; a match is on one page and no other.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Select, Text, and_, bindparam, cast, or_

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.query import Query, Sort
from fhirgw.store.schema import resource

SPELT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00", re.ASCII)
"""An instant as PostgreSQL spells it in a session of ours, whose time zone is UTC."""

CHECK = 9
"""Bytes of the digest that ties a cursor to its search."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The sort keys of the last match, as PostgreSQL spells them (None: no date), at the end its id; and the total.

    Spelt, because drivers know no infinity and round what they cannot hold: a key must come back as it was.
    """

    keys: tuple[str | None, ...]
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One column of the order. Resources without the date come last, whichever way it goes."""

    column: ColumnElement[Any]
    descending: bool = False
    nullable: bool = False

    @property
    def order(self) -> ColumnElement[Any]:
        """What ORDER BY says."""
        way = self.column.desc() if self.descending else self.column.asc()
        return way.nulls_last() if self.nullable else way

    @property
    def spelt(self) -> ColumnElement[str]:
        """What a page selects to make its cursor of."""
        return cast(self.column, Text)

    def bind(self, name: str) -> ColumnElement[Any]:
        """A parameter with a key as it was spelt."""
        return cast(bindparam(name, type_=Text, required=False), self.column.type)

    def past(self, bind: ColumnElement[Any]) -> ColumnElement[bool]:
        """Strictly further on than a value that is not null."""
        further = self.column < bind if self.descending else self.column > bind
        return or_(further, self.column.is_(None)) if self.nullable else further


def keys(sort: Sequence[Sort]) -> tuple[Key, ...]:
    """The columns of an order; the id ends it and makes it total, and is the whole order of a search without one."""
    found: list[Key] = []
    for each in sort:
        if each.parameter.name == "_id":
            return (*found, Key(resource.c.id, each.descending))
        slot = each.parameter.slot
        column = resource.c.updated if slot is None else resource.c[f"date{slot}_low"]
        found.append(Key(column, each.descending, slot is not None))
    return (*found, Key(resource.c.id))


def after(order: Sequence[Key], cursor: Cursor) -> ColumnElement[bool]:
    """The condition for what comes after the cursor, with parameters `key0`, `key1` …"""
    binds = [key.bind(f"key{at}") for at, key in enumerate(order)]
    steps: list[ColumnElement[bool]] = []
    for at, key in enumerate(order):
        if cursor.keys[at] is None:
            continue
        same = (
            order[before].column.is_(None) if cursor.keys[before] is None else order[before].column == binds[before]
            for before in range(at)
        )
        steps.append(and_(*same, key.past(binds[at])))
    return or_(*steps)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the order that an index can be read along: what has a date first, then what has none.

    As one, an order with NULLS LAST would have to be sorted whole for every page. `dated` says which part it is, None
    for an order that needs no parts.
    """

    order: tuple[Key, ...]
    cursor: Cursor | None = None
    dated: bool | None = None

    @property
    def shape(self) -> Hashable:
        """What the SQL of the stretch depends on besides its search."""
        return self.dated, self.cursor and tuple(key is None for key in self.cursor.keys)

    def build(self, page: Select[Any]) -> Select[Any]:
        """The page, of what is in the stretch and after the cursor, in order."""
        first, *others = self.order
        order = (
            tuple(others)
            if self.dated is False
            else (replace(first, nullable=first.nullable and self.dated is None), *others)
        )
        if self.dated is not None:
            page = page.where(first.column.is_not(None) if self.dated else first.column.is_(None))
        if self.cursor is not None:
            page = page.where(after(order, self.cursor))
        return page.order_by(*(key.order for key in order))

    def values(self) -> dict[str, Any]:
        """The parameters it adds."""
        return {f"key{at}": key for at, key in enumerate(self.cursor.keys)} if self.cursor else {}


def stretches(order: tuple[Key, ...], cursor: Cursor | None, all_dated: bool) -> Iterator[Stretch]:
    """What is still to come of an order, in parts to be read one after another.

    `all_dated`: the search itself asks for the date it is sorted by, so that nothing without one can match.
    """
    if not order[0].nullable:
        yield Stretch(order, cursor)
        return
    if cursor is None or cursor.keys[0] is not None:
        yield Stretch(order, cursor, dated=True)
        cursor = None
    if not all_dated:
        yield Stretch(order, cursor and Cursor(cursor.keys[1:]), dated=False)


def write(query: Query, cursor: Cursor, permit: Permit) -> str:
    """The cursor as the text of a link, for whoever got the page: its total is of what they may see."""
    payload = orjson.dumps([cursor.total, cursor.keys])
    return base64.urlsafe_b64encode(_check(query, payload, permit) + payload).rstrip(b"=").decode()


def read(query: Query, permit: Permit) -> Cursor | None:
    """The cursor of a request. Raises FhirError(invalid) for one that did not come from this search of theirs."""
    if query.cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(query.cursor.encode() + b"=" * (-len(query.cursor) % 4))
        if _check(query, raw[CHECK:], permit) != raw[:CHECK]:
            raise ValueError
        return _cursor(orjson.loads(raw[CHECK:]), len(keys(query.sort)))
    except (ValueError, TypeError, OverflowError):
        raise FhirError(
            Issue("invalid", "_cursor is not one of this search: follow the next link, or begin again")
        ) from None


def _cursor(spelt: Any, length: int) -> Cursor:
    """Trusted no more than any input: the digest says where it came from only to those who wish us well."""
    total, (*before, id) = spelt
    if not (
        isinstance(id, str) and id.isprintable() and (total is None or type(total) is int) and len(before) + 1 == length
    ):
        raise ValueError
    for each in before:
        if each not in (None, "infinity", "-infinity"):
            if not SPELT.fullmatch(each):
                raise ValueError
            datetime.fromisoformat(each)
    return Cursor((*before, id), total)


def _check(query: Query, payload: bytes, permit: Permit) -> bytes:
    """What ties a cursor to its search: who asks, and everything asked but the page's length and place."""
    caller = [permit.organisation, permit.registration, permit.purpose, permit.patient, permit.practitioner]
    asked = [
        caller,
        sorted(map(str, permit.scopes)),
        query.type,
        *sorted(pair for pair in query.applied if pair[0] not in ("_cursor", "_count")),
    ]
    return sha256(orjson.dumps(asked) + payload).digest()[:CHECK]
