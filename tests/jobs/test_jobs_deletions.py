"""What another server says it has deleted: gone here if it brought it, told where it did not, and never twice."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fhirgw.access.audit_event import Seen
from fhirgw.jobs.pull import deletions
from fhirgw.jobs.pull.deletions import Deletions
from fhirgw.store.database import Engine, direct
from fhirgw.store.pulls import PulledFile
from tests.put import connected, put

BASE = "https://theirs.example/fhir"
THEIRS = [
    {"resourceType": "Patient", "id": "ann"},
    {"resourceType": "Patient", "id": "bea"},
    {"resourceType": "Goal", "id": "g1", "subject": {"reference": "Patient/ann"}},
    {"resourceType": "Goal", "id": "g2", "subject": {"reference": "Patient/ann"}},
    {"resourceType": "Organization", "id": "o"},
]
ANOTHERS = [{"resourceType": "Task", "id": "t", "for": {"reference": "Patient/bea"}}]


def delete(*urls: str) -> dict[str, Any]:
    entries = [{"request": {"method": "DELETE", "url": each}} for each in urls]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


@pytest.fixture
async def held(database: str) -> str:
    await put(database, *THEIRS)
    await asked(database, "UPDATE fhirgw.resource SET origin = 'load:theirs'")
    await put(database, *ANOTHERS)
    return database


async def asked(url: str, query: str) -> list[Any]:
    connection = await connected(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def told(engine: Engine, folder: Path, *lines: Any, packed: bool = False) -> tuple[Deletions, list[Seen]]:
    """What comes of a file of those lines."""
    name = "deleted/Bundle.000001.ndjson" + ".gz" * packed
    text = b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines)
    (folder / "deleted").mkdir(exist_ok=True)
    (folder / name).write_bytes(gzip.compress(text) if packed else text)
    files = [
        PulledFile(1, "deleted", "Bundle", "", None, "done", name=name),
        PulledFile(2, "output", "Bundle", "", None, "done", name="nowhere"),
    ]
    seen: list[Seen] = []
    async with direct(engine) as connection, connection.transaction():
        moment = datetime.now(UTC)
        return await deletions.delete(connection, "load:theirs", BASE, folder, files, moment, seen.extend), seen


async def left(url: str) -> list[str]:
    return [row[0] for row in await asked(url, "SELECT id FROM fhirgw.resource ORDER BY id")]


@pytest.mark.parametrize("packed", [False, True])
async def test_a_person_goes_with_the_record_whatever_the_order_and_once(
    engine: Engine, held: str, tmp_path: Path, packed: bool
) -> None:
    bundles = [delete("Patient/ann", "Goal/g1"), b"", delete(f"{BASE}/Goal/g2", "Goal/g2", "Basic/x", "Goal/never")]
    done, seen = await told(engine, tmp_path, *bundles, packed=packed)
    assert (done.counts, done.outcomes) == ({"deleted": 3, "absent": 2}, [])
    assert await left(held) == ["bea", "o", "t"]
    assert seen == [Seen("Goal", "g1", "ann"), Seen("Goal", "g2", "ann"), Seen("Patient", "ann", "ann")]
    history = "SELECT id, version, deleted FROM fhirgw.history ORDER BY 1, 2"
    before = await asked(held, history)
    assert before == [(id, *each) for id in ("ann", "g1", "g2") for each in ((1, False), (2, True))]
    done, seen = await told(engine, tmp_path, *bundles, packed=packed)
    assert (done.counts["deleted"], done.counts["absent"], seen) == (0, 5, [])
    assert await asked(held, history) == before


async def test_what_others_brought_stays_and_so_does_a_person_they_know(
    engine: Engine, held: str, tmp_path: Path
) -> None:
    done, _ = await told(engine, tmp_path, delete("Task/t", "Patient/bea", "Organization/o"))
    assert done.counts == {"deleted": 1, "absent": 0, "others": 1, "refused": 1}
    assert await left(held) == ["ann", "bea", "g1", "g2", "t"]
    issues = [json.loads(each)["issue"][0] for each in done.outcomes]
    assert [(each["severity"], each["code"]) for each in issues] == [("warning", "not-found"), ("error", "conflict")]
    assert all(each["diagnostics"].startswith("deleted/Bundle.000001.ndjson, line 1: ") for each in issues)


WRONG = [
    (b"{", "structure", None),
    ({"resourceType": "Patient", "id": "Canary"}, "structure", "Bundle"),
    ({**delete("Goal/g1"), "type": "batch"}, "structure", "Bundle"),
    ({**delete(), "entry": {"request": {}}}, "structure", "Bundle"),
    (delete("Goal?subject=Canary"), "not-supported", "Bundle.entry[0].request"),
    (delete("https://elsewhere.example/fhir/Goal/g1"), "not-supported", "Bundle.entry[0].request"),
    (delete("Goal/g1/_history/1"), "not-supported", "Bundle.entry[0].request"),
    (
        {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": {"method": "PUT", "url": "Goal/g1"}}]},
        "not-supported",
        "Bundle.entry[0].request",
    ),
    (
        {"resourceType": "Bundle", "type": "transaction", "entry": ["Canary"]},
        "not-supported",
        "Bundle.entry[0].request",
    ),
]


async def test_what_is_no_deletion_is_told_and_the_others_are_done(engine: Engine, held: str, tmp_path: Path) -> None:
    done, _ = await told(engine, tmp_path, *[each for each, *_ in WRONG], delete("Goal/g2"))
    assert done.counts == {"deleted": 1, "absent": 0, "refused": len(WRONG)}
    assert await left(held) == ["ann", "bea", "g1", "o", "t"]
    for number, (said, (_, code, expression)) in enumerate(zip(done.outcomes, WRONG, strict=True), 1):
        (issue,) = json.loads(said)["issue"]
        assert (issue["code"], issue.get("expression", [None])[0]) == (code, expression)
        assert issue["diagnostics"].startswith(f"deleted/Bundle.000001.ndjson, line {number}: ")
        assert "Canary" not in said and "elsewhere" not in said
