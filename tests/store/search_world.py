"""A small world to search in, and what a search of it must find, worked out the plain way: this module shares no code
with what it judges. https://hl7.org/fhir/R4/search.html
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Resource = dict[str, Any]
Span = tuple[datetime, datetime]

NHS = "https://fhir.nhs.uk/Id/nhs-number"
LOCAL = "https://example.org/Id/person"
CODES = ("https://example.org/codes", "https://example.org/other")
FAMILIES = ("Smith", "O'Brien", "Smithson", "Zoë-Müller", "de la Cruz", "SMITH")
GIVEN = ("Ann", "anna", "Zoë", "Mary Ann", "José")
LONDON = ZoneInfo("Europe/London")
OPEN_START, OPEN_END = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def world(seed: int) -> list[tuple[Resource, datetime]]:
    """Organisations, people, observations and appointments, each with when it was stored."""
    rng = random.Random(seed)
    made = [_organisation(n) for n in range(4)]
    made += [_patient(rng, n) for n in range(40)]
    made += [_observation(rng, n) for n in range(120)]
    made += [_encounter(rng, n) for n in range(60)]
    stored = [EPOCH + timedelta(milliseconds=rng.choice((0, 1, 86_400_000, rng.randrange(10**9)))) for _ in made]
    return list(zip(made, stored, strict=True))


def _organisation(n: int) -> Resource:
    return {"resourceType": "Organization", "id": f"o{n}", "name": f"Home care {n}", "active": n % 2 == 0}


def _patient(rng: random.Random, n: int) -> Resource:
    made: Resource = {"resourceType": "Patient", "id": f"p{n}", "identifier": [{"system": LOCAL, "value": f"{n}"}]}
    if rng.random() < 0.7:
        made["identifier"].append({"system": NHS, "value": str(9000000000 + rng.randrange(5))})
    if rng.random() < 0.1:
        made["identifier"].append({"value": f"{n}"})
    if rng.random() < 0.9:
        made["name"] = [{"family": rng.choice(FAMILIES), "given": rng.sample(GIVEN, rng.randrange(3))}]
    if rng.random() < 0.9:
        made["gender"] = rng.choice(("male", "female", "unknown"))
    if rng.random() < 0.9:
        made["birthDate"] = rng.choice(("1950", "1950-03", "1950-03-01", "1950-12-31", "1962-07-15"))
    if rng.random() < 0.5:
        made["managingOrganization"] = {"reference": f"Organization/o{rng.randrange(4)}"}
    return made


def _observation(rng: random.Random, n: int) -> Resource:
    codings = [{"system": rng.choice(CODES), "code": rng.choice("abc")} for _ in range(rng.randrange(1, 3))]
    made: Resource = {
        "resourceType": "Observation",
        "id": f"ob{n}",
        "status": rng.choice(("final", "amended")),
        "code": {"coding": codings},
    }
    if rng.random() < 0.9:
        made["subject"] = {"reference": f"Patient/p{rng.randrange(45)}"}  # some are dangling
    made["performer"] = [{"reference": f"Organization/o{k}"} for k in rng.sample(range(4), rng.randrange(3))]
    made |= rng.choice(
        (
            {"effectiveDateTime": _date(rng)},
            {"effectiveDateTime": _date(rng)},
            {"effectivePeriod": _period(rng)},
            {},
        )
    )
    return made


def _encounter(rng: random.Random, n: int) -> Resource:
    made: Resource = {
        "resourceType": "Encounter",
        "id": f"e{n}",
        "status": rng.choice(("planned", "finished")),
        "class": {"code": "HH"},
        "subject": {"reference": f"Patient/p{rng.randrange(40)}"},
    }
    if rng.random() < 0.8:
        made["period"] = _period(rng)
    return made


DATES = (
    *("2025", "2025-03", "2025-04", "2025-03-30", "2025-03-31", "2025-06-15", "2024-12-31"),
    *("2025-03-30T00:30:00Z", "2025-03-30T02:30:00+01:00", "2025-06-15T00:00:00+01:00", "2025-03-31T12:00:00.250Z"),
)


def _date(rng: random.Random) -> str:
    return rng.choice(DATES)


def _period(rng: random.Random) -> Resource:
    start, end = sorted((rng.choice(DATES), rng.choice(DATES)), key=lambda each: span(each)[0])
    return rng.choice(({"start": start, "end": end}, {"start": start}, {"end": end}))


def span(text: str) -> Span:
    """What a date covers, from its first instant to the first after it; without a zone, in London."""
    if re.fullmatch(r"\d{4}", text):
        return _london(int(text), 1, 1), _london(int(text) + 1, 1, 1)
    if re.fullmatch(r"\d{4}-\d\d", text):
        year, month = map(int, text.split("-"))
        return _london(year, month, 1), _london(year + month // 12, month % 12 + 1, 1)
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        after = day + timedelta(days=1)
        return _london(day.year, day.month, day.day), _london(after.year, after.month, after.day)
    low = datetime.fromisoformat(text).astimezone(UTC)
    return low, low + (timedelta(milliseconds=1) if "." in text else timedelta(seconds=1))


def _london(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=LONDON).astimezone(UTC)


def compares(prefix: str, kept: Span | None, asked: Span) -> bool:
    """R4's prefixes on spans that end just before their second instant."""
    if kept is None:
        return False
    (low, high), (a, b) = kept, asked
    near = abs(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - a) * 0.1
    inside = a <= low and high <= b
    return {
        "eq": inside,
        "ne": not inside,
        "gt": high > b,
        "lt": low < a,
        "ge": high > b or inside,
        "le": low < a or inside,
        "sa": low >= b,
        "eb": high <= a,
        "ap": low < b + near and high > a - near,
    }[prefix]


