"""A world of numbers, components, places and parents, and what a search of it must find, worked out the plain way: this
module shares no code with what it judges. https://hl7.org/fhir/R4/search.html
"""

import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.store.search_world import compares, plain, span

Resource = dict[str, Any]
UCUM = "http://unitsofmeasure.org"
NUMBERS = ("5", "5.4", "5.40", "5.44", "5.45", "0.0054", "-3", "100", "99.5", "100.5", "1e2", "105")
CODES = ("bp", "kg", "hr")
TEXTS = ("Blood  pressure", "blöd pressure", "Weight", "weigh-in")
CITIES = ("Southend", "southend-on-sea", "Léeds", "Leeds")
DATES = ("2025", "2025-03", "2025-03-30", "2025-04-01T10:00:00Z", "2026-01-01")
URLS = ("https://x.uk/Q", "https://x.uk/Q/one", "https://x.uk/Q/one/two", "https://x.uk/Quiz", "urn:oid:1.2.3")
ENDLESS = Decimal("Infinity")
STORED = datetime(2026, 1, 1, tzinfo=UTC)


def world(seed: int) -> list[tuple[Resource, datetime]]:
    """Organisations above each other, people, observations, encounters and questionnaires, and when each was stored."""
    rng = random.Random(seed)
    made = [_organisation(n) for n in range(6)]
    made += [_patient(rng, n) for n in range(25)]
    made += [_observation(rng, n) for n in range(80)]
    made += [_encounter(rng, n) for n in range(30)]
    made += [{"resourceType": "Questionnaire", "id": f"q{n}", "url": url} for n, url in enumerate(URLS)]
    return [(each, STORED + timedelta(seconds=rng.randrange(50))) for each in made]


def _organisation(n: int) -> Resource:
    above = {"partOf": {"reference": f"Organization/g{n // 2 - 1}"}} if n > 1 else {}
    return {"resourceType": "Organization", "id": f"g{n}", "name": f"Practice {n}", **above}


def _patient(rng: random.Random, n: int) -> Resource:
    made: Resource = {"resourceType": "Patient", "id": f"p{n}"}
    if rng.random() < 0.8:
        made["name"] = [
            {
                "family": rng.choice(("Ash", "ash", "Élm", "Oak")),
                "given": rng.sample(("Bo", "Al", "Cy"), rng.randrange(3)),
            }
            for _ in range(rng.randrange(1, 3))
        ]
    if rng.random() < 0.7:
        made["address"] = [{"city": rng.choice(CITIES)} for _ in range(rng.randrange(1, 3))]
    if rng.random() < 0.6:
        kind = {"coding": [{"system": "t", "code": rng.choice("mn")}], "text": rng.choice(TEXTS)}
        made["identifier"] = [{"system": "s", "value": f"{n % 3}", "type": kind}]
    if rng.random() < 0.7:
        made["generalPractitioner"] = [{"reference": f"Organization/g{rng.randrange(6)}"}]
    if rng.random() < 0.5:
        made["birthDate"] = rng.choice(("1950", "1950-03-01", "1962"))
    return made


def _quantity(rng: random.Random) -> Resource:
    made: Resource = {"value": Decimal(rng.choice(NUMBERS))}
    if rng.random() < 0.7:
        made |= {"system": rng.choice((UCUM, "other")), "code": rng.choice(("mg", "kg"))}
    if rng.random() < 0.4:
        made["unit"] = rng.choice(("mg", "grams"))
    if rng.random() < 0.15:
        made["comparator"] = rng.choice(("<", "<=", ">", ">="))
    return made


def _concept(rng: random.Random) -> Resource:
    codings = [
        {"code": rng.choice(CODES)}
        | rng.choice(({}, {"system": "s"}))
        | rng.choice(({}, {"display": rng.choice(TEXTS)}))
        for _ in range(rng.randrange(1, 3))
    ]
    return {"coding": codings} | rng.choice(({}, {"text": rng.choice(TEXTS)}))


def _value(rng: random.Random) -> Resource:
    return rng.choice(
        (
            {},
            {"valueQuantity": _quantity(rng)},
            {"valueQuantity": _quantity(rng)},
            {"valueCodeableConcept": _concept(rng)},
            {"valueString": rng.choice(TEXTS)},
        )
    )


