"""Who looked, told to the person: in plain English, and nobody else's business."""

from dataclasses import replace

import pytest

from fhirgw.access.audit_event import Access, Seen, event
from fhirgw.access.permit import Permit
from fhirgw.access.who_looked import mentioned, sentence, told
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.validate import check
from tests.access.test_access_audit_event import ANNE, BERT, CARE, MOMENT, PERMITS, READ, SYSTEM, VISIT, WAYS

NAMES = {"Z9C01": "Riverbank Homecare <Ltd>"}
PLAN, GOAL = "0f811111-d9cb-569f-a165-70867728950e", "0f822222-d9cb-569f-a165-70867728950e"
PAGE = replace(
    READ,
    interaction="search-type",
    asked=None,
    seen=[Seen("CarePlan", PLAN, ANNE), Seen("Goal", GOAL, ANNE), Seen("Patient", BERT, BERT), Seen("Goal", "o", None)],
)


def says(access: Access, **names: str) -> str:
    return sentence(event(access, "e1"), ANNE, names)


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (
            READ,
            "On 3 March 2026 at 10:02, a member of staff at the organisation Z9C01 (with the application demo-ics)"
            " looked at visits to you. Why: to give or arrange care (direct care).",
        ),
        (
            replace(READ, moment=MOMENT.replace(month=7), permit=replace(CARE, practitioner=None)),
            "On 3 July 2026 at 11:02, the organisation Z9C01 (with the application demo-ics)"
            " looked at visits to you. Why: to give or arrange care (direct care).",
        ),
        (
            replace(READ, status=404, seen=()),
            "On 3 March 2026 at 10:02, a member of staff at the organisation Z9C01 (with the application demo-ics)"
            " asked for your record and was not given it. Why: to give or arrange care (direct care).",
        ),
        (
            replace(READ, permit=None, status=401, seen=()),
            "On 3 March 2026 at 10:02, somebody who did not say who they are"
            " asked for your record and was not given it.",
        ),
        (
            replace(WAYS[7], permit=PERMITS[1]),
            "On 3 March 2026 at 10:02, a bulk copy of records was made for the organisation Z9C01"
            " (with the application demo-bulk), and may have included your goals."
            " Why: to plan services, under an approved agreement.",
        ),
        (
            replace(WAYS[7], types=(), permit=PERMITS[1], status=403),
            "On 3 March 2026 at 10:02, a bulk copy of records was asked for by the organisation Z9C01"
            " (with the application demo-bulk), and was not made."
            " Why: to plan services, under an approved agreement.",
        ),
        (
            replace(PAGE, permit=PERMITS[3]),
            "On 3 March 2026 at 10:02, you through the organisation Z9C01 (with the application demo-person)"
            " looked at your care plan, your goals and your name and contact details."
            " Why: so that the person, or somebody who acts for them, can read it.",
        ),
        (
            replace(READ, permit=PERMITS[4]),
            "On 3 March 2026 at 10:02, somebody who acts for you through the organisation Z9C01"
            " looked at visits to you. Why: so that the person, or somebody who acts for them, can read it.",
        ),
        (
            replace(READ, status=404, permit=Permit("Z9C01", "person", SYSTEM, patient=BERT)),
            "On 3 March 2026 at 10:02, another person through the organisation Z9C01"
            " asked for your record and was not given it."
            " Why: so that the person, or somebody who acts for them, can read it.",
        ),
        (
            replace(
                READ, status=404, permit=Permit("Z9C01", "person", SYSTEM, patient=BERT, delegate="RelatedPerson/d")
            ),
            "On 3 March 2026 at 10:02, somebody who acts for another person through the organisation Z9C01"
            " asked for your record and was not given it."
            " Why: so that the person, or somebody who acts for them, can read it.",
        ),
    ],
)
def test_it_is_plain_english(access: Access, expected: str) -> None:
    assert says(access) == expected


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ("break-glass", "was given emergency access to your record."),
        ("explain", "asked which rules decide who may see your record."),
        ("everything", "looked at visits to you."),
    ],
)
def test_operations_are_told_by_what_they_do(operation: str, said: str) -> None:
    done = replace(READ, interaction="operation", operation=operation)
    assert f"(with the application demo-ics) {said} Why: " in says(done)
    refused = says(replace(done, status=403, seen=(), type="Patient", asked=f"Patient/{ANNE}"))
    assert "asked for your record and was not given it." in refused


def test_the_organisation_is_called_by_its_name() -> None:
    made = told(event(READ, "e1"), ANNE, NAMES)
    assert made["text"]["div"] == (
        '<div xmlns="http://www.w3.org/1999/xhtml"><p>On 3 March 2026 at 10:02, a member of staff at Riverbank Homecare'
        " &lt;Ltd&gt; (with the application demo-ics) looked at visits to you."
        " Why: to give or arrange care (direct care).</p></div>"
    )
    assert check(made) == []


def test_a_kind_without_a_word_of_its_own_is_named() -> None:
    assert "looked at records of the kind Composition." in says(replace(READ, seen=[Seen("Composition", "c", ANNE)]))


def test_other_people_of_the_same_answer_are_left_out() -> None:
    made = event(PAGE, "e1")
    assert BERT in encode(made).decode()
    own = told(made, ANNE, NAMES)
    assert BERT not in encode(own).decode()
    assert "your care plan and your goals" in own["text"]["div"]
    assert check(own) == []


@pytest.mark.parametrize("delegate", [None, "RelatedPerson/d1"])
def test_another_person_who_tried_is_not_named(delegate: str | None) -> None:
    tried = Permit("Z9C01", "person", SYSTEM, patient=BERT, delegate=delegate)
    made = event(replace(READ, type="Patient", asked=f"Patient/{ANNE}", status=404, seen=(), permit=tried), "e1")
    for_auditor, own = told(made, ANNE, NAMES), told(made, ANNE, NAMES, lambda kind, id: True)
    assert BERT in encode(for_auditor).decode()
    assert BERT not in encode(own).decode()
    assert "RelatedPerson" not in encode(own).decode()
    assert "another person through Riverbank" in own["text"]["div"]
    assert check(own) == []


def test_what_the_person_may_not_see_is_left_out() -> None:
    flag = Seen("Flag", VISIT, ANNE)
    made = event(replace(PAGE, type="Flag", parameters=("_has:Flag:patient:code",), seen=[*PAGE.seen, flag]), "e1")
    for_auditor, own = told(made, ANNE, NAMES), told(made, ANNE, NAMES, lambda kind, id: kind == "CarePlan")
    assert "alerts in your record" in for_auditor["text"]["div"]
    assert "looked at your care plan." in own["text"]["div"]
    for hidden in ("Flag", VISIT, GOAL, "query"):
        assert hidden in encode(for_auditor).decode()
        assert hidden not in encode(own).decode()
    assert check(own) == []


def test_where_all_is_hidden_it_was_still_the_record() -> None:
    own = told(event(READ, "e1"), ANNE, NAMES, lambda kind, id: False)
    assert "looked at your record." in own["text"]["div"]
    missed = event(replace(READ, status=404, seen=()), "e1")
    assert VISIT not in encode(told(missed, ANNE, NAMES, lambda kind, id: False)).decode()


def test_what_it_mentions_can_be_asked_for() -> None:
    assert set(mentioned(event(PAGE, "e1"))) == {
        *(("CarePlan", PLAN), ("Goal", GOAL), ("Goal", "o"), ("Patient", ANNE), ("Patient", BERT)),
    }
    assert set(mentioned(event(WAYS[7], "e1"))) == set()
