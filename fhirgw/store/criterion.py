"""A search criterion as SQL: a Term is what the statement looks like, and apart from it the values that go in.

Two requests of one shape share one statement, built and prepared once; so a Term never puts a value into its SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    FromClause,
    Text,
    and_,
    any_,
    func,
    literal,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.types import TypeEngine

from fhirgw.fhir.criterion import Dates, Ids, Strings, Tokens
from fhirgw.fhir.dates import BEGINNING, END, Span
from fhirgw.store.schema import search_string

Plain: TypeAlias = "Tokens | Strings | Dates | Ids"
Condition: TypeAlias = "ColumnElement[bool]"
Instant: TypeAlias = "ColumnElement[Any]"
Binds: TypeAlias = "Sequence[BindParameter[Any]]"
Build: TypeAlias = "Callable[[FromClause, Binds], Condition]"

TOKENS = ARRAY(BigInteger)
IDS = ARRAY(Text)
INSTANT = TIMESTAMP(timezone=True)
LAST = "\U0010ffff"
"""Sorts after every character that a name holds: a prefix and this bound the strings that start with the prefix."""


@dataclass(frozen=True, slots=True)
class Term:
    """`build(table, binds)` is the condition on a table of resources; `values` are its parameters with their types."""

    shape: Hashable
    values: tuple[tuple[Any, TypeEngine[Any]], ...]
    build: Build


def terms(resource_type: str, criteria: Sequence[Plain]) -> Iterator[Term]:
    """The terms of a search, all of which must hold; chains are worked out before (fhirgw.store.chain)."""
    demanded = [each.any_of[0] for each in criteria if isinstance(each, Tokens) and _single(each)]
    if demanded:
        yield Term("all tokens", ((demanded, TOKENS),), lambda table, binds: table.c.tokens.contains(binds[0]))
    for each in criteria:
        if not (isinstance(each, Tokens) and _single(each)):
            yield term(resource_type, each)


def term(resource_type: str, criterion: Plain) -> Term:
    """One criterion on resources of one type."""
    match criterion:
        case Tokens():
            return _tokens(criterion)
        case Strings():
            return _strings(resource_type, criterion)
        case Dates():
            return _dates(criterion)
        case Ids():
            return Term("ids", ((list(criterion.values), IDS),), lambda table, binds: table.c.id == any_(binds[0]))


def _single(criterion: Tokens) -> bool:
    """One token that must be there: all such make one containment, which the index answers at once."""
    return len(criterion.any_of) == 1 and not criterion.negated


def _tokens(criterion: Tokens) -> Term:
    def build(table: FromClause, binds: Binds) -> Condition:
        found = _overlap(table, binds[0])
        return not_(found) if criterion.negated else found

    return Term(("tokens", criterion.negated), ((list(criterion.any_of), TOKENS),), build)


def _overlap(table: FromClause, tokens: ColumnElement[Any]) -> Condition:
    found: Condition = table.c.tokens.overlap(tokens)
    return found


def _strings(resource_type: str, criterion: Strings) -> Term:
    name, contains = criterion.parameter.name, criterion.contains

    def matches(bind: BindParameter[Any]) -> Condition:
        if contains:
            return func.strpos(search_string.c.value, bind) > 0
        return and_(search_string.c.value >= bind, search_string.c.value < bind.concat(LAST))

    def build(table: FromClause, binds: Binds) -> Condition:
        found = select(search_string.c.id).where(
            search_string.c.type == literal(resource_type, Text, literal_execute=True),
            search_string.c.param == literal(name, Text, literal_execute=True),
            or_(*(matches(bind) for bind in binds)),
        )
        return table.c.id.in_(found)

    return Term(
        ("strings", name, contains, len(criterion.values)),
        tuple((value, Text()) for value in criterion.values),
        build,
    )


def _dates(criterion: Dates) -> Term:
    slot = criterion.parameter.slot
    prefixes = tuple(prefix for prefix, _ in criterion.values)
    spans = [_about(span) if prefix == "ap" else span for prefix, span in criterion.values]

    def build(table: FromClause, binds: Binds) -> Condition:
        ends = iter(binds)
        kept = _Point(table.c.updated) if slot is None else _Span(table, slot)
        return or_(*(COMPARE[prefix](kept, next(ends), next(ends)) for prefix in prefixes))

    values = tuple((instant, INSTANT) for span in spans for instant in span)
    return Term(("dates", slot, prefixes), values, build)


def _about(span: Span) -> Span:
    """A span as wide again on both sides: `ap2025-03` is February to April. R4 leaves the measure to the server."""
    low, high = span
    width = high - low
    return _not_before(low, width), _not_after(high, width)


def _not_before(instant: datetime, width: timedelta) -> datetime:
    return instant - width if instant - BEGINNING > width else BEGINNING


def _not_after(instant: datetime, width: timedelta) -> datetime:
    return instant + width if END - instant > width else END


class _Span:
    """The two columns of a date slot: from `low` to just before `high`."""

    def __init__(self, table: FromClause, slot: int) -> None:
        self.low: ColumnElement[Any] = table.c[f"date{slot}_low"]
        self.high: ColumnElement[Any] = table.c[f"date{slot}_high"]

    def begins_before(self, instant: Instant) -> Condition:
        return self.low < instant

    def begins_from(self, instant: Instant) -> Condition:
        return self.low >= instant

    def ends_after(self, instant: Instant) -> Condition:
        return self.high > instant

    def ends_by(self, instant: Instant) -> Condition:
        return self.high <= instant


class _Point(_Span):
    """A column that is one instant, and so ends just after itself."""

    def __init__(self, column: ColumnElement[Any]) -> None:
        self.low = column

    def ends_after(self, instant: Instant) -> Condition:
        return self.low >= instant

    def ends_by(self, instant: Instant) -> Condition:
        return self.low < instant


def _within(kept: _Span, low: Instant, high: Instant) -> Condition:
    # That it begins before `high` follows; saying so bounds the index scan on both sides.
    return and_(kept.begins_from(low), kept.begins_before(high), kept.ends_by(high))


COMPARE: dict[str, Callable[[_Span, Instant, Instant], Condition]] = {
    "eq": _within,
    "ne": lambda kept, low, high: or_(kept.begins_before(low), kept.ends_after(high)),
    "gt": lambda kept, low, high: kept.ends_after(high),
    "lt": lambda kept, low, high: kept.begins_before(low),
    "ge": lambda kept, low, high: or_(kept.ends_after(high), _within(kept, low, high)),
    "le": lambda kept, low, high: or_(kept.begins_before(low), _within(kept, low, high)),
    "sa": lambda kept, low, high: kept.begins_from(high),
    "eb": lambda kept, low, high: kept.ends_by(low),
    "ap": lambda kept, low, high: and_(kept.begins_before(high), kept.ends_after(low)),
}
"""R4's prefixes: how what is kept compares with the span asked for, [low, high).
https://hl7.org/fhir/R4/search.html#prefix"""
