"""Taking out of finished exports what their permits no longer show, within a minute of a person's saying so.

A file is written anew without the lines, and takes the place of the old one; its count, size and SHA-256 change in the
manifest. A person who is still shown, but without their whereabouts, keeps a line: what the permit shows of them now.
What has been fetched already nobody can take back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from fhirgw.jobs.files import Draft, Written
from fhirgw.store import withdrawal
from fhirgw.store.database import Connection
from fhirgw.store.export_job import Job

BATCH = 8 << 20
"""Bytes of a file that are looked through at once."""


async def withdraw(connection: Connection, job: Job, result: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The manifest of the job's files as they are afterwards. Raises Unwritable."""
    persons, until = await withdrawal.narrowed(connection, job.id)
    left: list[dict[str, Any]] = []
    for each in result["output"]:
        other = await withdrawal.withheld(connection, job.permit, each["type"], persons) if persons else {}
        written = await asyncio.to_thread(_looked_through, folder / each["url"], other) if other else None
        told = {"count": written.lines, "bytes": written.bytes, "sha256": written.sha256} if written else {}
        if each["count"] and (not written or written.lines):
            left.append(each | told)
    changed = {**result, "output": left} if left != result["output"] else None
    await withdrawal.looked(connection, job.id, until, changed)
    return changed or result


def _looked_through(path: Path, other: Mapping[str, bytes | None]) -> Written:
    """The file with other lines, or none, for resources of those ids; as it is where that changes nothing in it.

    What is in it is told either way: a process that died between the file and the manifest left the two at odds.
    """
    without, changed = path.with_suffix(".without"), False
    with path.open("rb") as lines, Draft(without) as draft:
        while batch := lines.readlines(BATCH):
            kept = [left for line in batch if (left := _left(line, other)) is not None]
            changed = changed or kept != batch
            draft.write(b"".join(kept))
        written = draft.finish()
    if changed:
        without.replace(path)
    else:
        without.unlink()
    return written


def _left(line: bytes, other: Mapping[str, bytes | None]) -> bytes | None:
    """What stays of a line."""
    id = orjson.loads(line)["id"]
    if id not in other:
        return line
    body = other[id]
    return body + b"\n" if body is not None else None
