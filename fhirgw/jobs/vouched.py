"""Lines of an import that say who may see a record, or whose an ODS code is: taken of who may say so alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fhirgw.access.label import SAFEGUARDING
from fhirgw.fhir.canonical import decode
from fhirgw.fhir.issue import Issue, Resource
from fhirgw.fhir.references import LOCAL
from fhirgw.jobs.line import Judged
from fhirgw.store import load, ods
from fhirgw.store.database import Connection
from fhirgw.store.load import Kept, Staged

OPENING = Issue(
    "forbidden",
    "It decides who may see a record of somebody whom others brought, or nobody yet: load the person first, and of"
    " others' people the council's own systems alone say so (by $import or a write)",
)
JOINING = Issue(
    "forbidden",
    "It makes somebody a member of staff of an organisation that others brought: the council's own systems say who is",
    "PractitionerRole.organization",
)

Version = tuple[Judged, Staged]
"""A line, and what it makes."""

Said = Callable[[Judged], Resource]
"""The resource of a line."""

Refuse = Callable[[int, Sequence[Issue]], None]
"""Called with the number of a line that is not taken, and why."""


async def vouched(
    writer: Connection, origin: str, kind: str, versions: list[Version], said: Said, refuse: Refuse
) -> list[Version]:
    """Without what would open, or close, a record that others brought: files are anybody's, as of a care provider's
    own server, and nobody empowers themselves.
    """
    if kind == "PractitionerRole":
        about, of, wrong = (
            "Organization",
            [_employer(said(each)) for each, _ in versions],
            JOINING,
        )
    else:
        about, of, wrong = "Patient", [each.patient if _decides(each) else None for _, each in versions], OPENING
    named = {each for each in of if each is not None}
    if kind == about or not named:
        return versions
    brought = await load.brought(writer, about, list(named))
    nobody = origin if wrong is JOINING else ""
    left = []
    for (judged, made), whose in zip(versions, of, strict=True):
        if whose is None or brought.get(whose, nobody) == origin:
            left.append((judged, made))
        else:
            refuse(judged.number, [wrong])
    return left


async def known(
    writer: Connection, versions: list[Version], kept: dict[str, Kept], said: Said, refuse: Refuse
) -> list[Version]:
    """Without Organizations that claim an ODS code which is another's: callers are known by it."""
    had = {made.id: ods.codes(decode(kept[made.id].body)) if made.id in kept else set() for _, made in versions}
    codes = {made.id: ods.codes(said(each)) for each, made in versions}
    claimed = {code for id in codes for code in codes[id] - had[id]}
    taken = await ods.taken(writer, claimed, list(codes)) | {code for id in codes for code in codes[id] & had[id]}
    left = []
    for judged, made in versions:
        new = codes[made.id] - had[made.id]
        if new & taken:
            refuse(judged.number, ods.refusal().issues)
        else:
            left.append((judged, made))
            taken |= new
    return left


def _decides(made: Staged) -> bool:
    """Whether a version decides who sees the record it is in: by a tie, a consent, a delegation, or as a case."""
    case = made.type == "Flag" and made.labels & SAFEGUARDING
    return bool(made.ruling or case)


def _employer(role: Resource) -> str | None:
    """The id of the Organization that a PractitionerRole is at."""
    organisation = role.get("organization", {})
    found = LOCAL.fullmatch(str(organisation.get("reference", "")))
    return found[2] if found and found[1] == "Organization" else None
