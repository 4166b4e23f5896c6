"""What rules on access rest on, as the council knows it: how often, and what must agree with what."""

from collections import Counter

import pytest

from fhirgw.council.council import Council
from fhirgw.council.county import TODAY
from fhirgw.council.facts import Assessment, Consent, Delegate, Organisation, Person, Relationship
from fhirgw.council.generate import generate


@pytest.fixture(scope="module")
def large() -> Council:
    """Large enough for what happens to one in a thousand."""
    return generate(6_000, seed=3, faults=False)


def test_one_in_a_hundred_is_hidden_and_one_in_a_thousand_sealed(large: Council) -> None:
    counts = Counter(person.restricted for person in large.of(Person))
    assert counts["whereabouts"] / counts.total() == pytest.approx(0.01, rel=0.25)
    assert counts["sealed"] / counts.total() == pytest.approx(0.001, rel=0.9)
    assert set(counts) == {"none", "whereabouts", "sealed"}


def test_three_in_a_hundred_dissent_and_some_of_it_is_narrow(large: Council) -> None:
    dissents = [each for each in large.of(Consent) if each.kind == "dissent"]
    assert len({each.person for each in dissents}) / len(large.of(Person)) == pytest.approx(0.03, rel=0.2)
    narrow = {
        "records": sum(bool(each.records) for each in dissents),
        "purpose": sum(each.purpose is not None for each in dissents),
        "organisation": sum(each.organisation is not None for each in dissents),
        "exceptions": sum(bool(each.exceptions) for each in dissents),
    }
    assert all(0.1 < count / len(dissents) < 0.6 for count in narrow.values()), narrow
    assert {each.scope for each in dissents} == {"nhs", "care-provider", "family", "voluntary"}


def test_an_exception_is_the_opposite_of_what_it_is_an_exception_to(large: Council) -> None:
    seen = 0
    for consent in large.of(Consent):
        assert [each.number for each in consent.exceptions] == list(range(1, len(consent.exceptions) + 1))
        for each in consent.exceptions:
            assert {consent.kind, each.kind} == {"consent", "dissent"}
            assert each.organisation or each.record
            seen += 1
    assert seen > 50


def test_one_decides_and_it_is_who_the_decision_says(large: Council) -> None:
    roles = {"attorney": "attorney-welfare", "deputy": "deputy"}
    for each in large.of(Consent):
        deciders = [each.by_person, each.by_relationship, each.by_worker]
        assert sum(decider is not None for decider in deciders) == 1
        assert each.by_person in (None, each.person)
        assert (each.by_person is not None) == (each.decided == "person")
        assert (each.by_worker is not None) == (each.decided == "best-interest")
        assert (each.verified is not None) == (each.decided in roles)
        if each.by_relationship:
            assert large.find(Relationship, each.by_relationship).role == roles[each.decided]
        if each.by_worker:
            assert each.until, "what is decided for somebody is decided anew"
    assert {each.decided for each in large.of(Consent)} == {"person", "best-interest", *roles}


def test_a_delegate_is_who_the_relationship_says_and_appointed_or_nominated(large: Council) -> None:
    appointed = {"attorney": ("attorney-welfare", "Public Guardian"), "deputy": ("deputy", "Court of Protection")}
    for each in large.of(Delegate):
        bond = large.find(Relationship, each.relationship)
        if each.kind in appointed:
            role, body = appointed[each.kind]
            assert bond.role == role and each.by_person is None and each.by_organisation
            assert body in large.find(Organisation, each.by_organisation).name
            assert (each.checked is not None) == bool(each.verified)
        else:
            assert (each.by_person, each.by_organisation, each.verified) == (each.person, None, None)
            assert bond.role == "carer" if each.kind == "carer" else bond.relation in {"mother", "father"}
        if each.kind == "parent":
            assert (TODAY - large.find(Person, each.person).born).days < 26 * 365
        assert (each.status == "ended") == (each.until is not None)
    kinds = Counter(each.kind for each in large.of(Delegate))
    assert set(kinds) == {"attorney", "deputy", "parent", "carer"}
    assert 0.04 < kinds.total() / len(large.of(Person)) < 0.1


def test_nobody_acts_twice_for_the_same_person(large: Council) -> None:
    named = Counter(
        (each.person, bond.given, bond.family)
        for each in large.of(Delegate)
        for bond in [large.find(Relationship, each.relationship)]
    )
    assert max(named.values()) == 1


def test_a_few_in_a_hundred_assessments_tell_what_others_said(large: Council) -> None:
    ticked = [each.third_party for each in large.of(Assessment)]
    assert set(ticked) == {True, None}
    assert sum(map(bool, ticked)) / len(ticked) == pytest.approx(0.03, rel=0.25)
