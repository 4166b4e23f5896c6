"""The views of our types, for analysts: the ViewDefinitions in `profiles/views`, read as they stand.

A view begins with the key of its resource, by which rows are taken out again when a person's record is withheld; and
each column is of one value whatever is stored, so that no resource can stop an export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

import orjson

from fhirgw import shipped
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.view import View, view
from fhirgw.fhir.view_path import ViewError

FOLDER = "profiles"
KEY = "getResourceKey()"


@cache
def views() -> Mapping[str, View]:
    """Each by its name. Raises ViewError that names the file."""
    found: dict[str, View] = {}
    for path in sorted((shipped.path(FOLDER) / "views").glob("*.json")):
        try:
            made = for_export(view(orjson.loads(path.read_bytes())))
        except ValueError as error:
            raise ViewError(f"profiles/views/{path.name}: {error}") from None
        if path.stem != made.name:
            raise ViewError(f"profiles/views/{path.name}: its name is {made.name}: name the file so")
        found[made.name] = made
    return MappingProxyType(found)


def for_export(made: View) -> View:
    """The view, if an export can be made of it. Raises ViewError."""
    if made.paths[0] != KEY:
        raise ViewError(f"a view begins with a column of {KEY}")
    if unsure := [each.name for each in made.columns if each.several]:
        raise ViewError(f"{', '.join(unsure)}: may hold several values: first(), join() or collection says which")
    return made


def views_of(resource_type: str, named: Sequence[str] = ()) -> tuple[View, ...]:
    """The views of a type, or those of them that are named."""
    found = (each for each in views().values() if each.resource == resource_type)
    return tuple(each for each in found if not named or each.name in named)


def check_views(named: Sequence[str], types: Sequence[str]) -> None:
    """Raises FhirError for a view there is none of, and for a type that has none of those asked for."""
    for each in named:
        if each not in views():
            raise FhirError(Issue("not-supported", f"There is no view {each[:40]!r}: {', '.join(views())}"))
    for each in types:
        if not views_of(each, named):
            told = "of those asked for " if named else ""
            raise FhirError(Issue("not-supported", f"No view {told}is of {each}: ask for it as NDJSON"))
