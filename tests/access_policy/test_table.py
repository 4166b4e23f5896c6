"""The whole table: what somebody decided about sharing x who asks x what for x the class of the record x the edge of
each period. The SQL shows exactly what a naive reading of the rules shows, of each type and across types."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import asyncpg
import orjson
import pytest

from fhirgw.access.permit import operations
from fhirgw.fhir.issue import FhirError
from fhirgw.store.explain import FAULT, explain
from tests.access_policy.oracle import SHOWN, Caller, Judge, Key, Resource
from tests.access_policy.people import DECISIONS, EDGES, MIDNIGHT, MOMENTS, NAMED, NOW, TICK, bound, callers, county
from tests.access_policy.stored import fill, looking, permit, shown
from tests.conftest import NewDatabase
from tests.put import stamped

OVERSEER = operations("Z9C01")
"""Of explanations: whoever runs the gateway. No list of opt-outs is loaded here, so nobody plans."""
WORLD = county()
CALLERS = callers()
TYPES = sorted({kind for kind, _ in WORLD.resources})
BULK = ("Flag", "Observation", "Patient", "RelatedPerson")
"""Types that are read as an export reads them too: what has labels, and what tells of others."""


@pytest.fixture(scope="module")
async def connection(new_database: NewDatabase) -> AsyncIterator[asyncpg.Connection]:
    async with new_database() as url:
        await fill(url, WORLD)
        async with looking(url) as connection:
            yield connection


def differing(found: dict[Key, str], expected: dict[Key, Resource], judge: Judge, verb: str) -> dict[Key, str]:
    """What the two disagree about, with what the oracle says of it."""
    return {key: judge.why(WORLD.resources[key], verb) for key in found.keys() ^ expected.keys()}


async def agrees(connection: asyncpg.Connection, caller: Caller, moment: str, verb: str = "r") -> None:
    judge = Judge(WORLD, caller, MOMENTS[moment])
    found, expected = await shown(connection, caller, MOMENTS[moment], verb), judge.seen(verb)
    assert differing(found, expected, judge, verb) == {}
    for key, each in expected.items():
        if key[0] == "Patient":
            assert orjson.loads(found[key]) == stamped(each), key


@pytest.mark.parametrize("name", CALLERS)
async def test_everybodys_records_at_every_edge(connection: asyncpg.Connection, name: str) -> None:
    """A clearance has no edges."""
    for moment in MOMENTS if not CALLERS[name].clearance else ("at noon",):
        await agrees(connection, CALLERS[name], moment)


@pytest.mark.parametrize("name", CALLERS)
async def test_a_type_by_itself_shows_what_it_shows_among_all(connection: asyncpg.Connection, name: str) -> None:
    for verb in "r" if CALLERS[name].scopes[:1] == ("system/*.rs",) else "rs":
        judge = Judge(WORLD, CALLERS[name], NOW)
        expected = judge.seen(verb)
        for kind in TYPES:
            of_kind = {key: each for key, each in expected.items() if key[0] == kind}
            for bulk in (False, True) if kind in BULK else (False,):
                found = await shown(connection, CALLERS[name], NOW, verb, kind, bulk=bulk)
                assert differing(found, of_kind, judge, verb) == {}


@pytest.mark.parametrize("person", DECISIONS)
async def test_one_persons_record_by_those_bound_to_it(connection: asyncpg.Connection, person: str) -> None:
    for name, caller in bound(person).items():
        for moment in MOMENTS if person == "none" else ("at noon",):
            await agrees(connection, caller, moment)
        judge = Judge(WORLD, caller, NOW)
        expected = judge.seen("s") if person in NAMED else {}
        for kind in ("Patient", "Encounter", "Flag") if person in NAMED else ():
            found = await shown(connection, caller, NOW, "s", kind)
            of_kind = {key: each for key, each in expected.items() if key[0] == kind}
            assert differing(found, of_kind, judge, "s") == {}, name


async def test_a_constraint_on_what_is_withheld_counts_for_those_it_is_not_withheld_from(
    connection: asyncpg.Connection,
) -> None:
    at_home = ("system/Patient.rs?address-use=home",)
    for name in ("surgery", "surgery, with restricted"):
        await agrees(connection, replace(CALLERS[name], scopes=at_home), "at noon")


@pytest.mark.parametrize("seed", range(28))
async def test_an_explanation_tells_of_each_type_what_is_seen_and_why(
    connection: asyncpg.Connection, seed: int
) -> None:
    """By chance, anybody and anything; with every type whose words go by the row, a care provider's own among them."""
    rng = Random(seed)
    person = rng.choice(sorted(DECISIONS))
    among = CALLERS if seed % 4 else bound(person)
    name = "provider running" if seed == 1 else rng.choice(sorted(among))
    judge = Judge(WORLD, among[name], NOW)
    found = await explain(connection, OVERSEER, permit(among[name], NOW), person, (), days=7)
    held, seen = Counter[str](), Counter[str]()
    for each in WORLD.records[person]:
        held[each["resourceType"]] += 1
        seen[each["resourceType"]] += judge.why(each) == SHOWN and among[name].purpose not in ("planning", "research")
    assert {each.type: (each.held, each.seen) for each in found} == {kind: (held[kind], seen[kind]) for kind in held}
    for each in found:
        allowing = [reason.allows for reason in each.reasons]
        assert all(allowing) == (each.seen == each.held), (name, person, each)
        assert any(allowing) or not each.seen, (name, person, each)
        assert not any(reason.text == FAULT for reason in each.reasons), (name, person, each)


