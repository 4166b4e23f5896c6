"""Another server's export, pulled over real HTTP on a road where things go wrong: what lies in the folder is what was
put into that server, line for line, whatever happened on the way; and where it cannot be, nothing is called done."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhirgw.access import jose
from fhirgw.cli.apps import key_file
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.files import Unwritable
from fhirgw.jobs.pull import patience
from fhirgw.jobs.pull.address import Reach
from fhirgw.jobs.pull.pull import Asked, Pulled, pull
from fhirgw.jobs.pull.server import Credentials
from fhirgw.jobs.pull.trouble import Ended, Interrupted
from fhirgw.settings import Settings
from fhirgw.store import pulls
from fhirgw.store.database import Engine, connect, direct
from fhirgw.store.registration import Registration
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.jobs.pulling import pulling as pulling_process
from tests.jobs.rough import Answer, Road, Seen, road
from tests.put import put, stamped

NOTE = "What was seen and said at the visit, at some length. " * 6
PEOPLE = [{"resourceType": "Patient", "id": f"p{n}", "gender": "other"} for n in range(30)]
GOALS = [
    {"resourceType": "Goal", "id": f"g{n:04}", "subject": {"reference": f"Patient/p{n % 30}"}, "text": f"{n} {NOTE}"}
    for n in range(400)
]
OURS = Registration("ours", "Z99", "system/*.rs", rate=1_000_000)


@dataclass
class Pulls:
    """What pulls, from where, into which folder."""

    engine: Engine
    road: Road
    credentials: Credentials
    folder: Path
    audited: int = 0
    retried: list[str] = field(default_factory=list)

    async def __call__(self, **asked: Any) -> Pulled:
        wanted = replace(Asked("other", Reach(self.road.base, loopback=True)), **asked)
        return await pull(self.engine, self.credentials, wanted, lambda id: self.folder / id, self, self.audit)

    async def audit(self, connection: Any) -> None:
        self.audited += 1

    def waiting(self, told: str) -> None:
        pass

    def retrying(self, told: str) -> None:
        self.retried.append(told)

    def fetching(self, done: int, files: int, size: int) -> None:
        pass


@pytest.fixture(scope="module")
async def other(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """The other server: a gateway of ours."""
    async with new_database() as url:
        await put(url, *PEOPLE, *GOALS)
        settings = Settings(database_url=url, data=tmp_path_factory.mktemp("other"), controller="Z99")
        with serving(settings.model_copy(update={"part_megabytes": 0.05})) as gateway:
            yield gateway


@pytest.fixture(scope="module")
def exported(other: Gateway) -> str:
    """The status of an export of all of it that has ended: most tests need no other."""
    with other.client(OURS) as http:
        kicked = http.get("/fhir/$export", headers={"accept": "application/fhir+json", "prefer": "respond-async"})
        status = httpx.URL(kicked.headers["content-location"]).path
        while http.get(status).status_code != 200:
            time.sleep(0.2)
        return status


@pytest.fixture(scope="module")
async def own_url(new_database: NewDatabase) -> AsyncIterator[str]:
    """The database of who pulls."""
    async with new_database() as url:
        yield url


@pytest.fixture(scope="module")
async def own(own_url: str) -> AsyncIterator[Engine]:
    engine = connect(own_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def pulling(
    own: Engine, other: Gateway, exported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pulls]:
    monkeypatch.setattr(patience, "FIRST", 0.005)
    key = jose.private_key(json.loads(key_file(other.settings, "ours").read_text()))
    with road(other.root) as between:
        between.job = exported
        yield Pulls(own, between, Credentials("ours", key, "system/*.rs"), tmp_path)


def lines(done: Pulled, kind: str = "output") -> list[bytes]:
    """What lies in the folder, by its own manifest, each file as that says it is."""
    folder = Path(done.pull.place)
    found = []
    for each in json.loads((folder / "manifest.json").read_text())[kind]:
        raw = (folder / each["url"]).read_bytes()
        text = gzip.decompress(raw) if each["url"].endswith(".gz") else raw
        assert (len(text), hashlib.sha256(text).hexdigest()) == (each["bytes"], each["sha256"])
        assert text.count(b"\n") == each["count"]
        assert {json.loads(line)["resourceType"] for line in text.splitlines()} == {each["type"]}
        found += text.splitlines()
    return sorted(found)


EXPECTED = sorted(encode(stamped(each)) for each in [*PEOPLE, *GOALS])


def nth(number: int, spoil: Any) -> Any:
    """Spoils that one of the files that are asked for, and no other."""
    count = 0

    def made(seen: Seen, answer: Answer) -> None:
        nonlocal count
        count += seen.file
        if seen.file and count == number:
            spoil(seen, answer)

    return made


def left(folder: Path) -> set[str]:
    """What is in a folder that nobody should find there."""
    return {path.name for path in folder.rglob(".*") if path.is_file()}


@pytest.mark.parametrize("gzipped", [True, False])
async def test_all_of_it_comes_as_it_was_put_there(pulling: Pulls, gzipped: bool) -> None:
    pulling.road.job = None
    done = await pulling(gzip=gzipped, source=f"whole-{gzipped}")
    assert lines(done) == EXPECTED
    assert {each.packed for each in done.files} == {gzipped}
    assert (done.pull.state, pulling.audited, left(pulling.folder)) == ("done", 1, set())
    assert [each.number for each in done.files] == list(range(1, len(done.files) + 1))
    kick_off, *_ = [each for each in pulling.road.seen if each.path.startswith("/fhir/$export?")]
    assert kick_off.headers["prefer"] == "respond-async"
    assert [each.method for each in pulling.road.seen if "export-status" in each.path][-1] == "DELETE"
    assert {path.stat().st_mode & 0o077 for path in pulling.folder.rglob("*")} == {0}


async def test_only_what_changed_since_comes_the_next_time(pulling: Pulls, exported: str) -> None:
    pulling.road.job = None
    first = await pulling(source="nightly", types=("Patient",))
    assert first.pull.since is None
    second = await pulling(source="nightly", types=("Patient",))
    assert (second.pull.since, lines(second)) == (first.pull.time, [])
    asked = [each.path for each in pulling.road.seen if each.path.startswith("/fhir/$export?")]
    assert ["_since=" in each for each in asked] == [False, True]
    pulling.road.job = exported
    another = await pulling(source="nightly", types=("Patient", "Goal"))
    assert another.pull.since is None, "of a type that was not asked for before, all of it is new"
    assert (await pulling(source="nightly", types=("Patient",), full=True)).pull.since is None


@pytest.mark.parametrize("gzipped", [True, False])
async def test_a_file_that_breaks_off_is_gone_on_with(pulling: Pulls, gzipped: bool) -> None:
    pulling.road.spoil = nth(2, lambda seen, answer: setattr(answer, "cut", len(answer.body) // 2))
    done = await pulling(source=f"cut-{gzipped}", gzip=gzipped, at_once=1)
    assert lines(done) == EXPECTED
    (resumed,) = [each for each in pulling.road.files() if "range" in each.headers]
    assert resumed.headers["if-range"].startswith('"')
    if not gzipped:  # a gateway that packs as it sends has no such range, and answers with the whole
        assert (resumed.status, pulling.road.files()[1].status) == (206, 200)
        assert int(resumed.headers["range"][6:-1]) > 0


async def test_a_file_that_has_changed_meanwhile_is_begun_again(pulling: Pulls) -> None:
    """The first half is of another file: of its bytes none may stay."""

    def changed(seen: Seen, answer: Answer) -> None:
        answer.body, answer.cut = answer.body.replace(b"other", b"OTHER"), len(answer.body) // 2
        answer.headers["etag"] = '"of-another-file"'

    pulling.road.spoil = nth(1, changed)
    done = await pulling(source="changed", gzip=False, at_once=1)
    assert lines(done) == EXPECTED
    assert [each.status for each in pulling.road.files()][:2] == [200, 200]
    assert pulling.road.files()[1].headers["if-range"] == '"of-another-file"'


async def test_a_part_of_another_file_is_not_joined_on(pulling: Pulls) -> None:
    """A server that minds Range but not If-Range."""

    def cut(seen: Seen, answer: Answer) -> None:
        answer.cut, answer.headers["etag"] = 1000, '"old"'

    count = 0

    def spoil(seen: Seen, answer: Answer) -> None:
        nonlocal count
        count += seen.file
        if seen.file and count == 1:
            cut(seen, answer)
        if seen.file and count == 2:
            answer.status, answer.body = 206, answer.body[1000:]
            answer.headers["content-range"] = f"bytes 1000-{len(answer.body) + 999}/{len(answer.body) + 1000}"

    pulling.road.spoil = spoil
    done = await pulling(source="joined", gzip=False, at_once=1)
    assert lines(done) == EXPECTED
    assert [("range" in each.headers, each.status) for each in pulling.road.files()][:3] == [
        (False, 200),
        (True, 206),
        (False, 200),
    ]


async def test_a_file_that_is_short_though_it_ends_well_is_fetched_again(pulling: Pulls) -> None:
    def short(seen: Seen, answer: Answer) -> None:
        answer.body = b"\n".join(answer.body.split(b"\n")[:-2]) + b"\n"

    pulling.road.spoil = nth(1, short)
    done = await pulling(source="short", gzip=False, at_once=1)
    assert lines(done) == EXPECTED
    assert done.files[0].attempts == 2

    pulling.road.spoil = lambda seen, answer: short(seen, answer) if seen.file else None
    with pytest.raises(Ended, match="not what the manifest says"):
        await pulling(source="short", gzip=False, at_once=1, full=True)
    async with direct(pulling.engine) as connection:
        newest, *_ = await pulls.listed(connection)
    assert (newest.state, list(pulling.folder.glob(f"{newest.id}*"))) == ("failed", [])


@pytest.mark.parametrize("spoilt", [b"<html>Log in, please</html>", b'{"resourceType":"Goal"'], ids=["page", "cut off"])
async def test_what_is_no_ndjson_is_not_taken_for_it(pulling: Pulls, spoilt: bytes) -> None:
    def spoil(seen: Seen, answer: Answer) -> None:
        if "export-status" in seen.path and answer.status == 200:
            manifest = json.loads(answer.body)
            answer.body = json.dumps(
                manifest | {"output": [{k: v for k, v in each.items() if k != "count"} for each in manifest["output"]]}
            ).encode()
        if seen.file:
            answer.body = spoilt

    pulling.road.spoil = spoil
    with pytest.raises(Ended, match="no JSON"):
        await pulling(source="no-ndjson", gzip=False)


async def test_gzip_that_is_cut_off_is_seen_though_its_length_is_right(pulling: Pulls) -> None:
    pulling.road.spoil = nth(1, lambda seen, answer: setattr(answer, "body", answer.body[:-9]))
    assert lines(await pulling(source="gzip", at_once=1)) == EXPECTED


async def test_a_token_that_expires_on_the_way_is_got_anew(pulling: Pulls) -> None:
    def expire(seen: Seen, answer: Answer) -> None:
        pulling.road.dead.add(seen.headers["authorization"].removeprefix("Bearer "))

    pulling.road.spoil = nth(2, expire)
    done = await pulling(source="token", at_once=1)
    assert lines(done) == EXPECTED
    asked = [each for each in pulling.road.seen if each.path == "/fhir/oauth/token"]
    assert ([each.status for each in asked], len(pulling.road.files(401))) == ([200, 200], 1)


async def test_who_is_not_let_in_again_is_told(pulling: Pulls) -> None:
    def refuse(seen: Seen, answer: Answer) -> None:
        if seen.file:
            answer.status = 401

    pulling.road.spoil = refuse
    with pytest.raises(Interrupted, match=r"though we have a token.*401"):
        await pulling(source="refused")
    pulling.road.spoil = lambda seen, answer: setattr(answer, "status", 404 if seen.file else answer.status)
    with pytest.raises(Ended, match=r"404.*Pull again"):
        await pulling(source="refused")


async def test_a_server_that_says_wait_is_waited_for(pulling: Pulls) -> None:
    told: list[str] = []
    counts = {"file": 0, "kick-off": 0}

    def busy(seen: Seen, answer: Answer) -> None:
        name = "file" if seen.file else "kick-off" if "$export?" in seen.path else ""
        if name:
            counts[name] += 1
            if counts[name] in (1, 2):
                answer.status, answer.body, told[:] = 429, b"", [*told, name]
                answer.headers = {"retry-after": "0"} if counts[name] == 1 else {}

    pulling.road.spoil = busy
    assert lines(await pulling(source="busy", at_once=1)) == EXPECTED
    assert told == ["kick-off", "kick-off", "file", "file"]
    assert [each.rpartition("; ")[0] for each in pulling.retried] == ["The file 1: not now"] * 2


async def test_what_does_not_come_is_told_while_it_is_asked_for_again(pulling: Pulls) -> None:
    left = {"token": 2, "$export-status": 1}

    def away(seen: Seen, answer: Answer) -> None:
        for name in left:
            if name in seen.path and left[name]:
                left[name] -= 1
                answer.status, answer.body, answer.headers = 503, b"", {"retry-after": "0"}

    pulling.road.spoil = away
    assert lines(await pulling(source="away")) == EXPECTED
    assert pulling.retried == [
        "The token endpoint: it answers 503; asked again in 0 s",
        "The token endpoint: it answers 503; asked again in 0 s",
        "The status: it answers 503; asked again in 0 s",
    ]


def test_the_server_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert patience.wait({"retry-after": "7"}, 1) == 7
    assert patience.wait({"retry-after": "99999999"}, 1) == patience.SAID
    assert 55 < patience.wait({"retry-after": _in(60)}, 1) <= 60
    assert patience.wait({"retry-after": _in(-60)}, 1) == 0
    for nonsense in ("", "soon", "-1", "1.5", "²"):
        assert 0.75 <= patience.wait({"retry-after": nonsense}, 1) <= 1
    growing = [patience.wait({}, tries) for tries in range(1, 12)]
    assert growing[3] > growing[0] * 4
    assert max(growing) <= patience.LONGEST


def _in(seconds: int) -> str:
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


async def test_what_the_server_says_went_wrong_is_kept_and_counted(pulling: Pulls) -> None:
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "warning", "code": "suppressed", "diagnostics": "about Mrs Canarybird"}],
    }

    def add(seen: Seen, answer: Answer) -> None:
        if "export-status" in seen.path and answer.status == 200:
            manifest = json.loads(answer.body)
            said = [{"type": "OperationOutcome", "url": f"{pulling.road.base}/$export-file/x/errors", "count": 2}]
            answer.body = json.dumps(manifest | {"error": said}).encode()
        if seen.path.endswith("/x/errors"):
            answer.status, answer.headers = 200, {"content-type": "application/fhir+ndjson"}
            answer.body = (json.dumps(outcome) + "\n").encode() * 2

    pulling.road.spoil = add
    done = await pulling(source="errors")
    assert lines(done) == EXPECTED
    assert done.issues == {("warning", "suppressed"): 2}
    assert [json.loads(each) for each in lines(done, "error")] == [outcome, outcome]


async def test_no_token_goes_where_none_is_asked_for_or_to_another_origin(pulling: Pulls) -> None:
    with road(pulling.road.root) as elsewhere:

        def open_files(seen: Seen, answer: Answer) -> None:
            if "export-status" in seen.path and answer.status == 200:
                moved = answer.body.replace(b'"requiresAccessToken":true', b'"requiresAccessToken":false')
                assert moved != answer.body
                answer.body = moved.replace(
                    f"{pulling.road.base}/$export-file".encode(), f"{elsewhere.base}/$export-file".encode()
                )

        pulling.road.spoil = open_files
        with pytest.raises(Ended):  # the gateway wants a token, so nothing comes of it: but none was sent
            await pulling(source="elsewhere", at_once=1)
        assert elsewhere.seen
        assert not any("authorization" in each.headers for each in elsewhere.seen)

        def wanting(seen: Seen, answer: Answer) -> None:
            if "export-status" in seen.path and answer.status == 200:
                answer.body = answer.body.replace(f"{pulling.road.base}/$export-file".encode(), elsewhere.base.encode())

        before, pulling.road.spoil = len(elsewhere.seen), wanting
        with pytest.raises(Ended, match="no token is sent there"):
            await pulling(source="elsewhere", at_once=1)
        assert len(elsewhere.seen) == before


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/f", "not https"),
        ("ftp://example.com/f", "not https"),
        ("https://a:b@example.com/f", "an account"),
        ("https://127.0.0.1/f", "not public"),
        ("https://169.254.169.254/latest/meta-data", "not public"),
        ("https://[::ffff:10.0.0.1]/f", "not public"),
        ("https:///f", "malformed"),
        ("https://[::1", "malformed"),
        ("https://example.com:99999/f", "malformed"),
        ("https://example.com/f\u00e9", "malformed"),
    ],
)
async def test_addresses_that_are_not_asked(pulling: Pulls, url: str, why: str) -> None:
    def spoil(seen: Seen, answer: Answer) -> None:
        if "export-status" in seen.path and answer.status == 200:
            manifest = json.loads(answer.body)
            output = [{"type": "Patient", "url": url}]
            answer.body = json.dumps(manifest | {"requiresAccessToken": False, "output": output}).encode()

    pulling.road.spoil = spoil
    with pytest.raises(Ended, match=why):
        await pulling(source="ssrf")


async def test_no_token_is_asked_for_where_the_server_alone_says_so(pulling: Pulls) -> None:
    """Somebody else may know us by the same name and key: the server would be sent their token."""
    asked: list[str] = []

    def spoil(seen: Seen, answer: Answer) -> None:
        asked.append(seen.path)
        if "smart-configuration" in seen.path:
            answer.body = json.dumps({"token_endpoint": "https://victim.example/token"}).encode()
            answer.headers.pop("content-encoding", None)

    pulling.road.spoil = spoil
    with pytest.raises(Interrupted, match=r"another origin than the base.*--token-url"):
        await pulling(source="mixed-up")
    assert [each for each in asked if "smart-configuration" not in each] == []
    pulling.road.spoil = lambda seen, answer: None
    assert (await pulling(source="mixed-up")).files


async def test_what_is_not_packed_as_it_says_is_told(pulling: Pulls) -> None:
    def spoil(seen: Seen, answer: Answer) -> None:
        if "smart-configuration" in seen.path:
            answer.headers["content-encoding"] = "gzip"
            answer.body = b"{}"

    pulling.road.spoil = spoil
    with pytest.raises(Ended, match="not packed as its Content-Encoding says"):
        await pulling(source="rough")


async def test_http_is_for_this_machine_alone_and_only_if_it_is_allowed() -> None:
    with pytest.raises(Ended, match="allow-http"):
        Reach("http://127.0.0.1/fhir").checked("Patient", "file")
    with pytest.raises(Ended, match="allow-http"):
        Reach("http://example.com/fhir", loopback=True).checked("Patient", "file")
    assert Reach("http://localhost/fhir", loopback=True).checked("$x", "file") == "http://localhost/fhir/$x"
    inside = "https://10.0.0.1/token"
    with pytest.raises(Ended, match="not public"):
        await Reach("https://example.com/fhir").target(inside, "token endpoint")
    vouched = await Reach("https://example.com/fhir", also=inside).target(inside, "token endpoint")
    assert str(vouched.url) == inside
    reach = Reach("https://example.com/fhir")
    assert reach.own("https://EXAMPLE.com:443/other")
    for foreign in ("https://example.com.evil.org/fhir", "https://example.com:8443/fhir", "https://example.org"):
        assert not reach.own(foreign)


@pytest.mark.parametrize(
    "wrong",
    [
        {"transactionTime": "yesterday"},
        {"requiresAccessToken": "yes"},
        {"output": {}},
        {"output": [{"type": "../../etc/x", "url": "https://example.com"}]},
        {"output": [{"type": "Patient"}]},
        {"output": [{"type": "Patient", "url": "x", "count": -1}]},
        {"error": ["x"]},
        {"link": "x"},
    ],
    ids=str,
)
async def test_a_manifest_that_is_none_is_refused(pulling: Pulls, wrong: dict[str, Any]) -> None:
    def spoil(seen: Seen, answer: Answer) -> None:
        if "export-status" in seen.path and answer.status == 200:
            answer.body = json.dumps(json.loads(answer.body) | wrong).encode()

    pulling.road.spoil = spoil
    with pytest.raises(Ended, match="manifest"):
        await pulling(source="manifest")


async def test_there_is_a_bound_to_how_much_comes(pulling: Pulls) -> None:
    with pytest.raises(Ended, match="most-gigabytes"):
        await pulling(source="much", gzip=False, most=10_000)
    with pytest.raises(Ended, match="unpacked"):  # packed it is well below
        await pulling(source="much", gzip=True, most=30_000)
    assert lines(await pulling(source="much", most=1_000_000)) == EXPECTED


async def test_a_disk_that_is_full_ends_it_and_with_room_it_goes_on(pulling: Pulls) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(Unwritable, match="Make room"):
            await pulling(source="full", gzip=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(pulling.folder.rglob("manifest.json"))
    assert lines(await pulling(source="full", gzip=False)) == EXPECTED


async def test_a_pull_that_is_given_up_leaves_nothing_lying_about(pulling: Pulls) -> None:
    """But what somebody else has put there."""
    count = 0

    def gone(seen: Seen, answer: Answer) -> None:
        nonlocal count
        count += seen.file
        if seen.file and count > 2:
            answer.status, answer.body = 500, b""

    pulling.road.spoil = gone
    with pytest.raises(Interrupted):
        await pulling(source="given-up", at_once=1)
    (first,) = pulling.folder.iterdir()
    assert len(list(first.iterdir())) == 2
    (first / "letter.txt").write_text("mine")
    pulling.road.spoil = lambda seen, answer: None
    done = await pulling(source="given-up", restart=True)
    assert [path.name for path in first.rglob("*")] == ["letter.txt"]
    assert (lines(done), done.pull.place != str(first)) == (EXPECTED, True)


async def test_what_was_interrupted_goes_on_where_it_was(pulling: Pulls) -> None:
    """The server goes away for good in the middle; the next call asks for what is not there, and for nothing else."""
    count = 0

    def gone(seen: Seen, answer: Answer) -> None:
        nonlocal count
        count += seen.file
        if seen.file and count > 2:
            answer.status, answer.body = 503, b""

    pulling.road.spoil = gone
    with pytest.raises(Interrupted, match="8 times in a row"):
        await pulling(source="gone", at_once=1)
    fetched = len(pulling.road.files(200))
    assert fetched == 2
    with pytest.raises(Interrupted, match="asks for something else"):
        await pulling(source="gone", types=("Goal",))
    pulling.road.spoil = lambda seen, answer: None
    done = await pulling(source="gone", at_once=1)
    assert lines(done) == EXPECTED
    assert len(pulling.road.files(200)) == len(done.files) > 2
    assert sum("$export?" in each.path for each in pulling.road.seen) == 1


@pytest.mark.parametrize("gzipped", [True, False])
async def test_whenever_it_is_killed_it_goes_on(pulling: Pulls, other: Gateway, own_url: str, gzipped: bool) -> None:
    """`kill -9` wherever it may be: of what was written down as fetched nothing comes twice, and nothing is missing."""
    source, lives, running = f"killed-{gzipped}", [2, 3, 4, 6, 5, 7, 8], []
    place = own_url, pulling.road.base, key_file(other.settings, "ours"), pulling.folder, source, gzipped

    def kill(seen: Seen, answer: Answer) -> None:
        """At the so-manieth request of each life: as it is asked, or while its answer comes."""
        answer.slow = 0.004 if seen.file else 0
        if running and len(pulling.road.seen) - running[1] + 1 == running[2]:
            threading.Timer(0.012 * (running[2] % 2), running[0].kill).start()

    pulling.road.spoil = kill
    killed = 0
    for requests in (*lives, 0):
        process = pulling_process(*place)
        running[:] = [process, len(pulling.road.seen), requests]
        process.start()
        await asyncio.to_thread(process.join, 30)
        async with direct(pulling.engine) as connection:
            states = [each.state for each in await pulls.listed(connection) if each.source == source]
        killed += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
        if states == ["done"]:  # it may be killed after that, and then the next would begin another
            break
    assert killed >= 3
    async with direct(pulling.engine) as connection:
        (run,) = [each for each in await pulls.listed(connection) if each.source == source]
        done = Pulled(run, await pulls.files(connection, run.id), Counter())
    assert (run.state, lines(done)) == ("done", EXPECTED)
    assert left(pulling.folder) == set()
    assert sum("$export?" in each.path for each in pulling.road.seen) <= 2, "once it was answered it is not asked again"
    assert max(each.attempts for each in done.files) < len(lives), "a file that is there is not fetched again"


async def test_a_file_somebody_took_away_is_fetched_again(pulling: Pulls) -> None:
    count = 0

    def gone(seen: Seen, answer: Answer) -> None:
        nonlocal count
        count += seen.file
        if seen.file and count > 2:
            answer.status, answer.body = 500, b""

    pulling.road.spoil = gone
    with pytest.raises(Interrupted, match="500"):
        await pulling(source="taken", at_once=1)
    for each in pulling.folder.rglob("*.ndjson.gz"):
        each.unlink()
    pulling.road.spoil = lambda seen, answer: None
    assert lines(await pulling(source="taken")) == EXPECTED


async def test_one_at_a_time_of_a_source(pulling: Pulls) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    pulling.road.spoil = lambda seen, answer: loop.call_soon_threadsafe(begun.set)
    first = asyncio.create_task(pulling(source="twice"))
    await begun.wait()
    with pytest.raises(FhirError, match="Another pull of twice"):
        await pulling(source="twice")
    other = await pulling(source="another")
    assert lines(await first) == lines(other) == EXPECTED


async def test_an_export_that_is_gone_is_asked_for_anew_the_next_time(pulling: Pulls) -> None:
    def gone(seen: Seen, answer: Answer) -> None:
        if "export-status" in seen.path:
            answer.status, answer.body = 404, b""

    pulling.road.spoil = gone
    with pytest.raises(Ended, match="404"):
        await pulling(source="expired")
    pulling.road.spoil = lambda seen, answer: None
    assert lines(await pulling(source="expired")) == EXPECTED


async def test_a_server_that_does_not_know_us_gives_no_token(pulling: Pulls) -> None:
    pulling.credentials = replace(pulling.credentials, name="nobody")
    with pytest.raises(Interrupted, match="register the public half"):
        await pulling(source="unknown")
    assert [each.path for each in pulling.road.seen][-1] == "/fhir/oauth/token"


async def test_a_server_that_is_not_there_is_told_of(pulling: Pulls) -> None:
    assert lines(await pulling(source="somewhere")) == EXPECTED
    pulling.road.root = "http://127.0.0.1:9"
    with pytest.raises(Interrupted, match="is --from right"):
        await pulling(source="nowhere")
