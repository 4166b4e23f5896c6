"""The end of an export: its manifest, of what the ledger says is done and of nothing else; or why there is none."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from fhirgw.fhir.issue import Issue, Resource, outcome
from fhirgw.fhir.pseudonym import rules
from fhirgw.jobs.export import instant
from fhirgw.jobs.failpoint import reach
from fhirgw.jobs.files import MANIFEST
from fhirgw.jobs.forms import SUFFIXES
from fhirgw.jobs.place import Folder, Place
from fhirgw.jobs.projects import Projects
from fhirgw.jobs.segments import keep, tidy
from fhirgw.jobs.withdrawal import told_few, withdraw
from fhirgw.store import export_job, ledger, segments
from fhirgw.store.database import Connection
from fhirgw.store.export_job import Job

KEY = re.compile(r"(\w+-\d{5}-\d+)(~[0-9a-f]+)?\.(ndjson|csv|parquet)(\.gz)?", re.ASCII)
"""A part's file: its type or view, number, the token it was claimed with; `~` if lines have been taken out of it."""

PAGE = 100
"""Files that one page of a manifest lists, for who takes it in pages."""

INTERRUPTED = "The gateway was stopped while it was exporting: ask for the export again"


async def conclude(connection: Connection, id: str, place: Place, projects: Projects | None = None) -> None:
    """Ends a job that runs, if all its parts are done or one has failed. Any process may, and several at once.

    Raises Unwritable, Unkept where lines are to be taken out and cannot be.
    """
    async with connection.transaction(isolation="repeatable_read"):
        job, parts = await export_job.find(connection, id), await ledger.parts(connection, id)
    if job is None or job.state != "running":
        return
    if not parts:  # of an older version, which ran exports without parts
        await export_job.end(connection, id, "failed", failed("transient", INTERRUPTED))
    elif lost := [each for each in parts if each["state"] == "failed"]:
        await export_job.end(connection, id, "failed", _reasons(lost))
    elif all(each["state"] == "done" for each in parts):
        if few := _few(job, parts):
            await place.remove(each["key"] for each in few)
            reason = told_few(dict.fromkeys(each["view"] or each["type"] for each in few))
            await ledger.refuse(connection, id, [each["number"] for each in few], reason)
            await export_job.end(connection, id, "failed", failed("business-rule", reason))
            return
        reach("before manifest")
        folder = place.drafts if isinstance(place, Folder) else None
        keys = [each["key"] for each in parts if each["key"]]
        kept = folder is not None and await keep(connection, job, keys, folder)
        if await withdraw(connection, job, _manifest(job, parts), place, projects):
            await _tidied(place, set(keys))
            if folder is not None and kept:
                await segments.ready(connection, id)
                await tidy(connection, folder.parent)
        reach("after manifest")


def _few(job: Job, parts: list[Any]) -> list[Any]:
    """Parts of a pseudonymised export that are of tables, or types, which tell of too few people.

    No part of them is of enough: in several, of few each, may be the same people.
    """
    if job.asked.project is None:
        return []
    written = [each for each in parts if each["kind"] == "output" and each["rows"]]
    enough = {(each["type"], each["view"]) for each in written if each["persons"] >= rules().smallest}
    return [each for each in written if (each["type"], each["view"]) not in enough]


def failed(code: str, diagnostics: str) -> Resource:
    """The OperationOutcome of an export that came to nothing."""
    return outcome([Issue(code, diagnostics)])


def _manifest(job: Job, parts: list[Any]) -> dict[str, Any]:
    """The Bulk Data manifest, with names for addresses: `Patient.ndjson`, and from the second on `Patient-2.ndjson`.

    The rows of a view are named after it: `people.csv`.
    """
    assert job.time is not None  # it was planned
    counted: Counter[str] = Counter()
    files: dict[str, list[dict[str, Any]]] = {"output": [], "deleted": [], "error": []}
    for each in parts:
        if not each["rows"]:  # the plan, and what there was nothing of
            continue
        name = each["view"] or each["type"]
        counted[name] += 1
        number = f"-{counted[name]}" if counted[name] > 1 else ""
        told = {"count": each["rows"], "bytes": each["bytes"], "sha256": each["sha256"], "key": each["key"]}
        if each["view"]:
            told |= {"view": each["view"]}
        if job.asked.paged and each["kind"] == "output":
            told |= {"page": len(files["output"]) // PAGE + 1}
        ending = SUFFIXES[job.asked.form if each["view"] else "ndjson"]
        files[each["kind"]].append({"type": each["type"], "url": f"{name}{number}{ending}", **told})
    return {
        "transactionTime": instant(job.time),
        "request": job.request,
        "requiresAccessToken": True,
        **({"outputOrganizedBy": "Patient"} if job.asked.organized else {}),
        **({"pages": max((each.get("page", 1) for each in files["output"]), default=1)} if job.asked.paged else {}),
        **files,
    }


def _reasons(lost: list[Any]) -> Resource:
    """What kept parts from being done, each once."""
    told = dict.fromkeys((each["reason"] or "for no reason that was left") for each in lost)
    return outcome([Issue("exception", reason) for reason in told])


async def cleared(place: Place) -> None:
    """Removes the files of a cancelled export from a folder that somebody chose for it: what else is there stays."""
    await _tidied(place, set())
    await place.remove([MANIFEST])


async def _tidied(place: Place, keys: set[str]) -> None:
    """Removes what attempts left that died, or were given up for dead; nothing that is not a part's by its name."""
    named = {key.partition(".")[0] for key in keys}
    found = {name: KEY.fullmatch(name) for name in await place.names()}
    await place.remove(name for name, key in found.items() if key and key[1] not in named)
