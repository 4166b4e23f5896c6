"""Scopes as SMART spells them, v1 and v2; whatever else a token says permits nothing."""

import pytest

from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError


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
    ],
)
def test_both_versions_are_read(text: str, scope: Scope) -> None:
    assert Scope.parse(text) == scope
    assert Scope.parse(str(scope)) == scope


@pytest.mark.parametrize(
    "text",
    [
        *("", "system", "system/Patient", "system/Patient.", "system/.rs", "/Patient.rs", "launch/patient", "openid"),
        *("system/Patient.sr", "system/Patient.rr", "system/Patient.x", "system/Patient.READ", "SYSTEM/Patient.rs"),
        *("system/patient.rs", "system/*.rs ", " system/*.rs", "system/*.rs\n", "system/**.rs", "system/Pat ient.rs"),
        *("system/Observation.rs?category=x", "system/Patient.rs?", "system/Patient.readrs", "system/Patient.r*"),
    ],
)
def test_anything_else_permits_nothing(text: str) -> None:
    with pytest.raises(FhirError, match="A scope is not one this gateway knows") as refused:
        Scope.parse(text)
    assert refused.value.status == 403


def test_a_scope_covers_its_verbs_on_its_type() -> None:
    scope = Scope.parse("system/Patient.rs")
    assert scope.covers("r", "Patient")
    assert scope.covers("s", "Patient")
    assert not scope.covers("c", "Patient")
    assert not scope.covers("r", "Observation")
    assert Scope.parse("system/*.r").covers("r", "Observation")
