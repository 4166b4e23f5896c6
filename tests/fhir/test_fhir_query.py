"""A search request, read: what it asks, or every fault with it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.fhir import tokens
from fhirgw.fhir.criterion import (
    Chain,
    Criterion,
    Dates,
    Every,
    Has,
    Ids,
    Missing,
    Numbers,
    Strings,
    Tokens,
)
from fhirgw.fhir.dates import span
from fhirgw.fhir.index import index
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.numbers import Amount, amount
from fhirgw.fhir.parameters import HELD, parameters, part_of, supported
from fhirgw.fhir.query import CONTROLS, MOST_PAIRS, Include, Query, Sort
from fhirgw.fhir.values import Asked

NHS = "https://fhir.nhs.uk/Id/nhs-number"
PATIENT, TASK = parameters("Patient"), parameters("Task")


def asked(resource_type: str, name: str, value: str) -> Criterion:
    """The one criterion that a pair makes."""
    (found,) = Query.parse(resource_type, [(name, value)], base="https://gw.uk/fhir").criteria
    return found


def of(*texts: str) -> tuple[int, ...]:
    return tuple(tokens.token(text) for text in texts)


@pytest.mark.parametrize(
    ("resource_type", "name", "value", "texts"),
    [
        ("Patient", "identifier", f"{NHS}|9000000009", [f"identifier|{NHS}|9000000009"]),
        ("Patient", "identifier", "9000000009", ["identifier||9000000009"]),
        ("Patient", "identifier", f"{NHS}|", [f"identifier|{NHS}|"]),
        ("Patient", "identifier", "|42", ["identifier| |42"]),
        ("Patient", "identifier", r"a\|b,c\,d", ["identifier||a|b", "identifier||c,d"]),
        ("Patient", "identifier", r"s|a\|b", ["identifier|s|a|b"]),
        ("Patient", "gender", "female,male", ["gender||female", "gender||male"]),
        ("Patient", "gender", "http://hl7.org/fhir/administrative-gender|female", ["gender||female"]),
        ("Patient", "gender", "http://elsewhere|female", ["gender|http://elsewhere|female"]),
        ("Patient", "active", "true", ["active||true"]),
        ("Patient", "deceased", "false", ["deceased||false"]),
        ("Patient", "phone", "07700 900-123", ["phone||07700900123"]),
        ("Patient", "name:exact", "Zoë", ["name:exact|Zoë"]),
        ("Task", "patient", "p1", ["patient|Patient/p1"]),
        ("Task", "patient", "Patient/p1,Patient/p2", ["patient|Patient/p1", "patient|Patient/p2"]),
        ("Task", "subject:Patient", "p1", ["subject|Patient/p1"]),
        ("Task", "subject", "https://gw.uk/fhir/Patient/p1", ["subject|Patient/p1"]),
        ("Task", "subject", "https://elsewhere.uk/Patient/p1", ["subject|https://elsewhere.uk/Patient/p1"]),
        ("Task", "focus", "urn:uuid:1", ["focus|urn:uuid:1"]),
        ("Task", "patient:identifier", f"{NHS}|9000000009", [f"patient:identifier|{NHS}|9000000009"]),
        ("QuestionnaireResponse", "questionnaire", "https://x.uk/Q|1", ["questionnaire|https://x.uk/Q|1"]),
        ("Task", "_profile", "https://x.uk/P", ["_profile|https://x.uk/P"]),
        ("Task", "_tag", "s|c", ["_tag|s|c"]),
        ("Task", "_source", "https://x.uk", ["_source|https://x.uk"]),
    ],
)
def test_what_is_looked_up_by_token(resource_type: str, name: str, value: str, texts: list[str]) -> None:
    parameter = parameters(resource_type)[name.partition(":")[0]]
    # One Patient in whose record it is: the store has a column for whose.
    person = "p1" if texts in (["patient|Patient/p1"], ["subject|Patient/p1"]) else None
    assert asked(resource_type, name, value) == Tokens(parameter, of(*texts), person=person)


def test_nobodys_column_says_who_takes_part() -> None:
    assert asked("Appointment", "patient", "p1").person is None  # several may, and the row has one


def test_an_id_alone_may_be_of_any_type_the_reference_takes() -> None:
    found = asked("Encounter", "subject", "x1")
    assert found == Tokens(parameters("Encounter")["subject"], of("subject|Group/x1", "subject|Patient/x1"))
    anything = asked("Task", "focus", "x1")
    assert anything == Tokens(TASK["focus"], of(*(f"focus|{each}/x1" for each in HELD)))


def test_strings_dates_ids_and_what_is_not() -> None:
    assert asked("Patient", "name", "Zoë,O\\,B") == Strings(PATIENT["name"], ("zoe", "o,b"))
    assert asked("Patient", "family:contains", "IT") == Strings(PATIENT["family"], ("it",), contains=True)
    assert asked("Patient", "address-postalcode", "SS1 1aa") == Strings(PATIENT["address-postalcode"], ("ss11aa",))
    assert asked("Patient", "_id", "a,b") == Ids(PATIENT["_id"], ("a", "b"))
    assert asked("Task", "status:not", "completed") == Tokens(TASK["status"], of("status||completed"), negated=True)
    assert asked("Task", "period", "ge2025-03,lt2026") == Dates(
        TASK["period"], (("ge", span("2025-03")), ("lt", span("2026")))
    )
    assert asked("Task", "_lastUpdated", "gt2025-01-01T10:00:00 01:00") == Dates(
        TASK["_lastUpdated"],
        (("gt", (datetime(2025, 1, 1, 9, tzinfo=UTC), datetime(2025, 1, 1, 9, 0, 1, tzinfo=UTC))),),
    )


@pytest.mark.parametrize("prefix", ["eq", "ne", "gt", "ge", "lt", "le", "sa", "eb", "ap"])
def test_every_prefix(prefix: str) -> None:
    assert asked("Patient", "birthdate", f"{prefix}1940") == Dates(PATIENT["birthdate"], ((prefix, span("1940")),))


def test_one_level_of_chaining() -> None:
    number = Tokens(PATIENT["identifier"], of(f"identifier|{NHS}|9000000009"))
    assert asked("Task", "patient.identifier", f"{NHS}|9000000009") == Chain(TASK["patient"], "Patient", number)
    assert asked("Task", "subject:Patient.name", "Zoë") == Chain(
        TASK["subject"], "Patient", Strings(PATIENT["name"], ("zoe",))
    )
    assert asked("Encounter", "subject.birthdate", "1940") == Chain(
        parameters("Encounter")["subject"], "Patient", Dates(PATIENT["birthdate"], (("eq", span("1940")),))
    )


def test_several_levels_and_the_other_way_round() -> None:
    assert asked("Task", "patient.general-practitioner:Organization.name", "x") == Chain(
        TASK["patient"],
        "Patient",
        Chain(PATIENT["general-practitioner"], "Organization", Strings(parameters("Organization")["name"], ("x",))),
    )
    target = parameters("Provenance")["target"]
    agent = Tokens(parameters("Provenance")["agent"], of("agent|Organization/o"))
    observed = Has(parameters("Observation")["patient"], "Patient", Has(target, "Observation", agent))
    assert asked("Patient", "_has:Observation:patient:_has:Provenance:target:agent", "Organization/o") == observed
    assert asked("Task", "patient._has:Observation:patient:_has:Provenance:target:agent", "Organization/o") == Chain(
        TASK["patient"], "Patient", observed
    )


def test_numbers_with_their_units() -> None:
    quantity = parameters("Observation")["value-quantity"]
    places = ("valueQuantity", "valueSampledData")
    exact = Asked("gt", Amount(Decimal("5.4"), Decimal("5.35"), Decimal("5.45")), ("http://unitsofmeasure.org", "mg"))
    assert asked("Observation", "value-quantity", "gt5.4|http://unitsofmeasure.org|mg,100||kg") == Numbers(
        quantity,
        places,
        (exact, Asked("eq", Amount(Decimal(100), Decimal("99.5"), Decimal("100.5")), ("", "kg"))),
    )


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("100", "99.5", "100.5"),
        ("100.00", "99.995", "100.005"),
        ("1e2", "95", "105"),
        ("5.4e-3", "0.00535", "0.00545"),
        ("-2.0", "-2.05", "-1.95"),
    ],
)
def test_a_number_is_as_precise_as_it_is_written(text: str, low: str, high: str) -> None:
    """R4's own examples: https://hl7.org/fhir/R4/search.html#number, #quantity"""
    assert amount(text) == Amount(Decimal(text), Decimal(low), Decimal(high))


