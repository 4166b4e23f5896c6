"""Exports in an object store: what is there is what was exported, whoever dies, and whatever the store says.

Judged by the store's own objects, read without obstore, and by what was put into the database.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import random
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import httpx
import pytest
from isal import igzip

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.jobs.objects import CHUNK, LONGEST, ObjectStore, Prefix
from fhirgw.jobs.place import Folders, Unkept, places
from fhirgw.jobs.scratch import Scratch
from fhirgw.jobs.work import Worker
from fhirgw.store import export_job, ledger
from fhirgw.store.database import Engine, connect, direct
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job
from fhirgw.store.lease import ATTEMPTS
from tests.conftest import NewDatabase
from tests.jobs.working import LEASE, PATIENCE, nobody, until
from tests.put import put, stamped
from tests.s3 import S3, Asked, serving_s3

ALL = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
PEOPLE = [{"resourceType": "Patient", "id": f"p{n:02}"} for n in range(30)]
GOALS = [
    {"resourceType": "Goal", "id": f"g{n:02}", "subject": {"reference": f"Patient/p{n:02}"}, "text": "A goal. " * 40}
    for n in range(30)
]


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with serving_s3() as found:
        yield found


@pytest.fixture
def s3(server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    server.calm()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def objects(s3: S3, tmp_path: Path) -> ObjectStore:
    return made(s3, tmp_path)


def made(s3: S3, folder: Path, **options: timedelta) -> ObjectStore:
    """One that gives up soon."""
    return ObjectStore(s3.url, folder / "scratch", retries=1, patience=timedelta(seconds=2), **options)


@pytest.fixture(scope="module")
async def store(new_database: NewDatabase) -> AsyncIterator[Engine]:
    async with new_database() as url:
        await put(url, *PEOPLE, *GOALS)
        engine = connect(url)
        yield engine
        await engine.dispose()


async def asked(engine: Engine, part: int = 1_000_000, **form: bool) -> str:
    """A job that nobody has begun; of two parts, if they are large."""
    id = uuid4().hex
    async with direct(engine) as connection:
        await export_job.accept(connection, id, ALL, Selection(part=part, **form), "test")
    return id


async def ended(engine: Engine, worker: Worker, id: str) -> Job:
    for _ in range(100):
        await worker.sweep()
        await worker.help(id, nobody)
        async with direct(engine) as connection:
            job = await export_job.find(connection, id)
        assert job
        if job.state != "running":
            return job
    pytest.fail("the export did not end")


async def known(engine: Engine, id: str) -> bool:
    async with direct(engine) as connection:
        return await export_job.find(connection, id) is not None


def draft(place: Prefix, name: str, data: bytes) -> None:
    """A file that is written and not kept yet."""
    place.drafts.mkdir(parents=True, exist_ok=True)
    (place.drafts / name).write_bytes(data)


def whole(s3: S3, job: Job) -> None:
    """That the objects of a job that is done are those of the manifest, and what was put in; and nothing is here."""
    assert job.state == "done", job.result
    files = {name: igzip.decompress(data) if name.endswith(".gz") else data for name, data in s3.files(job.id).items()}
    assert set(files) == {each["key"] for each in job.result["output"]}
    for kind, resources in (("Patient", PEOPLE), ("Goal", GOALS)):
        named = [each["key"] for each in job.result["output"] if each["type"] == kind]
        lines = b"".join(files[name] for name in named).splitlines()
        assert lines == [encode(stamped(each)) for each in resources]


async def test_an_export_is_in_the_store_and_nothing_of_it_here(s3: S3, objects: ObjectStore, store: Engine) -> None:
    job = await ended(store, Worker(store, objects, LEASE), await asked(store, part=6_000))
    whole(s3, job)
    assert len(job.result["output"]) > 3
    assert not [path for path in objects.scratch.folder.rglob("*") if path.is_file()]


async def test_a_packed_one_says_so_of_itself(s3: S3, objects: ObjectStore, store: Engine) -> None:
    job = await ended(store, Worker(store, objects, LEASE), await asked(store, gzip=True))
    whole(s3, job)
    headers = s3.headers(f"{job.id}/{job.result['output'][0]['key']}")
    told = {name: headers[name] for name in ("content-type", "content-encoding", "cache-control")}
    assert told == {
        "content-type": "application/fhir+ndjson",
        "content-encoding": "gzip",
        "cache-control": "private, no-store, no-transform",
    }


async def test_a_large_file_goes_up_in_pieces_and_comes_back(s3: S3, objects: ObjectStore) -> None:
    place, data = objects.of("large"), random.Random(5).randbytes(CHUNK * 2 + 12_345)
    draft(place, "Goal-00001-1.ndjson", data)
    await place.keep("Goal-00001-1.ndjson")
    pieces = {each.query.partition("&")[0] for each in s3.asked if each.method == "PUT"}
    assert pieces == {"partNumber=1", "partNumber=2", "partNumber=3"}
    assert (s3.read("large/Goal-00001-1.ndjson") == data, list(place.drafts.iterdir())) == (True, [])
    async with place.local("Goal-00001-1.ndjson") as path:
        assert path.read_bytes() == data
    assert not path.exists()
    await place.clear()


async def test_an_upload_that_fails_in_the_midst_leaves_nothing(s3: S3, objects: ObjectStore) -> None:
    place = objects.of("broken")
    draft(place, "Goal-00001-1.ndjson", bytes(CHUNK * 2))
    s3.refuse = lambda asked: (503, "SlowDown") if "partNumber=2" in asked.query else None
    with pytest.raises(Unkept, match="does not answer, or not in time") as raised:
        await place.keep("Goal-00001-1.ndjson")
    assert raised.value.cause == "GenericError 503 SlowDown"
    assert (s3.names("broken"), s3.unfinished()) == (set(), 0)
    assert (place.drafts / "Goal-00001-1.ndjson").exists()
    await place.drop("Goal-00001-1.ndjson")
    assert not list(place.drafts.iterdir())


REFUSALS = {
    (403, "AccessDenied"): "refuses",
    (401, "AuthorizationRequired"): "refuses",
    (503, "SlowDown"): "does not answer, or not in time",
    (507, "XMinioStorageFull"): "has no room",
    (404, "NoSuchBucket"): "is not there",
}


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda each: each[1])
async def test_what_a_store_says_is_told_in_other_words(s3: S3, objects: ObjectStore, refusal: tuple[int, str]) -> None:
    place = objects.of("refused")
    draft(place, "a.ndjson", b"{}\n")
    s3.refuse = lambda asked: refusal
    with pytest.raises(Unkept) as raised:
        await place.keep("a.ndjson")
    assert str(raised.value) == f"The object store of exports {REFUSALS[refusal]}: its operators have to look at it"
    assert (raised.value.status, raised.value.cause.partition(" ")[2]) == (503, f"{refusal[0]} {refusal[1]}")
    for asking in (place.names, place.file("a.ndjson").size, place.clear):
        with pytest.raises(FhirError, match=r"object store of exports|There is no such export"):
            await asking()
    s3.calm()
    await place.keep("a.ndjson")
    assert await place.names() == ["a.ndjson"]
    await place.clear()


@pytest.mark.parametrize("refusal", [(403, "AccessDenied"), (507, "XMinioStorageFull")], ids=lambda each: each[1])
async def test_a_store_that_does_not_take_a_part_fails_it_with_its_reason(
    s3: S3, objects: ObjectStore, store: Engine, refusal: tuple[int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    worker, id = Worker(store, objects, LEASE), await asked(store)
    s3.refuse = lambda asked: refusal if asked.upload else None
    job = await ended(store, worker, id)
    assert job.state == "failed"
    (reason,) = {each["diagnostics"] for each in job.result["issue"]}
    assert reason == f"The object store of exports {REFUSALS[refusal]}: its operators have to look at it"
    async with direct(store) as connection:
        failed = [each for each in await ledger.parts(connection, id) if each["state"] == "failed"]
        assert [(each["attempts"], each["reason"]) for each in failed] == [(ATTEMPTS, reason)]
        s3.calm()
        assert s3.names(id) == set()
        assert not [path for path in objects.scratch.folder.rglob("*") if path.is_file()]
        assert await ledger.resume(connection, id)
    whole(s3, await ended(store, worker, id))
    printed = "".join(capsys.readouterr())
    assert refusal[1] in printed and "AKIA" not in printed and s3.root not in printed


async def test_a_store_that_is_slow_keeps_its_worker_alive(s3: S3, objects: ObjectStore, store: Engine) -> None:
    worker, id = Worker(store, objects, timedelta(seconds=0.3)), await asked(store)
    slow = iter([1.0])
    s3.pause = lambda asked: next(slow, 0) if asked.upload else 0
    whole(s3, await ended(store, worker, id))
    async with direct(store) as connection:
        assert {each["attempts"] for each in await ledger.parts(connection, id)} == {1}
    assert next(slow, None) is None  # it was


async def test_a_job_that_is_cancelled_stops_an_upload(s3: S3, objects: ObjectStore, store: Engine) -> None:
    worker, id, held = Worker(store, objects, LEASE), await asked(store), threading.Event()

    def hold(request: Asked) -> float:
        held.wait(PATIENCE if request.upload else 0)
        return 0

    s3.pause = hold
    async with ExportJobs(store, objects, working=False) as jobs:
        working = asyncio.create_task(worker.help(id, nobody))
        await asyncio.to_thread(until, lambda: any(each.upload for each in s3.asked))
        try:
            await asyncio.wait_for(jobs.cancel(ALL, id), PATIENCE / 2)
            await asyncio.wait_for(working, PATIENCE / 2)
            assert s3.names(id) == set()  # and neither has waited for the upload
        finally:
            held.set()


async def test_what_is_cancelled_or_expired_is_removed(
    s3: S3, objects: ObjectStore, store: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = Worker(store, objects, LEASE)
    async with ExportJobs(store, objects, working=False) as jobs:
        gone, stuck = [(await ended(store, worker, await asked(store))).id for _ in range(2)]
        await jobs.cancel(ALL, gone)
        assert (s3.names(gone), bool(s3.names(stuck))) == (set(), True)
        s3.refuse = lambda asked: (403, "AccessDenied") if asked.removal else None
        await jobs.cancel(ALL, stuck)
        with pytest.raises(FhirError, match="no such export"):
            await jobs.status(ALL, stuck)
        assert s3.names(stuck) and "export not removed" in "".join(capsys.readouterr())
        s3.calm()
        await jobs.look()
        assert s3.names(stuck) == set()
        old = (await ended(store, worker, await asked(store))).id
    async with direct(store) as connection:
        await connection.execute(
            "UPDATE fhirgw.export_job SET finished = now() - interval '25 hours' WHERE id = $1", old
        )
    s3.refuse = lambda asked: (403, "AccessDenied") if asked.removal else None
    async with ExportJobs(store, objects, working=False):
        assert await known(store, old)
    s3.calm()
    async with ExportJobs(store, objects, working=False):
        assert not await known(store, old)
    assert s3.names(old) == set()


async def test_a_file_that_could_not_be_removed_is_removed_later(s3: S3, objects: ObjectStore) -> None:
    place = objects.of("left")
    draft(place, "a.ndjson", b"{}\n")
    await place.keep("a.ndjson")
    s3.refuse = lambda asked: (503, "SlowDown") if asked.removal else None
    await place.remove(["a.ndjson", "never-was.ndjson"])
    assert s3.names("left") == {"a.ndjson"}
    s3.calm()
    await objects.tidy()
    assert s3.names("left") == set()


def test_drafts_of_a_killed_process_are_removed_and_no_others(tmp_path: Path) -> None:
    mine = Scratch(tmp_path)
    (mine.folder / "draft").write_text("mine")
    dead = tmp_path / "dead"
    dead.mkdir()
    (dead / "draft").write_text("somebody's who was killed")
    (tmp_path / "dead.lock").touch()
    (tmp_path / "other").mkdir()
    Scratch(tmp_path).tidy()
    assert {path.name for path in tmp_path.glob("*")} == {mine.folder.name, f"{mine.folder.name}.lock", "other"}
    assert (mine.folder / "draft").read_text() == "mine"
    left = mine.folder
    del mine
    assert not left.exists()


def test_a_store_that_not_enough_is_known_of(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FhirError, match=r"FHIRGW_EXPORT_STORE: .*Account must be specified\. Set the variables"):
        places(tmp_path, "az://container/prefix")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "council")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert isinstance(places(tmp_path, "az://container/prefix"), ObjectStore)


async def test_azure_signs_too(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is signed is judged by hand, as Azure does: its store is not here to ask.

    https://learn.microsoft.com/en-us/rest/api/storageservices/create-service-sas
    """
    key = b"a key of sixty-four bytes, which is what Azure's accounts have..."
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "council")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(key).decode())
    store = ObjectStore("az://exports/bulk", tmp_path, signed=timedelta(minutes=9))
    address = urlsplit(str(await store.of("job").file("a.ndjson").signed()))
    assert (address.hostname, address.path) == ("council.blob.core.windows.net", "/exports/bulk/job/a.ndjson")
    told = dict(parse_qsl(address.query))
    since, until = (datetime.fromisoformat(told[each]) for each in ("st", "se"))
    assert (told["sp"], told["sr"], until - since) == ("r", "b", LONGEST)
    named = [told["sp"], told["st"], told["se"], "/blob/council/exports/bulk/job/a.ndjson", "", "", "", told["sv"], "b"]
    text = "\n".join([*named, *[""] * 7])
    right = base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
    assert told["sig"] == right


