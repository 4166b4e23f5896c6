"""Consents as rules: what is understood holds as it is written, and what is not errs towards telling less."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fhirgw.access.consent import HEAVIEST, Delegation, Directive, delegations, directives
from fhirgw.access.label import SAFEGUARDING, THIRD_PARTY, WHEREABOUTS
from fhirgw.access.provision import DEEPEST, MOST

SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
TYPES = "http://hl7.org/fhir/resource-types"
ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CLASS = "https://fhirgw.uk/fhir/CodeSystem/record-class"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
SHARING = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing"
DECISION = "https://fhirgw.uk/fhir/CodeSystem/consent-decision"
ME, HOSPITAL, AGENCY = "Patient/p1", "Organization/o1", "Organization/o2"
WORKER, DAUGHTER, COURT = "Practitioner/w1", "RelatedPerson/r1", "Organization/court"
MARCH = {"start": "2026-03-01", "end": "2026-03-30"}
IN_MARCH = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 30, 23, tzinfo=UTC))
EVER = (None, None)
RECIPIENT = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"


def concept(system: str, *codes: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code} for code in codes]}


def actor(reference: str, role: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"role": role or concept(RECIPIENT, "IRCP"), "reference": {"reference": reference}}


def purposes(*codes: str) -> list[dict[str, str]]:
    return [{"system": REASON, "code": code} for code in codes]


def types(*codes: str) -> list[dict[str, str]]:
    return [{"system": TYPES, "code": code} for code in codes]


def consent(provision: dict[str, Any] | None, performer: str | None = ME, **elements: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": "Consent", "id": "c1", "status": "active", "patient": {"reference": ME}}
    made["scope"] = concept(SCOPE, "patient-privacy")
    if performer:
        made["performer"] = [{"reference": performer}]
    if provision is not None:
        made["provision"] = provision
    return made | elements


def verified() -> list[dict[str, Any]]:
    return [{"verified": True, "verificationDate": "2026-01-01"}]


def rule(effect: str, weight: int, **elements: Any) -> Directive:
    plain = Directive("p1", effect, None, None, None, 0, None, None, weight, "person")
    return plain._replace(**elements)


def test_a_dissent_without_limits_is_a_deny_for_everybody() -> None:
    assert directives(consent({"type": "deny"})) == [rule("deny", 16)]


def test_each_limit_is_kept_and_weighs() -> None:
    everything = {
        "type": "deny",
        "actor": [actor(HOSPITAL)],
        "purpose": purposes("TREAT"),
        "period": MARCH,
        "class": types("Task", "Flag"),
        "securityLabel": [{"system": CLASS, "code": "safeguarding"}],
    }
    starts, ends = IN_MARCH
    kept = {"party": HOSPITAL, "purpose": "direct-care", "kinds": ("Flag", "Task"), "classes": SAFEGUARDING}
    assert directives(consent(everything)) == [
        rule("deny", 32 * (8 + 4 + 4 + 2 + 1) + 16, starts=starts, ends=ends, **kept)
    ]


@pytest.mark.parametrize(
    ("limit", "weight"),
    [
        ({"actor": [actor(HOSPITAL)]}, 8),
        ({"class": types("Task")}, 4),
        ({"securityLabel": [{"system": CLASS, "code": "safeguarding"}]}, 4),
        ({"purpose": purposes("HRESCH")}, 2),
        ({"period": MARCH}, 1),
    ],
)
def test_the_more_specific_weighs_more(limit: dict[str, Any], weight: int) -> None:
    for effect in ("permit", "deny"):
        assert [each.weight for each in directives(consent({"type": effect, **limit}))] == [32 * weight + 16]


def test_several_actors_and_purposes_are_several_rules() -> None:
    found = directives(
        consent({"type": "permit", "actor": [actor(HOSPITAL), actor(AGENCY)], "purpose": purposes("TREAT", "HRESCH")})
    )
    assert {(each.party, each.purpose) for each in found} == {
        *product((HOSPITAL, AGENCY), ("direct-care", "research")),
    }


@pytest.mark.parametrize("status", ["draft", "proposed", "rejected", "inactive", "entered-in-error", None])
def test_only_what_is_active_counts(status: str | None) -> None:
    delegate = actor(DAUGHTER, concept(ROLE, "DELEGATEE"))
    assert directives(consent({"type": "deny"}, status=status)) == []
    assert delegations(consent({"type": "permit", "actor": [delegate]}, status=status)) == []


@pytest.mark.parametrize(("scope", "effects"), [("treatment", []), ("adr", []), ("research", ["deny"])])
def test_consents_about_something_else_say_nothing_of_sharing(scope: str, effects: list[str]) -> None:
    found = directives(consent({"type": "deny"}, scope=concept(SCOPE, scope)))
    assert [each.effect for each in found] == effects
    assert {each.purpose for each in found} <= {"research"}


def test_a_scope_nobody_knows_voids_a_permit_and_no_deny() -> None:
    strange = concept(SCOPE, "horoscope")
    assert directives(consent({"type": "permit"}, scope=strange)) == []
    assert directives(consent({"type": "deny"}, scope=strange)) == [rule("deny", 16)]


# Nested provisions


def test_an_exception_inherits_what_surrounds_it_and_outweighs_it() -> None:
    found = directives(
        consent(
            {
                "type": "deny",
                "actor": [actor(HOSPITAL)],
                "period": MARCH,
                "provision": [{"type": "permit", "class": types("CarePlan")}],
            }
        )
    )
    starts, ends = IN_MARCH
    assert found == [
        rule("deny", 32 * 9 + 16, party=HOSPITAL, starts=starts, ends=ends),
        rule("permit", 32 * 13 + 17, party=HOSPITAL, kinds=("CarePlan",), starts=starts, ends=ends),
    ]


def test_an_exception_for_one_party_in_a_dissent_to_all() -> None:
    nested = [{"type": "permit", "actor": [actor(HOSPITAL)]}]
    assert directives(consent({"type": "deny", "provision": nested})) == [
        rule("deny", 16),
        rule("permit", 32 * 8 + 17, party=HOSPITAL),
    ]


def test_a_permit_for_somebody_outside_what_surrounds_it_is_void_and_a_deny_holds() -> None:
    def nested(effect: str) -> list[str | None]:
        inner = [{"type": effect, "actor": [actor(AGENCY)]}]
        found = directives(consent({"type": "deny", "actor": [actor(HOSPITAL)], "provision": inner}))
        return [each.party for each in found[1:]]

    assert nested("permit") == []
    assert nested("deny") == [AGENCY]


def test_periods_are_what_they_have_in_common() -> None:
    inner = [{"type": "permit", "period": {"start": "2026-03-10", "end": "2027-01-01"}}]
    outer = {"type": "deny", "period": MARCH, "provision": inner}
    permit = directives(consent(outer))[1]
    assert (permit.starts, permit.ends) == (datetime(2026, 3, 10, tzinfo=UTC), IN_MARCH[1])


def nest(depth: int, effect: str = "permit") -> dict[str, Any]:
    made: dict[str, Any] = {"type": effect}
    for _ in range(depth):
        made = {"type": effect, "provision": [made]}
    return made


def test_what_is_too_deep_or_too_long_denies_everything() -> None:
    everything = [rule("deny", HEAVIEST, decided="record")]
    assert {each.effect for each in directives(consent(nest(DEEPEST)))} == {"permit"}
    assert directives(consent(nest(DEEPEST + 1))) == everything
    assert directives(consent(nest(1000))) == everything
    many = [{"type": "permit", "actor": [actor(f"Organization/{each}")]} for each in range(MOST)]
    assert directives(consent({"type": "permit", "provision": many})) == everything
    assert delegations(consent(nest(DEEPEST + 1))) == []


def test_the_deepest_weighs_no_more_than_a_step_of_specificity() -> None:
    assert max(each.weight for each in directives(consent(nest(DEEPEST)))) == 16 + 15


# Policy rules

DENY_HOSPITAL = {"type": "deny", "actor": [actor(HOSPITAL)]}


@pytest.mark.parametrize(
    ("policy", "provision", "found"),
    [
        ("OPTIN", None, [("permit", None)]),
        ("OPTOUT", None, [("deny", None)]),
        ("OPTOUT", DENY_HOSPITAL, [("deny", HOSPITAL)]),
        ("OPTOUT", {"type": "permit", "actor": [actor(HOSPITAL)]}, [("deny", None), ("permit", HOSPITAL)]),
        (
            "OPTIN",
            {"provision": [{"type": "deny", "actor": [actor(HOSPITAL)]}]},
            [("permit", None), ("deny", HOSPITAL)],
        ),
        ("elsewhere", {"provision": [{"type": "deny", "actor": [actor(HOSPITAL)]}]}, [("deny", HOSPITAL)]),
        ("elsewhere", None, [("deny", None)]),
        ("elsewhere", {"type": "perhaps"}, [("deny", None)]),
    ],
)
def test_the_policy_rule_says_what_the_root_does_not(policy: str, provision: Any, found: list[Any]) -> None:
    made = directives(consent(provision, policyRule=concept(ACT, policy)))
    assert [(each.effect, each.party) for each in made] == found


# Sectors


def test_a_sector_is_a_party_where_nobody_is_named() -> None:
    nhs = {"category": [concept(SHARING, "nhs")]}
    assert directives(consent({"type": "deny"}, **nhs)) == [rule("deny", 32 * 6 + 16, party=f"{SHARING}|nhs")]
    named = {"type": "deny", "provision": [{"type": "permit", "actor": [actor(HOSPITAL)]}]}
    assert directives(consent(named, **nhs))[1] == rule("permit", 32 * 8 + 17, party=HOSPITAL)


# Who decided


def test_a_permit_counts_if_the_person_gave_it() -> None:
    permit = {"type": "permit", "actor": [actor(HOSPITAL)]}
    assert directives(consent(permit, ME))[0].decided == "person"
    assert directives(consent(permit, None)) == []
    assert directives(consent(permit, DAUGHTER)) == []
    assert directives(consent(permit, WORKER)) == []


def test_a_deny_counts_whoever_decided_and_the_persons_own_weighs_more() -> None:
    makers = (ME, None, DAUGHTER, WORKER, COURT)
    weights = {who: directives(consent({"type": "deny"}, who))[0] for who in makers}
    assert {who: (each.decided, each.weight) for who, each in weights.items()} == {
        ME: ("person", 16),
        None: ("person", 16),
        DAUGHTER: ("delegate", 0),
        WORKER: ("best-interest", 0),
        COURT: ("record", 0),
    }


def test_a_decision_in_the_best_interests_has_an_end() -> None:
    permit = {"type": "permit", "actor": [actor(HOSPITAL)]}
    assert directives(consent(permit, WORKER)) == []
    decided = directives(consent({**permit, "period": MARCH}, WORKER))
    assert [(each.party, each.decided) for each in decided] == [(HOSPITAL, "best-interest")]
    assert directives(consent({"type": "permit", "period": MARCH}, WORKER)) == []  # for everybody, and so for them too


@pytest.mark.parametrize("period", [{}, {"period": MARCH}])
@pytest.mark.parametrize("who", [HOSPITAL, WORKER, DAUGHTER, "Patient/p2"])
def test_nobody_empowers_themselves(who: str, period: dict[str, Any]) -> None:
    permit = {"type": "permit", "actor": [actor(who)], **period}
    assert directives(consent(permit, who)) == []
    assert directives(consent(permit, who, verification=[{"verified": False}])) == []
    assert len(directives(consent(permit, who, verification=verified()))) == 1


def test_nobody_empowers_themselves_by_another_of_their_names() -> None:
    number = {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "RAB"}
    both = actor(HOSPITAL) | {"reference": {"reference": HOSPITAL, "identifier": number}}
    decided = {"category": [concept(DECISION, "best-interest")]}
    made = consent({"type": "permit", "actor": [both], "period": MARCH}, performer=None, **decided)
    assert directives(made | {"performer": [{"identifier": number}]}) == []
    assert directives(made | {"performer": [{"identifier": {**number, "value": "RXX"}}]}) != []


@pytest.mark.parametrize(
    ("said", "decided"),
    [("person", "person"), ("attorney", "delegate"), ("deputy", "delegate"), ("best-interest", "best-interest")],
)
def test_a_category_says_who_decided_and_never_makes_it_the_persons(said: str, decided: str) -> None:
    category = {"category": [concept(DECISION, said)]}
    assert directives(consent({"type": "deny"}, ME, **category))[0].decided == decided
    expected = "best-interest" if said == "person" else decided
    assert directives(consent({"type": "deny"}, WORKER, **category))[0].decided == expected


# Delegations


@pytest.mark.parametrize(
    ("role", "kind", "performer", "proof"),
    [
        ("HPOWATT", "attorney", COURT, True),
        ("GUARD", "deputy", COURT, True),
        ("GUARD", "deputy", DAUGHTER, True),
        ("PRN", "parent", ME, False),
        ("DELEGATEE", "carer", ME, False),
    ],
)
def test_a_delegate_acts_for_the_person(role: str, kind: str, performer: str, proof: bool) -> None:
    provision = {
        "type": "permit",
        "actor": [actor(DAUGHTER, concept(ROLE, role))],
        "class": types("Task"),
        "period": MARCH,
    }
    made = consent(provision, performer, verification=verified() if proof else [])
    assert delegations(made) == [Delegation("p1", DAUGHTER, kind, ("Task",), *IN_MARCH)]


@pytest.mark.parametrize("role", ["HPOWATT", "GUARD"])
@pytest.mark.parametrize("proof", [[], [{"verified": False}], [{"verified": "true"}]])
def test_an_attorney_or_deputy_counts_only_when_verified(role: str, proof: list[Any]) -> None:
    provision = {"type": "permit", "actor": [actor(DAUGHTER, concept(ROLE, role))]}
    assert delegations(consent(provision, ME, verification=proof)) == []


def carer(who: str = DAUGHTER, **elements: Any) -> dict[str, Any]:
    return {"type": "permit", "actor": [actor(who, concept(ROLE, "DELEGATEE"))], **elements}


@pytest.mark.parametrize(
    "made",
    [
        consent(carer(), DAUGHTER),
        consent(carer(), None),
        consent(carer(ME)),
        consent(carer() | {"type": "deny"}),
        consent(carer(purpose=purposes("TREAT"))),
        consent(carer(dataPeriod=MARCH)),
        consent(carer(securityLabel=[{"system": CLASS, "code": "safeguarding"}])),
        consent(carer("Group/g1")),
        consent({"type": "permit", "actor": [actor(DAUGHTER)]}),
        consent({"type": "permit", "actor": [actor(DAUGHTER, concept(ROLE, "POWATT"))]}),
    ],
)
def test_it_takes_more_to_act_for_somebody(made: dict[str, Any]) -> None:
    assert delegations(consent(carer(purpose=purposes("PATRQT")))) != []
    assert delegations(made) == []


def test_what_a_delegate_may_not_see_is_a_deny_for_them() -> None:
    made = consent(carer(provision=[{"type": "deny", "class": types("Flag")}]))
    assert [each.kinds for each in delegations(made)] == [None]
    assert [(each.effect, each.party, each.kinds) for each in directives(made)] == [
        ("permit", DAUGHTER, None),
        ("deny", DAUGHTER, ("Flag",)),
    ]


# What is not understood

STRANGE: list[dict[str, Any]] = [
    {"action": [concept("http://terminology.hl7.org/CodeSystem/consentaction", "correct")]},
    {"code": [concept("http://snomed.info/sct", "371538006")]},
    {"data": [{"meaning": "instance", "reference": {"reference": "Task/1"}}]},
    {"dataPeriod": MARCH},
    {"modifierExtension": [{"url": "https://elsewhere.example/only-on-sundays", "valueBoolean": True}]},
    {"purpose": [{"system": REASON, "code": "HMARKT"}]},
    {"purpose": [{"code": "TREAT"}]},
    {"class": [{"system": "urn:ietf:bcp:13", "code": "application/hl7-cda+xml"}]},
    {"class": types("Patients")},
    {"securityLabel": [{"system": "https://elsewhere.example/labels", "code": "hush"}]},
    {"actor": [actor("Group/g1")]},
    {"actor": [actor(HOSPITAL, concept(RECIPIENT, "CST"))]},
    {"actor": [{"role": concept(RECIPIENT, "IRCP")}]},
    {"actor": "Organization/o1"},
    {"period": {"start": "2026-02-30"}},
    {"period": {"start": "2026-04-01", "end": "2026-03-01"}},
    {"period": {"_end": {"extension": [{"url": "https://elsewhere.example/when-she-says"}]}}},
]


BOTH_LABELS = {"securityLabel": [{"system": CLASS, "code": each} for each in ("safeguarding", "third-party")]}
"""Understood, but more exact than a rule can be: a deny of it holds for either, a permit is void."""


@pytest.mark.parametrize("strange", [*STRANGE, BOTH_LABELS])
def test_a_permit_with_a_limit_that_is_not_enforced_is_void(strange: dict[str, Any]) -> None:
    assert directives(consent({"type": "permit"})) == [rule("permit", 16)]
    assert directives(consent({"type": "permit", **strange})) == []
    assert directives(consent({"type": "deny", **strange, "provision": [{"type": "permit"}]}))[1:] == []


@pytest.mark.parametrize("strange", STRANGE)
def test_a_deny_with_one_holds_without_it_and_weighs_as_much(strange: dict[str, Any]) -> None:
    (found,) = directives(consent({"type": "deny", **strange}))
    assert found.weight >= 16
    assert found._replace(weight=16) == rule("deny", 16)


def test_a_deny_of_two_labels_holds_for_either() -> None:
    (found,) = directives(consent({"type": "deny", **BOTH_LABELS}))
    assert found == rule("deny", 32 * 4 + 16, classes=SAFEGUARDING | THIRD_PARTY)


CONTEXTS = list(
    product(
        (HOSPITAL, AGENCY, DAUGHTER),
        ("direct-care", "research"),
        ("Task", "Flag"),
        (0, SAFEGUARDING),
        (IN_MARCH[0] - timedelta(1), IN_MARCH[0], IN_MARCH[1]),
    )
)


def heaviest(rules: list[Directive], effect: str, context: Any) -> int:
    """The weight of the rules that match, worked out in the plainest way."""
    party, purpose, kind, classes, moment = context
    return max(
        (
            each.weight
            for each in rules
            if each.effect == effect
            and each.party in (None, party)
            and each.purpose in (None, purpose)
            and (each.kinds is None or kind in each.kinds)
            and (each.classes == 0 or each.classes & classes)
            and (each.starts is None or each.starts <= moment)
            and (each.ends is None or moment < each.ends)
        ),
        default=-1,
    )


LIMITS: list[dict[str, Any]] = [
    {},
    {"actor": [actor(HOSPITAL)]},
    {"actor": [actor(HOSPITAL), actor("Group/g1")]},
    {"purpose": purposes("TREAT")},
    {"purpose": purposes("TREAT", "HMARKT")},
    {"class": types("Task")},
    {"class": types("Task", "Patients")},
    {"securityLabel": [{"system": CLASS, "code": "safeguarding"}]},
    {"period": MARCH},
]
EFFECTS = st.sampled_from(["permit", "deny"])
SAYS = st.builds(lambda effect, one, two: {"type": effect, **one, **two}, EFFECTS, *[st.sampled_from(LIMITS)] * 2)
PROVISIONS = st.recursive(
    SAYS,
    lambda inner: st.builds(
        lambda says, nested: {**says, "provision": nested}, SAYS, st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


def places(provision: dict[str, Any]) -> list[dict[str, Any]]:
    return [provision, *(found for each in provision.get("provision", ()) for found in places(each))]


@given(PROVISIONS, st.data(), st.sampled_from(STRANGE))
def test_adding_what_is_not_understood_never_loses_a_deny_nor_widens_a_permit(
    provision: dict[str, Any], data: st.DataObject, strange: dict[str, Any]
) -> None:
    changed = deepcopy(provision)
    place = data.draw(st.sampled_from(places(changed)))
    (name,) = strange
    if name in place:  # as an alternative, a value more makes a limit wider by itself: so it is another limit here
        return
    place |= strange
    before, after = directives(consent(provision)), directives(consent(changed))
    for context in CONTEXTS:
        assert heaviest(after, "deny", context) >= heaviest(before, "deny", context)
        assert heaviest(after, "permit", context) <= heaviest(before, "permit", context)


@given(PROVISIONS, st.data(), st.sampled_from(LIMITS[1:]))
@example({"type": "permit"}, None, LIMITS[1])
def test_limiting_a_permit_never_makes_it_hold_where_it_did_not(
    provision: dict[str, Any], data: Any, limit: dict[str, Any]
) -> None:
    changed = deepcopy(provision)
    permits = [each for each in places(changed) if each["type"] == "permit" and not each.keys() & limit.keys()]
    if not permits:
        return
    place = data.draw(st.sampled_from(permits)) if data is not None else permits[0]
    place |= limit
    before, after = directives(consent(provision)), directives(consent(changed))
    for context in CONTEXTS:
        if heaviest(after, "permit", context) >= 0:
            assert heaviest(before, "permit", context) >= 0


KEYS = st.sampled_from(["coding", "code", "system", "reference", "identifier", "role", "start"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=6,
)
ELEMENTS = st.sampled_from(["actor", "purpose", "class", "securityLabel", "period", "provision", "action", "type"])


@given(st.dictionaries(ELEMENTS, JSON))
@example({"actor": {"reference": {"reference": True}}})
@example({"actor": {"reference": {"identifier": 1}}})
def test_what_is_no_fhir_at_all_is_a_deny_and_lets_nobody_act(elements: dict[str, Any]) -> None:
    made = consent({"type": "deny", **elements})
    assert {each.effect for each in directives(made)} == {"deny"}
    assert delegations(made) == []


# Labels of a person


def person(*codings: tuple[str, str]) -> dict[str, Any]:
    security = [{"system": system, "code": code} for system, code in codings]
    return {"resourceType": "Patient", "id": "p1", "meta": {"security": security}}


def test_labels_of_a_person_restrict_their_whereabouts_or_seal_their_record() -> None:
    restrict = rule("restrict", HEAVIEST, kinds=WHEREABOUTS, decided="record")
    seal = rule("seal", HEAVIEST, decided="record")
    assert directives(person((CONFIDENTIALITY, "R"))) == [restrict]
    assert directives(person((CLASS, "restricted"))) == [restrict]
    assert directives(person((CONFIDENTIALITY, "V"))) == [seal]
    assert directives(person((CONFIDENTIALITY, "REDACTED"), (CONFIDENTIALITY, "R"))) == [restrict, seal]
    assert directives(person((CONFIDENTIALITY, "N"))) == []
    assert directives({"resourceType": "Patient", "id": "p1"}) == []


def test_other_types_make_no_rules() -> None:
    flag = person((CONFIDENTIALITY, "V")) | {"resourceType": "Flag", "status": "active", "patient": {"reference": ME}}
    assert (directives(flag), delegations(flag)) == ([], [])