def test_a_composite_is_its_parts_in_one_element() -> None:
    known = parameters("Observation")
    number = Asked("eq", amount("120"))
    assert asked("Observation", "code-value-quantity", "s|bp$120") == Every(
        known["code-value-quantity"],
        (
            Tokens(known["code"], of("code|s|bp")),
            Numbers(
                part_of(known["code-value-quantity"], known["code-value-quantity"].groups[0], 1),
                ("valueQuantity",),
                (number,),
            ),
        ),
    )
    assert asked("Observation", "component-code-value-quantity", "bp$120") == Numbers(
        known["component-code-value-quantity"], ("component.valueQuantity",), (number,), of("component$|bp")
    )
    assert asked("Observation", "component-code-value-concept", "s|bp$|d") == Tokens(
        known["component-code-value-concept"], of("component$s|bp$ |d")
    )


def test_above_and_below_an_address() -> None:
    url = parameters("Questionnaire")["url"]
    for top in ("https://x.uk/Q", "https://x.uk/Q/"):
        assert asked("Questionnaire", "url:below", top) == Tokens(url, of("url:below|https://x.uk/Q"))
    above = ("url|https://x.uk/Q/1", "url|https://x.uk/Q/1/", "url|https://x.uk/Q", "url|https://x.uk/Q/")
    assert asked("Questionnaire", "url:above", "https://x.uk/Q/1") == Tokens(
        url, of(*above, "url|https://x.uk", "url|https://x.uk/")
    )


