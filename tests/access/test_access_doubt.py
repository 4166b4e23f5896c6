"""Whoever writes a Consent is told of all of it that does not hold as it is written, and of nothing that does."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given

from fhirgw.access.consent import delegations, directives
from fhirgw.access.doubt import doubts
from tests.access import test_access_consent as consents
from tests.access.test_access_consent import (
    AGENCY,
    BOTH_LABELS,
    COURT,
    DAUGHTER,
    HOSPITAL,
    MARCH,
    PROVISIONS,
    RECIPIENT,
    ROLE,
    SCOPE,
    SHARING,
    STRANGE,
    WORKER,
    actor,
    carer,
    concept,
    consent,
    nest,
    places,
    purposes,
    verified,
)

ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
OPTIN, OPTOUT = (concept(consents.ACT, each) for each in ("OPTIN", "OPTOUT"))
CORRECT = {
    "action": [concept("http://terminology.hl7.org/CodeSystem/consentaction", each) for each in ("access", "correct")]
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "notOrg": {"type": "deny", "actor": [actor("Organization/f001", concept(RECIPIENT, "PRCP"))], **CORRECT},
    "notThem": {"actor": [actor("Practitioner/f204", concept(RECIPIENT, "PRCP"))], **CORRECT},
    "notTime": {"period": {"start": "2015-01-01", "end": "2015-02-01"}},
    "notThis": {"data": [{"meaning": "related", "reference": {"reference": "Task/example3"}}]},
    "Out": {"actor": [actor("Organization/f001", concept(RECIPIENT, "CST"))]},
}
"""What the provisions of https://hl7.org/fhir/R4/consent-examples.html say; the policy is OPTIN, of the last OPTOUT."""


def told(made: dict[str, Any]) -> list[str | None]:
    """Where there is something to be told of."""
    return [each.expression for each in doubts(made)]


PLAIN: list[dict[str, Any]] = [
    consent({"type": "deny"}),
    consent({"type": "permit", "actor": [actor(HOSPITAL)], "period": MARCH}),
    consent(
        {"type": "deny", "actor": [actor(HOSPITAL)], "provision": [{"type": "permit", "actor": [actor(HOSPITAL)]}]}
    ),
    consent({"type": "deny"}, category=[concept(SHARING, "nhs")]),
    consent(None, policyRule=concept(consents.ACT, "OPTOUT")),
    consent({"type": "deny"}, WORKER),
    consent({"type": "permit", "actor": [actor(HOSPITAL)], "period": MARCH}, WORKER),
    consent(carer()),
    consent({"type": "permit", "actor": [actor(DAUGHTER, concept(ROLE, "HPOWATT"))]}, COURT, verification=verified()),
    consent({"type": "deny", "actor": [{"reference": {"identifier": {"system": ODS, "value": "RAB"}}}]}),
    consent({"type": "deny", "action": [concept("http://terminology.hl7.org/CodeSystem/consentaction", "access")]}),
    consent({"type": "deny", "data": []}, status="inactive"),
    {"resourceType": "Flag", "id": "f1", "status": "active"},
]


@pytest.mark.parametrize("made", PLAIN)
def test_nothing_is_told_of_what_holds_as_it_is_written(made: dict[str, Any]) -> None:
    assert told(made) == []


@pytest.mark.parametrize("effect", ["permit", "deny"])
@pytest.mark.parametrize("strange", [*STRANGE, BOTH_LABELS])
def test_a_limit_that_is_not_understood_is_told_where_it_stands(strange: dict[str, Any], effect: str) -> None:
    (name,) = strange
    outer = doubts(consent({"type": effect, **strange}))
    inner = doubts(consent({"type": "deny", "provision": [{"type": effect, **strange}]}))
    for found, place in ((outer, "Consent.provision"), (inner, "Consent.provision.provision[0]")):
        assert [(each.severity, each.code) for each in found] == [("warning", "business-rule")]
        assert str(found[0].expression).removesuffix("[0]") == f"{place}.{name}"
        assert ("permit is void" if effect == "permit" else "deny holds") in found[0].diagnostics


@given(PROVISIONS)
def test_what_no_doubt_is_told_of_is_a_rule_for_all_that_it_names(provision: dict[str, Any]) -> None:
    if doubts(consent(provision)):
        return
    rules = {(each.effect, each.party, each.purpose, each.kinds) for each in directives(consent(provision))}
    for each in places(provision):
        parties = {one["reference"]["reference"] for one in each.get("actor", ())}
        kinds = {one["code"] for one in each.get("class", ())}
        mine = [rule for rule in rules if rule[0] == each["type"]]
        assert parties <= {rule[1] for rule in mine}
        assert all(any(kind in (rule[3] or ()) for rule in mine) for kind in kinds)
        assert mine


def test_a_dissent_about_a_type_that_is_not_held_is_about_no_other() -> None:
    """It was one about everything."""
    for code, kinds, where in (
        ("Immunization", ("Immunization",), ["Consent.provision.class[0]"]),
        ("Task", ("Task",), []),
        ("DomainResource", None, ["Consent.provision.class[0]"]),
    ):
        made = consent({"type": "deny", "class": consents.types(code)})
        assert ([each.kinds for each in directives(made)], told(made)) == ([kinds], where)


def test_a_consent_of_nobody_is_refused() -> None:
    for nobody in ({}, {"patient": {"display": "Ann"}}, {"patient": {"identifier": {"system": "urn:x", "value": "1"}}}):
        made = {name: value for name, value in consent({"type": "deny"}).items() if name != "patient"} | nobody
        (found,) = doubts(made)
        assert (found.severity, found.expression, directives(made)) == ("error", "Consent.patient", [])
        assert doubts(made | {"status": "draft"}) == []
    assert doubts(consent({"type": "deny"})) == []


