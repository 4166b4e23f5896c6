"""Whether a pseudonymised export would set a few people apart, by what else its agreement has had.

What is released with pseudonyms is the same wherever it stands, so that two exports can be laid side by side. By which
codes each was asked for tells nothing more (fhirgw.fhir.pseudonym_filter). Two things do, and are judged here:

- **A list.** Who is in a Group that somebody has made is known to whoever made it. Two that differ by one person tell
  that person's pseudonym by what the exports do not share, two that have one in common by what they do, and one of
  everybody but one by what an export of all has besides. So all lists that an agreement has had exports of cut the
  people into pieces, of those who are on the same lists, and no list may cut one so that a part of it is of fewer
  people than the rules' `smallest`; those who are on none of them are a piece too. Only people who may be in such an
  export are counted, so that none can be hidden behind those who are not. Members that have changed by a few are
  refused for the same reason: ask for the list as it was, or when more have changed. A Group that is defined by
  searches is one by what is shown (`check_definition`), and who meets them from day to day changes by itself.
- **A moment.** `_since` any moment would tell, to the millisecond, when each row was changed here, and so by how much
  the dates in it were moved: it is a moment that an export of the project was as of, and tells what the two exports do.
  `_until` is refused with the kick-off.

What this does not keep from anybody: whoever has whole exports again and again sees what came and went between them.
How often that may be is for the agreement to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.pseudonym import rules
from fhirgw.fhir.pseudonym_filter import finer, why
from fhirgw.store import cohort, pseudonymised, write
from fhirgw.store.cohort import Cohort
from fhirgw.store.database import Connection, declared
from fhirgw.store.export import Selection

EVERYBODY = (Scope("system", "Patient", "r"),)
"""People are counted whatever of them the token may read: it would choose who counts."""

FEW = (
    "Group: beside the lists that this agreement has had exports of, this one sets a few people apart, who might be"
    " known by it: ask for one of those again, for a Group that is defined by codes, or for one that differs by more"
)
UNKNOWN = (
    "_since: with pseudonyms this is the transactionTime of an export that this project has had: give one of those,"
    " or leave _since out"
)


async def check(connection: Connection, permit: Permit, asked: Selection) -> None:
    """Raises FhirError for an export with pseudonyms that would set people apart; `kept` says so again of what is there
    when it is made.
    """
    if asked.project is None:
        return
    if asked.since and not await pseudonymised.had(connection, permit, asked.project, asked.since):
        raise FhirError(Issue("invalid", UNKNOWN))
    if asked.group is not None:
        async with declared(connection, permit):
            group = await cohort.find(connection, permit, asked.group)
        check_definition(group)
        if group.members is not None:
            await _check_cut(connection, permit, group.members)


def check_definition(group: Cohort) -> None:
    """Raises FhirError for a Group whose searches ask more than is shown. Each is of one type, and codes that are shown
    of that: who meets two of them meets both by what a whole export shows.
    """
    for kind, searches in group.filters.items():
        for each in searches:
            if name := finer(each):
                raise FhirError(Issue("business-rule", why("Group, member-filter", name, kind)))


async def kept(connection: Connection, permit: Permit, members: Collection[str]) -> None:
    """Writes down that the agreement has an export of a list, before there is one; of two that together set people
    apart, neither is had. Raises FhirError.
    """
    new = await pseudonymised.keep(connection, permit, members)
    try:
        await _check_cut(connection, permit, members)
    except FhirError:
        if new:
            await pseudonymised.drop(connection, permit, members)
        raise


async def _check_cut(connection: Connection, permit: Permit, members: Collection[str]) -> None:
    everybody = replace(permit, scopes=EVERYBODY)
    async with declared(connection, everybody):
        earlier = await pseudonymised.cohorts(connection, permit, members)
        named = set(members).union(*earlier)
        shown = set(await write.seen(connection, everybody, "Patient", [*named]))
        rest = await pseudonymised.others(connection, everybody, shown, rules().smallest)
    if cuts(earlier, members, shown, rest):
        raise FhirError(Issue("business-rule", FEW))


def cuts(earlier: Sequence[Collection[str]], members: Collection[str], shown: Collection[str], rest: int) -> bool:
    """Whether a list sets fewer apart than it may, of those who are `shown`; `rest` more are on no list."""
    pieces: Counter[tuple[bool, ...]] = Counter()
    inside: Counter[tuple[bool, ...]] = Counter()
    lists, members = [frozenset(each) for each in earlier], frozenset(members)
    pieces[tuple(False for _ in lists)] = rest
    for person in shown:
        piece = tuple(person in each for each in lists)
        pieces[piece] += 1
        inside[piece] += person in members
    return any(
        0 < inside[piece] < size and min(inside[piece], size - inside[piece]) < rules().smallest
        for piece, size in pieces.items()
    )
