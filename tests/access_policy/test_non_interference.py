"""Non-interference: what a caller gets is a function of the request, the caller and what the caller may see. Two
databases that differ only in what is hidden from the caller answer every request that Hypothesis thinks of alike: rows,
order, totals, cursors, versions, times, refusals.

What a caller is told of a Patient whose whereabouts are withheld has a version and a time, which a change of address
would move: that somebody has moved is told to those who know them, where to is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.query import Query
from fhirgw.jobs.export_folder import export
from fhirgw.store import resources
from fhirgw.store.database import connect
from fhirgw.store.everything import Asked, everything
from fhirgw.store.export import Selection
from fhirgw.store.search import search
from tests.access_policy.oracle import SHOWN, Caller, Judge, World
from tests.access_policy.people import NAMED, NOW, bound, callers, county
from tests.access_policy.stored import looking, permit, pour
from tests.access_policy.two_worlds import Stored, twins
from tests.conftest import NewDatabase
from tests.put import connected

PERSONS = (*NAMED, "dissentone", "restrictedpermit", "exceptkind", "dissentkind", "optedout")
EVERYBODY, ONE = callers(), bound("restricted")
CALLERS: dict[str, Caller] = {
    **{name: EVERYBODY[name] for name in ("council", "surgery", "provider running", "worker")},
    **{name: EVERYBODY[name] for name in ("partner", "surgery, constrained")},
    **{name: EVERYBODY[name] for name in ("council, research", "stranger surgery")},
    **{name: ONE[name] for name in ("doctor in an emergency", "safeguarding lead", "carer")},
    "themselves": ONE["themselves"],
}


class Pair(NamedTuple):
    """The two databases of a caller, and what they ask with."""

    urls: tuple[str, str]
    readers: tuple[asyncpg.Connection, asyncpg.Connection]
    asked: Permit
    worlds: tuple[World, World]


def county_of(persons: tuple[str, ...]) -> World:
    every = county()
    world = World(grants=every.grants, opted_out=every.opted_out)
    for person in (*persons, None):
        for each in every.records[person]:
            world.add(every.controllers[each["resourceType"], each["id"]], each)
    return world


OLDER = """
INSERT INTO fhirgw.history
    (type, id, version, updated, patient, origin, controller, body, labels, redacted, tokens)
SELECT type, id, 1, updated - interval '1 day', patient, origin, controller,
    replace(body, '"resourceType"', $3), labels, redacted, tokens
