"""The end of an import: which references lead nowhere now that all is in, what came of each input, and why not all.

A reference may come before what it points to, so it is looked up at once, and again here. What still leads nowhere is
kept and reported: the controlling council sends its own records as they are, and may refer to what is held elsewhere
(fhirgw.access.writing.vouches); to refuse it here would be to take back what others may have read already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from fhirgw.fhir.issue import Issue
from fhirgw.fhir.nhs import is_nhs_number
from fhirgw.jobs.taking import named, told
from fhirgw.store import import_job, load, write
from fhirgw.store.database import Connection
from fhirgw.store.import_job import COUNTS, Input, Job

MANY = 2000
"""Resources after which the planner's statistics are taken anew."""
AT_ONCE = 1000
"""Lines, or ids, that are fetched at a time."""
NOWHERE = "It refers to a {} that is not here ({}): it was taken as it is; send that too, or correct the reference"


class Came(NamedTuple):
    """What came of an input: its lines by COUNTS, `failure` if there is no more to be had of it from `line` on.

    `nowhere`: references that lead nowhere, as (type, id, line).
    """

    number: int
    source: str
    name: str
    type: str
    counts: dict[str, int]
    failure: str | None
    line: int
    nowhere: Sequence[tuple[str, str, int]]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "input": self.source,
            "type": self.type,
            **self.counts,
            "nowhere": len(self.nowhere),
            "failure": self.failure,
        }


async def came(connection: Connection, job: Job) -> list[Came]:
    """What came of each input of an import, all of which have ended."""
    lost: dict[int, list[tuple[str, str, int]]] = defaultdict(list)
    for kind, id, number, line in await _nowhere(connection, job):
        lost[number].append((kind, id, line))
    return [
        Came(
            *(each["number"], each["source"], _name(each), each["type"], {name: each[name] for name in COUNTS}),
            *(each["reason"] if each["state"] == "failed" else None, each["line"]),
            lost[each["number"]],
        )
        for each in await import_job.inputs(connection, job.id)
    ]


def _name(row: Any) -> str:
    return named(Input(*(row[each.name] for each in fields(Input))))


async def _nowhere(connection: Connection, job: Job) -> list[tuple[str, str, int, int]]:
    """The references that led nowhere, and still do: to what is not here, or not for whoever imports."""
    waiting = await import_job.references(connection, job.id)
    by_type: dict[str, list[str]] = defaultdict(list)
    for kind, id, *_ in waiting:
        by_type[kind].append(id)
    found: set[tuple[str, str]] = set()
    for kind, ids in by_type.items():
        for at in range(0, len(ids), AT_ONCE):
            seen = await write.seen(connection, job.permit, kind, ids[at : at + AT_ONCE])
            found |= {(kind, id) for id in seen}
    return [each for each in waiting if each[:2] not in found]


async def errors(connection: Connection, job: Job, of: Came) -> AsyncIterator[str]:
    """What is to be told of an input, an OperationOutcome a line: refused lines, a failure, references to nowhere."""
    after, ended = 0, False
    while not ended:
        rows = await import_job.outcomes(connection, job.id, of.number, after, AT_ONCE)
        for line, outcome in rows:
            yield outcome
            after = line
        ended = len(rows) < AT_ONCE
    if of.failure:
        yield told(of.name, of.line, [Issue("processing", of.failure)])
    for kind, id, line in of.nowhere:
        which = "its id is an NHS number" if is_nhs_number(id) else f"id {id}"
        yield told(of.name, line, [Issue("not-found", NOWHERE.format(kind, which), severity="warning")])


async def settled(connection: Connection, came: Sequence[Came]) -> None:
    """After much was written: statistics for the planner."""
    if sum(each.counts["created"] + each.counts["updated"] for each in came) >= MANY:
        await load.settle(connection)