def _observation(rng: random.Random, n: int) -> Resource:
    made: Resource = {"resourceType": "Observation", "id": f"o{n}", "code": _concept(rng), **_value(rng)}
    if rng.random() < 0.5:
        made["component"] = [{"code": _concept(rng), **_value(rng)} for _ in range(rng.randrange(1, 4))]
        for each in made["component"]:
            each.pop("valueString", None)
    if rng.random() < 0.9:
        made["subject"] = {"reference": f"Patient/p{rng.randrange(28)}"}
    made["performer"] = [{"reference": f"Organization/g{k}"} for k in rng.sample(range(6), rng.randrange(3))]
    return made


def _encounter(rng: random.Random, n: int) -> Resource:
    made: Resource = {"resourceType": "Encounter", "id": f"e{n}", "subject": {"reference": f"Patient/p{n % 25}"}}
    if rng.random() < 0.8:
        made["location"] = [{"period": rng.choice(({"start": date}, {"end": date}, {"start": date, "end": "2027"}))}
                            for date in rng.sample(DATES, rng.randrange(1, 3))]  # fmt: skip
    if rng.random() < 0.6:
        made["length"] = {"value": Decimal(rng.choice(("30", "45", "60.0"))), "system": UCUM, "code": "min"}
    return made


class World:
    """The resources by type and id, searched one by one."""

    def __init__(self, stored: list[tuple[Resource, datetime]]) -> None:
        self.resources = {(each["resourceType"], each["id"]): each for each, _ in stored}
        self.updated = {(each["resourceType"], each["id"]): when for each, when in stored}

    def find(self, kind: str, pairs: list[tuple[str, str]]) -> list[str]:
        """The ids that match all pairs, in the order `_sort` asks for, else by id."""
        asked = [pair for pair in pairs if not pair[0].startswith("_sort")]
        found = [each for (type_, _), each in self.resources.items() if type_ == kind]
        found = sorted(
            (each for each in found if all(self.holds(each, *pair) for pair in asked)), key=lambda one: one["id"]
        )
        for key in reversed([key for name, value in pairs if name == "_sort" for key in value.split(",")]):
            found = self._sorted(found, key.removeprefix("-"), key.startswith("-"))
        return [each["id"] for each in found]

    def _sorted(self, found: list[Resource], name: str, backwards: bool) -> list[Resource]:
        if name == "_id":
            return sorted(found, key=lambda each: each["id"], reverse=backwards)
        kept = {each["id"]: self._keys(each, name) for each in found}
        some = [each for each in found if kept[each["id"]]]
        pick = max if backwards else min
        worth = {each["id"]: pick(kept[each["id"]]) for each in some}
        order = sorted(set(worth.values()), reverse=backwards)
        some.sort(key=lambda each: order.index(worth[each["id"]]))
        return some + [each for each in found if not kept[each["id"]]]

    def _keys(self, each: Resource, name: str) -> list[Any]:
        if name == "_lastUpdated":
            return [self.updated[each["resourceType"], each["id"]]]
        if name in STRINGS:
            return [plain(text).encode() for text in STRINGS[name](each)]
        if name in QUANTITIES:
            return [ends(value)[0] for value in QUANTITIES[name](each)]
        if name in SPELT or name in CODED or name in REFERENCES:
            coded = [one["code"] for concept in CODED.get(name, lambda _: [])(each) for one in concept["coding"]]
            named = (SPELT | REFERENCES).get(name, lambda _: [])(each)
            return [text.encode() for text in (*coded, *named)]
        return [low for low, _ in SPANS[name](each)]

    def holds(self, each: Resource, name: str, value: str) -> bool:
        """Whether a resource meets one parameter."""
        if name.startswith("_has:"):
            return self._has(each, name, value)
        head, dot, inner = name.partition(".")
        bare, _, modifier = head.partition(":")
        if dot:
            named = (tuple(one.split("/")) for one in REFERENCES[bare](each))
            there = (self.resources.get((kind, id)) for kind, id in named if modifier in ("", kind))
            return any(one is not None and self.holds(one, inner, value) for one in there)
        if modifier == "missing":
            return (not there_is(each, bare)) == (value == "true")
        return any(_one(each, bare, modifier, alternative) for alternative in value.split(",")) is not (
            modifier == "not"
        )

    def _has(self, each: Resource, name: str, value: str) -> bool:
        _, kind, reference, inner = name.split(":", 3)
        target = f"{each['resourceType']}/{each['id']}"
        return any(
            type_ == kind and target in REFERENCES[reference](one) and self.holds(one, inner, value)
            for (type_, _), one in self.resources.items()
        )


