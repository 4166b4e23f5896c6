"""Taking out of finished exports what their permits no longer show, within a minute of a person's saying so.

A file is written anew without the lines, and the manifest names that one, with its count, size and SHA-256. A person
who is still shown, but without their whereabouts, keeps a line: what the permit shows of them now. What has been
fetched already nobody can take back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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

HEADER = "Parameters"
"""What begins the block of a Patient, in an export that is organised: it stays while something of the block does."""

Other = dict[tuple[str, str], bytes | None]
"""What is shown instead of resources, by type and id; None for nothing."""


async def withdraw(connection: Connection, job: Job, result: dict[str, Any], folder: Path) -> bool:
    """Makes the manifest, and the files that it names, what the permit shows now; and so the job done, if it ran.

    The files it had stay as they are until it names others, so whoever dies here leaves it as it was. False: somebody
    else did the same meanwhile. Raises Unwritable.
    """
    persons, until = await withdrawal.narrowed(connection, job.id)
    left: list[dict[str, Any]] = []
    for each in result["output"]:
        shown: Other = {}
        for kind in (job.effective if job.asked.organized else (each["type"],)) if persons else ():
            other = await withdrawal.withheld(connection, job.permit, kind, persons)
            whole = shape_of(job.asked, kind).of
            shown |= {(kind, id): body and whole(body.decode()).encode() for id, body in other.items()}
        told = await asyncio.to_thread(_looked_through, folder, each, shown) if shown else each
        if told["count"]:
            left.append(told)
    changed = {**result, "output": left} if left != result["output"] else result
    kept = await withdrawal.looked(connection, job.id, job.state, job.looked, until, changed)
    before, after = ({each["key"] for each in one["output"]} for one in (result, changed))
    for key in before - after if kept else after - before:
        (folder / key).unlink(missing_ok=True)
    return kept


def _looked_through(folder: Path, told: dict[str, Any], other: Other) -> dict[str, Any]:
    """What is told of a file, or of another with other lines, or none, for resources of those ids."""
    path = folder / told["key"]
    stem, dot, suffix = path.name.partition(".")
    without, changed = folder / f"{stem}~{uuid4().hex[:8]}{dot}{suffix}", False
    begun = b""
    with unpacked(path) as lines, draft(without) as drafted:
        while batch := lines.readlines(BATCH):
            kept, begun = _kept(batch, other, before := begun)
            changed = changed or before + b"".join(batch) != kept + begun
            drafted.write(kept)
        changed = changed or bool(begun)
        written = drafted.finish()
    if not changed:
        without.unlink()
        return told
    return told | {"key": without.name, "count": written.lines, "bytes": written.bytes, "sha256": written.sha256}


def _kept(lines: Sequence[bytes], other: Other, begun: bytes) -> tuple[bytes, bytes]:
    """What stays of lines, and the header of a block of which nothing has stayed yet, as `begun` was before them."""
    kept = []
    for line in lines:
        read = orjson.loads(line)
        if read["resourceType"] == HEADER:
            begun = line
            continue
        key = (read["resourceType"], read["id"])
        left = other[key] if key in other else line.rstrip(b"\n")
        if left is not None:
            kept += [begun, left, b"\n"]
            begun = b""
    return b"".join(kept), begun
