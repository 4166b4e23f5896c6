"""Resources without who they are about: ids become keys of a project, dates are moved, and what no rule names is gone.

The rules are data, `profiles/pseudonymise.yaml`, read whole or not at all. A pseudonym is the beginning of an
HMAC-SHA256 (https://www.rfc-editor.org/rfc/rfc2104) with the project's key: whoever has not the key can neither make it
nor undo it, and two projects cannot join what they hold. https://ico.org.uk/for-organisations/uk-gdpr-guidance-and-resources/data-sharing/anonymisation/pseudonymisation/

Long, because reading the rules and refusing those that would leak belong together: each action is a few lines.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import yaml

from fhirgw import shipped
from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.elements import children, is_primitive, is_resource
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.references import LOCAL

FILE = "pseudonymise.yaml"
ACTIONS = ("keep", "key", "shift", "truncate", "age", "drop")
DATES = ("date", "dateTime", "instant")
TELLING = ("string", "markdown", "uri", "url", "id", "xhtml", "base64Binary")
"""Types of what anybody may have written anything in. The systems of codes are none of that."""

POSTCODE = re.compile(r"\s*([A-Z]{1,2}\d[A-Z\d]?)\s*\d[A-Z]{2}\s*", re.IGNORECASE | re.ASCII)
DAY = re.compile(r"(\d{4}-\d\d-\d\d)(T.*)?")
OLDEST = 89
"""Years; who is older has the year of birth of those a year older than that: few are, and their year would tell who.
https://www.hhs.gov/hipaa/for-professionals/special-topics/de-identification/index.html#safeharborguidance
"""
DIGITS = 32
"""Hexadecimal digits of a pseudonym: 128 bits."""

PSEUDED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "PSEUDED",
    "display": "pseudonymized",
}
"""Told of each resource that has been changed so. https://terminology.hl7.org/CodeSystem-v3-ObservationValue.html"""

Change = Callable[[Any, "Moved"], Any]
"""What becomes of a value; None: nothing."""


class RuleError(ValueError):
    """Why the rules cannot be used."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How one person's resources are changed: with a project's key, and dates by so many days (None: no dates).

    `born`: the earliest year that anybody is said to be born in.
    """

    key: bytes
    days: int | None
    born: int = 0

    def pseudonym(self, kind: str, id: str) -> str:
        """What an id becomes."""
        return _digest(self.key, f"{kind}/{id}").hex()[:DIGITS]


@dataclass(frozen=True, slots=True)
class Rule:
    """Of a type: where it says whom it is about, and what becomes of each element, as a function and as `written`."""

    person: str
    change: Change
    written: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """`smallest`: people, fewer of whom no file is made of; `shift`: days that dates are moved by at most; `oldest`: an
    age in years, beyond which nobody's is told.
    """

    smallest: int
    shift: int
    oldest: int
    types: Mapping[str, Rule]


@dataclass(slots=True)
class Pseudonymiser:
    """Changes resources for one project, by its key; `persons`: whom `count` was told of, `smallest` at most.

    `today`: the day that ages are of; the same for all that is to be the same.
    """

    key: bytes
    rules: Rules
    today: date
    persons: set[str] = field(default_factory=set)

    def id(self, kind: str, id: str) -> str:
        """What the id of a resource becomes."""
        return Moved(self.key, None).pseudonym(kind, id)

    def count(self, resource: Resource) -> None:
        """Something of the resource is written."""
        person = _person(resource, self.rules.types[resource["resourceType"]].person)
        if person is not None and len(self.persons) < self.rules.smallest:
            self.persons.add(person)

    def resource(self, resource: Resource) -> Resource:
        """The resource as the project may have it. Its type is one of the rules'."""
        kind = resource["resourceType"]
        rule = self.rules.types[kind]
        born = self.today.year - self.rules.oldest - 1
        moved = Moved(self.key, self._days(_person(resource, rule.person)), born)
        return {"resourceType": kind, "meta": {"security": [PSEUDED]}, **rule.change(resource, moved)}

    def _days(self, person: str | None) -> int | None:
        """How far a person's dates are moved: never by nothing, which would tell when their records are true."""
        if person is None:
            return None
        place = int.from_bytes(_digest(self.key, f"days of {person}")[:8]) % (2 * self.rules.shift)
        return place - self.rules.shift if place < self.rules.shift else place - self.rules.shift + 1


@cache
def rules() -> Rules:
    """The rules that are shipped. Raises RuleError."""
    return read((shipped.path("profiles") / FILE).read_text())


def read(text: str) -> Rules:
    """The rules as they are written. Raises RuleError that names the place."""
    given = yaml.safe_load(text)
    smallest, shift, oldest = given.get("smallest"), given.get("shift"), given.get("oldest", OLDEST)
    if any(not isinstance(each, int) or each < 1 for each in (smallest, shift, oldest)):
        raise RuleError("smallest and shift, and oldest where it is said: whole numbers above 0")
    reading = _Reading(given.get("datatypes", {}), given.get("extensions", {}))
    return Rules(smallest, shift, oldest, {kind: reading.rule(kind, dict(of)) for kind, of in given["types"].items()})


