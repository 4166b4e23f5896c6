"""How far from the person's home a carer's telephone was: metres, which are kept, of two places, which are not.

A care provider that sends the distance itself need not say where anybody lives or was.
https://en.wikipedia.org/wiki/Haversine_formula
"""

from __future__ import annotations

from collections.abc import Mapping
from math import asin, cos, radians, sin, sqrt
from typing import Any

from fhirgw.visits.field import HOME

EARTH = 6_371_009
"""Metres: the mean radius. A sphere is wrong by half a percent at most, a telephone by more."""
PLACE = ("latitude", "longitude")


def measured(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts with a distance in the place of a carer's, and without where the person lives."""
    home = parts.get(HOME)
    found = {name: value for name, value in parts.items() if name != HOME}
    if "carer" in found:
        found["carer"] = _carer(found["carer"], home)
    if found.get("carers"):
        found["carers"] = [_carer(each, home) for each in found["carers"]]
    return found


def metres(one: Mapping[str, float], other: Mapping[str, float]) -> int:
    """Between two places, as the crow flies."""
    (north, east), (to_north, to_east) = ([radians(each[name]) for name in PLACE] for each in (one, other))
    half = sin((to_north - north) / 2) ** 2 + cos(north) * cos(to_north) * sin((to_east - east) / 2) ** 2
    return round(2 * EARTH * asin(sqrt(min(1.0, half))))


def _carer(carer: Mapping[str, Any], home: Mapping[str, float] | None) -> dict[str, Any]:
    kept = {name: value for name, value in carer.items() if name not in PLACE}
    if home and PLACE[0] in carer and "distance" not in carer:
        kept["distance"] = metres(home, carer)
    return kept
