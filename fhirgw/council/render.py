"""Records to rows: how a declared table reaches its facts, and how a convention writes them; compiled once a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import attrgetter, itemgetter
from typing import Any

from fhirgw.council.codes import spelling
from fhirgw.council.convention import Convention
from fhirgw.council.council import Council
from fhirgw.council.declare import Column, Table

Text = str | None
Reach = Callable[[Any, Any, int], Any]
"""From a record, the item of it that the row is about (the record itself, without `each`), and the row's number."""
Write = Callable[[Any], str]


def rows(
    council: Council, table: Table, columns: Sequence[Column], convention: Convention
) -> Iterator[tuple[Text, ...]]:
    """The table's rows, as text in those of its columns, in the order the records were made."""
    cells = [(reach(column.fact), write(column, convention)) for column in columns]
    for number, (record, item) in enumerate(_items(council, table), 1):
        row: list[Text] = []
        for get, put in cells:
            value = get(record, item, number)
            row.append(None if value is None else put(value))
        yield tuple(row)


def _items(council: Council, table: Table) -> Iterator[tuple[Any, Any]]:
    """Every record that the table is about, with each of its items."""
    wanted = _wanted(table.where)
    collection = attrgetter(table.each) if table.each else None
    for record in council.records[table.kind]:
        if not wanted(record):
            continue
        if collection is None:
            yield record, record
            continue
        items = collection(record)
        for item in items.items() if isinstance(items, dict) else items:
            yield record, item


def _wanted(where: str) -> Callable[[Any], bool]:
    """The test that a table's `where` makes of a record."""
    if not where:
        return lambda record: True
    fact, unlike, value = where.partition("!=")
    if unlike:
        return lambda record: bool(getattr(record, fact) != value)
    fact, equal, value = where.partition("=")
    if equal:
        return lambda record: bool(getattr(record, fact) == value)
    return lambda record: getattr(record, fact) is not None


def reach(fact: str) -> Reach:
    """The way to a fact: see the grammar in `fhirgw.council.declare`."""
    if fact == "#":
        return lambda record, item, number: number
    if fact == ".":
        return lambda record, item, number: item
    path = _path(fact.removeprefix("^"))
    return (lambda record, item, number: path(record)) if fact[0] == "^" else lambda record, item, number: path(item)


def _path(path: str) -> Callable[[Any], Any]:
    first, *rest = (_step(name) for name in path.split("."))
    return reduce(_then, rest, first)


def _then(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def both(value: Any) -> Any:
        between = first(value)
        return None if between is None else second(between)

    return both


def _step(name: str) -> Callable[[Any], Any]:
    """By position in a tuple (or nothing, past its end), by key in a dict, by name in anything else."""
    if name.isdigit():
        at = itemgetter(int(name))
        return lambda value: at(value) if len(value) > int(name) else None
    named = attrgetter(name)
    return lambda value: value.get(name) if isinstance(value, dict) else named(value)


def write(column: Column, convention: Convention) -> Write:
    """How this convention writes the values of a column."""
    return _WRITERS.get(column.style, _plain)(column, convention)


def _plain(column: Column, convention: Convention) -> Write:
    return str


def _key(column: Column, convention: Convention) -> Write:
    return convention.key[column.about].format


def _code(column: Column, convention: Convention) -> Write:
    return spelling(column.about, convention.system).__getitem__


def _codes(column: Column, convention: Convention) -> Write:
    spell = spelling(column.about, convention.system)
    return lambda facts: convention.separator.join(spell[fact] for fact in facts)


def _flag(column: Column, convention: Convention) -> Write:
    return convention.flag.__getitem__


def _date(column: Column, convention: Convention) -> Write:
    seen: dict[Any, str] = {}  # days repeat, and strftime is slow

    def text(day: Any) -> str:
        if day not in seen:
            seen[day] = day.strftime(convention.date)
        return seen[day]

    return text


def _moment(column: Column, convention: Convention) -> Write:
    return lambda moment: str(moment.strftime(convention.moment))


def _time(column: Column, convention: Convention) -> Write:
    return lambda time: str(time.strftime(convention.time))


def _times(column: Column, convention: Convention) -> Write:
    return lambda times: convention.separator.join(time.strftime(convention.time) for time in times)


_WRITERS: dict[str, Callable[[Column, Convention], Write]] = {
    "key": _key,
    "parent": _key,
    "code": _code,
    "codes": _codes,
    "flag": _flag,
    "date": _date,
    "moment": _moment,
    "time": _time,
    "times": _times,
}
