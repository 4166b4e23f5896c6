"""What is wrong on purpose: how much, of which sorts, the same in both layouts; and that the oracle tells it right."""

from collections import Counter
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from fhirgw.council.codes import LISTS
from fhirgw.council.council import Council
from fhirgw.council.expected import Refusal, expected
from fhirgw.council.facts import Person, Relationship
from fhirgw.council.faults import PLOTS
from fhirgw.council.layouts import LAYOUTS

LONDON = ZoneInfo("Europe/London")


def lawful(number: str) -> bool:
    """Modulus 11, by the data dictionary's words: the weighted sum of all ten digits, the tenth weighing one."""
    digits = [int(digit) for digit in number]
    return len(digits) == 10 and sum(digits[place] * (10 - place) for place in range(10)) % 11 == 0


def exists(moment: datetime) -> bool:
    """Whether London's clocks ever showed it: there and back through universal time leaves it as it was."""
    there = moment.replace(tzinfo=LONDON).astimezone(ZoneInfo("UTC"))
    return there.astimezone(LONDON).replace(tzinfo=None) == moment


def test_the_oracles_tell_good_from_bad() -> None:
    assert lawful("9990000018") and lawful("9434765919") and not lawful("9912003890")
    assert exists(datetime.fromisoformat("2025-03-30 00:59"))
    assert not exists(datetime.fromisoformat("2025-03-30 01:30"))


def test_without_faults_every_fact_is_sound(faultless: Council) -> None:
    numbers = [person.nhs_number for person in faultless.of(Person) if person.nhs_number]
    assert all(number.startswith("999") and lawful(number) for number in numbers)
    assert len(set(numbers)) == len(numbers)
    assert all(person.addresses["home"].postcode for person in faultless.of(Person))
    assert not faultless.faults
    for layout in LAYOUTS.values():
        foreseen = expected(faultless, layout)
        assert not foreseen.refused and not foreseen.shared


def test_faults_change_nothing_but_the_facts_they_name(council: Council, faultless: Council) -> None:
    spoilt = {(fault.kind, fault.number, fault.fact) for fault in council.faults}
    changed = set()
    for kind, records in council.records.items():
        for wrong, right in zip(records, faultless.records[kind], strict=True):
            if wrong != right:
                facts = [fact for fact in right.__slots__ if getattr(wrong, fact) != getattr(right, fact)]
                changed |= {(kind, right.number, fact) for fact in facts}
    lenders = {(f.kind, f.number, f.fact) for f in council.faults if f.rule == "shared-number"}
    assert changed <= spoilt
    assert spoilt - changed <= lenders


def test_every_fault_planted_is_a_fault(council: Council) -> None:
    facts = {plot.kind + plot.fact + plot.rule: plot for plot in PLOTS}
    for fault in council.faults:
        record = council.records[fault.kind][fault.number - 1]
        value = getattr(record, fault.fact)
        if fault.rule == "nhs-number":
            assert not lawful(value)
        elif fault.rule == "unknown-code":
            assert value not in {code.fact for codes in LISTS.values() for code in codes}
        elif fault.rule == "order":
            assert value < getattr(record, facts[fault.kind + fault.fact + fault.rule].after)
        elif fault.rule == "local-time":
            assert not exists(value) and exists(value + timedelta(hours=1))
        elif fault.rule == "no-postcode":
            assert value["home"].postcode is None
    assert {fault.rule for fault in council.faults} == {plot.rule for plot in PLOTS}


@pytest.mark.parametrize("name", LAYOUTS)
def test_one_to_two_rows_in_a_hundred_are_wrong(council: Council, name: str) -> None:
    layout = LAYOUTS[name]
    children = {table.name for table in layout.declared if table.parent}
    rows = sum(count for table, count in expected(council, layout).rows.items() if table not in children)
    assert 0.01 <= len(council.faults) / rows <= 0.02


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_oracle_counts_rows_and_names_their_keys(council: Council, name: str) -> None:
    layout = LAYOUTS[name]
    foreseen = expected(council, layout)
    keys = {}
    for table in layout.tables(council):
        rows = list(table.rows)
        keys[table.name] = {row[0] for row in rows}
        assert foreseen.rows[table.name] == len(rows)
    assert all(refusal.key in keys[refusal.table] for refusal in foreseen.refused)
    assert len({(refusal.table, refusal.key) for refusal in foreseen.refused}) == len(foreseen.refused)


def test_the_same_facts_are_refused_in_both_layouts(council: Council) -> None:
    """Rows held back differ, because harbour keeps in a person's row what meadow keeps in tables; faults do not."""
    counts = [Counter(r.rule for r in expected(council, layout).refused) for layout in LAYOUTS.values()]
    own = [{rule: count for rule, count in each.items() if rule != "unknown-person"} for each in counts]
    assert own[0] == own[1]
    assert set(own[0]) == {"nhs-number", "unknown-code", "order", "local-time"}


def test_a_refused_person_holds_back_every_row_that_names_them(council: Council) -> None:
    refused = {fault.number for fault in council.faults if fault.rule == "nhs-number"}
    foreseen = expected(council, LAYOUTS["meadow"]).refused
    held = {(refusal.table, refusal.key) for refusal in foreseen if refusal.rule == "unknown-person"}
    owned = {("contact", str(contact.number)) for contact in council.records["contact"] if contact.person in refused}
    bonds = {r.number for r in council.of(Relationship) if {r.person, r.carer} & refused}
    assert owned and owned <= held
    assert {key for table, key in held if table == "relationship"} == {str(number) for number in bonds}
    assert {Refusal("person", str(number), "nhs-number") for number in refused} <= foreseen


@pytest.mark.parametrize("name", LAYOUTS)
def test_those_who_share_a_number_are_kept_and_named(council: Council, name: str) -> None:
    foreseen = expected(council, LAYOUTS[name])
    numbers = Counter(person.nhs_number for person in council.of(Person) if person.nhs_number)
    twice = {number for number, count in numbers.items() if count > 1}
    assert foreseen.shared.keys() == twice
    assert all(len(keys) == 2 for keys in foreseen.shared.values())
    people = {key for keys in foreseen.shared.values() for key in keys}
    assert not people & {refusal.key for refusal in foreseen.refused if refusal.table.lower() == "person"}