def test_what_may_be_missing() -> None:
    assert asked("Task", "status:missing", "true") == Missing(TASK["status"], missing=True)
    for kind in HELD:
        for name in supported(kind):
            assert asked(kind, f"{name}:missing", "false") == Missing(parameters(kind)[name], missing=False)


def test_a_search_of_the_whole_system() -> None:
    query = Query.parse("", [("_type", "Patient,Task"), ("_id", "a"), ("_sort", "-_lastUpdated")])
    assert query.types == ("Patient", "Task")
    assert query.parts == (
        ("Patient", (Ids(PATIENT["_id"], ("a",)),)),
        ("Task", (Ids(TASK["_id"], ("a",)),)),
    )
    assert set(Query.parse("", [("_id", "a")]).types) == {*HELD} - {"AuditEvent"}
    for pairs, said in (
        ([("_type", "Patiet")], "did you mean Patient"),
        ([("_type", "Patient,Task"), ("gender", "male")], "Task has no search parameter gender"),
        ([("_type", "Patient,Task"), ("_sort", "name")], "Task|several|name"),
    ):
        with pytest.raises(FhirError, match=said):
            Query.parse("", pairs)


def test_what_comes_along_again_and_again() -> None:
    query = Query.parse("Task", [("_include", "Task:patient"), ("_include:iterate", "Patient:general-practitioner")])
    practitioner = PATIENT["general-practitioner"]
    assert query.include == (Include("Task", TASK["patient"]), Include("Patient", practitioner, iterate=True))
    every = Query.parse("Task", [("_include", "*")]).include
    assert {each.parameter.name for each in every} >= {"owner", "patient", "focus"}
    assert Query.parse("Task", [("_include", "Task:*")]).include == every


def test_a_whole_request() -> None:
    pairs = [
        ("patient", "p1"),
        ("period", "ge2025"),
        ("period", "lt2026"),
        ("_include", "Task:owner:Practitioner"),
        ("_revinclude", "Provenance:target"),
        ("_sort", "-period,_id"),
        ("_count", "20"),
        ("_total", "accurate"),
        ("_format", "application/fhir+json"),
        ("_cursor", "opaque"),
    ]
    provenance = parameters("Provenance")["target"]
    assert Query.parse("Task", pairs) == Query(
        type="Task",
        criteria=(
            Tokens(TASK["patient"], of("patient|Patient/p1"), person="p1"),
            Dates(TASK["period"], (("ge", span("2025")),)),
            Dates(TASK["period"], (("lt", span("2026")),)),
        ),
        include=(Include("Task", TASK["owner"], "Practitioner"),),
        revinclude=(Include("Provenance", provenance, "Task"),),
        sort=(Sort(TASK["period"], True), Sort(TASK["_id"], False)),
        count=20,
        cursor="opaque",
        total="accurate",
        applied=tuple(pairs),
    )


def test_a_count_beyond_the_longest_page_is_shortened_and_said() -> None:
    query = Query.parse("Task", [("_count", "5000")])
    assert (query.count, [issue.severity for issue in query.warnings]) == (1000, ["information"])
    assert Query.parse("Task", [("_summary", "count")]).count == 0
    assert (Query.parse("Task", []).count, Query.parse("Task", [("_count", "0")]).count) == (50, 0)