def test_a_folder_or_a_store(s3: S3, tmp_path: Path) -> None:
    assert isinstance(places(tmp_path), Folders)
    found = places(tmp_path, s3.url + "/", signed=timedelta(hours=1))
    assert isinstance(found, ObjectStore)
    assert (str(found.of("j")), found.signed) == (f"{s3.url}/j", LONGEST)


async def test_an_address_runs_out(s3: S3, tmp_path: Path) -> None:
    place = made(s3, tmp_path, signed=timedelta(seconds=60)).of("soon")
    draft(place, "a.ndjson", b"{}\n")
    await place.keep("a.ndjson")
    brief = made(s3, tmp_path, signed=timedelta(seconds=1)).of("soon")
    async with httpx.AsyncClient() as http:
        address = await brief.file("a.ndjson").signed()
        for _ in range(300):  # until whole seconds, which are signed, have passed
            if (await http.get(address)).status_code == 403:
                break
            await asyncio.sleep(0.1)
        assert (await http.get(address)).status_code == 403
        answer = await http.get(await place.file("a.ndjson").signed())
        assert (answer.status_code, answer.content) == (200, b"{}\n")


async def test_an_identity_that_may_not_sign_gives_out_no_address(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a workload on Google's cloud that was not allowed to: here, for want of any key. The gateway passes on."""
    signing = made(s3, tmp_path, signed=timedelta(seconds=60))
    assert str(await signing.of("a").file("b").signed()).startswith(s3.root)
    assert await made(s3, tmp_path).of("a").file("b").signed() is None
    assert not capsys.readouterr().out
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    nobody = made(s3, tmp_path, signed=timedelta(seconds=60))
    assert await nobody.of("a").file("b").signed() is None
    assert "address not signed" in capsys.readouterr().out
