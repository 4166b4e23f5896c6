"""By what a pseudonymised export may be narrowed: by codes that it shows of each resource, and by nothing finer.

A filter is a question about the data as they are, and its answer is who comes: whoever has one export by
`birthdate=1950-03-01` and one without knows whose birthday that is, whatever year the rows say, and by `date` how far
somebody's dates were moved. So what may be asked is told by the rules themselves (profiles/pseudonymise.yaml): a code
that they keep as it is. Two exports that differ by such a filter differ by what each row of the wider one says of
itself, so that their difference tells nothing that one of them does not tell alone; that is why they need not be
compared, rare codes included. For the same reason a filter may follow `patient` and `subject` to the person, who is in
what is exported by the same pseudonym, and nobody else: what refers to them (`_has`) and lists are not.

Who comes in a list that somebody has made says more than their rows do: see fhirgw.jobs.apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from fhirgw.fhir.elements import Element
from fhirgw.fhir.parameters import EVERYWHERE, supported
from fhirgw.fhir.pseudonym import rules

PERSON = ("patient", "subject")
"""References that may be followed."""

MODIFIERS = ("", "not", "in", "not-in", "above", "below", "missing")
"""Not `text`: it looks at what was written, which is in no export."""

TOLD_BY = {"deceased": "deceasedBoolean"}
"""Parameters that ask whether there is anything, and the element that says so."""


@cache
def allowed(kind: str) -> frozenset[str]:
    """The search parameters of a type that look at what a pseudonymised export shows as it is; of one without rules,
    none.
    """
    rule = rules().types.get(kind)
    found = (each for each in supported(kind).values() if each.kind == "token" and each.name not in EVERYWHERE)
    return frozenset(
        each.name
        for each in found
        if rule
        and (
            all(_kept(rule.written, source.path) for source in each.sources)
            if each.sources
            else rule.written.get(TOLD_BY.get(each.name, "")) == "keep"
        )
    )


def finer(search: str) -> str | None:
    """The parameter of a search, `Condition?code=…`, that asks more than is shown; None: there is none."""
    kind, _, text = search.partition("?")
    for name, _ in parse_qsl(text, keep_blank_values=True):
        if not _shown(kind, name):
            return name
    return None


def why(place: str, name: str, kind: str) -> str:
    """Why it is refused, and what to ask instead."""
    instead = f"ask by {', '.join(sorted(allowed(kind)))}" if allowed(kind) else f"ask for all of {kind}"
    return f"{place}: {name} asks more of {kind} than is shown of it with pseudonyms, and would tell people: {instead}"


def _shown(kind: str, name: str) -> bool:
    *links, last = name.split(".")
    name, _, modifier = last.partition(":")
    for each in links:
        link, _, target = each.partition(":")
        if link not in PERSON or target not in ("", "Patient"):
            return False
        kind = "Patient"
    return name in allowed(kind) and modifier in MODIFIERS


def _kept(written: Mapping[str, Any], path: tuple[Element, ...]) -> bool:
    """Whether what stands at a path is shown as it is."""
    action: Any = written
    for each in path:
        action = action.get(each.name) if isinstance(action, Mapping) else action
    return bool(action == "keep")