@pytest.mark.parametrize(
    ("made", "place"),
    [
        (consent({"type": "deny"}, scope=concept(SCOPE, "treatment")), "Consent.scope"),
        (consent({"type": "permit"}, scope=concept(SCOPE, "horoscope")), "Consent.scope"),
        (consent({"type": "deny"}, category=[concept(SHARING, "nhss")]), "Consent.category"),
        (consent({"type": "deny"}, implicitRules="https://elsewhere.example"), "Consent.implicitRules"),
        (consent(None), "Consent.provision"),
        (consent({"actor": [actor(HOSPITAL)]}, policyRule=concept(consents.ACT, "OPTIN")), "Consent.provision"),
        (consent(nest(100)), "Consent.provision"),
        (consent({"type": "deny", "purpose": purposes("BTG")}), "Consent.provision"),
        (consent({"type": "permit", "actor": [actor(HOSPITAL)]}, None), "Consent.provision"),
        (consent({"type": "permit", "actor": [actor(HOSPITAL)]}, HOSPITAL), "Consent.provision"),
        (consent({"type": "permit", "actor": [actor(HOSPITAL)]}, WORKER), "Consent.provision"),
        (consent({"type": "permit", "actor": [actor(DAUGHTER, concept(ROLE, "GUARD"))]}), "Consent.provision.actor[0]"),
        (consent(carer(purpose=purposes("TREAT"))), "Consent.provision.actor[0]"),
        (
            consent(
                {
                    "type": "deny",
                    "actor": [actor(HOSPITAL)],
                    "provision": [{"type": "permit", "actor": [actor(AGENCY)]}],
                }
            ),
            "Consent.provision.provision[0]",
        ),
        (
            consent({"type": "deny", "actor": [{"reference": {"identifier": {"system": "urn:x", "value": "RAB"}}}]}),
            "Consent.provision.actor[0]",
        ),
    ],
)
def test_what_else_decides_otherwise_than_it_says_is_told(made: dict[str, Any], place: str) -> None:
    assert told(made) == [place]


def test_nothing_that_it_says_is_quoted() -> None:
    canary = {"code": "ZZ99 3CZ", "system": "ZZ99 3CZ", "display": "ZZ99 3CZ"}
    said = {"type": "deny", "purpose": [canary], "class": [canary], "securityLabel": [canary], "ZZ99": "ZZ99"}
    actors = {"actor": [{"role": {"coding": [canary]}, "reference": {"reference": "ZZ99 3CZ"}}]}
    found = doubts(consent({**said, **actors}))
    assert len(found) == 5
    assert b"ZZ99" not in orjson.dumps([each.as_fhir() for each in found])


# Roles of actors


@pytest.mark.parametrize("effect", ["permit", "deny"])
@pytest.mark.parametrize(
    ("system", "code"),
    [
        *((RECIPIENT, code) for code in ("IRCP", "PRCP", "TRC", "REFT", "PRF", "ATND")),
        *((ROLE, code) for code in ("GRANTEE", "POWATT", "DELEGATEE")),
        *(("http://terminology.hl7.org/CodeSystem/v3-RoleClass", code) for code in ("PROV", "ASSIGNED")),
    ],
)
def test_a_rule_is_about_the_actor_in_any_part_that_gets_records_or_gives_care(
    effect: str, system: str, code: str
) -> None:
    made = consent({"type": effect, "actor": [actor(HOSPITAL, concept(system, code))]})
    assert [(each.effect, each.party) for each in directives(made)] == [(effect, HOSPITAL)]


@pytest.mark.parametrize("code", ["CST", "AUT", "INF", "SBJ", "XXXX"])
def test_one_that_made_or_keeps_records_says_of_which_and_that_is_told(code: str) -> None:
    made = consent({"type": "deny", "actor": [actor(HOSPITAL, concept(RECIPIENT, code))]})
    assert [(each.effect, each.party) for each in directives(made)] == [("deny", None)]
    assert told(made) == ["Consent.provision.actor[0]"]
    assert directives(consent({"type": "permit", "actor": [actor(HOSPITAL, concept(RECIPIENT, code))]})) == []


def test_who_acts_for_somebody_does_by_no_other_role() -> None:
    for code, kinds in (("PRCP", []), ("POWATT", []), ("DELEGATEE", ["carer"])):
        system = RECIPIENT if code == "PRCP" else ROLE
        made = consent({"type": "permit", "actor": [actor(DAUGHTER, concept(system, code))]})
        assert [each.kind for each in delegations(made)] == kinds


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("notOrg", [("deny", "Organization/f001")]),
        ("notThem", [("deny", "Practitioner/f204")]),
        ("notTime", [("deny", None)]),
        ("notThis", [("deny", None)]),
        ("Out", [("deny", None), ("deny", None)]),
    ],
)
def test_hl7s_own_examples_withhold_what_they_say(name: str, rules: list[Any]) -> None:
    found = directives(consent(EXAMPLES[name], None, policyRule=OPTOUT if name == "Out" else OPTIN))
    assert [(each.effect, each.party) for each in found] == rules


def test_a_dissent_from_a_sector_nobody_is_of_holds_for_all() -> None:
    for code, party in (("nhs", f"{SHARING}|nhs"), ("nhss", None)):
        (found,) = directives(consent({"type": "deny"}, category=[concept(SHARING, code)]))
        assert (found.effect, found.party) == ("deny", party)
    assert directives(consent({"type": "permit"}, category=[concept(SHARING, "nhss")])) == []
