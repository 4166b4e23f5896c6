"""Rows for any mapping, made up by Hypothesis from what its fields can hold."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from fhirgw.mapping.leaf import Coded, Fixed, Primitive, Referring
from fhirgw.mapping.mapping import Children, Field, Mapping, Row, later

TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp", "Cn"]) | st.just(" "), min_size=1, max_size=12
).filter(lambda text: not text.isspace())
WORD = st.text(st.characters(categories=["Ll", "Lu", "Nd", "Pd"]), min_size=1, max_size=6)
KEYS = st.integers(1, 10**9).map(str)
DATES = st.dates(date(1880, 1, 1), date(2120, 1, 1)).map(date.isoformat)
SUMMER_AND_WINTER = st.datetimes(datetime(1975, 1, 1), datetime(2060, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(minute=moment.minute, second=0, microsecond=0, hour=4 + moment.hour % 19)
)
"""Wall-clock times that are neither missing nor doubled: British clocks change between 1 and 3 in the morning."""


def nhs_number(nine: int) -> str | None:
    """Ten digits with their modulus 11 check, worked out the long way; None for the stems that have none."""
    digits = [int(digit) for digit in f"{nine:09d}"]
    check = 11 - sum(digit * weight for digit, weight in zip(digits, range(10, 1, -1), strict=True)) % 11
    return None if check == 10 else f"{nine:09d}{0 if check == 11 else check}"


def _local(codec: Any) -> st.SearchStrategy[str]:
    def spell(moment: datetime) -> str:
        from zoneinfo import ZoneInfo

        return str(codec.decode(moment.replace(tzinfo=ZoneInfo("Europe/London")).isoformat()))

    return SUMMER_AND_WINTER.map(spell)


def _many(codec: Any) -> st.SearchStrategy[str]:
    separator = {"words": " ", "lines": "\n"}.get(codec.name)
    if separator:
        return st.lists(WORD, min_size=1, max_size=3).map(separator.join)
    if codec.cells:
        return st.lists(st.sampled_from(codec.cells), min_size=1, max_size=4, unique=True).map(
            lambda parts: str(codec.decode([codec.encode(part)[0] for part in parts]))
        )
    return st.just(codec.sample)


MADE: dict[str, Any] = {
    "text": lambda _: TEXT,
    "nhs_number": lambda _: st.integers(400_000_000, 799_999_999).map(nhs_number).filter(bool),
    "date": lambda codec: DATES.map(codec.decode),
    "local_datetime": _local,
    "integer": lambda _: st.integers(1, 99_999).map(str),
    "decimal": lambda _: st.decimals(Decimal(0), Decimal(9999), places=2).map(str),
    "boolean": lambda codec: st.sampled_from(codec.cells),
    "words": _many,
    "lines": _many,
    "list": _many,
    "time": lambda codec: st.times().map(lambda t: codec.decode(t.replace(second=0, microsecond=0).isoformat())),
}
"""Cells for each codec; the others take few forms and are tried on their sample."""


def cells(field: Field) -> st.SearchStrategy[str]:
    """Cells the field takes."""
    leaf = field.leaf
    if isinstance(leaf, Coded):
        return st.sampled_from(sorted(leaf.codes.codes))
    if isinstance(leaf, Referring | Fixed):
        return KEYS
    assert isinstance(leaf, Primitive)
    made = MADE.get(leaf.codec.name)
    return made(leaf.codec) if made else st.just(leaf.codec.sample)


def rows(mapping: Mapping, blanks: bool = True) -> st.SearchStrategy[Row]:
    """Rows the mapping takes: required columns filled, others perhaps; blanks nowhere if so asked.

    Make them once for each mapping: Hypothesis looks closely at every strategy it has not met.
    """
    made = _columns(sorted(mapping.fields, key=lambda field: isinstance(field.leaf, Fixed)), blanks)
    for column in mapping.columns:
        if column in mapping.required or column in mapping.when or column == mapping.key:
            known = next((each for each in mapping.fields if each.column == column), None)
            made[column] = cells(known) if known else KEYS
        made.setdefault(column, KEYS)
    for column, values in mapping.when.items():
        if values is not None:
            made[column] = st.sampled_from(values)
    for children in mapping.children:
        made[children.table] = _children(children)
    return st.fixed_dictionaries(made).map(lambda row: _sound(mapping, _related(mapping, row)))


def _columns(fields: Iterable[Field], blanks: bool) -> dict[str, st.SearchStrategy[Any]]:
    """The cells of each column, by the first of its fields."""
    made: dict[str, st.SearchStrategy[Any]] = {}
    for each in fields:
        if each.column not in made:
            made[each.column] = cells(each) | st.none() if blanks else cells(each)
    return made


def _children(children: Children) -> st.SearchStrategy[list[Row]]:
    """Rows of a child table, with all but what they have of their parent."""
    fields = [*([children.itself] if children.itself else []), *reversed(children.fields)]
    made = _columns(sorted(fields, key=lambda field: isinstance(field.leaf, Fixed)), blanks=True)
    made[children.key] = cells(children.known)
    return st.lists(st.fixed_dictionaries(made), max_size=3, unique_by=lambda child: child[children.key])


def _related(mapping: Mapping, row: Row) -> Row:
    """The same row, its child rows numbered and told whose they are; no line of theirs is after a blank one."""
    for children in mapping.children:
        parent = {children.parent: row[mapping.key]}
        drawn = enumerate(row[children.table], 1)
        row[children.table] = [{**parent, children.order: str(number), **child} for number, child in drawn]
        for child in row[children.table]:
            _fill_lines(children.lines, child)
    return row


def _fill_lines(lines: tuple[tuple[Field, Field], ...], row: Row) -> None:
    """No line after a blank one."""
    for earlier, following in sorted(lines, key=lambda pair: pair[1].path.leaf.index if pair[1].path.leaf else 0):
        if row[earlier.column] is None:
            row[following.column] = None


def _sound(mapping: Mapping, row: Row) -> Row:
    """The same row with its checks satisfied: lines filled from the first, ends not before starts."""
    _fill_lines(mapping.lines, row)
    for first, second in mapping.ordered:
        one, two = row[first.column], row[second.column]
        if (
            one is not None
            and two is not None
            and later(first.leaf.write(one, None, None), second.leaf.write(two, None, None))
        ):
            row[second.column] = None if second.column not in mapping.required else two
            row[first.column] = row[first.column] if second.column not in mapping.required else None
    return row


def owned(mapping: Mapping, row: Row) -> Row:
    """What the mapping writes back of a row."""
    kept = {column: row.get(column) for column in mapping.owned}
    for children in mapping.children:
        if not children.both:
            continue
        columns = {children.parent, children.key, *(each.column for each in children.fields if each.both)}
        kept[children.table] = [{c: child[c] for c in sorted(columns)} for child in row.get(children.table) or ()]
    return kept
