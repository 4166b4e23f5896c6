"""Taking out of finished exports what their permits no longer show, within a minute of a person's saying so.

A file is written anew without the lines, and the manifest names that one, with its count, size and SHA-256. A person
who is still shown, but without their whereabouts, keeps a line: what the permit shows of them now. What has been
fetched already nobody can take back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from fhirgw.jobs.elements import shape_of
from fhirgw.jobs.files import draft, unpacked
from fhirgw.store import withdrawal
from fhirgw.store.database import Connection
from fhirgw.store.export_job import Job

BATCH = 8 << 20
"""Bytes of a file that are looked through at once."""


async def withdraw(connection: Connection, job: Job, result: dict[str, Any], folder: Path) -> bool:
    """Makes the manifest, and the files that it names, what the permit shows now; and so the job done, if it ran.

    The files it had stay as they are until it names others, so whoever dies here leaves it as it was. False: somebody
    else did the same meanwhile. Raises Unwritable.
    """
    persons, until = await withdrawal.narrowed(connection, job.id)
    left: list[dict[str, Any]] = []
    for each in result["output"]:
        other = await withdrawal.withheld(connection, job.permit, each["type"], persons) if persons else {}
        whole = shape_of(job.asked, each["type"]).of
        shown = {id: body and whole(body.decode()).encode() for id, body in other.items()}
        told = await asyncio.to_thread(_looked_through, folder, each, shown) if other else each
        if told["count"]:
            left.append(told)
    changed = {**result, "output": left} if left != result["output"] else result
    kept = await withdrawal.looked(connection, job.id, job.state, job.looked, until, changed)
    before, after = ({each["key"] for each in one["output"]} for one in (result, changed))
    for key in before - after if kept else after - before:
        (folder / key).unlink(missing_ok=True)
    return kept


def _looked_through(folder: Path, told: dict[str, Any], other: Mapping[str, bytes | None]) -> dict[str, Any]:
    """What is told of a file, or of another with other lines, or none, for resources of those ids."""
    path = folder / told["key"]
    stem, dot, suffix = path.name.partition(".")
    without, changed = folder / f"{stem}~{uuid4().hex[:8]}{dot}{suffix}", False
    with unpacked(path) as lines, draft(without) as drafted:
        while batch := lines.readlines(BATCH):
            kept = [left for line in batch if (left := _left(line, other)) is not None]
            changed = changed or kept != batch
            drafted.write(b"".join(kept))
        written = drafted.finish()
    if not changed:
        without.unlink()
        return told
    return told | {"key": without.name, "count": written.lines, "bytes": written.bytes, "sha256": written.sha256}


def _left(line: bytes, other: Mapping[str, bytes | None]) -> bytes | None:
    """What stays of a line."""
    id = orjson.loads(line)["id"]
    if id not in other:
        return line
    body = other[id]
    return body + b"\n" if body is not None else None
