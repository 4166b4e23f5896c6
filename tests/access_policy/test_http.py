"""Non-interference as an attacker would see it: over HTTP, with a token, status, headers and bytes of every answer. Two
gateways whose databases differ only in what is hidden from the caller cannot be told apart."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from fhirgw.access.label import CLASSES
from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from tests.access_policy.oracle import SHOWN, Caller, Judge, Key, World
from tests.access_policy.people import COUNCIL, callers
from tests.access_policy.test_non_interference import PERSONS, PROBES, county_of, fill, searches
from tests.access_policy.two_worlds import twins
from tests.conftest import NewDatabase
from tests.gateway import serving

BASE = "https://gateway.example/fhir"
"""What both gateways call themselves, so that their links are the same."""

TODAY = datetime.now(UTC)
EVERYBODY = callers()
CALLERS: dict[str, tuple[Caller, Registration]] = {
    "surgery": (EVERYBODY["surgery"], Registration("surgery", "GP1", "system/*.rs", sector="nhs", rate=1_000_000)),
    "running": (
        EVERYBODY["provider running"],
        Registration("running", "PRORUNN", "system/*.rs", sector="care-provider", rate=1_000_000),
    ),
    "council": (
        EVERYBODY["council, with safeguarding"],
        Registration(
            *("council", COUNCIL, "system/*.rs"),
            sector="council",
            clearance=CLASSES["safeguarding"],
            rate=1_000_000,
        ),
    ),
}
VOLATILE = ("date", "x-request-id", "ratelimit", "ratelimit-policy", "ratelimit-remaining", "ratelimit-reset", "age")
"""What says when, and which request it was."""
CURSOR = re.compile(r"_cursor=([\w-]+)")
"""Enciphered anew for each answer, with a key of the database's own: only its length can be compared."""
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Pair(NamedTuple):
    """The same caller, at two gateways."""

    clients: tuple[httpx.Client, httpx.Client]
    worlds: tuple[World, World]
    judge: Judge

    def __repr__(self) -> str:
        return "two gateways"

    def shown(self) -> set[Key]:
        return {key for key, each in self.worlds[0].resources.items() if self.judge.why(each) == SHOWN}

    def answers(self, path: str, headers: dict[str, str] | None = None) -> list[tuple[int, dict[str, str], str]]:
        """What each gateway answers to the same request."""
        return [_answer(client.get(path, headers=headers)) for client in self.clients]

    def walk(self, path: str, most: int = 40) -> Iterator[tuple[int, dict[str, str], str]]:
        """Every page, alike from both; each gateway is asked by its own next link, for cursors are enciphered."""
        paths: list[str | None] = [path, path]
        for _ in range(most):
            got = [client.get(each) for client, each in zip(self.clients, paths, strict=True) if each]
            answers = [_answer(each) for each in got]
            assert answers[0] == answers[1]
            yield answers[0]
            paths = [_next(each) for each in got]
            if None in paths:
                assert paths == [None, None]
                return

    def posted(self, path: str, sent: dict[str, Any]) -> list[tuple[int, dict[str, str], str]]:
        """The same, of what is sent along."""
        return [_answer(client.post(path, json=sent)) for client in self.clients]


def _answer(got: httpx.Response) -> tuple[int, dict[str, str], str]:
    headers = {name: value for name, value in got.headers.items() if name not in VOLATILE}
    for name in ("date", "x-request-id"):
        assert got.headers.get(name), name
    return got.status_code, headers, _timeless(got)


def _timeless(got: httpx.Response) -> str:
    """The body; a Bundle says when it was made, and has an id of its own."""
    if "json" not in got.headers.get("content-type", ""):
        return got.text
    body = got.json()
    text = got.text
    if body.get("resourceType") == "Bundle":
        for said in (body.get("id"), body.get("meta", {}).get("lastUpdated"), body.get("timestamp")):
            text = text.replace(f'"{said}"', '"…"', 1) if said else text
    if body.get("type") == "document":
        text = UUID.sub("…", text.replace(f'"{body["timestamp"]}"', '"…"'))  # made of who and when it is made
    return CURSOR.sub(lambda found: "_cursor=" + "x" * len(found[1]), text)


