"""The one SELECT of a search: everything of a type that meets the criteria and that the caller may see.

As of now, or as of an earlier snapshot: current rows whose version was there, and superseded ones that were current
then. Who may see them is always a matter of now.

Long, because every way to spell it has to give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.type_api import UserDefinedType
from sqlalchemy.types import TypeEngine

from fhirgw.access.permit import Permit
from fhirgw.fhir.criterion import Chain, Codes, Criterion, Every, Has, Ids, Missing, Some, Tokens
from fhirgw.fhir.parameters import compartment
from fhirgw.fhir.query import Query
from fhirgw.store import rendered, visibility
from fhirgw.store.criterion import Plain, Term, names, terms
from fhirgw.store.membership import is_membership
from fhirgw.store.schema import PAST, RENDERED_AS, held, resource, superseded
from fhirgw.store.visibility import visible

Columns: TypeAlias = "Callable[[FromClause], Sequence[Any]]"
Asked: TypeAlias = "Callable[[str, TypeEngine[Any]], ColumnElement[Any]]"
Condition: TypeAlias = "ColumnElement[bool]"


class Way(Enum):
    """How a page is read of what is stored, in the order of ids, by one plan whatever it is asked for.

    ALONG the ids until it is full, passing over what does not match; or all that matches is put in ORDER before it is
    judged who may see it, which is then asked of no more than fill the page (2 us each, of some hundreds).
    """

    ALONG = "along"
    ORDER = "order"


class Snapshot(UserDefinedType[str]):
    """Which transactions had ended: https://www.postgresql.org/docs/15/functions-info.html#FUNCTIONS-PG-SNAPSHOT"""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """How SQL names the type."""
        return "pg_snapshot"


@dataclass(frozen=True, slots=True)
class Matching:
    """What matches, as a statement (`select`), what tells it from other statements (`shape`), and its parameters.

    `whole`: it is asked by something that is withheld of some, who are not found by it. `snapshot`: as of when, None
    for now. `at` sets the parameters of one type's matching apart from another's in one statement. `lists`: of lists of
    people, those that name one of these whom the permit shows (tokens), or anybody (True) or nobody (False) of them.
    `of_visits`: of a type that visits are rendered as, whether they may match at all; `costly`: only by rendering
    visit after visit (fhirgw.store.rendered). `way`: how what is stored is read, if that is settled (Way).
    """

    permit: Permit
    type: str
    terms: tuple[Term, ...]
    whole: bool = False
    snapshot: str | None = None
    at: str = ""
    lists: tuple[tuple[int, ...] | bool, ...] = ()
    of_visits: bool = True
    costly: bool = False
    way: Way | None = None

    @classmethod
    def of(
        cls,
        permit: Permit,
        resource_type: str,
        criteria: Sequence[Plain],
        snapshot: str | None = None,
        asked: Sequence[str] = (),
    ) -> Matching:
        """The resources of the type that meet all criteria and that the permit lets one search.

        `asked` names parameters that what matches is looked at by besides.
        """
        every = [*asked, *(each.name for one in criteria if not isinstance(one, Ids) for each in names(one))]
        whole = any(visibility.withheld(resource_type, name) for name in every)
        lists = tuple(_listing(each) for each in criteria if is_membership(each.parameter))
        plain = [each for each in criteria if not (isinstance(each, Missing) and is_membership(each.parameter))]
        every_term = tuple(terms(resource_type, plain))
        may = rendered.may_match(resource_type, plain)
        costly = may and rendered.costly(resource_type, plain)
        return cls(permit, resource_type, every_term, whole, snapshot, "", lists, may, costly)

    def apart(self, number: int) -> Matching:
        """The same with parameters of its own, to stand beside others in one statement."""
        return replace(self, at=f"{number}_")

    @property
    def shape(self) -> Hashable:
        """Equal for searches that differ in values alone."""
        told = tuple(term.shape for term in self.terms)
        lists = tuple(each if isinstance(each, bool) else None for each in self.lists)
        own = self.type, self.whole, self.of_visits, self.snapshot is None, self.at, self.way
        return *own, visibility.shape(self.permit), told, lists

    def values(self) -> dict[str, Any]:
        """The parameters of `select`, by name."""
        every = (value for term in self.terms for value, _ in term.values)
        found = visibility.values(self.permit) | {f"v{self.at}{at}": value for at, value in enumerate(every)}
        found |= {f"m{self.at}{at}": each for at, each in enumerate(self.lists) if not isinstance(each, bool)}
        return found if self.snapshot is None else found | {"snapshot": self.snapshot}

    def ordered(self, order: Callable[[FromClause], Sequence[ColumnElement[Any]]]) -> tuple[FromClause, Matching]:
        """What is stored and meets the criteria, in an order, as a table; and what is left to be asked of its rows.

        OFFSET keeps PostgreSQL from asking that of all of them before they are in order.
        """
        typed = resource.c.type == literal(self.type, Text, literal_execute=True)
        every = select(resource).where(typed, *self._conditions(resource, _parameter)).order_by(*order(resource))
        return every.offset(literal_column("0")).subquery("ordered"), replace(self, terms=(), lists=())

    def met(self, table: FromClause) -> Condition:
        """That a row of a table meets the criteria, and no more; their values are part of the statement."""
        each = (one.build(table, [literal(value, kind) for value, kind in one.values]) for one in self.terms)
        lists = self._lists(table, lambda at: literal(self.lists[at], ARRAY(BigInteger)))
        return and_(true(), *each, *lists, *([visibility.whole(self.permit, table)] if self.whole else []))

    @property
    def everywhere(self) -> tuple[FromClause, ...]:
        """Where it is and was."""
        most = None if self.of_visits else 1
        return held(self.type)[:most] + superseded(self.type)[:most]

    @property
    def tables(self) -> tuple[FromClause, ...]:
        """Where what matches is: the rows of now, and those of before as of an earlier snapshot."""
        return tuple(each for each in self.everywhere if self.snapshot is not None or each not in PAST)

    def select(
        self,
        *columns: Any,
        table: FromClause = resource,
        source: FromClause | None = None,
        asked: Asked | None = None,
        every: bool = False,
    ) -> Select[Any]:
        """The columns of what matches in a table (`source`: it and what is joined to it).

        The type is in the SQL itself, because it chooses the partition to plan for. `asked` gives the value of a
        parameter where it is not one of the statement's own. `every`: all that matches will be read, not a page of it.
        """
        typed = table.c.type == literal(self.type, Text, literal_execute=True)
        found = select(*columns).select_from(table if source is None else source)
        found = found.where(typed, visible(self.permit, "s", self.type, table, bulk=every and self.permit.broad))
        if self.whole:
            found = found.where(visibility.whole(self.permit, table))
        if self.snapshot is not None:
            found = found.where(*as_of(table))
        for condition in self._conditions(table, asked or _parameter):
            found = found.where(condition)
        return found

    def _conditions(self, table: FromClause, asked: Asked) -> Iterator[Condition]:
        at, walked = 0, self.way is Way.ALONG and table not in RENDERED_AS
        for term in self.terms:
            binds = [asked(f"v{self.at}{at + offset}", kind) for offset, (_, kind) in enumerate(term.values)]
            built = term.build(table, binds)
            yield func.coalesce(built, false()) if walked else built  # which no index has
            at += len(binds)
        yield from self._lists(table, lambda at: asked(f"m{self.at}{at}", ARRAY(BigInteger)))

    def _lists(self, table: FromClause, sought: Callable[[int], ColumnElement[Any]]) -> Iterator[Condition]:
        for at, each in enumerate(self.lists):
            if isinstance(each, bool):
                some = visibility.names(self.permit, table)
                yield some if each else not_(some)
            else:
                yield visibility.names(self.permit, table, sought(at))


