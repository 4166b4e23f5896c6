"""Scopes as SMART spells them, v1 and v2, constrained or not; whatever else a token says permits nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.access.scope import VERBS, Scope, granted, scopes
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.tokens import token

LABORATORY = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
CODES = st.sampled_from(["final", "amended", "final,amended", "http://x.test/a b|c+d&e=f%", "a\\,b", "é"])
PAIRS = st.tuples(st.sampled_from(["status", "category", "code"]), CODES)
SCOPES = st.one_of(
    st.builds(
        Scope,
        st.sampled_from(["patient", "user", "system"]),
        st.sampled_from(["*", "Patient", "Observation"]),
        st.sets(st.sampled_from(VERBS), min_size=1).map(lambda each: "".join(sorted(each, key=VERBS.index))),
    ),
    st.builds(
        Scope,
        st.sampled_from(["user", "system"]),
        st.just("Observation"),
        st.sampled_from(["r", "rs", "cruds"]),
        st.lists(PAIRS, max_size=3, unique=True).map(tuple),
    ),
)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("system/Patient.rs", Scope("system", "Patient", "rs")),
        ("system/*.cruds", Scope("system", "*", "cruds")),
        ("patient/Observation.r", Scope("patient", "Observation", "r")),
        ("user/*.us", Scope("user", "*", "us")),
        ("system/Patient.read", Scope("system", "Patient", "rs")),
        ("patient/*.write", Scope("patient", "*", "cud")),
        ("user/Task.*", Scope("user", "Task", "cruds")),
        (
            f"system/Observation.rs?category={LABORATORY}&status=final",
            Scope("system", "Observation", "rs", (("category", LABORATORY), ("status", "final"))),
        ),
        ("user/Observation.read?status=final", Scope("user", "Observation", "rs", (("status", "final"),))),
        ("system/Observation.rs?code=a%20b%26c", Scope("system", "Observation", "rs", (("code", "a b&c"),))),
        ("system/Flag.r?_security=x&_security=x", Scope("system", "Flag", "r", (("_security", "x"),))),
    ],
)
def test_both_versions_are_read(text: str, scope: Scope) -> None:
    assert Scope.parse(text) == scope
    assert Scope.parse(str(scope)) == scope


@given(SCOPES)
def test_what_is_written_is_read_again(scope: Scope) -> None:
    assert Scope.parse(str(scope)) == scope
    assert scopes(f"{scope} system/Flag.r") == (scope, Scope("system", "Flag", "r"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "system", "system/Patient", "system/Patient.", "system/.rs", "/Patient.rs", "launch/patient", "openid"),
        *("system/Patient.sr", "system/Patient.rr", "system/Patient.x", "system/Patient.READ", "SYSTEM/Patient.rs"),
        *("system/patient.rs", "system/*.rs ", " system/*.rs", "system/*.rs\n", "system/**.rs", "system/Pat ient.rs"),
        *("system/Patient.rs?", "system/Patient.readrs", "system/Patient.r*", "system/Nonsense.rs"),
        *("system/Observation.rs?status=a?b", 'system/Observation.rs?status="a"', "system/Observation.rs?status=a b"),
        f"system/Observation.rs?code={'a' * 1000}",
    ],
)
def test_anything_else_permits_nothing(text: str) -> None:
    with pytest.raises(FhirError, match="A scope is not one this gateway knows") as refused:
        Scope.parse(text)
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("constraint", "why"),
    [
        ("nonsense=x", "Observation has no search parameter nonsense"),
        ("code:not=x", "no modifier, no chain"),
        ("subject.name=x", "no modifier, no chain"),
        ("patient.identifier=x", "no modifier, no chain"),
        ("date=2025", "date is none"),
        ("value-string=x", "value-string is none"),
        ("subject=Patient/x", "subject is none"),
        ("_profile=http://x.test", "_profile is none"),
        ("_id=x", "_id is none"),
        ("status=", "has no value"),
        ("status", "has no value"),
        ("status=%00", "has no value"),
        ("status=%FF", "not UTF-8"),
        ("&".join(f"code={n}" for n in range(9)), "at most 8"),
    ],
)
def test_a_constraint_is_a_code_to_be_found_by(constraint: str, why: str) -> None:
    with pytest.raises(FhirError, match=why) as refused:
        Scope.parse(f"system/Observation.rs?{constraint}")
    assert refused.value.status == 403


def test_a_constraint_needs_a_type() -> None:
    assert Scope.parse("system/Flag.rs?_tag=a").constraint == (("_tag", "a"),)
    with pytest.raises(FhirError, match="names its type"):
        Scope.parse("system/*.rs?_tag=a")


def test_a_constraint_is_looked_up_as_a_search_is() -> None:
    found = Scope.parse(f"system/Observation.rs?category={LABORATORY}&status=final,amended").criteria()
    assert [each.any_of for each in found] == [
        (token(f"category|{LABORATORY}"),),
        (token("status||final"), token("status||amended")),
    ]


def test_a_scope_covers_its_verbs_on_its_type() -> None:
    scope = Scope.parse("system/Patient.rs")
    assert scope.covers("r", "Patient")
    assert scope.covers("s", "Patient")
    assert not scope.covers("c", "Patient")
    assert not scope.covers("r", "Observation")
    assert Scope.parse("system/*.r").covers("r", "Observation")


@pytest.mark.parametrize(
    ("asked", "registered", "both"),
    [
        ("system/*.rs", "system/*.rs", "system/*.rs"),
        ("system/Patient.rs", "system/*.rs", "system/Patient.rs"),
        ("system/*.rs", "system/Patient.r", "system/Patient.r"),
        ("system/*.cruds", "system/*.rs system/Task.cu", "system/*.rs system/Task.cu"),
        ("system/Patient.rs", "system/Observation.rs", ""),
        ("system/*.rs", "patient/*.rs", ""),
        ("system/*.c", "system/*.rs", ""),
        ("system/Observation.rs", "system/Observation.rs?status=final", "system/Observation.rs?status=final"),
        (
            "system/Observation.rs?category=a&status=final",
            "system/Observation.rs?status=final,amended",
            "system/Observation.rs?category=a&status=final",
        ),
        (
            "system/Observation.rs?status=final",
            "system/Observation.rs?category=a",
            "system/Observation.rs?status=final&category=a",
        ),
        ("system/Observation.rs?status=final", "system/*.r", "system/Observation.r?status=final"),
        ("system/Patient.rs system/*.rs", "system/*.rs", "system/*.rs"),
        ("", "system/*.rs", ""),
        ("system/*.rs", "", ""),
    ],
)
def test_what_is_granted_is_asked_for_and_registered(asked: str, registered: str, both: str) -> None:
    assert granted(scopes(asked), scopes(registered)) == scopes(both)


@given(st.lists(SCOPES, max_size=4), st.lists(SCOPES, max_size=4))
def test_what_is_granted_is_never_wider(asked: list[Scope], registered: list[Scope]) -> None:
    for each in granted(asked, registered):
        assert any(each.within(other) for other in asked)
        assert any(each.within(other) for other in registered)


@given(st.lists(SCOPES, max_size=4), st.lists(SCOPES, max_size=4), st.sampled_from(VERBS))
def test_nothing_that_both_allow_is_lost(asked: list[Scope], registered: list[Scope], verb: str) -> None:
    both = granted(asked, registered)
    for one in asked:
        for other in registered:
            if one.constraint == other.constraint == () and one.context == other.context:
                for resource_type in ("Patient", "Observation"):
                    if one.covers(verb, resource_type) and other.covers(verb, resource_type):
                        assert any(each.covers(verb, resource_type) and not each.constraint for each in both)


@given(SCOPES, SCOPES)
def test_an_intersection_is_within_both(one: Scope, other: Scope) -> None:
    both = one.intersection(other)
    if both is not None:
        assert both.within(one)
        assert both.within(other)
    assert one.within(other) == (both is not None and one.within(both))


def test_what_takes_too_many_scopes_to_say_is_refused() -> None:
    asked = scopes(" ".join(f"system/Observation.rs?code={n}" for n in range(20)))
    registered = scopes(" ".join(f"system/Observation.rs?category={n}" for n in range(11)))
    assert len(granted(asked[:18], registered)) == 198
    with pytest.raises(FhirError, match="too many"):
        granted(asked, registered)


def test_too_many_scopes_are_none() -> None:
    assert len(scopes(" ".join(f"system/Observation.rs?code={n}" for n in range(100)))) == 100
    with pytest.raises(FhirError, match="More than 100 scopes"):
        scopes(" ".join(f"system/Observation.rs?code={n}" for n in range(101)))


@pytest.mark.parametrize(
    ("asked", "registered", "given"),
    [
        ("system/AuditEvent.rs", "system/*.rs", ""),
        ("system/*.rs", "system/AuditEvent.r", ""),
        ("system/AuditEvent.rs", "system/AuditEvent.r", "system/AuditEvent.r"),
        ("system/*.rs system/AuditEvent.r", "system/*.rs system/AuditEvent.r", "system/*.rs system/AuditEvent.r"),
    ],
)
def test_who_may_audit_is_registered_by_name(asked: str, registered: str, given: str) -> None:
    """Or whoever has a wildcard would ask for less, and be an auditor."""
    assert set(granted(scopes(asked), scopes(registered))) == set(scopes(given))
