"""Every history makes sense in time: nothing before what it follows from, after an ending, or after today."""

from collections.abc import Iterator
from datetime import date, datetime
from itertools import pairwise
from typing import Any

import pytest

from fhirgw.council.council import Council
from fhirgw.council.county import TODAY
from fhirgw.council.facts import Assessment, Contact, Goal, Line, Person, Plan, Reablement, Review, Technology

Days = list[date | datetime | None]


def day(value: date | datetime) -> date:
    return value.date() if isinstance(value, datetime) else value


def contact_days(council: Council) -> Iterator[Days]:
    for contact in council.of(Contact):
        yield [contact.received, contact.first_contact, contact.closed]


def assessment_days(council: Council) -> Iterator[Days]:
    """A contact, the assessment it led to, and the decision."""
    for made in council.of(Assessment):
        contact = council.find(Contact, made.contact) if made.contact else None
        decided = [decision.decided for decision in made.eligibility]
        yield [contact and contact.received, made.requested, made.started, made.completed, *decided]


def plan_days(council: Council) -> Iterator[Days]:
    for plan in council.of(Plan):
        completed = council.find(Assessment, plan.assessment).completed
        assert completed, "a plan follows a completed assessment"
        yield [completed, plan.agreed, plan.start, plan.end]


def line_days(council: Council) -> Iterator[Days]:
    for line in council.of(Line):
        plan = council.find(Plan, line.plan)
        yield [plan.start, line.start, line.end, plan.end]


def goal_days(council: Council) -> Iterator[Days]:
    for goal in council.of(Goal):
        yield [goal.start, goal.closed]


def review_days(council: Council) -> Iterator[Days]:
    for review in council.of(Review):
        plan = council.find(Plan, review.plan)
        yield [plan.start, review.held, plan.end]


def reablement_days(council: Council) -> Iterator[Days]:
    for episode in council.of(Reablement):
        contact = council.find(Contact, episode.contact)
        yield [contact.received, episode.discharged, episode.start, episode.ready, episode.end]


def technology_days(council: Council) -> Iterator[Days]:
    for technology in council.of(Technology):
        for device in technology.device:
            yield [technology.referred, device.installed, device.removed]


def equipment_days(council: Council) -> Iterator[Days]:
    for item in council.records["equipment"]:
        yield [item.requested, item.delivered, item.returned]


def period_days(council: Council) -> Iterator[Days]:
    for alert in council.records["alert"]:
        yield [alert.start, alert.end]
    for note in council.records["access_note"]:
        yield [note.since, note.until]
    for consent in council.records["consent"]:
        yield [consent.given, consent.until]
    for delegate in council.records["delegate"]:
        yield [delegate.since, delegate.until]
        yield [delegate.since, delegate.checked]
    for period in (*council.records["relationship"], *council.records["support_reason"]):
        yield [period.since, period.until]
    for role in council.records["role"]:
        yield [role.start, role.end]


def life_days(council: Council) -> Iterator[Days]:
    for person in council.of(Person):
        for stays in (person.accommodation, person.employment):
            previous, current = stays.get("previous"), stays.get("current")
            yield [person.born, previous and previous.since, previous and previous.until]
            yield [person.born, previous and previous.until, current and current.since, current and current.until]


@pytest.mark.parametrize(
    "chapter",
    [
        contact_days,
        assessment_days,
        plan_days,
        line_days,
        goal_days,
        review_days,
        reablement_days,
        technology_days,
        equipment_days,
        period_days,
        life_days,
    ],
)
def test_days_follow_each_other(faultless: Council, chapter: Any) -> None:
    told = 0
    for days in chapter(faultless):
        known = [day(value) for value in days if value]
        assert all(earlier <= later for earlier, later in pairwise(known)), days
        told += 1
    assert told > 20


def test_times_of_one_day_follow_each_other_too(faultless: Council) -> None:
    for assessment in faultless.of(Assessment):
        assert assessment.completed is None or assessment.started < assessment.completed
    for contact in faultless.of(Contact):
        assert contact.first_contact is None or contact.received < contact.first_contact


def test_nothing_has_happened_after_today(faultless: Council) -> None:
    """Planned reviews and planned lines apart."""
    happened: list[date | datetime | None] = [line.start for line in faultless.of(Line) if line.status != "planned"]
    happened += [review.held for review in faultless.of(Review)]
    happened += [contact.received for contact in faultless.of(Contact)]
    happened += [assessment.completed for assessment in faultless.of(Assessment)]
    happened += [device.removed for technology in faultless.of(Technology) for device in technology.device]
    happened += [person.died for person in faultless.of(Person)]
    assert max(day(value) for value in happened if value) <= TODAY


def test_nobody_receives_anything_new_after_death(faultless: Council) -> None:
    died = {person.number: person.died for person in faultless.of(Person) if person.died}
    begun = {"line": "start", "plan": "start", "reablement": "start", "assessment": "started", "contact": "received"}
    begun |= {
        "review": "held",
        "alert": "start",
        "equipment": "delivered",
        "consent": "given",
        "delegate": "since",
        "technology": "referred",
        "allergy": "recorded",
        "access_note": "since",
        "about_me": "told",
    }
    seen = 0
    for kind, fact in begun.items():
        for record in faultless.records[kind]:
            began = getattr(record, fact)
            if record.person in died and began:
                assert day(began) <= died[record.person], (kind, record.number)
                seen += 1
    assert seen > 100


def test_what_was_open_ends_with_the_person(faultless: Council) -> None:
    died = {person.number for person in faultless.of(Person) if person.died}
    ends = {"line": "end", "plan": "end", "support_reason": "until", "alert": "end", "relationship": "until"}
    ends |= {"access_note": "until"}
    for kind, fact in ends.items():
        mine = [record for record in faultless.records[kind] if record.person in died]
        assert mine
        assert all(getattr(record, fact) for record in mine)
    assert all(device.removed for t in faultless.of(Technology) if t.person in died for device in t.device)


def test_an_eligible_adult_has_a_plan_and_one_who_is_not_has_none(faultless: Council) -> None:
    planned = {plan.assessment for plan in faultless.of(Plan)}
    for assessment in faultless.of(Assessment):
        decisions = {eligibility.decision for eligibility in assessment.eligibility}
        if assessment.kind != "occupational-therapy":
            assert (decisions == {"eligible"}) == (assessment.number in planned)


def test_who_lives_in_a_home_has_a_line_in_it(faultless: Council) -> None:
    homes = {line.person: line for line in faultless.of(Line) if line.type in {"residential", "nursing"}}
    for person in faultless.of(Person):
        lives = person.accommodation["current"].status
        if lives in {"residential", "nursing"}:
            line = homes[person.number]
            assert line.type == lives
            place = faultless.records["location"][(line.location or 0) - 1]
            assert person.addresses["home"].line_1 == place.address.line_1


def test_everybody_is_grown_up_and_somebody(faultless: Council) -> None:
    for person in faultless.of(Person):
        assert (TODAY - person.born).days >= 18 * 365
        assert (person.nhs_number is None) == (person.nhs_status is None)