def _parameter(name: str, kind: TypeEngine[Any]) -> ColumnElement[Any]:
    return bindparam(name, type_=kind, required=False)


def _listing(criterion: Plain) -> tuple[int, ...] | bool:
    """Whom a criterion on a list's members is about: tokens; or whether there are to be any."""
    if isinstance(criterion, Missing):
        return not criterion.missing
    assert isinstance(criterion, Tokens)  # of a reference there are no others
    return criterion.any_of


def as_of(table: FromClause) -> Iterator[Condition]:
    """That a version was current as of the snapshot, the parameter `snapshot`."""
    yield ended(table.c.transaction)
    if table in PAST:
        yield not_(table.c.deleted)
        yield table.c.superseded >= func.pg_snapshot_xmin(_snapshot())
        yield not_(ended(table.c.superseded))


def ended(transaction: ColumnElement[Any]) -> Condition:
    """That a transaction had ended as of the snapshot, the parameter `snapshot`.

    A transaction that this server has not come to yet is from its life before a restore: long ended.
    """
    ahead = transaction >= func.pg_snapshot_xmax(func.pg_current_snapshot())
    return or_(func.pg_visible_in_snapshot(transaction, _snapshot()), ahead)


def _snapshot() -> ColumnElement[Any]:
    return cast(bindparam("snapshot", type_=Text, required=False), Snapshot)


def few(query: Query) -> bool:
    """Whether a search finds few resources by what it asks: one person's record, one identifier's, those of some ids.

    One plan suits all of its values, and making it anew would take as long as the search itself.
    """
    if any(isinstance(each, Tokens) and each.person for each in query.criteria):
        return not query.others
    return not query.sort and not query.others and any(_names(query.type, each) for each in query.criteria)


def alone(query: Query) -> bool:
    """Whether one statement answers a search of few, if they are no more than a page; and another what comes along."""
    iterated = any(each.iterate or each.parameter.canonical for each in query.include)
    plain = not (iterated or query.revinclude or query.cursor or query.explain or query.anything)
    return plain and query.count > 0 and _direct(query) and few(query)


def single(query: Query) -> bool:
    """Whether one statement answers a search whatever it finds: nothing comes along, and no total is to be counted."""
    plain = not (query.include or query.revinclude or query.explain)
    counted = query.cursor is None and query.total != "none"
    return plain and not counted and query.count > 0 and _direct(query) and _unsorted(query)


def _direct(query: Query) -> bool:
    """Whether nothing is to be looked up before."""
    every = [each for _, criteria in query.parts for each in criteria]
    return not any(isinstance(each, Chain | Has | Codes | Every | Some) for each in every)


def _unsorted(query: Query) -> bool:
    """Whether every match has a value of what it is sorted by: others come last, by a statement of their own."""
    return not query.sort or query.sort[0].parameter.name in ("_id", "_lastUpdated")


def _names(resource_type: str, criterion: Criterion) -> bool:
    if isinstance(criterion, Ids):
        return True
    named = ("identifier", "patient", *compartment(resource_type))
    return isinstance(criterion, Tokens) and not criterion.negated and criterion.parameter.name in named
