"""A Permit answers what the caller may do, and one that would mean more than it says cannot be built."""

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError


def permit(*scopes: str, **context: str) -> Permit:
    return Permit("Z99", "direct-care", tuple(Scope.parse(each) for each in scopes), **context)


def test_it_says_which_scopes_allow_something() -> None:
    asked = permit("system/Patient.rs", "system/*.r", "system/Task.cud")
    assert [str(each) for each in asked.require("r", "Patient")] == ["system/Patient.rs", "system/*.r"]
    assert [str(each) for each in asked.require("u", "Task")] == ["system/Task.cud"]
    assert asked.covering("s", "Task") == ()


@pytest.mark.parametrize(("verb", "word"), [("c", "create"), ("s", "search"), ("d", "delete"), ("u", "update")])
def test_what_no_scope_allows_is_forbidden(verb: str, word: str) -> None:
    with pytest.raises(FhirError, match=f"No scope of this token allows {word} on Patient") as refused:
        permit("system/Patient.r", "system/Task.cruds").require(verb, "Patient")
    assert refused.value.status == 403


def test_no_scopes_allow_nothing() -> None:
    with pytest.raises(FhirError):
        permit().require("r", "Patient")


@pytest.mark.parametrize("patient", [None, ""])
def test_a_patient_scope_needs_a_patient(patient: str | None) -> None:
    assert permit("patient/*.rs", patient="p1").patient == "p1"
    with pytest.raises(FhirError, match="needs the patient"):
        Permit("Z99", "person", (Scope.parse("system/*.rs"), Scope.parse("patient/*.rs")), patient=patient)


def test_a_user_scope_needs_a_practitioner() -> None:
    assert permit("user/*.rs", practitioner="w1").practitioner == "w1"
    with pytest.raises(FhirError, match="needs the practitioner"):
        permit("user/*.rs", patient="p1")


@pytest.mark.parametrize(("organisation", "purpose"), [("", "direct-care"), ("Z99", "")])
def test_it_names_who_asks_and_why(organisation: str, purpose: str) -> None:
    with pytest.raises(FhirError, match="names the organisation"):
        Permit(organisation, purpose, ())
