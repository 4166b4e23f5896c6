"""Taking out of finished exports what their permits no longer show, within a minute of a person's saying so.

A file is written anew without the lines, and takes the place of the old one; its count, size and SHA-256 change in the
manifest. What has been fetched already nobody can take back.
"""

from __future__ import annotations

import asyncio
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
        ids = await withdrawal.hidden(connection, job.permit, each["type"], persons) if persons else set()
        written = await asyncio.to_thread(_without, folder / each["url"], ids) if ids else None
        told = {"count": written.lines, "bytes": written.bytes, "sha256": written.sha256} if written else {}
        if each["count"] and (not written or written.lines):
            left.append(each | told)
    changed = {**result, "output": left} if left != result["output"] else None
    await withdrawal.looked(connection, job.id, until, changed)
    return changed or result


def _without(path: Path, ids: set[str]) -> Written | None:
    """The file without the resources of those ids; None where none of them is in it."""
    without, dropped = path.with_suffix(".without"), 0
    with path.open("rb") as lines, Draft(without) as draft:
        while batch := lines.readlines(BATCH):
            kept = [line for line in batch if orjson.loads(line)["id"] not in ids]
            dropped += len(batch) - len(kept)
            draft.write(b"".join(kept))
        written = draft.finish()
    if not dropped:
        without.unlink()
        return None
    without.replace(path)
    return written
