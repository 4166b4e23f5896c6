"""`fhirgw demo` serving: what HTTP answers is what was exported, and the process goes and comes back as it should."""

import html
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest

from fhirgw.council.council import Council
from tests.conftest import temporary
from tests.journeys import by_hand, exported
from tests.journeys.canaries import canaries, told
from tests.journeys.command import Place, Started, alive, postmaster
from tests.journeys.conftest import COMMAND, Demo

ADDRESS = re.compile(r"^(.+?) {2,}(\S+)$", re.MULTILINE)
NDJSON = {"prefer": "respond-async", "accept": "application/fhir+json"}
CLEARED = "cleared"
CLEARANCE = [
    *("--organisation", "Z9C01", "--clear", "restricted", "--clear", "safeguarding", "--clear", "sealed"),
    *("--clear", "third-party"),
]
Resource = dict[str, Any]


class Serving(NamedTuple):
    """A running `fhirgw demo`: the addresses it printed, by what they are, and a client at its FHIR base.

    The client has the tokens of an application that is cleared for all there is but what people dissent from, which is
    what `shown` has too: what the command line exports of it.
    """

    started: Started
    addresses: dict[str, str]
    http: httpx.Client
    orphan: int
    shown: dict[str, list[Resource]]

    def get(self, path: str, **parameters: str) -> Resource:
        answer = self.http.get(path, params=parameters or None)
        assert answer.status_code == 200, answer.text
        found: Resource = answer.json()
        return found

    def all_pages(self, path: str, *pairs: tuple[str, str], count: int = 50) -> list[list[Resource]]:
        """The matches of each page, along the links."""
        pages, url = (
            [],
            f"{path}?{'&'.join(f'{name}={quote(value)}' for name, value in (*pairs, ('_count', str(count))))}",
        )
        while url:
            bundle = self.get(url)
            pages.append([each["resource"] for each in bundle.get("entry", ()) if each["search"]["mode"] == "match"])
            url = next((each["url"] for each in bundle["link"] if each["relation"] == "next"), "")
        return pages


@pytest.fixture(scope="module")
def serving(demo: Demo) -> Iterator[Serving]:
    """The demonstration's folder served by a second process: the first was killed with SIGKILL while it served."""
    command = (*COMMAND, "--port", 0, "--no-visits", "--data", demo.data)
    with demo.place.running(*command) as first:
        first.until(lambda: "Serving until" in first.out.read_text())
        orphan = postmaster(demo.data)
        first.kill()
    assert alive(orphan), "PostgreSQL outlives a process that had no time to stop it"
    with demo.place.running(*command) as second:
        second.until(lambda: "Serving until" in second.out.read_text())
        addresses = dict(ADDRESS.findall(second.out.read_text()))
        base = addresses["what it can do"].removesuffix("/metadata")
        demo.place.done("app", "add", CLEARED, "--generate", "--scope", "system/*.rs", "--rate", 1_000_000, *CLEARANCE)
        with temporary() as folder:
            demo.place.done("export", "--app", CLEARED, "--to", folder / "out")
            shown = exported.files(folder / "out")
        with httpx.Client(base_url=base, timeout=120, auth=Token(demo.place, CLEARED)) as http:
            yield Serving(second, addresses, http, orphan, shown)


class Token(httpx.Auth):
    """An access token as the command line prints it, and another one when it has expired."""

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.name, self.token = place, name, ""

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:
        request.headers["authorization"] = f"Bearer {self.token or self._new()}"
        answer = yield request
        if answer.status_code == 401:
            request.headers["authorization"] = f"Bearer {self._new()}"
            yield request

    def _new(self) -> str:
        self.token = self.place.done("token", "--app", self.name, "--scope", "system/*.rs").out.strip()
        return self.token


def test_every_printed_address_opens(serving: Serving) -> None:
    *pages, (_, manifest) = [(what, where) for what, where in serving.addresses.items() if "/" in where]
    assert [serving.http.get(where).status_code for what, where in pages if where.startswith("http")] == [200] * 4
    assert Path(manifest).is_file()
    links = re.findall(r'href="([^"]+)"', httpx.get(serving.addresses["start here"]).text)
    root = serving.addresses["start here"].rstrip("/")
    assert {serving.http.get(root + html.unescape(each)).status_code for each in links} == {200}
    without = {each: httpx.get(root + html.unescape(each)).status_code for each in links}
    assert {each for each, status in without.items() if status == 200} == {
        "/fhir/metadata",
        "/fhir/.well-known/smart-configuration",
        "/health/ready",
        *("/homecare/desk", "/homecare/upload", "/homecare/guide"),
    }
    assert set(without.values()) == {200, 401}


