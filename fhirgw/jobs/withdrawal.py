"""Taking out of finished exports what their permits no longer show, within a minute of a person's saying so.

A file is written anew without the lines, and the manifest names that one, with its count, size and SHA-256. A person
who is still shown, but without their whereabouts, keeps a line: what the permit shows of them now. What has been
fetched already nobody can take back.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

from fhirgw.fhir.views import views
from fhirgw.jobs.files import draft
from fhirgw.jobs.forms import Form, Other, form_of
from fhirgw.jobs.projects import Projects
from fhirgw.store import withdrawal
from fhirgw.store.database import Connection
from fhirgw.store.export_job import Job

BLOCK = 1 << 20
"""Bytes of a file that are written at once."""


async def withdraw(
    connection: Connection, job: Job, result: dict[str, Any], folder: Path, projects: Projects | None = None
) -> bool:
    """Makes the manifest, and the files that it names, what the permit shows now; and so the job done, if it ran.

    The files it had stay as they are until it names others, so whoever dies here leaves it as it was. False: somebody
    else did the same meanwhile. Raises Unwritable, FhirError.
    """
    pseudonyms = projects.of(job) if projects else None
    persons, until = await withdrawal.narrowed(connection, job.id)
    left: list[dict[str, Any]] = []
    for each in result["output"]:
        other = await withdrawal.withheld(connection, job.permit, each["type"], persons) if persons else {}
        if pseudonyms:
            other = {pseudonyms.id(each["type"], id): body for id, body in other.items()}
        if (table := each.get("view", "")) and table not in views():
            continue  # nobody knows any more where a person's rows are in it
        form = form_of(job.asked, each["type"], table, pseudonyms)
        told = await asyncio.to_thread(_looked_through, folder, each, form, other) if other else each
        if told["count"]:
            left.append(told)
    changed = {**result, "output": left} if left != result["output"] else result
    kept = await withdrawal.looked(connection, job.id, job.state, job.looked, until, changed)
    before, after = ({each["key"] for each in one["output"]} for one in (result, changed))
    for key in before - after if kept else after - before:
        (folder / key).unlink(missing_ok=True)
    return kept


def _looked_through(folder: Path, told: dict[str, Any], form: Form, other: Other) -> dict[str, Any]:
    """What is told of a file, or of another with other lines or rows, or none, for resources of those ids."""
    path = folder / told["key"]
    if not form.fits(path):
        return told | {"count": 0}  # of a view as it was before: nobody can take rows out of it
    if not form.holds(path, other):
        return told
    stem, dot, suffix = path.name.partition(".")
    without = folder / f"{stem}~{uuid4().hex[:8]}{dot}{suffix}"
    with draft(without) as drafted:
        waiting, count = bytearray(), 0
        for data, lines in form.without(path, other):
            waiting += data
            count += lines
            if len(waiting) >= BLOCK:
                drafted.write(bytes(waiting), count)
                waiting, count = bytearray(), 0
        drafted.write(bytes(waiting), count)
        written = drafted.finish()
    return told | {"key": without.name, "count": written.lines, "bytes": written.bytes, "sha256": written.sha256}
