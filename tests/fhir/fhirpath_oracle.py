"""R4's search parameters read the slow way: a small FHIRPath over plain JSON, straight from the published definitions.

It shares nothing with fhirgw but the texts of tokens, which it hashes for itself. It guesses types from the JSON's
shape, where the code under test knows them from the tables.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import unicodedata
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

LONDON = ZoneInfo("Europe/London")
FOREVER = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
PHONE_NOISE = re.compile(r"[ ().\-\u00a0\u2011\u2013]")
MONTHS_AFTER = {4: 12, 7: 1}


def search_parameters(package: Path) -> list[dict[str, Any]]:
    """Every SearchParameter with an expression in the official package."""
    with tarfile.open(package) as archive:
        names = [name for name in archive.getnames() if name.startswith("package/SearchParameter-")]
        found = [json.load(archive.extractfile(name)) for name in names]  # type: ignore[arg-type]
    return [each for each in found if "expression" in each and "extension" not in each["expression"].lower()]


def values(expression: str, resource: dict[str, Any]) -> list[Any]:
    """What the expression finds in the resource."""
    kind = resource["resourceType"]
    if expression == "Patient.deceased.exists() and Patient.deceased != false":
        return [resource.get("deceasedBoolean", False) or "deceasedDateTime" in resource]
    return [
        value
        for branch in expression.split(" | ")
        if (path := re.sub(r"^\((.+?) as (\w+)\)", r"\1.as(\2)", branch.strip())).partition(".")[0]
        in (kind, "Resource")
        for value in walk(path, resource)
    ]


def walk(path: str, resource: dict[str, Any]) -> Iterator[Any]:
    found: list[tuple[str, Any]] = [("", resource)]
    for step in re.findall(r"\.(\w+(?:\((?:[^()]|\(\))*\))?)", path):
        if step.startswith(("as(", "ofType(")):
            wanted = step[step.index("(") + 1 : -1]
            found = [(name, value) for name, value in found if name.lower().endswith(wanted.lower())]
        elif step.startswith("where(resolve() is "):
            wanted = step[19:-1]
            found = [(name, value) for name, value in found if wanted in (referred(value), value.get("type"))]
        elif step.startswith("where("):
            key, _, wanted = step[6:-1].partition("=")
            found = [(name, value) for name, value in found if value.get(key.strip()) == wanted.strip().strip("'")]
        else:
            found = [each for _, value in found if isinstance(value, dict) for each in named(value, step)]
    return (value for _, value in found)


def named(value: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """The element of a name; or of a choice, whose JSON name ends with its type."""
    for key, inner in value.items():
        if key == name or (re.fullmatch(re.escape(name) + r"[A-Z]\w*", key) and name not in value):
            for each in inner if isinstance(inner, list) else [inner]:
                if each is not None:
                    yield key, each


def referred(value: dict[str, Any]) -> str | None:
    parts = value.get("reference", "").partition("/_history")[0].split("/")
    return parts[-2] if len(parts) > 1 else None


def hashed(text: str) -> int:
    number = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)
    return number - 2**64 if number >= 2**63 else number


def token_texts(name: str, kind: str, value: Any) -> set[str]:
    """The texts of one value of a token, reference, uri or string (its exact form) parameter."""
    if kind == "reference" and isinstance(value, dict):
        texts = set()
        target = value.get("reference", "#").partition("/_history/")[0]
        if not target.startswith("#"):
            texts.add(f"{name}|{target}")
        logical = value.get("identifier", {})
        if "system" in logical and "value" in logical:
            texts.add(f"{name}:identifier|{logical['system']}|{logical['value']}")
        return texts
    if kind == "reference":
        return {f"{name}|{value}", f"{name}|{value.split('|')[0]}"}
    if kind == "uri":
        return {f"{name}|{value}", *(f"{name}:below|{top}" for top in above(value))}
    if kind == "string":
        return {f"{name}:exact|{part}" for part in string_parts(value)}
    if isinstance(value, bool):
        return {f"{name}||{str(value).lower()}"}
    if isinstance(value, str):
        return {f"{name}||{value}"}
    if "coding" in value or not {"system", "value", "code"} & set(value):
        return {
            text for coding in value.get("coding", []) for text in pair(name, coding.get("system"), coding.get("code"))
        }
    if "value" in value and "code" not in value and ":" not in value.get("system", ":"):
        contact = value["value"].casefold().strip()
        return {f"{name}||{contact if '@' in contact else PHONE_NOISE.sub('', contact)}"}
    texts = pair(name, value.get("system"), value.get("code", value.get("value")))
    for each in value["type"].get("coding", []) if isinstance(value.get("type"), dict) else []:
        texts.add(f"{name}:of-type|{each.get('system', ' ')}|{each['code']}|{value['value']}")
    return texts


def above(url: str) -> set[str]:
    """A url and what it is below; of what has no path, nothing."""
    scheme, mark, rest = url.partition("://")
    tops, top = set(), scheme + mark
    for step in rest.split("/") if mark else []:
        top += step
        tops.add(top)
        top += "/"
    return tops


def measured(value: Any) -> list[tuple[Any, ...]]:
    """A quantity, range or sampled data as (low, high, system, code, unit); both ends belong to it."""
    endless = Decimal("Infinity")
    if "data" in value:
        origin, factor = value["origin"], Decimal(str(value.get("factor", 1)))
        points = [Decimal(str(origin["value"])) + factor * Decimal(each) for each in value["data"].split()]
        return [(min(points), max(points), origin.get("system"), origin.get("code"), origin.get("unit"))]
    if "low" in value or "high" in value:
        ends = [value.get("low", {}), value.get("high", {})]
        said = next(each for each in ends if "value" in each)
        low = Decimal(str(ends[0]["value"])) if "value" in ends[0] else -endless
        high = Decimal(str(ends[1]["value"])) if "value" in ends[1] else endless
        return [(low, high, said.get("system"), said.get("code"), said.get("unit"))]
    if "value" not in value:
        return []
    point = Decimal(str(value["value"]))
    ends = {"<": (-endless, point), "<=": (-endless, point), ">": (point, endless), ">=": (point, endless)}
    low, high = ends.get(value.get("comparator", ""), (point, point))
    return [(low, high, value.get("system"), value.get("code"), value.get("unit"))]


def beside(
    definition: dict[str, Any], kinds: dict[str, str], resource: dict[str, Any]
) -> list[tuple[str, Any, str, Any]]:
    """What a composite finds: the group's path, its first value, the kind of the second, and that."""
    found = []
    parts = [(kinds[each["definition"]], each["expression"]) for each in definition["component"]]
    if definition["code"] == "relationship":  # R4 has these two the wrong way round
        parts = [(kind, {"code": "target", "target": "code"}[path]) for kind, path in parts]
    for branch in definition["expression"].split(" | "):
        name = branch.partition(".")[2]
        for group in values(branch, resource) if name else [resource]:
            heads = list(walk(f"Group.{parts[0][1]}", group))
            tails = [value for path in parts[1][1].split(" | ") for value in walk(f"Group.{path}", group)]
            fitting = [tail for tail in tails if parts[1][0] != "token" or not _measured(tail)]
            found += [(name, head, parts[1][0], tail) for head in heads for tail in fitting]
    return found