@pytest.fixture(scope="module", params=CALLERS)
async def pair(
    request: pytest.FixtureRequest, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    caller, registered = CALLERS[request.param]
    stored = twins(county_of(PERSONS), caller, Random(request.param), TODAY)
    async with AsyncExitStack() as databases:
        with ExitStack() as gateways:
            clients = []
            for each in stored:
                url = await databases.enter_async_context(new_database())
                await fill(url, each)
                data: Path = tmp_path_factory.mktemp("data")
                given = Settings(database_url=url, data=data, log="json", controller=COUNCIL, base_url=BASE)
                gateway = gateways.enter_context(serving(given))
                client = gateways.enter_context(gateway.client(registered))
                client.headers["accept-encoding"] = "identity"  # packed, a cursor's random bytes would have a length
                clients.append(client)
            worlds = (stored[0].world, stored[1].world)
            yield Pair((clients[0], clients[1]), worlds, Judge(worlds[0], caller, TODAY))


FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(asked=searches())
def test_searches_page_by_page(pair: Pair, asked: tuple[str, list[tuple[str, str]]]) -> None:
    alike(pair, asked)


@pytest.mark.parametrize("asked", PROBES[::2], ids=lambda asked: f"{asked[0]}?{urlencode(asked[1])}")
def test_searches_by_what_is_withheld(pair: Pair, asked: tuple[str, list[tuple[str, str]]]) -> None:
    alike(pair, asked)


def alike(pair: Pair, asked: tuple[str, list[tuple[str, str]]]) -> None:
    """Every page of a search, from either gateway."""
    for _ in pair.walk(f"/fhir/{asked[0]}?{urlencode(asked[1])}", most=8):
        pass


def _next(got: httpx.Response) -> str | None:
    links = got.json().get("link", [])
    return next((each["url"].removeprefix(BASE[:-5]) for each in links if each["relation"] == "next"), None)


def test_what_is_seen_is_seen_with_its_version_and_time(pair: Pair) -> None:
    """The positive control: the caller sees some of the records whole, and 304 where they have them already."""
    seen = sorted(pair.shown())
    assert len(seen) > 20
    for kind, id in Random(1).sample(seen, 12):
        one, other = pair.answers(f"/fhir/{kind}/{id}")
        assert one == other
        assert one[0] == 200
        assert one[1]["etag"].startswith('W/"') and one[1]["last-modified"]
        for again in ({"if-none-match": one[1]["etag"]}, {"if-modified-since": one[1]["last-modified"]}):
            first, second = pair.answers(f"/fhir/{kind}/{id}", again)
            assert first == second
            assert first[0] == (304 if "if-none-match" in again else first[0])
        first, second = pair.answers(f"/fhir/{kind}/{id}/_history")
        assert first == second
        assert first[0] == 200


SUFFIXES = ("", "/_history", "/_history/1", "/_history/2", "/_history/9", "/$meta", "/$validate")
OPERATIONS = ("/$everything", "/$explain", "/$who-looked", "/$summary")


def test_what_is_hidden_is_what_never_was(pair: Pair) -> None:
    """Byte for byte: hidden, hidden in another way, of a person there is in one of the two alone, and absent."""
    hidden = sorted(pair.worlds[1].resources.keys() - pair.shown())
    assert len(hidden) > 20
    sample = [*Random(2).sample(hidden, 5), ("Patient", "zoe"), ("Observation", "zoe-weight")]
    for kind, id in [each for each in sample if each not in pair.shown()]:
        for suffix in SUFFIXES + OPERATIONS * (kind == "Patient"):
            absent = _answer(pair.clients[0].get(f"/fhir/{kind}/nobody-ever{suffix}"))
            assert absent[0] == 404 or (suffix in OPERATIONS and absent[0] == 403)
            assert not {"etag", "location", "last-modified"} & absent[1].keys()
            for headers in ({}, {"if-none-match": 'W/"1"'}, {"if-modified-since": "Fri, 01 Jan 2021 00:00:00 GMT"}):
                one, other = pair.answers(f"/fhir/{kind}/{id}{suffix}", headers)
                assert one == other == absent


def test_a_search_by_form_is_no_way_round(pair: Pair) -> None:
    for kind, asked in PROBES[:8]:
        form = [_answer(client.post(f"/fhir/{kind}/_search", data=dict(asked))) for client in pair.clients]
        assert form[0] == form[1]
        assert form[0][0] == 200


def test_everything(pair: Pair) -> None:
    for person in ("none", "restricted", "sealed", "exceptkind", "zoe", "nobody"):
        for suffix in ("", "?_count=7", "?_type=Observation,Organization&_since=2026-01-02T05:00:00Z"):
            for status, _, _ in pair.walk(f"/fhir/Patient/{person}/$everything{suffix}"):
                assert status in (200, 404)


def test_summaries(pair: Pair) -> None:
    """Of whom the caller sees, a document without what is hidden; the others are absent (above)."""
    seen = sorted(id for kind, id in pair.shown() if kind == "Patient")
    for id in Random(3).sample(seen, min(8, len(seen))):
        one, other = pair.answers(f"/fhir/Patient/{id}/$summary")
        assert one == other
        assert one[0] == 200
        found = [each["resource"] for each in json.loads(one[2])["entry"]]
        made = {("Composition", "…"), ("Device", "…")}  # by the gateway: the document's head, and itself as its author
        shown = {(each["resourceType"], each["id"]) for each in found} - made
        assert ("Patient", id) in shown <= pair.shown()


def test_matches(pair: Pair) -> None:
    """A person by what few people share, whether they are hidden, shown, or of one of the two worlds alone."""
    people = {id: each for world in pair.worlds for (kind, id), each in world.resources.items() if kind == "Patient"}
    seen = {id for kind, id in pair.shown() if kind == "Patient"}
    found = set()
    for id, known in sorted(people.items()):
        asked = {name: known[name] for name in ("identifier", "name", "birthDate", "address") if name in known}
        for sent in (asked, {**asked, "identifier": []}, {"identifier": known.get("identifier", [])}):
            told = {name: value for name, value in sent.items() if value}
            one, other = pair.posted("/fhir/Patient/$match", {"resourceType": "Patient", **told})
            assert one == other, id
            if one[0] == 200:
                entries = [each["resource"] for each in json.loads(one[2]).get("entry", [])]
                found |= {each["id"] for each in entries if each["resourceType"] == "Patient"}
    assert found <= seen
    assert found  # somebody is found by it, so that being alike says something


@pytest.mark.parametrize("place", ["/_history", "/Patient/_history", "/Observation/_history"])
def test_histories_of_all(pair: Pair, place: str) -> None:
    """Page by page, since some time, as of a time, and their number: of what is shown, and no more."""
    seen: set[tuple[str, str]] = set()
    for asked in ("_count=30", "_since=2026-01-02T05:00:00Z&_count=50", "_at=2026-01-03&_count=50", "_summary=count"):
        for status, _, body in pair.walk(f"/fhir{place}?{asked}"):
            assert status == 200
            found = (each["resource"] for each in json.loads(body).get("entry", []) if "resource" in each)
            seen |= {(each["resourceType"], each["id"]) for each in found}
    kind = place.split("/")[1]
    assert {each for each in pair.shown() if kind in ("_history", each[0])} <= seen
    assert not {key for key in seen if key in pair.worlds[0].resources} - pair.shown()


@pytest.mark.parametrize("place", ["/$meta", "/Patient/$meta", "/Observation/$meta", "/Flag/$meta"])
def test_labels_and_tags_in_use(pair: Pair, place: str) -> None:
    """Those of what is shown: that a label is in use would say that somebody is hidden by it."""
    one, other = pair.answers(f"/fhir{place}")
    assert one == other
    assert one[0] == 200
    (posted, again) = pair.posted(f"/fhir{place}", {"resourceType": "Parameters"})
    assert posted == again
    told = json.loads(one[2]).get("parameter", [{}])[0].get("valueMeta", {}).get("security", [])
    shown = [
        pair.worlds[0].resources[key] for key in pair.shown() if place == "/$meta" or key[0] == place.split("/")[1]
    ]
    borne = {each["code"] for one in shown for each in one.get("meta", {}).get("security", [])}
    assert {each["code"] for each in told} == borne


def test_every_search_says_the_same_about_what_may_be_withheld(pair: Pair) -> None:
    """Constant advice: it informs the clinician, and never depends on what is there. A count alone has no entries."""
    advice = set()
    for kind in ("Patient", "Observation", "Flag", "Task"):
        for asked in ("_count=1", "_id=restricted,sealed", "_id=nobody", "_id=zoe", "_lastUpdated=gt2026-01-03"):
            entries = pair.clients[1].get(f"/fhir/{kind}?{asked}").json().get("entry", [])
            said = [each["resource"] for each in entries if each["resource"]["resourceType"] == "OperationOutcome"]
            advice.add(str([each["issue"] for each in said]))
    assert len(advice) == 1
    assert "withheld" in advice.pop()


def test_exports(pair: Pair) -> None:
    """Files and manifest, but for where the files lie and when it was."""
    both = []
    for client in pair.clients:
        asked = client.get("/fhir/$export", headers={"prefer": "respond-async"})
        assert asked.status_code == 202, asked.text
        status = asked.headers["content-location"].removeprefix(BASE[:-5])
        for _ in range(2400):
            told = client.get(status)
            if told.status_code not in (202, 429):  # a machine that is busy is asked often
                break
            time.sleep(0.05)
        manifest = told.json()
        files = {}
        for each in manifest["output"]:
            got = client.get(each["url"].removeprefix(BASE[:-5]))
            files[each["type"]] = (each["count"], sorted(got.text.splitlines()))
        both.append((asked.status_code, told.status_code, manifest.get("error"), files))
    assert both[0] == both[1]
    assert sum(count for count, _ in both[0][3].values()) == len(pair.shown())
