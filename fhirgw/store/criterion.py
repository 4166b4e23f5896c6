"""A search criterion as SQL: a Term is what the statement looks like, and apart from it the values that go in.

Two requests of one shape share one statement, built and prepared once; so a Term never puts a value into its SQL. A
Term's condition is on current resources or on superseded versions alike: what is kept beside the row of the one is
kept in the row of the other (fhirgw.store.side). Long because there is a Term for each kind of criterion.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Text,
    and_,
    cast,
    exists,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

from fhirgw.fhir.criterion import Dates, Every, Ids, Missing, Numbers, Some, Strings, Texts, Tokens
from fhirgw.fhir.parameters import Parameter
from fhirgw.fhir.values import TEXTS, Asked
from fhirgw.store import rendered
from fhirgw.store.comparing import COMPARE, INSTANT, NUMBERS, Point, Range, about, nearly
from fhirgw.store.schema import RENDERED, among
from fhirgw.store.side import any_number, any_span, any_string

Plain: TypeAlias = "Tokens | Strings | Dates | Numbers | Missing | Texts | Ids | Every | Some"
Condition: TypeAlias = "ColumnElement[bool]"
Binds: TypeAlias = "Sequence[ColumnElement[Any]]"
Build: TypeAlias = "Callable[[FromClause, Binds], Condition]"

TOKENS = ARRAY(BigInteger)
IDS = ARRAY(Text)
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
    if demanded and resource_type in RENDERED:
        yield _demanded([each for each in criteria if isinstance(each, Tokens) and _single(each)])
    elif demanded:
        yield Term("all tokens", ((demanded, TOKENS),), lambda table, binds: table.c.tokens.contains(binds[0]))
    for person in [each.person for each in criteria if isinstance(each, Tokens) and each.person]:
        # Said twice, because of this the planner knows how few have it, whoever it is.
        yield Term("person", ((person, Text()),), lambda table, binds: table.c.patient == binds[0])
    for each in criteria:
        if not (isinstance(each, Tokens) and _single(each)):
            yield term(resource_type, each)


def term(resource_type: str, criterion: Any) -> Term:
    """One criterion on resources of one type."""
    match criterion:
        case Tokens():
            return _tokens(criterion)
        case Strings():
            return _strings(resource_type, criterion)
        case Dates():
            return _dates(resource_type, criterion)
        case Numbers():
            return _numbers(resource_type, criterion)
        case Missing():
            return _missing(criterion)
        case Texts():
            return _texts(criterion)
        case Every() | Some():
            return _joined(resource_type, criterion)
        case Ids():
            return Term("ids", ((list(criterion.values), IDS),), lambda table, binds: and_(*among(table, binds[0])))
    raise TypeError(f"{type(criterion).__name__} is no plain criterion: see fhirgw.store.chain")


def _demanded(criteria: Sequence[Tokens]) -> Term:
    """The same of a type that visits are rendered as: those are found by columns of their own, as far as that goes."""
    hints = [each for one in criteria for each in rendered.hints(one)]
    rest = [each.any_of[0] for each in criteria if not rendered.implied(each)]

    def build(table: FromClause, binds: Binds) -> Condition:
        if "visit" not in table.c:
            return table.c.tokens.contains(binds[0])
        found = [rendered.bound(table.c[name], bind) for (name, *_), bind in zip(hints, binds[2:], strict=True)]
        return and_(true(), *found, *([table.c.tokens.contains(binds[1])] if rest else []))

    every = [each.any_of[0] for each in criteria]
    values = ((every, TOKENS), (rest, TOKENS), *((value, kind) for _, value, kind in hints))
    return Term(("all tokens", bool(rest), tuple(name for name, *_ in hints)), values, build)


def _single(criterion: Tokens) -> bool:
    """One token that must be there: all such make one containment, which the index answers at once."""
    return len(criterion.any_of) == 1 and not criterion.negated


def _joined(resource_type: str, criterion: Every | Some) -> Term:
    inner = [term(resource_type, each) for each in criterion.criteria]
    join = and_ if isinstance(criterion, Every) else or_

    def build(table: FromClause, binds: Binds) -> Condition:
        at, found = 0, []
        for each in inner:
            found.append(each.build(table, binds[at : at + len(each.values)]))
            at += len(each.values)
        return join(*found)

    shape = (type(criterion).__name__, tuple(each.shape for each in inner))
    return Term(shape, tuple(value for each in inner for value in each.values), build)


def _tokens(criterion: Tokens) -> Term:
    def build(table: FromClause, binds: Binds) -> Condition:
        found: Condition = table.c.tokens.overlap(binds[0])
        return not_(found) if criterion.negated else found

    return Term(("tokens", criterion.negated), ((list(criterion.any_of), TOKENS),), build)


def _missing(criterion: Missing) -> Term:
    """By a bit of the row. What a column of its own answers is never missing."""
    bit, missing = criterion.parameter.bit, criterion.missing

    def build(table: FromClause, binds: Binds) -> Condition:
        if bit is None:
            return false() if missing else true()
        kept = table.c.present.op("&")(literal_column(str(1 << bit), BigInteger))
        return kept == literal_column("0") if missing else kept != literal_column("0")

    return Term(("missing", bit, missing), (), build)


def _strings(resource_type: str, criterion: Strings) -> Term:
    name, contains = criterion.parameter.name, criterion.contains

    def matches(value: ColumnElement[Any], bind: ColumnElement[Any]) -> Condition:
        if contains:
            return func.strpos(value, bind) > 0
        return and_(value >= bind, value < bind.concat(LAST))

    def build(table: FromClause, binds: Binds) -> Condition:
        return any_string(table, resource_type, name, lambda each: or_(*(matches(each.value, bind) for bind in binds)))

    return Term(
        ("strings", name, contains, len(criterion.values)),
        tuple((value, Text()) for value in criterion.values),
        build,
    )


def _dates(resource_type: str, criterion: Dates) -> Term:
    parameter = criterion.parameter
    slot, beside = parameter.slot, parameter.slot is None and parameter.name != "_lastUpdated"
    prefixes = tuple(prefix for prefix, _ in criterion.values)
    today = datetime.now(UTC).date()
    spans = [about(span, today) if prefix == "ap" else span for prefix, span in criterion.values]

    def compare(kept: Range, binds: Binds) -> Condition:
        ends = iter(binds)
        return or_(*(COMPARE[prefix](kept, next(ends), next(ends)) for prefix in prefixes))

    def build(table: FromClause, binds: Binds) -> Condition:
        if beside:
            return any_span(
                table, resource_type, parameter.name, lambda each: compare(Range(each.low, each.high), binds)
            )
        if slot is None:
            return compare(Point(table.c.updated), binds)
        return compare(Range(table.c[f"date{slot}_low"], table.c[f"date{slot}_high"]), binds)

    values = tuple((instant, INSTANT) for span in spans for instant in span)
    return Term(("dates", beside and parameter.name, slot, prefixes), values, build)


def _numbers(resource_type: str, criterion: Numbers) -> Term:
    """Any row whose number compares, in the unit asked for, beside the code asked for."""
    shapes = tuple((each.prefix, each.measure and tuple(map(bool, each.measure))) for each in criterion.values)

    def one(each: Any, prefix: str, measure: Any, binds: Iterator[ColumnElement[Any]]) -> Condition:
        value, low, high = next(binds), next(binds), next(binds)
        return and_(NUMBERS[prefix](each.low, each.high, value, low, high), *_measured(each, measure, binds))

    def build(table: FromClause, binds: Binds) -> Condition:
        def holds(each: Any) -> Condition:
            left = iter(binds)
            found = or_(*(one(each, prefix, measure, left) for prefix, measure in shapes))
            return and_(found, each.tokens.overlap(next(left))) if criterion.beside else found

        return any_number(table, resource_type, criterion.places, holds)

    values = [value for each in criterion.values for value in _number_values(each)]
    if criterion.beside:
        values.append((list(criterion.beside), TOKENS))
    return Term(("numbers", criterion.places, shapes, bool(criterion.beside)), tuple(values), build)


def _number_values(asked: Asked) -> Iterator[tuple[Any, TypeEngine[Any]]]:
    low, high = nearly(asked.amount.value) if asked.prefix == "ap" else (asked.amount.low, asked.amount.high)
    for each in (asked.amount.value, low, high):
        yield float(each), Double()
    for text in asked.measure or ():
        if text:
            yield text, Text()


def _measured(each: Any, measure: tuple[bool, bool] | None, binds: Iterator[ColumnElement[Any]]) -> Iterator[Condition]:
    if measure is None:
        return
    system, code = measure
    if system:
        yield each.system == next(binds)
    if code:
        bind = next(binds)
        yield each.code == bind if system else or_(each.code == bind, each.unit == bind)


def _texts(criterion: Texts) -> Term:
    """Read in the body: no more is kept for it, so it is for searches that other criteria make small."""
    paths = tuple(
        (*(element.name for element in source.path), *more)
        for source in criterion.parameter.sources
        for more in TEXTS.get(source.leaf.type, ())
    )

    def starts(text: ColumnElement[str], bind: ColumnElement[Any]) -> Condition:
        return func.starts_with(func.fhirgw.folded(text), func.fhirgw.folded(bind))

    def build(table: FromClause, binds: Binds) -> Condition:
        return _said(table, paths, lambda text: or_(*(starts(text, bind) for bind in binds)))

    return Term(("texts", paths, len(criterion.values)), tuple((each, Text()) for each in criterion.values), build)


def _said(table: FromClause, paths: Sequence[tuple[str, ...]], holds: Callable[[Any], Condition]) -> Condition:
    """That a text at one of the paths of the body holds."""
    found = []
    for path in paths:
        steps = literal(list(path), IDS, literal_execute=True)
        said = func.fhirgw.at(cast(table.c.body, JSON), steps).table_valued("value", name="said").render_derived()
        text = said.c.value.op("#>>")(literal_column("'{}'"))
        found.append(exists().select_from(said).where(holds(text)))
    return or_(*found)


def names(criterion: Any) -> Iterator[Parameter]:
    """The parameters a criterion asks about one resource by."""
    yield criterion.parameter
    for each in getattr(criterion, "criteria", ()):
        yield from names(each)