def test_it_says_what_it_can_do(serving: Serving, demo: Demo) -> None:
    statement = serving.get("metadata")
    assert (statement["resourceType"], statement["fhirVersion"]) == ("CapabilityStatement", "4.0.1")
    declared = {each["type"]: {one["name"] for one in each["searchParam"]} for each in statement["rest"][0]["resource"]}
    assert serving.shown.keys() <= declared.keys()
    assert {kind: set(asked) - declared[kind] for kind, asked in by_hand.SEARCHES.items()} == {
        kind: set() for kind in by_hand.SEARCHES
    }


def test_every_type_is_searched_by_patient_identifier_date_and_code_where_r4_can(serving: Serving, demo: Demo) -> None:
    """The table of searches leaves nothing out: where R4 has such a parameter and we hold such data, it is asked."""
    assert by_hand.SEARCHES.keys() == serving.shown.keys()
    shared = set(by_hand.REFERENCE_DATA)
    kinds = {kind: {how for how, _ in asked.values()} for kind, asked in by_hand.SEARCHES.items()}
    assert {kind for kind in kinds if "identifier" not in by_hand.SEARCHES[kind]} == set()
    assert {kind for kind, hows in kinds.items() if by_hand.PATIENT not in hows} - shared == {"Patient"}
    undated = {kind for kind, hows in kinds.items() if by_hand.DATE not in hows} - shared
    assert undated == {"RelatedPerson", "CareTeam", "Device", "DeviceUseStatement"}


def test_a_read_gives_the_exported_bytes(serving: Serving, demo: Demo) -> None:
    for path in sorted((demo.data / "export").glob("*.ndjson")):
        seen = {each["id"] for each in serving.shown.get(path.stem, ())}
        lines = [(line, exported.read(line + b"\n")[0]["id"]) for line in path.read_bytes().splitlines()]
        line, id = random.Random(path.stem).choice([each for each in lines if each[1] in seen])
        answer = serving.http.get(f"{path.stem}/{id}")
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (200, line, 'W/"1"')
        version = serving.http.get(f"{path.stem}/{id}/_history/1")
        assert (version.status_code, version.content) == (200, line)
        assert serving.http.get(f"{path.stem}/{id}/_history/2").status_code == 404
        (entry,) = serving.get(f"{path.stem}/{id}/_history")["entry"]
        assert entry["resource"]["id"] == id


def test_what_is_not_there_is_told_so(serving: Serving) -> None:
    answer = serving.http.get("Patient/00000000-0000-5000-8000-000000000000")
    assert (answer.status_code, answer.json()["resourceType"]) == (404, "OperationOutcome")


@pytest.mark.parametrize("kind", by_hand.SEARCHES)
def test_a_search_finds_what_looking_at_every_resource_finds(serving: Serving, demo: Demo, kind: str) -> None:
    resources = serving.shown[kind]
    asked = [each for name in by_hand.SEARCHES[kind] for each in by_hand.searches(resources, kind, name)]
    answers = {search: _ids(serving.all_pages(kind, search, count=1000)) for search in asked}
    assert answers == {search: by_hand.found(resources, [search]) for search in asked}
    assert any(answers.values())


@pytest.mark.parametrize("kind", by_hand.ABOUT)
def test_a_search_of_one_persons_resources_by_another_parameter(serving: Serving, demo: Demo, kind: str) -> None:
    """Both conditions hold of each match, and every resource that both hold of is matched."""
    resources = serving.shown[kind]
    (patient, *_) = by_hand.searches(resources, kind, "patient")
    ids = by_hand.found(resources, [patient])
    mine = [each for each in resources if each["id"] in ids]
    for name in by_hand.SEARCHES[kind].keys() - {"patient", "identifier"}:
        asked = (each for each in by_hand.searches(mine, kind, name) if by_hand.found(mine, [each]))
        pair = [patient, next(asked)]
        assert _ids(serving.all_pages(kind, *pair)) == by_hand.found(mine, pair)


def _ids(pages: list[list[Resource]]) -> set[str]:
    return {each["id"] for page in pages for each in page}


