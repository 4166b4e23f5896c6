"""What a resource may refer to while it is judged: what it contains, and the Bundle it stands in.

A check answers with what it found, each with the place below what it was given: whoever holds that puts its own name
before. So a sound resource costs no path at all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import orjson

from fhirgw.fhir.issue import Issue, Resource

SHORT, KEPT = 400, 512
"""Bytes of a value that is remembered, and how many are for each element."""
REFERS, NAMED = b'"reference"', b'"id"'
Found = list[tuple[str, Issue]]
Check = Callable[[Any, "Scope"], Found | None]
"""Judges a value; nothing, or an empty list, when it is sound."""


class Scope:
    """One resource that stands for itself: the one given, or one entry of a Bundle. `above` is that Bundle's."""

    def __init__(self, resource: Resource, above: Scope | None = None, full_url: str = "") -> None:
        self.resource = resource
        self.above = above
        self.full_url = full_url
        self.judging: set[tuple[int, str]] = above.judging if above else set()
        self.named = False
        """Whether an element of it has an id."""

    @cached_property
    def contained(self) -> dict[str, Resource]:
        """What it contains, by id."""
        held = self.resource.get("contained", ())
        held = held if isinstance(held, list) else ()
        return {each["id"]: each for each in held if isinstance(each, dict) and isinstance(each.get("id"), str)}

    @cached_property
    def entries(self) -> dict[str, Resource]:
        """The resources of a Bundle by fullUrl."""
        held = self.resource.get("entry", ())
        found = {}
        for each in held if isinstance(held, list) else ():
            if isinstance(each, dict) and isinstance(each.get("fullUrl"), str):
                resource = each.get("resource")
                found[each["fullUrl"]] = resource if isinstance(resource, dict) else {}
        return found

    @cached_property
    def base(self) -> str:
        """The FHIR base of its fullUrl, with a / at its end; blank where that is no REST url."""
        parts = self.full_url.rsplit("/", 2)
        return f"{parts[0]}/" if len(parts) == 3 and "://" in self.full_url else ""

    def of_target(self, target: Resource) -> Scope:
        """The scope of a resource that this one refers to."""
        made = Scope(target, self.above)
        made.judging = self.judging
        return made

    def resolved(self, reference: str) -> Resource | None:
        """The resource a reference leads to, here or in the Bundle; None for what is elsewhere."""
        if reference.startswith("#"):
            return self.resource if reference == "#" else self.contained.get(reference[1:])
        if self.above is None:
            return None
        bare = reference.partition("/_history/")[0]
        return self.above.entries.get(bare) or self.above.entries.get(self.base + bare)


def below(name: str, found: Found) -> Found:
    """What was found, seen from whoever holds it by that name."""
    return [(name + place, issue) for place, issue in found]


def remembered(check: Check) -> Check:
    """The same check, which knows again what it found sound: codes are few, and come in every resource.

    What a value says decides alone, unless it refers to something, which may be here once and not again, or has an id,
    which another may have too.
    """
    sound: set[bytes] = set()

    def known(value: Any, scope: Scope) -> Found | None:
        try:
            text = orjson.dumps(value)
        except TypeError:  # a Decimal, say
            return check(value, scope)
        if text in sound:
            return None
        found = check(value, scope)
        if not found and len(text) <= SHORT and REFERS not in text and NAMED not in text:
            if len(sound) >= KEPT:
                sound.clear()
            sound.add(text)
        return found

    return known
