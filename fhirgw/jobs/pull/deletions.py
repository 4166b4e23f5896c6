"""What a pull's `deleted` files say is no more, taken away here: of what that server itself brought, and once.

Each line is a Bundle of type transaction whose entries are `DELETE Type/id`. Patients go last, when the rest of their
records has gone. https://hl7.org/fhir/uv/bulkdata/export.html#response---complete-status
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fhirgw.access.audit_event import Seen
from fhirgw.access.writing import NEVER
from fhirgw.fhir.incoming import read
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import HELD
from fhirgw.jobs.files import unpacked
from fhirgw.jobs.taking import told
from fhirgw.store.database import Connection
from fhirgw.store.pulls import PulledFile
from fhirgw.store.retraction import retract

BATCH = 500
"""Resources that are deleted by one statement, and told in one AuditEvent."""

NAMED = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})")
SHAPE = Issue(
    "structure", "A line of deletions is a Bundle of type transaction with entries: ask who sends it", "Bundle"
)
ENTRY = "Deletions alone are done from here, each as DELETE of Type/id: ask who sends it to have it so"
OTHERS = "It names a {} that another brought (id {}): it stays, as only who brings a resource takes it away"
IN_USE = "A Patient stays whom others know too, or of whom there is more here (id {}): delete that first"

Place = tuple[str, int]
"""A file by its name, and a line."""
Tell = Callable[[Sequence[Seen]], None]


@dataclass(slots=True)
class Deletions:
    """What came of all of them, counted: `deleted`, `absent` (not here, or gone already), `others`, `refused`.

    `outcomes` are OperationOutcomes, a line each, of those that came to something else than was asked for.
    """

    counts: Counter[str] = field(default_factory=Counter)
    outcomes: list[str] = field(default_factory=list)

    def say(self, what: str, place: Place, issue: Issue) -> None:
        """One that comes to something else."""
        self.counts[what] += 1
        self.outcomes.append(told(*place, [issue]))


async def delete(
    connection: Connection,
    origin: str,
    base: str,
    folder: Path,
    files: Sequence[PulledFile],
    moment: datetime,
    tell: Tell,
) -> Deletions:
    """Does what the files say of what `origin` brought, in the caller's transaction. Addresses may be below `base`.

    `tell` is given what has gone. Raises OSError where a file cannot be read.
    """
    done = Deletions()
    waiting: dict[str, dict[str, Place]] = {}

    async def flush(kind: str, places: dict[str, Place]) -> None:
        found = await retract(connection, origin, kind, list(places), moment)
        done.counts["deleted"] += len(found.gone)
        done.counts["absent"] += len(places) - len(found.gone) - len(found.others) - len(found.kept)
        for id in found.others:
            done.say("others", places[id], Issue("not-found", OTHERS.format(kind, id), severity="warning"))
        for id in found.kept:
            done.say("refused", places[id], Issue("conflict", IN_USE.format(id), kind))
        if found.gone:
            tell([Seen(kind, id, person) for id, person in found.gone.items()])

    for kind, id, place in _listed(folder, files, base, done):
        if kind not in HELD or kind in NEVER:
            done.counts["absent"] += 1
            continue
        waiting.setdefault(kind, {}).setdefault(id, place)
        if len(waiting[kind]) >= BATCH and kind != "Patient":
            await flush(kind, waiting.pop(kind))
    for kind in sorted(waiting, key=lambda kind: (kind == "Patient", kind)):
        left = list(waiting[kind].items())
        for at in range(0, len(left), BATCH):
            await flush(kind, dict(left[at : at + BATCH]))
    return done


def _listed(folder: Path, files: Sequence[PulledFile], base: str, done: Deletions) -> Iterator[tuple[str, str, Place]]:
    """The type and the id of each, and where it is told. What is none is refused."""
    for file in files:
        if file.kind != "deleted":
            continue
        name = str(file.name)
        with unpacked(folder / name) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield from _told(line, base, (name, number), done)


def _told(line: bytes, base: str, place: Place, done: Deletions) -> Iterator[tuple[str, str, Place]]:
    try:
        bundle = read(line.strip())
    except FhirError as error:
        done.say("refused", place, error.issues[0])
        return
    entries = bundle.get("entry", [])
    kinds = bundle.get("resourceType"), bundle.get("type")
    if kinds != ("Bundle", "transaction") or not isinstance(entries, list):
        done.say("refused", place, SHAPE)
        return
    for at, entry in enumerate(entries):
        if found := _named(entry, base):
            yield found[1], found[2], place
        else:
            done.say("refused", place, Issue("not-supported", ENTRY, f"Bundle.entry[{at}].request"))


def _named(entry: Any, base: str) -> re.Match[str] | None:
    """What an entry deletes, by type and id."""
    request = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(request, dict) or request.get("method") != "DELETE" or not isinstance(request.get("url"), str):
        return None
    return NAMED.fullmatch(request["url"].removeprefix(f"{base}/"))