def plain(text: str) -> str:
    """Without case or accents."""
    parts = unicodedata.normalize("NFD", text)
    return " ".join("".join(each for each in parts if unicodedata.category(each) != "Mn").lower().split())


class World:
    """The resources by type, searched one by one."""

    def __init__(self, stored: list[tuple[Resource, datetime]]) -> None:
        self.updated = {(each["resourceType"], each["id"]): when for each, when in stored}
        self.resources = {(each["resourceType"], each["id"]): each for each, _ in stored}

    def find(self, resource_type: str, pairs: list[tuple[str, str]]) -> list[str]:
        """The ids that match all pairs, in the order `_sort` asks for, else by id."""
        criteria = [pair for pair in pairs if pair[0] != "_sort"]
        found = [
            each
            for (kind, _), each in self.resources.items()
            if kind == resource_type and all(self.holds(each, *pair) for pair in criteria)
        ]
        found.sort(key=lambda each: each["id"])
        for key in reversed([key for name, value in pairs if name == "_sort" for key in value.split(",")]):
            found = self._sorted(found, key.removeprefix("-"), key.startswith("-"))
        return [each["id"] for each in found]

    def _sorted(self, found: list[Resource], name: str, backwards: bool) -> list[Resource]:
        if name == "_id":
            return sorted(found, key=lambda each: each["id"], reverse=backwards)
        dated = [(self._begin(each, name), each) for each in found]
        with_date = [pair for pair in dated if pair[0] is not None]
        with_date.sort(key=lambda pair: -pair[0].timestamp() if backwards else pair[0].timestamp())
        return [each for _, each in with_date] + [each for begin, each in dated if begin is None]

    def _begin(self, each: Resource, name: str) -> datetime | None:
        kept = self._span(each, name)
        return kept[0] if kept else None

    def holds(self, each: Resource, name: str, value: str) -> bool:
        """Whether a resource meets one parameter."""
        if "." in name:
            reference, _, inner = name.partition(".")
            reference, _, target = reference.partition(":")
            names = [named for named in references(each, reference) if named.startswith(f"{target}/")]
            targets = [self.resources.get((target, named.partition("/")[2])) for named in names]
            return any(found is not None and self.holds(found, inner, value) for found in targets)
        bare, _, modifier = name.partition(":")
        return any(self._one(each, bare, modifier, alternative) for alternative in value.split(",")) is not (
            modifier == "not"
        )

    def _one(self, each: Resource, name: str, modifier: str, value: str) -> bool:
        if name == "_id":
            return bool(each["id"] == value)
        if name in TOKENS:
            return any(_coded(system, code, value) for system, code in TOKENS[name](each))
        if name in REFERENCES:
            return any(value in (named, named.partition("/")[2]) for named in references(each, name))
        if name in STRINGS:
            return any(_text(kept, value, modifier) for kept in STRINGS[name](each))
        prefix, text = (value[:2], value[2:]) if value[:2].isalpha() else ("eq", value)
        return compares(prefix, self._span(each, name), span(text))

    def _span(self, each: Resource, name: str) -> Span | None:
        if name == "_lastUpdated":
            when = self.updated[(each["resourceType"], each["id"])]
            return when, when + timedelta(microseconds=1)
        value = {"birthdate": "birthDate", "date": "effectiveDateTime"}[name]
        if value in each:
            return span(each[value])
        period = each.get("effectivePeriod") or each.get("period")
        if period is None:
            return None
        start, end = period.get("start"), period.get("end")
        return (span(start)[0] if start else OPEN_START, span(end)[1] if end else OPEN_END)


def references(each: Resource, name: str) -> list[str]:
    """The references of a parameter, as `Type/id`."""
    value = each.get(REFERENCES[name], [])
    return [one["reference"] for one in (value if isinstance(value, list) else [value])]


def _coded(system: str | None, code: str, value: str) -> bool:
    if "|" not in value:
        return value == code
    asked_system, _, asked_code = value.partition("|")
    if not asked_code:
        return system == asked_system
    return code == asked_code and (system or "") == asked_system


def _text(kept: str, value: str, modifier: str) -> bool:
    if modifier == "exact":
        return kept == value
    return plain(value) in plain(kept) if modifier == "contains" else plain(kept).startswith(plain(value))


def _identifiers(each: Resource) -> Iterator[tuple[str | None, str]]:
    return ((one.get("system"), one["value"]) for one in each.get("identifier", []))


def _codings(each: Resource) -> Iterator[tuple[str | None, str]]:
    return ((one["system"], one["code"]) for one in each.get("code", {}).get("coding", []))


def _names(each: Resource) -> list[str]:
    """A person's names by their parts; an organisation's one."""
    if each["resourceType"] == "Organization":
        return [each["name"]]
    return [part for one in each.get("name", []) for part in (one["family"], *one["given"])]


def _bare(element: str) -> Callable[[Resource], list[tuple[str | None, str]]]:
    return lambda each: [(None, each[element])] if element in each else []


TOKENS: dict[str, Callable[[Resource], Any]] = {
    "identifier": _identifiers,
    "code": _codings,
    "gender": _bare("gender"),
    "status": _bare("status"),
}
REFERENCES = {
    "subject": "subject",
    "patient": "subject",
    "performer": "performer",
    "organization": "managingOrganization",
}
STRINGS: dict[str, Callable[[Resource], list[str]]] = {
    "family": lambda each: [one["family"] for one in each.get("name", [])],
    "given": lambda each: [given for one in each.get("name", []) for given in one["given"]],
    "name": _names,
}
