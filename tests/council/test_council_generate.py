"""The council's size and make-up, against the county's published figures; and that one seed makes one council."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from typing import Any

import pytest

from fhirgw.council.council import KINDS, Council
from fhirgw.council.county import TODAY
from fhirgw.council.facts import (
    Assessment,
    Consent,
    Delegate,
    Line,
    Person,
    Reablement,
    Relationship,
    Review,
    SupportReason,
    Technology,
)
from fhirgw.council.generate import generate
from fhirgw.council.layouts import LAYOUTS
from tests.council.conftest import ADULTS

SCALE = ADULTS / 17_000
"""Of the county's supported adults."""

DIGEST = """
import hashlib
from fhirgw.council.generate import generate
from fhirgw.council.layouts import LAYOUTS
council, digest = generate(40, seed=7), hashlib.sha256()
for layout in LAYOUTS.values():
    for table in layout.tables(council):
        digest.update(repr((table.name, list(table.rows))).encode())
print(digest.hexdigest())
"""


def digest(council: Council) -> str:
    sha = hashlib.sha256()
    for layout in LAYOUTS.values():
        for table in layout.tables(council):
            sha.update(repr((table.name, list(table.rows))).encode())
    return sha.hexdigest()


def test_one_seed_makes_one_council_in_any_process() -> None:
    here = digest(generate(40, seed=7))
    for hash_seed in ("0", "1"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", DIGEST]
        there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
        assert there == here
    assert digest(generate(40, seed=8)) != here


def supported_today(council: Council) -> dict[int, set[str]]:
    """People with a support reason of their own that is in force, and their reasons."""
    reasons: dict[int, set[str]] = {}
    carers = {person.number for person in council.of(Person) if person.client_type == "carer"}
    for reason in council.of(SupportReason):
        if reason.until is None and reason.person not in carers:
            reasons.setdefault(reason.person, set()).add(reason.reason)
    return reasons


def test_as_many_adults_are_supported_today_as_asked_for_in_the_countys_groups(faultless: Council) -> None:
    today = supported_today(faultless)
    assert len(today) == ADULTS
    assert sum("learning-disability" in reasons for reasons in today.values()) == 4_000 * SCALE
    assert sum("mental-health" in reasons for reasons in today.values()) == pytest.approx(1_200 * SCALE, rel=0.2)
    older = [p for p in faultless.of(Person) if p.number in today and (TODAY - p.born).days >= 65 * 365]
    assert len(older) >= 9_600 * SCALE


def test_carers_supported_and_known_are_the_countys(faultless: Council) -> None:
    carers = {person.number for person in faultless.of(Person) if person.client_type == "carer"}
    assert len(carers) == 4_000 * SCALE
    today = supported_today(faultless)
    known = [r for r in faultless.of(Relationship) if r.role == "carer" and r.person in today]
    assert {r.carer for r in known if r.carer} == carers
    assert len({(r.person, r.given, r.family) for r in known}) == pytest.approx(8_960 * SCALE, rel=0.15)
    assessed = {a.person for a in faultless.of(Assessment) if a.kind == "carer"}
    assert assessed == carers


def test_more_people_have_care_technology_than_are_supported(faultless: Council) -> None:
    gone = {p.number for p in faultless.of(Person) if p.died}
    users = {t.person for t in faultless.of(Technology)} - gone
    assert len(users) == pytest.approx(19_000 * SCALE, rel=0.05)
    video = {t.person for t in faultless.of(Technology) if t.kind == "video-phone"} - gone
    assert len(video) == pytest.approx(2_000 * SCALE, rel=0.3)


def test_three_in_four_are_self_caring_after_reablement() -> None:
    """71 to 75% is the county's; a council of this size strays by chance."""
    episodes = generate(2_000, seed=2, faults=False).of(Reablement)
    ended = [episode for episode in episodes if episode.outcome]
    share = sum(episode.outcome == "self-caring" for episode in ended) / len(ended)
    assert 0.68 <= share <= 0.78


def test_the_weight_of_a_package_follows_the_spend_a_head(faultless: Council) -> None:
    """Most a week for a learning disability, in hours or in a home; least for older people."""
    hours: dict[str, list[float]] = {"learning-disability": [], "personal-care": []}
    reasons = {r.person: r.reason for r in faultless.of(SupportReason) if r.primary}
    for line in faultless.of(Line):
        if line.status == "active" and line.hours and reasons[line.person] in hours:
            hours[reasons[line.person]].append(float(line.hours))
    mean = {reason: sum(each) / len(each) for reason, each in hours.items()}
    assert mean["learning-disability"] > 1.5 * mean["personal-care"]


def test_a_supported_adult_brings_thirty_to_forty_resources(faultless: Council) -> None:
    """Two for an assessment, a plan, a package line; three for a device; one of most; reference data aside."""
    several = {"assessment": 3, "plan": 2, "line": 2, "reablement": 2, "technology": 3}
    reference = {"organisation", "team", "location", "worker", "role"}
    resources = sum(
        several.get(kind, 1) * len(rows) for kind, rows in faultless.records.items() if kind not in reference
    )
    resources += sum(len(p.accommodation) + len(p.employment) for p in faultless.of(Person))
    assert 30 <= resources / ADULTS <= 40


@pytest.mark.parametrize("people", [1, 10])
def test_the_smallest_councils_can_be_made_too(people: int) -> None:
    council = generate(people)
    assert len(council.of(Person)) >= people
    for layout in LAYOUTS.values():
        assert sum(len(list(table.rows)) for table in layout.tables(council)) > people


REFERS = {
    "parent": "organisation",
    "practice": "organisation",
    "source": "organisation",
    "provider": "organisation",
    "supplier": "organisation",
    "hospital": "location",
    "carer": "person",
    "by_person": "person",
    "by_relationship": "relationship",
    "by_worker": "worker",
    "by_organisation": "organisation",
    "episode": "reablement",
    "installer": "worker",
} | {kind: kind for kind in KINDS.values()}


def references(record: Any) -> list[tuple[str, int]]:
    """The kind and number of every record that this one, or a part of it, names."""
    found = []
    for field in fields(record):
        value = getattr(record, field.name)
        if field.name in REFERS and isinstance(value, int):
            found.append((REFERS[field.name], value))
        elif isinstance(value, tuple):
            found += [named for part in value if hasattr(part, "__dataclass_fields__") for named in references(part)]
    return found


def test_every_reference_leads_to_a_record(council: Council) -> None:
    named = Counter(kind for records in council.records.values() for r in records for kind, _ in references(r))
    assert named["person"] > 10_000 and named["worker"] > 5_000
    for records in council.records.values():
        assert [record.number for record in records] == list(range(1, len(records) + 1))
        for record in records:
            for kind, number in references(record):
                assert 1 <= number <= len(council.records[kind])
    workers = len(council.records["worker"])
    assert all(1 <= number <= workers for plan in council.records["plan"] for number in plan.team.values())


def test_what_belongs_together_belongs_to_one_person(council: Council) -> None:
    owned = {"contact": "contact", "assessment": "assessment", "plan": "plan", "episode": "reablement"}
    for kind in ("assessment", "plan", "goal", "line", "reablement", "review", "technology"):
        for record in council.records[kind]:
            for fact, owner in owned.items():
                number = getattr(record, fact, None)
                assert number is None or council.records[owner][number - 1].person == record.person
    bonds = [(each.person, each.relationship) for each in council.of(Delegate)]
    bonds += [(each.person, each.by_relationship) for each in council.of(Consent) if each.by_relationship]
    assert all(council.find(Relationship, number).person == person for person, number in bonds)


def test_somebody_is_reviewed_every_year(faultless: Council) -> None:
    held = [review for review in faultless.of(Review) if review.held]
    last_year = {review.person for review in held if (TODAY - review.held.date()).days <= 365}
    assert len(last_year) > 0.55 * ADULTS
