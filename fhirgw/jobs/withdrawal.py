"""Taking out of finished exports what their permits no longer show, within a minute of a person's saying so.

A file is written anew without the lines, and the manifest names that one, with its count, size and SHA-256. A person
who is still shown, but without their whereabouts, keeps a line: what the permit shows of them now. What has been
fetched already nobody can take back. A pseudonymised export that tells of too few people then is withheld, all of it,
as one that does so at its end. Of what it says is gone (`deleted`) stays what a list made now would tell of: not what
came and went since the caller's last copy, of a person who is hidden by now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from fhirgw.fhir.issue import Issue, outcome
from fhirgw.fhir.pseudonym import Pseudonymiser, rules
from fhirgw.fhir.views import views
from fhirgw.jobs.files import draft
from fhirgw.jobs.forms import Form, Other, form_of
from fhirgw.jobs.gone import Deletions, gone
from fhirgw.jobs.place import Place, ready
from fhirgw.jobs.projects import Projects
from fhirgw.jobs.recount import Table, table_of, too_few
from fhirgw.store import withdrawal
from fhirgw.store.database import Connection
from fhirgw.store.export_job import Job

log = structlog.get_logger("fhirgw.jobs")

BLOCK = 1 << 20
"""Bytes of a file that are written at once."""


async def withdraw(
    connection: Connection, job: Job, result: dict[str, Any], place: Place, projects: Projects | None = None
) -> bool:
    """Makes the manifest, and the files that it names, what the permit shows now; and so the job done, if it ran.

    The files it had stay as they are until it names others, so whoever dies here leaves it as it was. A file of a
    finished export that is lost is not listed any more, so that it keeps no dissent from the others. False: somebody
    else did the same meanwhile. Raises Unwritable, Unkept, FhirError.
    """
    pseudonyms = projects.of(job) if projects else None
    persons, until = await withdrawal.narrowed(connection, job.id)
    kinds = {kind for each in result["output"] for kind in _kinds(job, each)} if persons else set()
    withheld = {kind: await _withheld(connection, job, kind, persons, pseudonyms) for kind in sorted(kinds)}
    untold = await _untold(connection, job, persons, pseudonyms) if persons and result.get("deleted") else {}
    before, left, still = _keys([*result["output"], *result.get("deleted", ())]), [], []
    looking = untold or any(withheld.values())
    lost = await _lost(place, job, before) if job.state == "done" and looking else ()
    try:
        for each in result.get("deleted", ()):
            if each["key"] not in lost:
                told = await _kept(place, each, Deletions(), untold) if untold else each
                still += [told] if told["count"] else []
        for each in result["output"]:
            if each["key"] in lost:
                continue
            other = {ref: body for kind in _kinds(job, each) for ref, body in withheld.get(kind, {}).items()}
            table = each.get("view", "")
            form = form_of(job.asked, each["type"], table, pseudonyms) if not table or table in views() else None
            told = await _kept(place, each, form, other) if other else each
            if told["count"]:
                left.append(told)
        few = await _few(connection, job, result["output"], left, projects)
    except BaseException:
        await place.remove(_keys([*left, *still]) - before)
        raise
    seen, after = (job.id, job.state, job.looked, until), _keys([*left, *still])
    if few:
        reason = told_few(dict.fromkeys(view or kind for kind, view in few))
        kept = await withdrawal.withhold(connection, *seen, outcome([Issue("business-rule", reason)]), reason)
        after, before = (set(), before | after) if kept else (after, before)
    else:
        changed = result | {"output": left} | ({"deleted": still} if "deleted" in result else {})
        kept = await withdrawal.looked(connection, *seen, changed)
    await place.remove(before - after if kept else after - before)
    return kept


async def _lost(place: Place, job: Job, keys: set[str]) -> set[str]:
    """Which of the files are gone, and nobody knows why."""
    lost = keys - set(await place.names())
    for key in sorted(lost):
        log.error("file of an export lost", job=job.id, key=key)
    return lost


def _keys(files: Sequence[dict[str, Any]]) -> set[str]:
    return {each["key"] for each in files}


async def _few(
    connection: Connection,
    job: Job,
    before: Sequence[dict[str, Any]],
    left: Sequence[dict[str, Any]],
    projects: Projects | None,
) -> list[Table]:
    """Of what something was taken out of, and something is left: what tells of too few people now."""
    if job.asked.project is None or projects is None:
        return []
    changed = {table_of(each) for each in before if each not in left}
    return await too_few(connection, job, changed & {table_of(each) for each in left}, projects)


def told_few(names: Iterable[str]) -> str:
    """Why there is nothing to be had of tables, or types, of too few people; and what to do."""
    told = f"{', '.join(names)}: of fewer than {rules().smallest} people, who might be known by it"
    return f"{told}: ask for more people, or for others of the types (_type) or views (_view)"


def _kinds(job: Job, told: dict[str, Any]) -> Sequence[str]:
    """The types of which there may be something in a file."""
    return job.effective if job.asked.organized else (told["type"],)


async def _withheld(
    connection: Connection, job: Job, kind: str, persons: Sequence[str], pseudonyms: Pseudonymiser | None
) -> Other:
    """What the permit shows now in place of the persons' resources of a type, by what they are called in the files."""
    other = await withdrawal.withheld(connection, job.permit, kind, persons)
    return {f"{kind}/{pseudonyms.id(kind, id) if pseudonyms else id}": body for id, body in other.items()}


async def _untold(connection: Connection, job: Job, persons: Sequence[str], pseudonyms: Pseudonymiser | None) -> Other:
    """What of the persons a list of what is gone would not tell of now, as it is called in the files."""
    found = await gone(connection, job, pseudonyms)
    other = {kind: await _withheld(connection, job, kind, persons, pseudonyms) for kind in found}
    told = {f"{kind}/{id}" for kind, ids in found.items() for id in ids}
    return {ref: None for refs in other.values() for ref, body in refs.items() if body is None and ref not in told}


async def _kept(place: Place, told: dict[str, Any], form: Form | None, other: Other) -> dict[str, Any]:
    """What is told of a file, or of another in its place, kept too, with other lines or none for those resources."""
    async with place.local(told["key"]) as path:
        left = await asyncio.to_thread(_looked_through, path, await ready(place), told, form, other)
    if left["key"] != told["key"]:
        try:
            await place.keep(left["key"])
        except BaseException:
            await place.drop(left["key"])
            raise
        if not left["count"]:
            await place.drop(left["key"])
    return left


def _looked_through(path: Path, drafts: Path, told: dict[str, Any], form: Form | None, other: Other) -> dict[str, Any]:
    """The same, of a file on this machine; another is a draft."""
    if form is None or not form.fits(path):
        return told | {"count": 0}  # of a view as it was before: nobody can take rows out of it
    if not form.holds(path, other):
        return told
    stem, dot, suffix = path.name.partition(".")
    without = drafts / f"{stem}~{uuid4().hex[:8]}{dot}{suffix}"
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