def there_is(each: Resource, name: str) -> bool:
    """Whether a parameter has a value."""
    if name in ELEMENTS:
        return any(element in each for element in ELEMENTS[name])
    values = (STRINGS | QUANTITIES | SPANS | REFERENCES)[name](each)
    return bool(list(values))


def _one(each: Resource, name: str, modifier: str, value: str) -> bool:
    if modifier == "text":
        return any(plain(text).startswith(plain(value)) for text in LABELS[name](each))
    if modifier == "of-type":
        return any(value == f"{code['system']}|{code['code']}|{one['value']}"
                   for one in each.get("identifier", []) for code in one["type"]["coding"])  # fmt: skip
    if modifier in ("below", "above"):
        low, high = (each["url"], value) if modifier == "below" else (value, each["url"])
        return f"{low}/".startswith(f"{high.rstrip('/')}/")
    if name in COMPOSITES:
        first, _, second = value.partition("$")
        return any(_coded(code, first) and COMPARING[name](found, second) for code, found in COMPOSITES[name](each))
    if name in CODED:
        return any(_coded(code, value) for code in CODED[name](each))
    if name in STRINGS:
        kept = STRINGS[name](each)
        if modifier == "exact":
            return value in kept
        asked = plain(value)
        return any(asked in plain(one) if modifier == "contains" else plain(one).startswith(asked) for one in kept)
    if name in QUANTITIES:
        return any(measures(one, value) for one in QUANTITIES[name](each))
    prefix, text = (value[:2], value[2:]) if value[:2].isalpha() else ("eq", value)
    return any(compares(prefix, kept, span(text)) for kept in SPANS[name](each))


def _coded(concept: Resource, asked: str) -> bool:
    system, bar, code = asked.rpartition("|")
    if bar and not code:
        return any(one.get("system") == system for one in concept["coding"])
    return any(one["code"] == code and (not bar or one.get("system", "") == system) for one in concept["coding"])


def ends(quantity: Resource) -> tuple[Decimal, Decimal]:
    """The numbers a quantity may mean: one, or all on one side of it."""
    value, comparator = quantity["value"], quantity.get("comparator", "=")
    return (-ENDLESS if "<" in comparator else value), (ENDLESS if ">" in comparator else value)


def measures(quantity: Resource, asked: str) -> bool:
    """R4's prefixes on numbers, and the unit if one is asked for."""
    prefix, rest = (asked[:2], asked[2:]) if asked[:2].isalpha() else ("eq", asked)
    text, _, unit = rest.partition("|")
    value, (low, high) = Decimal(text), ends(quantity)
    least, most = around(text)
    inside = least <= low and high < most
    compared = {
        "eq": inside,
        "ne": not inside,
        "gt": high > value,
        "lt": low < value,
        "ge": high >= value,
        "le": low <= value,
        "sa": low > value,
        "eb": high < value,
        "ap": low <= value + abs(value) / 10 and high >= value - abs(value) / 10,
    }[prefix]
    system, _, code = unit.partition("|")
    if not unit:
        return compared
    if not system:
        return compared and code in (quantity.get("code"), quantity.get("unit"))
    return compared and quantity.get("system") == system and code in ("", quantity.get("code"))


def around(text: str) -> tuple[Decimal, Decimal]:
    """What a number means as it is written: half a unit of its last digit to both sides (`1e2` as R4's example)."""
    if text == "1e2":
        return Decimal(95), Decimal(105)
    digits = len(re.sub(r"^[^.]*\.?", "", text)) if "." in text else 0
    half = Decimal(1) / 2 / 10**digits
    return Decimal(text) - half, Decimal(text) + half


def _codes_and_values(element: str, root: bool, components: bool) -> Callable[[Resource], Iterator[tuple[Any, Any]]]:
    def found(each: Resource) -> Iterator[tuple[Any, Any]]:
        for holder in ([each] if root else []) + (each.get("component", []) if components else []):
            if element in holder:
                yield holder["code"], holder[element]

    return found