def _digest(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _person(resource: Resource, name: str) -> str | None:
    """The id of the person a resource is about."""
    if name == "id":
        return str(resource["id"])
    value = resource.get(name)
    found = LOCAL.fullmatch(str(value.get("reference", ""))) if isinstance(value, dict) else None
    return found[2] if found and found[1] == "Patient" else None


class _Reading:
    """Makes functions of what is written, checking it against R4's elements."""

    def __init__(self, datatypes: Mapping[str, Any], extensions: Mapping[str, str]) -> None:
        self._written = datatypes
        self._datatypes = {name: self._object(name, of, name) for name, of in datatypes.items()}
        self._extensions = {url: self._extension(url, action) for url, action in extensions.items()}

    def rule(self, kind: str, given: dict[str, Any]) -> Rule:
        person = given.pop("person", None)
        if not is_resource(kind) or (person != "id" and (person not in children(kind))):
            raise RuleError(f"{kind}: a type of R4, and `person`, the element of it that says whom it is about")
        if given.get("id") != "key":
            raise RuleError(f"{kind}.id: it is a key in every export, or nothing could be joined or taken out")
        return Rule(person, self._object(kind, given, kind), given)

    def _object(self, context: str, given: Mapping[str, Any], place: str) -> Change:
        changes = {name: self._element(context, name, of, f"{place}.{name}") for name, of in given.items()}

        def change(value: Any, moved: Moved) -> Any:
            found = {}
            for name, each in changes.items():
                if name in value and (left := each(value[name], moved)) not in (None, [], {}):
                    found[name] = left
            return found

        return change

    def _element(self, context: str, name: str, given: Any, place: str) -> Change:
        element = children(context).get(name)
        if element is None:
            raise RuleError(f"{place}: {context} has no such element")
        if isinstance(given, dict):
            return _each(self._object(element.inner, given, place))
        if given not in ACTIONS:
            raise RuleError(f"{place}: {given!r} is none of {', '.join(ACTIONS)}")
        if given == "keep" and name == "extension":
            return self._keep_extensions
        return _each(self._action(given, element.type, context, place))

    def _action(self, given: str, kind: str, context: str, place: str) -> Change:
        if given == "drop":
            return lambda value, moved: None
        if given == "keep":
            return self._kept(kind, place)
        if given == "key" and context == "Reference":
            return _refer
        if given == "key" and is_resource(context):
            return lambda value, moved: moved.pseudonym(context, value)
        if given == "shift" and kind in DATES:
            return _shift
        if given == "age" and kind == "date":
            return _birth
        if given == "truncate" and (kind in DATES or place.endswith(".postalCode")):
            return _year if kind in DATES else _district
        raise RuleError(f"{place}: a {kind} cannot be {given}")

    def _kept(self, kind: str, place: str) -> Change:
        if is_primitive(kind):
            if kind in DATES or (kind in TELLING and not place.endswith(".system")):
                raise RuleError(f"{place}: a {kind} is not kept as it is: shift, truncate or drop it")
            return lambda value, moved: value
        if kind not in self._written:
            raise RuleError(f"{place}: under datatypes there is no {kind}: say what of it, in braces")
        return lambda value, moved: self._datatypes[kind](value, moved)

    def _extension(self, url: str, action: str) -> Change:
        if action not in ("keep", "shift", "drop"):
            raise RuleError(f"extensions: {url}: keep, shift or drop it")

        def change(value: Any, moved: Moved) -> Any:
            name = next((each for each in value if each.startswith("value")), None)
            element = children("Extension").get(name) if name else None
            if element is None or name is None or action == "drop":
                return None
            try:
                left = self._action(action, element.type, "Extension", url)(value[name], moved)
            except RuleError:
                return None  # of a type that its rule is not for
            return None if left in (None, {}) else {"url": url, name: left}

        return change

    def _keep_extensions(self, value: Any, moved: Moved) -> Any:
        found = (self._extensions[each["url"]](each, moved) for each in value if each.get("url") in self._extensions)
        return [each for each in found if each is not None]


def _each(change: Change) -> Change:
    def run(value: Any, moved: Moved) -> Any:
        if not isinstance(value, list):
            return change(value, moved)
        return [left for each in value if each is not None and (left := change(each, moved)) not in (None, {})]

    return run


def _refer(value: str, moved: Moved) -> str | None:
    """A reference to a resource here; any other tells where it is from."""
    found = LOCAL.fullmatch(value)
    return f"{found[1]}/{moved.pseudonym(found[1], found[2])}" if found else None


def _shift(value: str, moved: Moved) -> str | None:
    """Moved, if it is a day or a moment; a month or a year would be another one, and is the year it is.

    A moment is as the clock showed it here, and its offset tells nothing: by those of summer and winter anybody could
    see between which two records the clocks were changed, and so by how many days all of them were moved.
    """
    if moved.days is None:
        return None
    found = DAY.fullmatch(value)
    if found is None:
        return _year(value, moved)
    try:
        if found[2] is None:
            return (date.fromisoformat(found[1]) + timedelta(days=moved.days)).isoformat()
        here = datetime.fromisoformat(value).astimezone(LONDON).replace(tzinfo=None) + timedelta(days=moved.days)
        return f"{here.isoformat()}+00:00"
    except (ValueError, OverflowError):
        return None


def _birth(value: str, moved: Moved) -> str:
    """The year of birth, of nobody older than the rules say."""
    return f"{max(int(value[:4]), moved.born):04}"


def _year(value: str, moved: Moved) -> str:
    return value[:4]


def _district(value: str, moved: Moved) -> str | None:
    found = POSTCODE.fullmatch(value)
    return found[1].upper() if found else None