@pytest.mark.parametrize("order", ["", "_id", "-date", "_lastUpdated"])
def test_the_pages_of_a_search_hold_every_match_once(serving: Serving, demo: Demo, order: str) -> None:
    pages = serving.all_pages("Observation", *[("_sort", order)] if order else [], count=97)
    assert [len(page) for page in pages[:-1]] == [97] * (len(pages) - 1)
    ids = [each["id"] for page in pages for each in page]
    assert len(pages) == -(-len(serving.shown["Observation"]) // 97)
    assert sorted(ids) == sorted(each["id"] for each in serving.shown["Observation"])


def test_the_total_is_the_number_of_matches(serving: Serving, demo: Demo) -> None:
    women = by_hand.found(serving.shown["Patient"], [("gender", "female")])
    assert serving.get("Patient", gender="female", _total="accurate", _count="1")["total"] == len(women)
    assert serving.get("Patient", gender="female", _summary="count")["total"] == len(women)


@pytest.mark.parametrize("count", [7, 1000])
def test_everything_of_a_rich_record_is_what_leads_to_and_from_it(serving: Serving, demo: Demo, count: int) -> None:
    records = Counter(
        name
        for kind, path in by_hand.ABOUT.items()
        for each in serving.shown[kind]
        for name in exported.at(each, f"{path}.reference")
    )
    patient = records.most_common(1)[0][0].removeprefix("Patient/")
    expected = by_hand.record(serving.shown, patient)
    assert len({name.partition("/")[0] for name in expected}) > 12
    pages = serving.all_pages(f"Patient/{patient}/$everything", count=count)
    answered = [f"{each['resourceType']}/{each['id']}" for page in pages for each in page]
    assert len(answered) == len(set(answered))
    assert set(answered) == expected


@pytest.mark.parametrize(("path", "options"), [("$export", ()), ("Patient/$export", ("--patients",))])
def test_an_export_over_http_is_the_command_lines(
    serving: Serving, demo: Demo, path: str, options: tuple[str, ...]
) -> None:
    kicked = serving.http.get(path, headers=NDJSON)
    assert kicked.status_code == 202, kicked.text
    manifest = _polled(serving, kicked.headers["content-location"])
    assert manifest["request"] == f"{str(serving.http.base_url).rstrip('/')}/{path}"
    over_http: dict[str, Counter[bytes]] = {}
    for each in manifest["output"]:
        body = serving.http.get(each["url"], headers={"accept": "application/fhir+ndjson"}).content
        assert body.count(b"\n") == each["count"]
        over_http[each["type"]] = Counter(body.splitlines())
    with temporary() as folder:
        demo.place.done("export", "--app", CLEARED, "--to", folder / "out", *options)
        by_command = {each.stem: Counter(each.read_bytes().splitlines()) for each in folder.glob("out/*.ndjson")}
    assert over_http == by_command
    held = {"Patient", *by_hand.ABOUT} if options else serving.shown.keys()
    assert {kind: lines.total() for kind, lines in by_command.items()} == {
        kind: len(serving.shown[kind]) for kind in held
    }


def _polled(serving: Serving, address: str) -> Resource:
    """The manifest, asked for until it is there."""
    deadline = time.monotonic() + 120
    while (answer := serving.http.get(address)).status_code in (202, 429):  # a machine that is busy is asked often
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    manifest: Resource = answer.json()
    return manifest


def test_nothing_about_anybody_reaches_the_log(serving: Serving, demo: Demo, council: Council) -> None:
    """The one NHS number on stdout is part of an address to open, printed on purpose: nobody here is real."""
    secrets = canaries(council)
    out, err = (path.read_text() for path in (serving.started.out, serving.started.err))
    serving.http.get("Patient", params={"family": "Nobody-At-All", "identifier": "1|9999999999", "_sort": "nothing"})
    said = out.replace(serving.addresses["a person, by NHS number"], "") + err
    assert told(secrets, said + (demo.data / "postgres" / "log").read_text()) == set()
    assert told(secrets, serving.http.get("Patient").text)


def test_sigterm_stops_it_and_its_database(serving: Serving, demo: Demo) -> None:
    """The last here: it ends what the others ask."""
    database = postmaster(demo.data)
    assert (database, alive(database)) == (serving.orphan, True), "the second process took over the database it found"
    ended = serving.started.stop()
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert not alive(database)
    with pytest.raises(FileNotFoundError):
        postmaster(demo.data)
    with pytest.raises(httpx.ConnectError):
        serving.http.get("metadata")
