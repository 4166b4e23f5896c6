"""What changed: the versions of one resource, of a type, or of everything, the newest first.

Each version is judged by the same condition as the resource itself, so a history tells nobody of what they may not see.
Of one instance it needs the scope to read; of a type or of everything, the one to search, as SMART has it.
https://hl7.org/fhir/R4/http.html#history
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    FromClause,
    Integer,
    Select,
    Text,
    bindparam,
    exists,
    false,
    func,
    literal,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from fhirgw.access.permit import Permit
from fhirgw.fhir.dates import Span
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import visibility
from fhirgw.store.database import Connection, once
from fhirgw.store.schema import PAST, held, identified, same, superseded, versions
from fhirgw.store.seal import sealed, unsealed
from fhirgw.store.visibility import visible

PAGE = 50
MOST = 1000
INSTANT = TIMESTAMP(timezone=True)


class Version(NamedTuple):
    """A version of a resource; `deleted` true for the tombstone that ends it."""

    type: str
    id: str
    body: str
    version: int
    updated: datetime
    deleted: bool
    person: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """Of what: a type, an instance of it, or everything. `at`: what was current in that span of time."""

    type: str | None = None
    id: str | None = None
    since: datetime | None = None
    at: Span | None = None
    count: int = PAGE
    cursor: str | None = None

    @property
    def verb(self) -> str:
        """The letter of the scope it takes."""
        return "r" if self.id is not None else "s"

    @property
    def question(self) -> list[Any]:
        """What a cursor is tied to."""
        return ["history", self.type, self.id, self.since, *(self.at or ())]


@dataclass(frozen=True, slots=True)
class Page:
    """Versions in their order, how many there are in all where that is known, and the cursor of the next page."""

    versions: list[Version] = field(default_factory=list)
    total: int | None = None
    next: str | None = None


async def changes(connection: Connection, permit: Permit, asked: Asked) -> Page:
    """One page; an empty one for an instance that is absent. Raises FhirError: forbidden, invalid."""
    _allowed(permit, asked)
    place = _place(asked, permit)
    shape = ("history", asked.type, asked.id is None, asked.since is None, asked.at is None, place is None)
    made = once((*shape, visibility.shape(permit)), lambda: _page(permit, asked, place is not None))
    values = _values(permit, asked) | (place or {}) | {"most": asked.count + 1}
    rows = [Version(*row) for row in await connection.fetch(made.sql, *made.arguments(values))]
    if len(rows) <= asked.count:
        return Page(rows, len(rows) if place is None else None)
    last = rows[asked.count - 1]
    return Page(rows[: asked.count], None, sealed([last.updated, *last[:2], last.version], permit, asked.question))


async def counted(connection: Connection, permit: Permit, asked: Asked) -> int:
    """How many versions there are of what is asked. Raises FhirError(forbidden)."""
    _allowed(permit, asked)
    shape = ("history count", asked.type, asked.id is None, asked.since is None, asked.at is None)
    made = once((*shape, visibility.shape(permit)), lambda: select(func.count()).select_from(_all(permit, asked)))
    return int(await connection.fetchval(made.sql, *made.arguments(_values(permit, asked))))


def _allowed(permit: Permit, asked: Asked) -> None:
    if asked.type is not None:
        permit.require(asked.verb, asked.type)
    elif not any("s" in scope.verbs for scope in permit.scopes):
        raise FhirError(Issue("forbidden", "No scope of this token allows search, which the history of all takes"))


def _place(asked: Asked, permit: Permit) -> dict[str, Any] | None:
    if asked.cursor is None:
        return None
    try:
        updated, kind, id, version = unsealed(asked.cursor, permit, asked.question)
        moment = datetime.fromisoformat(updated)
        if moment.tzinfo is None or not (isinstance(kind, str) and isinstance(id, str) and type(version) is int):
            raise ValueError
    except (ValueError, TypeError):
        raise FhirError(Issue("invalid", "_cursor is not one of this history: begin again without it")) from None
    return {"at_updated": moment, "at_type": kind, "at_id": id, "at_version": version}


def _values(permit: Permit, asked: Asked) -> dict[str, Any]:
    low, high = asked.at or (None, None)
    return visibility.values(permit) | {"id": asked.id, "since": asked.since, "low": low, "high": high}


def _page(permit: Permit, asked: Asked, placed: bool) -> Select[Any]:
    """The page, of as much from each table as a page may need: in its own order, which an index can be read along."""
    every = union_all(*_branches(permit, asked, placed)).subquery("every")
    return select(every).order_by(*(each.desc() for each in _key(every.c))).limit(_bind("most", Integer()))


def _branches(permit: Permit, asked: Asked, placed: bool) -> Iterator[Select[Any]]:
    for table in (*held(asked.type), *superseded(asked.type)):
        found, key = _of(permit, asked, table), _key(table.c)
        if placed:
            kinds = {"updated": INSTANT, "type": Text(), "id": Text(), "version": Integer()}
            found = found.where(tuple_(*key) < tuple_(*(_bind(f"at_{name}", kind) for name, kind in kinds.items())))
        yield found.order_by(*(each.desc() for each in key)).limit(_bind("most", Integer())).subquery().select()


def _key(columns: Any) -> tuple[ColumnElement[Any], ...]:
    return columns.updated, columns.type, columns.id, columns.version


def _all(permit: Permit, asked: Asked) -> Any:
    both: CompoundSelect[Any] = union_all(
        *(_of(permit, asked, table) for table in (*held(asked.type), *superseded(asked.type)))
    )
    return both.subquery("every")


def _of(permit: Permit, asked: Asked, table: Any) -> Select[Any]:
    """The versions in one of the tables; the type as a literal, because it chooses the partition."""
    deleted = table.c.deleted if table in PAST else false()
    shown = visibility.body(permit, asked.type, table).label("body")
    columns = (table.c.type, table.c.id, shown, table.c.version, table.c.updated, deleted.label("deleted"))
    found = select(*columns, table.c.patient).where(visible(permit, asked.verb, asked.type, table))
    if asked.type is not None:
        found = found.where(table.c.type == literal(asked.type, Text, literal_execute=True))
    if asked.id is not None:
        found = found.where(*identified(table, _bind("id", Text())))
    if asked.since is not None:
        found = found.where(table.c.updated >= _bind("since", INSTANT))
    if asked.at is not None:
        found = found.where(table.c.updated < _bind("high", INSTANT))
        for later in versions(table):
            found = found.where(~_superseded(table, later.alias("later")))
        if table in PAST:
            found = found.where(~table.c.deleted | (table.c.updated >= _bind("low", INSTANT)))
    return found


def _superseded(table: FromClause, later: FromClause) -> ColumnElement[bool]:
    """Whether a later version took over before the span began: of what is seen, every later version is seen too."""
    newer = (*same(later, table), later.c.version > table.c.version)
    return exists().where(*newer, later.c.updated <= _bind("low", INSTANT)).correlate(table)


def _bind(name: str, kind: Any) -> Any:
    return bindparam(name, type_=kind, required=False)