def _measured(value: Any) -> bool:
    """Whether a choice of types was not of a code's: a quantity, a range or a reference, which no token is made of."""
    return isinstance(value, dict) and not {"value", "low", "high", "reference"}.isdisjoint(value)


def behind(kind: str, value: Any) -> set[str]:
    """The texts of a token's value, without the parameter's name."""
    return {text.partition("|")[2] for text in token_texts("", kind, value)}


def pair(name: str, system: str | None, code: str | None) -> set[str]:
    if system and code:
        return {f"{name}|{system}|{code}", f"{name}||{code}", f"{name}|{system}|"}
    if code:
        return {f"{name}||{code}", f"{name}| |{code}"}
    return {f"{name}|{system}|"} if system else set()


def string_parts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    keys = ("family", "given", "prefix", "suffix", "text", "line", "city", "district", "state", "postalCode", "country")
    return [
        part
        for key in keys
        for part in ([value[key]] if isinstance(value.get(key), str) else value.get(key, []))
        if part
    ]


def folded(name: str, text: str) -> str:
    plain = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    return ("" if name == "address-postalcode" else " ").join(plain.casefold().split())


def covered(value: Any) -> tuple[datetime, datetime] | None:
    """The time that a date, Period or Timing covers."""
    if isinstance(value, str):
        return written(value)
    if "event" in value or "repeat" in value or "code" in value:
        spans = [written(each) for each in value.get("event", [])]
        if bounds := value.get("repeat", {}).get("boundsPeriod"):
            spans.append(covered(bounds) or FOREVER)
        return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None
    low = written(value["start"])[0] if "start" in value else FOREVER[0]
    high = written(value["end"])[1] if "end" in value else FOREVER[1]
    return None if (low, high) == FOREVER else (low, high)


def written(text: str) -> tuple[datetime, datetime]:
    if len(text) <= 10:
        first = date.fromisoformat(text + "-01" * ((10 - len(text)) // 3))
        if len(text) == 10:
            after = first + timedelta(days=1)
        else:
            months = first.year * 12 + first.month - 1 + MONTHS_AFTER[len(text)]
            after = date(months // 12, months % 12 + 1, 1)
        return midnight(first), midnight(after)
    start = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z" if "." in text else "%Y-%m-%dT%H:%M:%S%z").astimezone(UTC)
    digits = len(re.search(r"\.(\d+)", text).group(1)) if "." in text else 0  # type: ignore[union-attr]
    return start, start + timedelta(microseconds=10 ** (6 - digits))


def midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), LONDON).astimezone(UTC)