FROM fhirgw.resource WHERE type = $1 AND id = $2"""
NEWER = """
UPDATE fhirgw.resource SET version = 2, body = replace(body, '"versionId":"1"', '"versionId":"2"')
WHERE type = $1 AND id = $2"""


async def fill(url: str, stored: Stored) -> None:
    """Stores a world in which some resources have an older version."""
    connection = await connected(url)
    try:
        await pour(connection, stored.world, stored.updated)
        older = [(*key, f'"language":"{each["language"]}","resourceType"') for key, each in stored.older.items()]
        await connection.executemany(OLDER, older)
        await connection.executemany(NEWER, [each[:2] for each in older])
    finally:
        await connection.close()


@pytest.fixture(scope="module")
async def pairs(new_database: NewDatabase) -> AsyncIterator[Callable[[str], Any]]:
    """`await pairs(name)`: the databases of a caller, made when first asked for."""
    made: dict[str, Pair] = {}
    open_: list[Any] = []
    world = county_of(PERSONS)

    async def entered(context: Any) -> Any:
        open_.append(context)
        return await context.__aenter__()

    async def database(stored: Stored) -> str:
        url = await entered(new_database())
        await fill(url, stored)
        return str(url)

    first: list[str] = []

    async def pair(name: str) -> Pair:
        if name not in made:
            one, other = twins(world, CALLERS[name], Random(name))
            if not first:
                first.append(await database(one))
            urls = (first[0], await database(other))
            readers = [await entered(looking(url)) for url in urls]
            asked = permit(CALLERS[name], NOW)
            made[name] = Pair(urls, (readers[0], readers[1]), asked, (one.world, other.world))
        return made[name]

    yield pair
    for context in reversed(open_):
        await context.__aexit__(None, None, None)


# What may be asked: by what is seen, by what is hidden, and by what there is none of

TEXTS = ("Ann", "Someone", "None", "Restricted", "Zoe", "Southend", "Leeds", "1 Hidden", "x")
MOMENTS = ("gt2026-01-03", "lt2026-01-02T05:00:00Z", "ge2026-01-02", "2026-01-02", "le2026-01-05", "2026")
IDS = (
    "none",
    "restricted",
    "sealed",
    "zoe",
    "abe",
    "dissentone",
    "nobody",
    "none-weight",
    "sealed-weight",
    "zoe-weight",
)
CODES = ("final", "unknown", "active", "finished", "completed", "a", "b", "https://example.org/codes|a", "R", "V")
CODES += ("https://example.org/Id/secret|7", "https://example.org/Id/person|zoe", "9000000000", "other", "home", "temp")
PEOPLE = tuple(f"Patient/{each}" for each in IDS[:7])
PEOPLE += ("Organization/running", "Organization/hospital", "Practitioner/worker")

TRUTHS = ("true", "false")

CRITERIA: dict[str, dict[str, tuple[str, ...]]] = {
    "Patient": {
        **dict.fromkeys(("name", "family", "family:contains", "address", "address-city", "given:exact"), TEXTS),
        **dict.fromkeys(
            ("identifier", "gender", "gender:not", "address-use", "telecom", "_security", "_security:not"), CODES
        ),
        **dict.fromkeys(("general-practitioner", "organization"), PEOPLE),
        "address-postalcode": ("SS1 1AA", "LS1 1AA"),
        "email": ("elsewhere@example.org",),
        "birthdate": ("gt1900",),
        "phone": ("01702 000000",),
        "address-postalcode:exact": ("LS11AA", "SS1 1AA"),
        "address-use:not": ("home",),
        "organization.name": TEXTS,
        "general-practitioner:Organization.name": ("surgery", "hospital"),
        "general-practitioner:Organization.partof.name": TEXTS,
        **dict.fromkeys(("address-city:missing", "telecom:missing", "general-practitioner:missing"), TRUTHS),
        **dict.fromkeys(("identifier:missing", "family:missing", "_security:missing", "_tag:missing"), TRUTHS),
        "identifier:text": TEXTS,
        **dict.fromkeys(("_has:Observation:patient:code", "_has:Observation:subject:status"), CODES),
        **dict.fromkeys(("_has:Flag:patient:_security", "_has:Consent:patient:status"), CODES),
        "_has:EpisodeOfCare:patient:organization": PEOPLE,
        "_has:Observation:patient:status:missing": TRUTHS,
    },
    "Observation": {
        **dict.fromkeys(("status", "status:not", "code", "identifier", "_security"), CODES),
        **dict.fromkeys(("subject", "patient"), PEOPLE),
        **dict.fromkeys(("subject:Patient.name", "patient.address-city", "patient.family"), TEXTS),
        "patient.address-postalcode": ("SS1 1AA", "LS1 1AA"),
        "date": MOMENTS,
        "subject:Patient._id": IDS,
        "patient.identifier": CODES,
        "patient.birthdate": ("gt1900",),
        "patient.organization": PEOPLE,
        "patient.general-practitioner:Organization.name": ("surgery", "hospital"),
        "patient.address-city:missing": TRUTHS,
        "patient._has:Flag:patient:_security": CODES,
        "code:text": TEXTS,
        **dict.fromkeys(("value-quantity", "combo-value-quantity"), ("gt0", "lt5")),
        **dict.fromkeys(("subject:missing", "performer:missing", "date:missing"), TRUTHS),
    },
    "Encounter": {"status": CODES, "patient": PEOPLE, "date": MOMENTS, "patient.name": TEXTS, "identifier": CODES},
    "EpisodeOfCare": {"status": CODES, "patient": PEOPLE, "organization": PEOPLE, "patient.phone": ("01702 000000",)},
    "Flag": {"patient": PEOPLE, "_security": CODES, "identifier": CODES, "patient.name": TEXTS},
    "Task": {"status": CODES, "owner": PEOPLE, "patient": PEOPLE, "modified": MOMENTS, "authored-on": MOMENTS},
    "Consent": {"status": CODES, "patient": PEOPLE, "actor": PEOPLE, "patient.family": TEXTS},
    "Organization": {
        "name": TEXTS,
        **dict.fromkeys(("_security", "_security:not", "_has:Patient:organization:gender"), CODES),
        "_has:Patient:general-practitioner:family": TEXTS,
        "_has:Patient:general-practitioner:address-city": TEXTS,
        "_has:Patient:general-practitioner:identifier": CODES,
        "_has:EpisodeOfCare:organization:patient.family": TEXTS,
    },
    "QuestionnaireResponse": {"status": CODES, "subject": PEOPLE, "identifier": CODES},
}
INCLUDES = {
    "Patient": ("Patient:organization", "Patient:general-practitioner"),
    "Observation": ("Observation:subject",),
    "EpisodeOfCare": ("EpisodeOfCare:patient", "EpisodeOfCare:organization"),
    "Task": ("Task:owner", "Task:patient"),
    "Consent": ("Consent:actor", "Consent:patient"),
}
REVINCLUDES = {
    "Patient": (
        "Observation:subject",
        "EpisodeOfCare:patient",
        "Flag:patient",
        "Consent:patient",
        "RelatedPerson:patient",
    ),
    "Organization": ("Patient:organization", "Patient:general-practitioner", "EpisodeOfCare:organization"),
}
SORTS = ("_id", "-_id", "_lastUpdated", "-_lastUpdated", "date", "-date", "birthdate", "-birthdate,_lastUpdated")
SORTS += ("-authored-on", "authored", "family", "-family,given", "address-city", "-address-city", "value-quantity")
SORTS += ("status", "-code", "identifier", "-general-practitioner", "telecom", "subject", "patient,-status")


@st.composite
def searches(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    """A type, and what is asked of it."""
    kind = draw(st.sampled_from(sorted(CRITERIA)))
    every = CRITERIA[kind] | {"_lastUpdated": MOMENTS, "_id": tuple(f"{one},{two}" for one, two in pairwise(IDS))}
    names = draw(st.lists(st.sampled_from(sorted(every)), max_size=2))
    pairs = [(name, draw(st.sampled_from(every[name]))) for name in names]
    pairs += [("_include", each) for each in draw(st.lists(st.sampled_from(INCLUDES.get(kind, ("",))), max_size=1))]
    pairs += [
        ("_revinclude", each) for each in draw(st.lists(st.sampled_from(REVINCLUDES.get(kind, ("",))), max_size=1))
    ]
    if draw(st.booleans()):
        pairs.append(("_sort", draw(st.sampled_from(SORTS))))
    pairs.append(("_count", draw(st.sampled_from(("0", "1", "3", "10", "1000")))))
    if draw(st.booleans()):
        pairs.append(("_total", draw(st.sampled_from(("none", "accurate", "estimate")))))
    return kind, [pair for pair in pairs if pair[1]]


PROBES: list[tuple[str, list[tuple[str, str]]]] = [
    *(("Patient", [("address-city", each)]) for each in ("Southend", "Leeds")),
    *(("Patient", [("address-postalcode", each)]) for each in ("SS1 1AA", "LS1 1AA")),
    ("Patient", [("address", "Leeds")]),
    ("Patient", [("address-use", "temp")]),
    ("Patient", [("address-use:not", "home")]),
    ("Patient", [("email", "elsewhere@example.org")]),
    ("Patient", [("telecom:not", "elsewhere@example.org"), ("_summary", "count")]),
    ("Patient", [("general-practitioner", "Organization/hospital"), ("_total", "accurate")]),
    ("Patient", [("general-practitioner.name", "hospital")]),
    ("Patient", [("family", "Someone")]),
    *(
        ("Patient", [("_sort", each), ("_count", "3")])
        for each in ("address-city", "-address-city", "-address-postalcode", "email", "-general-practitioner")
    ),
    *(("Patient", [(f"{each}:missing", "true")]) for each in ("address", "telecom", "general-practitioner")),
    ("Patient", [("general-practitioner:missing", "false"), ("_summary", "count")]),
    ("Patient", [("_has:EpisodeOfCare:patient:status", "active")]),
    ("Organization", [("_has:Patient:general-practitioner:_id", "restricted")]),
    ("Organization", [("_has:Patient:general-practitioner:gender:missing", "true"), ("_total", "accurate")]),
    (
        "Organization",
        [("_revinclude:iterate", "Patient:general-practitioner"), ("_revinclude", "Patient:organization")],
    ),
    ("Observation", [("patient.general-practitioner:Organization.name", "hospital")]),
    ("", [("_type", "Patient,Observation,Organization"), ("_count", "5"), ("_sort", "-_lastUpdated")]),
    ("Patient", [("identifier", "9000000000"), ("_include", "Patient:general-practitioner")]),
    ("Patient", [("_revinclude", "Observation:subject"), ("_revinclude", "EpisodeOfCare:patient")]),
    ("Patient", [("_revinclude", "Flag:patient"), ("_revinclude", "Consent:patient"), ("_count", "2")]),
    ("Organization", [("_revinclude", "Patient:general-practitioner"), ("_revinclude", "EpisodeOfCare:organization")]),
    ("Observation", [("_include", "Observation:subject"), ("_count", "3")]),
    ("Observation", [("patient.address-postalcode", "LS1 1AA")]),
    ("Observation", [("patient.address-city", "Southend"), ("_total", "accurate")]),
    ("Observation", [("patient.family", "Someone")]),
    ("Task", [("_include", "Task:patient"), ("_include", "Task:owner"), ("_sort", "-_lastUpdated"), ("_count", "2")]),
    ("Consent", [("_include", "Consent:patient"), ("_include", "Consent:actor")]),
]
"""The questions of somebody who looks for a hiding place, or for what hangs on what they see: not left to chance."""

MOST_PAGES = 12


async def pages(connection: asyncpg.Connection, asked: Permit, kind: str, pairs: list[tuple[str, str]]) -> Any:
    """Every page of a search, or how it is refused."""
    found: list[Any] = []
    following: str | None = None
    while len(found) < MOST_PAGES:
        try:
            query = Query.parse(kind, pairs + ([("_cursor", following)] if following else []))
            page = await search(connection, asked, query)
        except FhirError as error:
            return error.status, str(error)
        following = page.next
        found.append(replace(page, next="sealed" if following else None))  # each cursor is enciphered anew
        if following is None:
            break
    return found


MANY = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", CALLERS)
@MANY
@given(searches())
async def test_searches(pairs: Any, name: str, asked: tuple[str, list[tuple[str, str]]]) -> None:
    pair = await pairs(name)
    one, other = [await pages(each, pair.asked, *asked) for each in pair.readers]
    assert one == other


@pytest.mark.parametrize("name", CALLERS)
async def test_searches_by_what_is_withheld(pairs: Any, name: str) -> None:
    pair = await pairs(name)
    for asked in PROBES:
        one, other = [await pages(each, pair.asked, *asked) for each in pair.readers]
        assert one == other, asked


@pytest.mark.parametrize("name", CALLERS)
async def test_searches_of_everything_the_long_way(pairs: Any, name: str) -> None:
    """Page by page, in every order; and there is something to be seen, so that being alike says something."""
    pair = await pairs(name)
    seen = 0
    for kind in sorted(CRITERIA):
        for sort in ("_id", "-_lastUpdated"):
            one, other = [
                await pages(each, pair.asked, kind, [("_count", "7"), ("_sort", sort)]) for each in pair.readers
            ]
            assert one == other
            seen += sum(len(page.matches) for page in one) if isinstance(one, list) else 0
    assert seen > 0


async def answer(asking: Any) -> Any:
    """What an interaction answers, or how it is refused."""
    try:
        return await asking
    except FhirError as error:
        return error.status, str(error)


@pytest.mark.parametrize("name", CALLERS)
async def test_instances_that_are_seen_hidden_or_absent(pairs: Any, name: str) -> None:
    """Each resource of either world by read, vread and history: what is hidden is what never was."""
    pair = await pairs(name)
    shown = {
        key
        for key in pair.worlds[0].resources
        if Judge(pair.worlds[0], CALLERS[name], NOW).why(pair.worlds[0].resources[key]) == SHOWN
    }
    keys = [key for key in pair.worlds[1].resources if pair.asked.covering("r", key[0])]
    for kind, id in [*Random(name).sample(keys, min(16, len(keys))), ("Patient", "nobody"), ("Patient", "zoe")]:
        both = []
        for connection in pair.readers:
            told = [await answer(resources.read(connection, pair.asked, kind, id))]
            told += [await answer(resources.vread(connection, pair.asked, kind, id, each)) for each in (1, 2, 3)]
            told.append(await answer(resources.past(connection, pair.asked, kind, id)))
            both.append(told)
        assert both[0] == both[1]
        if (kind, id) not in shown and pair.asked.covering("r", kind):
            absent = (404, str(resources.absent(kind)))
            assert both[0] == [absent] * 4 + [[]]


@pytest.mark.parametrize("name", CALLERS)
async def test_everything_of_a_person(pairs: Any, name: str) -> None:
    pair = await pairs(name)
    if not pair.asked.covering("r", "Patient"):
        return
    for person in (*PERSONS[:6], "zoe", "nobody"):
        for asked in (
            Asked(person, count=9),
            Asked(person, types=("Observation", "Organization", "Flag")),
        ):
            one, other = [await record(each, pair.asked, asked) for each in pair.readers]
            assert one == other


async def record(connection: asyncpg.Connection, asked: Permit, whose: Asked) -> Any:
    found: list[Any] = []
    while len(found) < 20:
        page = await answer(everything(connection, asked, whose))
        found.append(page)
        if not page[1] or isinstance(page[0], int):
            break
        whose = replace(whose, cursor=page[1])
    return found


@pytest.mark.parametrize("name", ["council", "surgery", "provider running", "council, research", "stranger surgery"])
async def test_exports(pairs: Any, name: str, tmp_path: Path) -> None:
    """The manifest too, and the files in it; a type of which nothing may be seen is in neither."""
    pair = await pairs(name)
    both = []
    for at, url in enumerate(pair.urls):
        engine = connect(url)
        try:
            made = await export(engine, pair.asked, Selection(), tmp_path / str(at), request="test")
        finally:
            await engine.dispose()
        lines = {
            each["type"]: sorted((tmp_path / str(at) / each["url"]).read_text().splitlines())
            for each in made.manifest["output"]
        }
        both.append((lines, [{**each, "sha256": ""} for each in made.manifest["output"]]))
    assert both[0] == both[1]
    judge = Judge(pair.worlds[0], CALLERS[name], NOW)
    assert sum(map(len, both[0][0].values())) == len(judge.seen())
