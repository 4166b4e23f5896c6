"""Who looked, told to the person: in plain English, and nobody else's business."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fhirgw.access.audit_event import Access, Seen, event
from fhirgw.access.permit import Permit, operations
from fhirgw.access.who_looked import account, groups, mentioned, sentence, told
from fhirgw.fhir.canonical import encode
from tests.access.test_access_audit_event import ANNE, BERT, CARE, MOMENT, PERMITS, READ, SYSTEM, VISIT, WAYS
from tests.judged import check

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
            replace(WAYS[7], operation="import", permit=PERMITS[0]),
            "On 3 March 2026 at 10:02, a member of staff at the organisation Z9C01 (with the application demo-ics)"
            " sent in records in bulk, and may have added or changed your goals."
            " Why: to give or arrange care (direct care).",
        ),
        (
            replace(WAYS[7], operation="import", status=403, permit=PERMITS[0]),
            "On 3 March 2026 at 10:02, a member of staff at the organisation Z9C01 (with the application demo-ics)"
            " asked to send in records in bulk, and none were taken."
            " Why: to give or arrange care (direct care).",
        ),
        (
            replace(PAGE, permit=PERMITS[3]),
            "On 3 March 2026 at 10:02, you through the organisation Z9C01 (with the application demo-person)"
            " searched, and found your care plan, your goals and your name and contact details."
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
        ("break-glass", "was given emergency access to your record, for half an hour at most."),
        ("break-glass-review", "judged whether somebody should have had emergency access to your record."),
        ("app-add", "registered an application that may ask for your record."),
        ("explain", "asked which rules decide who may see your record."),
        ("everything", "looked at visits to you."),
    ],
)
def test_operations_are_told_by_what_they_do(operation: str, said: str) -> None:
    done = replace(READ, interaction="operation", operation=operation)
    assert f"(with the application demo-ics) {said} Why: " in says(done)
    refused = says(replace(done, status=403, seen=(), type="Patient", asked=f"Patient/{ANNE}"))
    assert "was not given it." in refused


@pytest.mark.parametrize(
    ("interaction", "said", "refused"),
    [
        ("read", "looked at visits to you.", "asked for your record and was not given it."),
        ("search-type", "searched, and found visits to you.", "asked for your record and was not given it."),
        ("create", "added visits to you.", "asked to change your record and was not allowed to."),
        ("update", "changed visits to you.", "asked to change your record and was not allowed to."),
        ("patch", "changed visits to you.", "asked to change your record and was not allowed to."),
        ("delete", "deleted visits to you.", "asked to change your record and was not allowed to."),
        ("transaction", "looked at or changed visits to you.", "asked for your record and was not given it."),
    ],
)
def test_each_interaction_is_told_as_what_it_does(interaction: str, said: str, refused: str) -> None:
    done = replace(READ, interaction=interaction)
    assert said in says(done)
    tried = replace(done, seen=(), asked=f"Patient/{ANNE}")
    assert refused in says(replace(tried, status=403))
    assert "asked for your record and got no answer, as something had failed." in says(replace(tried, status=503))


@pytest.mark.parametrize(
    ("operation", "seen", "why"),
    [
        ("break-glass", (), "in an emergency, for a reason that was written down and is reviewed"),
        ("break-glass-review", (), "to check how these records are used"),
        ("who-looked", (Seen("AuditEvent", VISIT, ANNE),), "to check how these records are used"),
        ("everything", (Seen("Goal", GOAL, ANNE),), "to give or arrange care (direct care)"),
    ],
)
def test_the_reason_is_that_of_the_act(operation: str, seen: tuple[Seen, ...], why: str) -> None:
    done = replace(READ, interaction="operation", operation=operation, asked=f"Patient/{ANNE}", seen=seen)
    assert says(done).endswith(f" Why: {why}.")


def test_who_runs_the_gateway_is_no_application() -> None:
    done = replace(READ, permit=operations("Z9C01"), interaction="operation", operation="break-glass-list")
    assert says(done, **NAMES) == (
        "On 3 March 2026 at 10:02, those who run this service for Riverbank Homecare <Ltd> looked at why somebody was"
        " given emergency access to your record, and whether they should be. Why: to check how these records are used."
    )


def test_an_organisation_that_is_only_named_along_is_nobody_who_looked() -> None:
    along = says(replace(READ, behalf="RRE", permit=replace(CARE, practitioner=None)))
    assert "10:02, the organisation Z9C01 (with the application demo-ics) looked" in along


def again(minutes: int, **changed: object) -> dict[str, object]:
    made = replace(READ, moment=MOMENT - timedelta(minutes=minutes), **changed)  # type: ignore[arg-type]
    return event(made, f"e{minutes}")


GOALS = (Seen("Goal", GOAL, ANNE),)
DAY = [
    again(0),
    again(5, seen=GOALS),
    again(7, status=404, seen=(), asked=f"Patient/{ANNE}"),
    again(60),
    again(61, permit=replace(CARE, organisation="RAB")),
    again(70, status=404, seen=(), asked=f"Patient/{ANNE}"),
    again(24 * 60),
]
"""The newest first, as the audit is read."""


def test_what_happened_again_on_one_day_is_told_once() -> None:
    told_of = groups(DAY, ANNE, 10)
    assert [[each["id"] for each in group] for group in told_of] == [
        ["e0", "e5", "e60"],
        ["e7", "e70"],
        ["e61"],
        ["e1440"],
    ]
    assert account(told_of[0], ANNE, NAMES) == (
        "On 3 March 2026 between 09:02 and 10:02, a member of staff at Riverbank Homecare <Ltd> (with the application"
        " demo-ics) looked at visits to you and your goals, 3 times. Why: to give or arrange care (direct care)."
    )
    assert "asked for your record and was not given it, 2 times. Why:" in account(told_of[1], ANNE, NAMES)
    assert account(told_of[3], ANNE, NAMES).startswith("On 2 March 2026 at 10:02, a member of staff")


def test_what_would_be_a_group_too_many_is_left_whole_for_later() -> None:
    assert [[each["id"] for each in group] for group in groups(DAY, ANNE, 1)] == [["e0", "e5"]]
    assert sum(map(len, groups(DAY, ANNE, 2))) == 4


def test_the_day_is_that_of_this_country() -> None:
    late = datetime(2026, 7, 3, 23, 30, tzinfo=UTC)  # half past midnight in London
    both = [event(replace(READ, moment=each), "e") for each in (late, late - timedelta(minutes=31))]
    assert len(groups(both, ANNE, 10)) == 2
    assert len(groups([both[0], event(replace(READ, moment=late - timedelta(minutes=30)), "e")], ANNE, 10)) == 1


def test_many_refusals_in_one_row_are_counted() -> None:
    nobody = replace(
        READ, permit=None, status=401, seen=(), asked=f"Patient/{ANNE}", tried=[f"Patient/{BERT}"], times=7
    )
    made = event(nobody, "e1")
    assert sentence(made, BERT, {}).endswith("asked for your record and was not given it, 7 times.")
    assert set(mentioned(made)) == {("Patient", ANNE), ("Patient", BERT)}
    own = told(made, ANNE, {}, lambda kind, id: True)
    assert BERT not in encode(own).decode()
    assert "7 times" in own["text"]["div"]
    assert check(made) == check(own) == []


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
    assert "searched, and found your care plan." in own["text"]["div"]
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
