"""What an export since a moment says is gone: Bundles of DELETEs, of what was deleted or is hidden from its caller.

https://hl7.org/fhir/uv/bulkdata/export.html#response---complete-status
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.pseudonym import Pseudonymiser, rules
from fhirgw.jobs.files import unpacked
from fhirgw.jobs.forms import Left, Lines, Other
from fhirgw.store.database import Connection
from fhirgw.store.deleted import concerned, deleted
from fhirgw.store.export_job import Job
from fhirgw.store.hidden import hidden

ENTRIES = 1000
"""Deletions that one Bundle tells of."""


async def gone(connection: Connection, job: Job, pseudonyms: Pseudonymiser | None) -> dict[str, list[str]]:
    """The ids by type, as the files call them, in order: deleted as of the job's snapshot, or hidden by now.

    The connection may write, and is in no transaction; nothing is written.
    """
    assert job.snapshot is not None
    kinds = [kind for kind in sorted(job.asked.types or HELD) if job.permit.covering("r", kind)]
    if pseudonyms:
        kinds = [kind for kind in kinds if kind in rules().types]
    unseen, of = await hidden(connection, job.permit, kinds, job.asked), await concerned(connection, job.asked)
    found = {}
    for kind in kinds:
        ended = await deleted(connection, job.permit, kind, job.asked, job.snapshot) if kind in of else ()
        every = {*unseen[kind], *ended}
        found[kind] = sorted(pseudonyms.id(kind, each) if pseudonyms else each for each in every)
    return found


def bundles(found: dict[str, list[str]]) -> Iterator[bytes]:
    """The transactions that would delete them, a line each."""
    for kind, ids in found.items():
        for at in range(0, len(ids), ENTRIES):
            urls = [f"{kind}/{each}" for each in ids[at : at + ENTRIES]]
            yield encode(_deleting([{"request": {"method": "DELETE", "url": each}} for each in urls]))


def _deleting(entries: Sequence[Resource]) -> Resource:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


class Deletions(Lines):
    """The form of such a file: what it is read again without are entries."""

    def holds(self, path: Path, other: Other) -> bool:
        with unpacked(path) as lines:
            return any(_url(each) in other for line in lines for each in orjson.loads(line)["entry"])

    def without(self, path: Path, other: Other) -> Left:
        with unpacked(path) as lines:
            for line in lines:
                entries = orjson.loads(line)["entry"]
                left = [each for each in entries if _url(each) not in other]
                if left == entries:
                    yield line, 1
                elif left:
                    yield encode(_deleting(left)) + b"\n", 1


def _url(entry: Resource) -> str:
    return str(entry["request"]["url"])
