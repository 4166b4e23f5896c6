"""What a resource says where a code, an identifier, a reference or a uri is looked for: what a search is sorted by.

The index keeps such values as tokens, which have no order; so they are read in the body, of the resources that match:
a search that is sorted by one is to ask for little else to be read (a person's record, a day). Codes sort by the code,
identifiers and contacts by their value, references by their text, each byte by byte.
https://hl7.org/fhir/R4/search.html#sort leaves the order of these to the server.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    ColumnElement,
    FromClause,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.fhir.parameters import DECEASED, Parameter, Source

KINDS = ("token", "reference", "uri")
"""Of the parameters whose values are read so."""

WORTH: dict[str, tuple[tuple[str, ...], str | None]] = {
    "CodeableConcept": (("coding",), "code"),
    "Coding": ((), "code"),
    "Identifier": ((), "value"),
    "ContactPoint": ((), "value"),
    "Reference": ((), "reference"),
}
"""By the type of an element: the path to what has a worth, and the property that it is; other types are their own."""

PATH = ARRAY(Text)
NO_STEPS: ColumnElement[Any] = literal_column("'{}'::text[]")
"""The path to a value itself: an ARRAY[] without a type is none to PostgreSQL."""


def worth(table: FromClause, parameter: Parameter, last: bool) -> ColumnElement[Any]:
    """The least (or last) of what a resource says, a text; null where it says nothing."""
    body = cast(table.c.body, JSON)
    if parameter.expression == DECEASED:
        dead = or_(_plain(body, "deceasedDateTime").is_not(None), cast(_plain(body, "deceasedBoolean"), Boolean))
        return case((dead, "true"), else_="false").collate("C")
    found = [_of(body, source, last) for source in parameter.sources]
    pick = func.greatest if last else func.least
    return found[0] if len(found) == 1 else pick(*found, type_=Text).collate("C")


def _of(body: ColumnElement[Any], source: Source, last: bool) -> ColumnElement[Any]:
    more, name = WORTH.get(source.leaf.type, ((), None))
    if not (source.repeats or more or source.only_where or source.only_type):
        steps = [element.name for element in source.path] + ([name] if name else [])
        return _plain(body, *steps).collate("C")
    path = literal([*(element.name for element in source.path), *more], PATH, literal_execute=True)
    each = func.fhirgw.at(body, path).table_valued("value", name="worth").render_derived()
    text = _plain(each.c.value, *([name] if name else [])).collate("C")
    kept = []
    if source.only_where is not None:
        kept.append(_plain(each.c.value, source.only_where[0]) == _spelt(source.only_where[1]))
    if source.only_type is not None:
        kept.append(_names(text, source.only_type))
    pick = func.max if last else func.min
    return select(pick(text)).select_from(each).where(and_(True, *kept)).scalar_subquery()


def _names(reference: ColumnElement[Any], kind: str) -> ColumnElement[bool]:
    """Whether a reference is to the type: `Type/id`, or an address that ends so."""
    return reference.op("~", return_type=Boolean)(_spelt(f"(^|/){kind}/[^/]+(/_history/[^/]+)?$"))


def _plain(node: ColumnElement[Any], *steps: str) -> ColumnElement[Any]:
    path = literal(list(steps), PATH, literal_execute=True) if steps else NO_STEPS
    return node.op("#>>", return_type=Text())(path)


def _spelt(text: str) -> ColumnElement[str]:
    return literal(text, Text, literal_execute=True)