REFUSED = [
    ("Task", "statu", "x", "invalid", "Task has no search parameter statu: did you mean status?"),
    ("Task", "_inclde", "x", "invalid", "There is no search parameter _inclde: did you mean _include?"),
    ("Patient", "dob", "x", "invalid", "did you mean birthdate?"),
    ("Patient", "date_of_birth", "x", "invalid", "did you mean birthdate?"),
    ("Patient", "nhsNumber", "x", "invalid", "did you mean identifier?"),
    ("Patient", "surname", "x", "invalid", "did you mean family?"),
    ("Practitioner", "lastName", "x", "invalid", "did you mean family?"),
    ("Organization", "postcode", "x", "invalid", "did you mean address-postalcode?"),
    ("Patient", "gp", "x", "invalid", "did you mean general-practitioner?"),
    ("Task", "gp", "x", "invalid", "Task has no search parameter gp: the CapabilityStatement lists"),
    ("Patient", "page", "2", "invalid", "did you mean _count, and the next link for what follows?"),
    ("Patient", "_page", "2", "invalid", "There is no search parameter _page: did you mean _count, and the next"),
    ("Patient", "count", "2", "invalid", "did you mean _count?"),
    ("Patient", "_pagesize", "2", "invalid", "did you mean _count?"),
    ("Patient", "limit", "2", "invalid", "did you mean _count?"),
    ("Patient", "sort", "x", "invalid", "did you mean _sort?"),
    ("Patient", "patient", "x", "invalid", "did you mean _id?"),
    ("Flag", "person", "x", "invalid", "did you mean patient?"),
    ("Observation", "from", "x", "invalid", "did you mean date?"),
    ("Observation", "profile", "x", "invalid", "did you mean _profile?"),
    ("Task", "9000000009 Smith", "x", "invalid", "no search parameter of that name"),
    ("Task", "status", "", "invalid", "status has no value"),
    ("Task", "status", "|", "invalid", "status is a bare |"),
    ("Patient", "identifier:in", "x", "not-supported", "The modifier :in of identifier is not supported"),
    ("Patient", "phone:below", "x", "not-supported", "The modifier :below of phone is not supported"),
    ("Task", "status:exact", "x", "not-supported", "The modifier :exact of status is not supported; it may have :not"),
    ("Task", "status:text", "x", "not-supported", "The modifier :text of status"),
    ("Task", "status:missing", "perhaps", "invalid", "status:missing is true or false"),
    ("Task", "code:of-type", "s|c|v", "not-supported", "The modifier :of-type of code"),
    ("Patient", "identifier:of-type", "s|c", "invalid", "identifier:of-type is written system|code|value"),
    ("Task", "_profile:below", "urn:oid:1.2", "invalid", "_profile is no url"),
    ("Task", "_profile:below", f"https://x{'/a' * 16}", "invalid", "_profile:below has more than 16 steps"),
    ("Task", "_id:not", "a", "not-supported", "The modifier :not of _id"),
    ("Task", "_id", "Smith Jones", "invalid", "_id is not an id"),
    ("Task", "period", "2025-02-30", "invalid", "period is not a date that exists"),
    ("Task", "period", "zz2025", "invalid", "period is not a date that exists"),
    ("Patient", "active", "yes", "invalid", "active is true or false"),
    ("Patient", "phonetic", "smith", "not-supported", "phonetic is not supported: matching by sound"),
    ("Patient", "name", " ", "invalid", "name has a blank among its values"),
    ("Observation", "value-quantity", "five", "invalid", "value-quantity is not a number: write digits"),
    ("Observation", "value-quantity", "1e99", "invalid", "value-quantity is not a number"),
    ("Observation", "value-quantity", "5|kg", "invalid", "value-quantity is written number, number|system|code"),
    ("Observation", "code-value-quantity", "a", "invalid", "code-value-quantity has 2 parts: write $ between them"),
    ("Observation", "code-value-date", "a$soon", "invalid", "value-date is not a date"),
    ("Location", "near", "51|0|5|km", "not-supported", "near is not supported: distances are not computed"),
    ("Task", "patient", "Practitioner/1", "invalid", "patient does not refer to such a resource"),
    ("Task", "patient", "Patient/p1/_history/1", "invalid", "patient does not refer to such a resource"),
    ("Task", "patient:Group", "1", "not-supported", "The modifier :Group of patient"),
    ("Task", "patient", "not an id", "invalid", "patient is no reference"),
    ("Task", "patient:identifier", "9000000009", "invalid", "patient:identifier needs both: system|value"),
    ("Task", "subject.name", "x", "invalid", "subject may refer to several types: name one, subject:Patient"),
    ("Task", "patient.nope", "x", "invalid", "Patient has no search parameter nope"),
    ("Observation", "performer.organization.name", "x", "invalid", "performer may refer to several types: name one"),
    ("Task", "part-of.part-of.part-of.part-of.part-of.part-of.part-of.status", "x", "too-costly", "more than 5 steps"),
    ("Task", "status.name", "x", "invalid", "status is no reference"),
    (
        "Task",
        "_has:Observation:patient:code",
        "x",
        "invalid",
        "_has names patient of Observation, which does not refer",
    ),
    ("Task", "_has:Observation", "x", "invalid", "_has is written _has:Type:reference:parameter"),
    ("Patient", "_has:Observation:patient:nope", "x", "invalid", "Observation has no search parameter nope"),
    *(
        ("Task", name, "x", "not-supported", f"The search parameter {name} is not supported: ")
        for name in ("_text", "_content", "_filter", "_list", "_query", "_containedType")
    ),
    ("Task", "_type", "Patient", "invalid", "_type is for searches of the whole system"),
    ("Task", "_contained", "true", "not-supported", "_contained is false only"),
    ("Task", "_explain", "yes", "invalid", "_explain is true or false"),
    ("Task", "_include", "Task", "invalid", "_include is written Type:parameter"),
    ("Task", "_include", "Patient:organization", "invalid", "_include starts with the searched type: Task:parameter"),
    ("Task", "_include", "Task:status", "invalid", "_include names status, which is no reference"),
    ("Task", "_include", "Task:patient:Device", "invalid", "_include names Device, to which patient does not refer"),
    ("Task", "_revinclude", "Observation:subject", "invalid", "_revinclude names a parameter that refers to Task"),
    ("Observation", "_sort", "code-value-string", "not-supported", "a composite parameter has no order"),
    ("Task", "_sort", "nope", "invalid", "Task has no search parameter nope"),
    ("Task", "_count", "-1", "invalid", "_count is a number"),
    ("Task", "_count", "٥", "invalid", "_count is a number"),
    ("Task", "_total", "yes", "invalid", "_total is one of none, accurate, estimate"),
    ("Task", "_format", "xml", "not-supported", "_format is JSON only"),
    ("Task", "status", "x\0y", "invalid", "status has no value"),
    ("Task", "status", ",".join("x" * 501), "too-costly", "status has more than 500 values"),
]