def _second(pairs: Callable[[Resource], Iterator[tuple[Any, Any]]]) -> Callable[[Resource], list[Any]]:
    return lambda each: [value for _, value in pairs(each)]


def _labels(concepts: list[Resource]) -> list[str]:
    said = [concept.get("text") for concept in concepts]
    return [text for text in [*said, *(one.get("display") for each in concepts for one in each["coding"])] if text]


QUANTITY, CONCEPT = "valueQuantity", "valueCodeableConcept"
COMPOSITES = {
    "code-value-quantity": _codes_and_values(QUANTITY, True, False),
    "component-code-value-quantity": _codes_and_values(QUANTITY, False, True),
    "combo-code-value-quantity": _codes_and_values(QUANTITY, True, True),
    "code-value-concept": _codes_and_values(CONCEPT, True, False),
    "component-code-value-concept": _codes_and_values(CONCEPT, False, True),
    "combo-code-value-concept": _codes_and_values(CONCEPT, True, True),
    "code-value-string": _codes_and_values("valueString", True, False),
}
COMPARING: dict[str, Callable[[Any, str], bool]] = {
    name: measures if name.endswith("quantity") else _coded for name in COMPOSITES
} | {"code-value-string": lambda kept, asked: plain(kept).startswith(plain(asked))}
QUANTITIES: dict[str, Callable[[Resource], list[Any]]] = {
    "value-quantity": _second(COMPOSITES["code-value-quantity"]),
    "component-value-quantity": _second(COMPOSITES["component-code-value-quantity"]),
    "combo-value-quantity": _second(COMPOSITES["combo-code-value-quantity"]),
    "length": lambda each: [each["length"]] if "length" in each else [],
}
CODED: dict[str, Callable[[Resource], list[Any]]] = {
    "code": lambda each: [each["code"]],
    "component-code": lambda each: [one["code"] for one in each.get("component", [])],
    "combo-code": lambda each: [each["code"], *(one["code"] for one in each.get("component", []))],
}
LABELS: dict[str, Callable[[Resource], list[str]]] = {
    "code": lambda each: _labels([each["code"]]),
    "combo-code": lambda each: _labels(CODED["combo-code"](each)),
    "identifier": lambda each: [one["type"]["text"] for one in each.get("identifier", [])],
}
STRINGS: dict[str, Callable[[Resource], list[str]]] = {
    "family": lambda each: [one["family"] for one in each.get("name", [])],
    "given": lambda each: [given for one in each.get("name", []) for given in one["given"]],
    "address-city": lambda each: [one["city"] for one in each.get("address", [])],
    "name": lambda each: [each["name"]],
}
SPANS: dict[str, Callable[[Resource], list[Any]]] = {
    "location-period": lambda each: [_covered(one["period"]) for one in each.get("location", [])],
    "birthdate": lambda each: [span(each["birthDate"])] if "birthDate" in each else [],
}
REFERENCES: dict[str, Callable[[Resource], list[str]]] = {
    "general-practitioner": lambda each: [one["reference"] for one in each.get("generalPractitioner", [])],
    "partof": lambda each: [each["partOf"]["reference"]] if "partOf" in each else [],
    "subject": lambda each: [each["subject"]["reference"]] if "subject" in each else [],
    "patient": lambda each: [each["subject"]["reference"]] if "subject" in each else [],
    "performer": lambda each: [one["reference"] for one in each.get("performer", [])],
}
SPELT: dict[str, Callable[[Resource], list[str]]] = {
    "identifier": lambda each: [one["value"] for one in each.get("identifier", [])],
    "url": lambda each: [each["url"]],
}
ELEMENTS = {"identifier": ("identifier",), "code": ("code",), "combo-code": ("code",), "component-code": ("component",)}
"""Elements whose being there is what `:missing` asks about."""


def _covered(period: Resource) -> tuple[datetime, datetime]:
    low = span(period["start"])[0] if "start" in period else datetime(1, 1, 2, tzinfo=UTC)
    return low, span(period["end"])[1] if "end" in period else datetime(9999, 12, 30, tzinfo=UTC)
