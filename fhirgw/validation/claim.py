"""The profiles a resource claims in meta.profile, and those it is asked to keep to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fhirgw.fhir.issue import Issue
from fhirgw.fhir.profile import profile
from fhirgw.validation.constraint import conforms
from fhirgw.validation.scope import Found, Scope

UNKNOWN = Issue("not-found", "Nobody here knows this profile: add its definition, or claim another", None, "warning")
BASELESS = Issue("not-found", "Nobody here knows what this profile is based on: add that definition", None, "warning")


def by_claim(resource: dict[str, Any], asked: Sequence[str], scope: Scope) -> Found | None:
    """What the profiles find; each once, however often it is named.

    One that cannot be judged by is an error where it is asked for, and claimed no more than a warning.
    https://hl7.org/fhir/R4/resource-operation-validate.html
    """
    meta = resource.get("meta")
    listed = meta.get("profile") if meta.__class__ is dict else None
    if not asked and listed.__class__ is not list:
        return None
    found: Found = []
    for place, url in _named(listed, asked):
        known = profile(url)
        if known is None:
            found.append((place, _unjudged(UNKNOWN, url in asked)))
        elif known.type != resource.get("resourceType"):
            found.append((place, Issue("invalid", f"The profile is for {known.type}: claim one for this type")))
        else:
            judge = conforms(known.url)
            if judge is None:
                found.append((place, _unjudged(BASELESS, url in asked)))
            else:
                found += judge(resource, scope) or []
    return found


def _unjudged(why: Issue, asked: bool) -> Issue:
    return replace(why, severity="error") if asked else why


def _named(listed: Any, asked: Sequence[str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for at, url in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(url, str) and url not in seen:
            seen.add(url)
            yield f".meta.profile[{at}]", url
    for url in asked:
        if url not in seen:
            seen.add(url)
            yield ".meta.profile", url