@pytest.mark.parametrize(("resource_type", "name", "value", "code", "said"), REFUSED)
def test_what_is_refused(resource_type: str, name: str, value: str, code: str, said: str) -> None:
    with pytest.raises(FhirError) as refused:
        Query.parse(resource_type, [("_count", "1"), (name, value)])
    (issue,) = refused.value.issues
    assert (issue.code, said in issue.diagnostics, refused.value.status) == (code, True, 400), issue.diagnostics
    assert "Smith" not in issue.diagnostics


def test_all_faults_are_said_at_once_or_left_out_when_asked() -> None:
    pairs = [("statu", "x"), ("status", "completed"), ("period", "soon")]
    with pytest.raises(FhirError) as refused:
        Query.parse("Task", pairs)
    assert len(refused.value.issues) == 2
    lenient = Query.parse("Task", pairs, lenient=True)
    assert lenient.criteria == (Tokens(TASK["status"], of("status||completed")),)
    assert lenient.applied == (("status", "completed"),)
    assert [(issue.severity, issue.diagnostics) for issue in lenient.warnings] == [
        ("warning", issue.diagnostics) for issue in refused.value.issues
    ]


def test_a_request_is_bounded() -> None:
    with pytest.raises(FhirError, match="ask in parts"):
        Query.parse("Task", [("status", "x")] * (MOST_PAIRS + 1))


NAMES = st.sampled_from(
    [*supported("Task"), *CONTROLS, "patient.name", "subject:Patient.birthdate", "owner:Organization"]
)
VALUES = st.text(max_size=20) | st.sampled_from(["2025", "ge2025-01", "a|b", "Patient/1", "Task:owner", "\\", "a\\"])


@given(st.sampled_from(HELD), st.lists(st.tuples(NAMES | st.text(max_size=12), VALUES), max_size=4))
def test_any_request_is_read_or_refused(resource_type: str, pairs: list[tuple[str, str]]) -> None:
    try:
        Query.parse(resource_type, pairs)
    except FhirError as refused:
        assert refused.status == 400
    assert Query.parse(resource_type, pairs, lenient=True).type == resource_type


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_identifier_that_is_stored_is_found(value: str) -> None:
    stored = index({"resourceType": "Task", "identifier": [{"system": "s", "value": value}]})
    written = "".join(f"\\{each}" if each in "\\,$|" else each for each in value)
    for question in (f"s|{written}", written):
        found = asked("Task", "identifier", question)
        assert isinstance(found, Tokens) and set(found.any_of) <= set(stored.tokens)