def test_a_delegate_asks_for_the_person_without_more_ado() -> None:
    assert permit(bound("none")["attorney"], NOW).delegate


@pytest.mark.parametrize("purpose", ["direct-care", "planning", "research"])
def test_a_delegate_asks_for_the_person_and_for_nothing_else(purpose: str) -> None:
    """Or whoever is registered as somebody's delegate would see everybody's records, whatever they have dissented."""
    caller = replace(CALLERS["council"], purpose=purpose, agreement="a1", delegate="RelatedPerson/none-attorney")
    with pytest.raises(FhirError):
        permit(caller, NOW)


RULES = {
    "scope",
    *(f"class {each}" for each in ("entry", "restricted", "safeguarding", "sealed", "third-party")),
    *(f"no basis for {each}" for each in ("direct-care", "planning", "research", "person", "emergency")),
    *("no basis for safeguarding", "sealed", "restricted", "dissent", "dissent that outweighs a permit", SHOWN),
}


def test_every_rule_decides_cases_and_whatever_is_hidden_is_shown_to_somebody() -> None:
    """The table is worth something: each rule hides something, and nothing is hidden from all who need it."""
    decided: Counter[str] = Counter()
    hidden: set[Key] = set()
    seen: set[Key] = set()
    asking = [(caller, WORLD.resources.values()) for caller in CALLERS.values() if caller.purpose != "operations"]
    asking += [(caller, WORLD.records[person]) for person in DECISIONS for caller in bound(person).values()]
    for caller, records in asking:
        judge = Judge(WORLD, caller, NOW)
        for each in records:
            why = judge.why(each)
            decided[why] += 1
            (seen if why == SHOWN else hidden).add((each["resourceType"], each["id"]))
    assert {rule for rule, times in decided.items() if times >= 5} == RULES
    assert hidden == seen == set(WORLD.resources)


def test_each_edge_changes_what_somebody_sees() -> None:
    asking = [*CALLERS.values(), *bound("none").values()]
    persons = ("none", "today", "tomorrow", "exceptsoon", "thenpermittoday")
    records = [each for person in persons for each in WORLD.records[person]]
    for name, edge in EDGES.items():
        before, after = ([Judge(WORLD, each, when).pattern(records) for each in asking] for when in (edge - TICK, edge))
        assert before != after, name


ALIKE = [
    ["dissent", "dissentnobodysaid", "bestinterestopen", "bestinterestdeny", "theirown", "unverified"],
    ["dissentone", "permitbut", "equals", "denyone"],
    ["dissentfamily", "withdrawn", "over", "bestinterestequal"],
    ["dissentplanning", "optedout", "unnumbered"],
    ["exceptone", "thenpermit", "bestinterest", "attorney"],
    ["restricted", "restrictedpermit"],
    ["sealed", "sealedpermit"],
]
"""Decisions that come to the same: void permits, dissents that are over, exceptions written in other ways; and what
seals or restricts is outweighed by no permit."""


def test_each_decision_changes_what_somebody_sees() -> None:
    patterns: dict[object, list[str]] = {}
    asking = [caller for caller in CALLERS.values() if caller.purpose != "operations"]
    judges = [Judge(WORLD, caller, moment) for moment in (NOW, MIDNIGHT) for caller in asking]
    for person in DECISIONS:
        own = [Judge(WORLD, caller, NOW) for caller in (bound(person)["attorney"], bound(person)["themselves"])]
        kept = [each for each in WORLD.records[person] if each["resourceType"] != "Consent"]
        pattern = tuple(judge.pattern(kept) for judge in [*judges, *own])
        patterns.setdefault(pattern, []).append(person)
    assert [persons for persons in patterns.values() if len(persons) > 1] == ALIKE
