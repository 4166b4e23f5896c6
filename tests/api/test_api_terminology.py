"""Terminology operations and definitions over HTTP. What is expected is what R4 and UK Core publish, by hand."""

import json
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhirgw.store.registration import Registration
from tests.gateway import Gateway

GENDERS = "http://hl7.org/fhir/administrative-gender"
GENDER_SET = "http://hl7.org/fhir/ValueSet/administrative-gender"
SNOMED = "http://snomed.info/sct"
ETHNIC = "https://fhir.hl7.org.uk/CodeSystem/UKCore-EthnicCategoryEngland"
BIRTH_SEX = "https://fhir.hl7.org.uk/ValueSet/UKCore-BirthSex"
CONDITIONS = "https://fhir.hl7.org.uk/ValueSet/UKCore-ConditionCode"
NULLS = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"
SEXES = "http://terminology.hl7.org/CodeSystem/v3-AdministrativeGender"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
DIABETES, MISTYPED = "73211009", "73211008"
FHIR = {"content-type": "application/fhir+json"}


def part(name: str, **value: Any) -> dict[str, Any]:
    return {"name": name, **value}


def ask(gateway: Gateway, operation: str, **given: str) -> dict[str, Any]:
    answer = gateway.http.get(f"/fhir/{operation}", params=given)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def post(gateway: Gateway, operation: str, *parts: dict[str, Any]) -> Any:
    return gateway.http.post(
        f"/fhir/{operation}", json={"resourceType": "Parameters", "parameter": list(parts)}, headers=FHIR
    )


def refusal(gateway: Gateway, operation: str, status: int, **given: str) -> dict[str, Any]:
    answer = gateway.http.get(f"/fhir/{operation}", params=given)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()["issue"][0]
    assert not any(value in found["diagnostics"] for value in given.values())
    return found


def said(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an answer by name: their values."""
    return {
        each["name"]: next(value for key, value in each.items() if key.startswith("value") or key == "resource")
        for each in parameters["parameter"]
        if "part" not in each
    }


def properties(parameters: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        (each["part"][0]["valueCode"], next(value for key, value in each["part"][1].items() if key.startswith("value")))
        for each in parameters["parameter"]
        if each["name"] == "property"
    ]


# --- $lookup, $subsumes


def test_looking_up_a_code(gateway: Gateway) -> None:
    found = ask(gateway, "CodeSystem/$lookup", system=NULLS, code="ASKU")
    assert said(found) == {"name": "v3 Code System NullFlavor", "version": "2018-08-12", "display": "asked but unknown"}
    assert properties(found) == [("inactive", False), ("parent", "UNK"), ("child", "NAV")]


def test_looking_up_one_property(gateway: Gateway) -> None:
    found = ask(gateway, "CodeSystem/$lookup", system=NULLS, code="ASKU", property="parent")
    assert properties(found) == [("parent", "UNK")]


def test_looking_up_a_posted_coding(gateway: Gateway) -> None:
    answer = post(gateway, "CodeSystem/$lookup", part("coding", valueCoding={"system": GENDERS, "code": "female"}))
    assert answer.status_code == 200
    assert said(answer.json())["display"] == "Female"


def test_what_has_no_meaning_is_not_found(gateway: Gateway) -> None:
    assert refusal(gateway, "CodeSystem/$lookup", 404, system=GENDERS, code="unsaid")["code"] == "not-found"
    assert (
        refusal(gateway, "CodeSystem/$lookup", 404, system="https://nowhere.uk/x", code="unsaid")["code"] == "not-found"
    )
    held = refusal(gateway, "CodeSystem/$lookup", 404, system=GENDERS, code="male", version="3.0.1")
    assert "4.0.1" in held["diagnostics"]
    assert (
        "FHIRGW_TERMINOLOGY_URL"
        in refusal(gateway, "CodeSystem/$lookup", 404, system=SNOMED, code=DIABETES)["diagnostics"]
    )
    assert "Verhoeff" in refusal(gateway, "CodeSystem/$lookup", 404, system=SNOMED, code=MISTYPED)["diagnostics"]


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        ("PRN", "MTH", "subsumes"),
        ("MTH", "PRN", "subsumed-by"),
        ("MTH", "FTH", "not-subsumed"),
        ("MTH", "MTH", "equivalent"),
    ],
)
def test_one_code_under_another(gateway: Gateway, a: str, b: str, outcome: str) -> None:
    assert said(ask(gateway, "CodeSystem/$subsumes", system=ROLES, codeA=a, codeB=b)) == {"outcome": outcome}
    assert said(ask(gateway, "CodeSystem/v3-RoleCode/$subsumes", codeA=a, codeB=b)) == {"outcome": outcome}
    codings = [
        part(f"coding{side}", valueCoding={"system": ROLES, "code": code})
        for side, code in zip("AB", (a, b), strict=True)
    ]
    assert said(post(gateway, "CodeSystem/$subsumes", *codings).json()) == {"outcome": outcome}


# --- $validate-code


def test_a_code_of_a_code_system(gateway: Gateway) -> None:
    right = ask(gateway, "CodeSystem/$validate-code", url=GENDERS, code="male", display="male")
    assert said(right) == {"result": True, "display": "Male"}
    assert said(ask(gateway, "CodeSystem/administrative-gender/$validate-code", code="male"))["result"] is True
    wrong = said(ask(gateway, "CodeSystem/$validate-code", url=GENDERS, code="man"))
    assert wrong["result"] is False
    assert "no such code" in wrong["message"]


def test_a_display_that_is_another_codes(gateway: Gateway) -> None:
    wrong = said(ask(gateway, "CodeSystem/$validate-code", url=GENDERS, code="male", display="Female"))
    assert wrong["result"] is False
    assert wrong["display"] == "Male"


def test_snomed_ct_by_its_check_digit(gateway: Gateway) -> None:
    mistyped = said(ask(gateway, "CodeSystem/$validate-code", url=SNOMED, code=MISTYPED))
    assert mistyped["result"] is False
    assert "Verhoeff" in mistyped["message"]
    assert "issues" not in mistyped
    unknown = said(ask(gateway, "CodeSystem/$validate-code", url=SNOMED, code=DIABETES))
    assert unknown["result"] is False
    assert unknown["message"].startswith("Not known")
    assert unknown["issues"]["issue"][0]["severity"] == "warning"


def test_a_code_of_a_value_set(gateway: Gateway) -> None:
    for system, code, result in [
        (SEXES, "UN", True),
        (NULLS, "UNK", True),
        (NULLS, "NI", False),
        (GENDERS, "male", False),
    ]:
        found = said(ask(gateway, "ValueSet/$validate-code", url=BIRTH_SEX, system=system, code=code))
        assert found["result"] is result, (system, code)
        same = said(ask(gateway, "ValueSet/UKCore-BirthSex/$validate-code", system=system, code=code))
        assert same == found
    versioned = ask(gateway, "ValueSet/$validate-code", url=f"{GENDER_SET}|4.0.1", system=GENDERS, code="male")
    assert said(versioned)["result"] is True


def test_one_coding_of_a_concept_is_enough(gateway: Gateway) -> None:
    codings = [{"system": GENDERS, "code": "male"}, {"system": SEXES, "code": "M"}]
    for several, result in ((codings, True), (codings[:1], False)):
        answer = post(
            gateway,
            "ValueSet/$validate-code",
            part("url", valueUri=BIRTH_SEX),
            part("codeableConcept", valueCodeableConcept={"coding": several}),
        )
        assert said(answer.json())["result"] is result


def test_abstract_codes_where_they_are_not_wanted(gateway: Gateway) -> None:
    asked = {"url": ROLES, "code": "_PersonalRelationshipRoleType"}
    assert said(ask(gateway, "CodeSystem/$validate-code", **asked))["result"] is True
    assert said(ask(gateway, "CodeSystem/$validate-code", **asked, abstract="false"))["result"] is False
    assert said(ask(gateway, "CodeSystem/$validate-code", url=ROLES, code="MTH", abstract="false"))["result"] is True


def test_snomed_ct_in_a_value_set(gateway: Gateway) -> None:
    unknown = said(ask(gateway, "ValueSet/$validate-code", url=CONDITIONS, system=SNOMED, code=DIABETES))
    assert (unknown["result"], unknown["message"][:9]) == (False, "Not known")
    mistyped = said(ask(gateway, "ValueSet/$validate-code", url=CONDITIONS, system=SNOMED, code=MISTYPED))
    assert "Verhoeff" in mistyped["message"]


# --- $expand


def test_expanding(gateway: Gateway) -> None:
    found = ask(gateway, "ValueSet/$expand", url=BIRTH_SEX)
    assert {(each["system"], each["code"], each["display"]) for each in found["expansion"]["contains"]} == {
        (SEXES, "M", "Male"),
        (SEXES, "F", "Female"),
        (SEXES, "UN", "Undifferentiated"),
        (NULLS, "UNK", "unknown"),
    }
    assert found["expansion"]["total"] == 4
    assert found["url"] == BIRTH_SEX
    assert "compose" not in found
    assert ask(gateway, "ValueSet/UKCore-BirthSex/$expand")["expansion"]["contains"] == found["expansion"]["contains"]


def test_expanding_a_part(gateway: Gateway) -> None:
    found = ask(
        gateway, "ValueSet/$expand", url=GENDER_SET, filter="MALE", count="1", offset="1", includeDesignations="true"
    )
    assert [each["code"] for each in found["expansion"]["contains"]] == ["female"]
    assert (found["expansion"]["total"], found["expansion"]["offset"]) == (2, 1)
    told = {each["name"] for each in found["expansion"]["parameter"]}
    assert told == {"filter", "count", "offset", "version"}
    assert ask(gateway, "ValueSet/$expand", url=GENDER_SET, count="0")["expansion"]["total"] == 4


def test_what_cannot_be_listed_is_too_costly(gateway: Gateway) -> None:
    found = refusal(gateway, "ValueSet/$expand", 400, url=CONDITIONS)
    assert found["code"] == "too-costly"
    assert "FHIRGW_TERMINOLOGY_URL" in found["diagnostics"]


def inline(*include: dict[str, Any]) -> dict[str, Any]:
    return part(
        "valueSet", resource={"resourceType": "ValueSet", "status": "draft", "compose": {"include": list(include)}}
    )


def test_a_value_set_that_is_sent_along(gateway: Gateway) -> None:
    mine = inline({"system": GENDERS, "concept": [{"code": "other"}]}, {"valueSet": [BIRTH_SEX]})
    found = post(gateway, "ValueSet/$expand", mine).json()
    assert {each["code"] for each in found["expansion"]["contains"]} == {"other", "M", "F", "UN", "UNK"}
    for code, result in (("other", True), ("male", False)):
        answer = post(
            gateway, "ValueSet/$validate-code", mine, part("coding", valueCoding={"system": GENDERS, "code": code})
        )
        assert said(answer.json())["result"] is result


@pytest.mark.parametrize(
    ("include", "code"),
    [
        ([{"system": GENDERS, "concept": [{"display": "no code"}]}], "required"),
        ([{"concept": "x"}], "structure"),
        ([{"system": GENDERS, "filter": [{"property": "code", "op": "regex", "value": "(a+)+b"}]}], "not-supported"),
        ([{"system": GENDERS}] * 51, "too-costly"),
        ([{"system": SNOMED}], "too-costly"),
        ([{"valueSet": ["https://nowhere.uk/x"]}], "too-costly"),
    ],
)
def test_a_value_set_that_is_not_taken(gateway: Gateway, include: list[dict[str, Any]], code: str) -> None:
    answer = post(gateway, "ValueSet/$expand", inline(*include))
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (400, code)


# --- $translate


def test_translating_there_and_back(gateway: Gateway) -> None:
    there = ask(
        gateway,
        "ConceptMap/meadow-ethnicity/$translate",
        system="https://fhirgw.uk/Id/meadow/codes/ethnicity",
        code="A3",
    )
    assert said(there) == {"result": True}
    match = {each["name"]: each for each in there["parameter"][1]["part"]}
    assert match["equivalence"]["valueCode"] == "wider"
    assert match["concept"]["valueCoding"] == {
        "system": ETHNIC,
        "code": "C",
        "display": "White - Any other White background",
    }
    assert match["source"]["valueUri"] == "https://fhirgw.uk/fhir/ConceptMap/meadow-ethnicity"
    back = post(
        gateway,
        "ConceptMap/$translate",
        part("url", valueUri="https://fhirgw.uk/fhir/ConceptMap/meadow-ethnicity"),
        part("coding", valueCoding={"system": ETHNIC, "code": "C"}),
        part("reverse", valueBoolean=True),
    ).json()
    codes = [each["part"][1]["valueCoding"]["code"] for each in back["parameter"][1:]]
    assert codes == ["A3", "A4", "A9"]


def test_translating_by_whatever_map_there_is(gateway: Gateway) -> None:
    asked = {"system": "https://fhirgw.uk/Id/meadow/codes/gender", "code": "X"}
    assert said(ask(gateway, "ConceptMap/$translate", **asked, target=GENDER_SET)) == {"result": True}
    assert said(ask(gateway, "ConceptMap/$translate", **asked, targetsystem=ETHNIC))["result"] is False
    assert said(ask(gateway, "ConceptMap/$translate", **asked, target=BIRTH_SEX))["result"] is False
    unknown = said(ask(gateway, "ConceptMap/$translate", system=asked["system"], code="nobody"))
    assert (unknown["result"], "no translation" in unknown["message"]) == (False, True)
    assert (
        refusal(gateway, "ConceptMap/$translate", 404, system="https://nowhere.uk/x", code="X")["code"] == "not-found"
    )


# --- what is wrong with a question


@pytest.mark.parametrize(
    ("operation", "given", "status", "named"),
    [
        ("CodeSystem/$lookup", {}, 400, "code"),
        ("CodeSystem/$lookup", {"code": "x-y-z"}, 400, "system"),
        ("CodeSystem/$lookup", {"coding": "x-y-z"}, 400, "coding"),
        ("CodeSystem/$lookup", {"system": GENDERS, "code": "male", "date": "2026-02-30"}, 400, "date"),
        ("CodeSystem/$validate-code", {"code": "x-y-z"}, 400, "url"),
        ("CodeSystem/administrative-gender/$validate-code", {"url": GENDERS, "code": "male"}, 400, "takes"),
        ("CodeSystem/nothing-here/$validate-code", {"code": "x-y-z"}, 404, "CodeSystem"),
        ("ValueSet/$validate-code", {"system": GENDERS, "code": "male"}, 400, "url"),
        ("ValueSet/$validate-code", {"url": GENDER_SET, "code": "x-y-z"}, 400, "system"),
        (
            "ValueSet/$validate-code",
            {"url": "https://nowhere.uk/x", "system": GENDERS, "code": "x-y-z"},
            404,
            "ValueSet",
        ),
        ("ValueSet/$validate-code", {"url": GENDER_SET, "abstract": "perhaps"}, 400, "abstract"),
        ("ValueSet/$expand", {"url": GENDER_SET, "count": "-1x"}, 400, "count"),
        ("ValueSet/$expand", {"url": GENDER_SET, "valueSetVersion": "3.0.2"}, 404, "4.0.1"),
        ("ValueSet/$expand", {"url": GENDER_SET, "colour": "ultramarine"}, 400, "filter"),
        (
            "ConceptMap/$translate",
            {"url": "https://nowhere.uk/x", "system": GENDERS, "code": "x-y-z"},
            404,
            "ConceptMap",
        ),
    ],
)
def test_faults_are_named(gateway: Gateway, operation: str, given: dict[str, str], status: int, named: str) -> None:
    assert named in refusal(gateway, operation, status, **given)["diagnostics"]


def test_bodies_that_are_no_question(gateway: Gateway) -> None:
    address = "/fhir/ValueSet/$validate-code"
    for body, status in (
        (b"{", 400),
        (b"[]", 400),
        (b'{"resourceType":"Patient"}', 400),
        (b'{"resourceType":"Parameters","parameter":{}}', 400),
        (b'{"resourceType":"Parameters","parameter":[{"name":"url","valueUri":7}]}', 400),
        (b'{"resourceType":"Parameters","parameter":[{"name":"codeSystem","resource":{}}]}', 400),
        (b" " * 300_000, 413),
    ):
        answer = gateway.http.post(address, content=body, headers=FHIR)
        assert (body[:40], answer.status_code) == (body[:40], status)
        assert answer.json()["resourceType"] == "OperationOutcome"
    assert gateway.http.post(address, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    twice = gateway.http.get("/fhir/ValueSet/$expand", params=[("url", GENDER_SET), ("url", BIRTH_SEX)])
    assert (twice.status_code, "once" in twice.text) == (400, True)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["coding", "code", "system", "name"]), inner, max_size=3)
    ),
    max_leaves=6,
)
GIVEN = st.dictionaries(
    st.sampled_from(
        ["name", "valueUri", "valueCode", "valueCoding", "valueCodeableConcept", "valueBoolean", "resource"]
    ),
    st.sampled_from(["url", "code", "coding", "codeableConcept", GENDER_SET, GENDERS, SNOMED, DIABETES, "\ud800"])
    | JSONS,
    max_size=3,
)
OPERATIONS = [
    "CodeSystem/$lookup",
    "CodeSystem/$subsumes",
    "CodeSystem/$validate-code",
    "ValueSet/$validate-code",
    "ValueSet/$expand",
    "ConceptMap/$translate",
]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operation=st.sampled_from(OPERATIONS), parts=st.lists(GIVEN, max_size=4))
def test_no_body_is_a_500(gateway: Gateway, operation: str, parts: list[Any]) -> None:
    body = json.dumps({"resourceType": "Parameters", "parameter": parts})
    answer = gateway.http.post(f"/fhir/{operation}", content=body, headers=FHIR)
    assert answer.status_code in (200, 400, 404), answer.text


# --- definitions


def test_reading_and_finding_definitions(gateway: Gateway) -> None:
    read = gateway.http.get("/fhir/ValueSet/administrative-gender").json()
    assert (read["url"], read["version"]) == (GENDER_SET, "4.0.1")
    found = gateway.http.get("/fhir/ValueSet", params={"url": GENDER_SET}).json()
    assert (found["type"], found["total"]) == ("searchset", 1)
    assert found["entry"][0]["resource"] == read
    assert found["entry"][0]["fullUrl"] == f"{gateway.base}/ValueSet/administrative-gender"
    ours = gateway.http.get("/fhir/StructureDefinition/ext-due-date").json()
    assert ours["url"] == "https://fhirgw.uk/fhir/StructureDefinition/ext-due-date"
    system = gateway.http.get("/fhir/CodeSystem", params={"url": ETHNIC}).json()["entry"][0]["resource"]
    assert {each["code"]: each["display"] for each in system["concept"]}["Z"] == "Not stated"


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({"url": GENDER_SET}, ["administrative-gender"]),
        ({"url": f"{GENDER_SET}|4.0.1"}, ["administrative-gender"]),
        ({"url": f"{GENDER_SET}|4.0.0"}, []),
        ({"_id": "UKCore-BirthSex,administrative-gender"}, ["administrative-gender", "UKCore-BirthSex"]),
        ({"name": "ukcorebirth"}, ["UKCore-BirthSex"]),
        ({"name:exact": "ukcorebirth"}, []),
        ({"title:contains": "birth sex"}, ["UKCore-BirthSex"]),
        ({"url": BIRTH_SEX, "status": "active"}, ["UKCore-BirthSex"]),
        ({"url": BIRTH_SEX, "status": "http://hl7.org/fhir/publication-status|active"}, ["UKCore-BirthSex"]),
        ({"url": BIRTH_SEX, "status": "retired"}, []),
        ({"url": BIRTH_SEX, "version": "2.1.0"}, ["UKCore-BirthSex"]),
    ],
)
def test_searching_definitions(gateway: Gateway, asked: dict[str, str], ids: list[str]) -> None:
    found = gateway.http.get("/fhir/ValueSet", params=asked).json()
    assert [each["resource"]["id"] for each in found["entry"] if each["search"]["mode"] == "match"] == ids
    form = gateway.http.post("/fhir/ValueSet/_search", data=asked).json()
    assert form["entry"] == found["entry"]


def test_pages_of_definitions(gateway: Gateway) -> None:
    seen: list[str] = []
    address: str | None = "/fhir/StructureDefinition?_count=10"
    while address:
        page = gateway.http.get(address).json()
        seen += [each["resource"]["id"] for each in page["entry"] if each["search"]["mode"] == "match"]
        address = next((each["url"] for each in page["link"] if each["relation"] == "next"), None)
    assert len(seen) == len(set(seen)) == page["total"]
    assert page["total"] > 20
    counted = gateway.http.get("/fhir/StructureDefinition", params={"_summary": "count"}).json()
    assert counted["total"] == page["total"]
    assert not any(each["search"]["mode"] == "match" for each in counted.get("entry", ()))


def test_a_part_of_a_definition(gateway: Gateway) -> None:
    read = gateway.http.get("/fhir/CodeSystem/administrative-gender", params={"_elements": "url"}).json()
    assert (read["url"], "concept" in read) == (GENDERS, False)
    found = gateway.http.get("/fhir/CodeSystem", params={"url": GENDERS, "_summary": "true"}).json()["entry"][0]
    assert (found["resource"]["url"], "concept" in found["resource"]) == (GENDERS, False)
    for wrong in ({"_elements": "colour"}, {"_summary": "perhaps"}, {"_summary": "count"}):
        assert gateway.http.get("/fhir/CodeSystem/administrative-gender", params=wrong).status_code == 400


def test_what_definitions_are_not_searched_by(gateway: Gateway) -> None:
    answer = gateway.http.get("/fhir/ValueSet", params={"colour": "ultramarine"})
    assert answer.status_code == 400
    assert "url" in answer.text
    assert "ultramarine" not in answer.text
    lenient = gateway.http.get("/fhir/ValueSet?colour=ultramarine&_count=1", headers={"prefer": "handling=lenient"})
    assert lenient.status_code == 200
    assert "colour" not in lenient.json()["link"][0]["url"]
    assert gateway.http.get("/fhir/ValueSet/nothing-here").status_code == 404


def test_what_is_said_to_be_there(gateway: Gateway) -> None:
    rest = gateway.http.get("/fhir/metadata").json()["rest"][0]
    claimed = {each["type"]: each for each in rest["resource"]}
    operations = {(kind, each["name"]) for kind, of in claimed.items() for each in of.get("operation", ())}
    assert {tuple(each.split("/$")) for each in OPERATIONS} <= operations
    for kind in ("CodeSystem", "ValueSet", "ConceptMap", "StructureDefinition", "Measure"):
        assert {each["code"] for each in claimed[kind]["interaction"]} == {"read", "search-type"}
        assert {"url", "name", "_id"} <= {each["name"] for each in claimed[kind]["searchParam"]}
    with gateway.stranger() as stranger:
        statement = stranger.get("/fhir/metadata?mode=terminology").json()
    assert statement["resourceType"] == "TerminologyCapabilities"
    assert GENDERS in {each["uri"] for each in statement["codeSystem"]}


def test_any_token_will_do_and_none_will_not(gateway: Gateway) -> None:
    narrow = Registration("narrow", "Z99", "system/Flag.r", rate=1000)
    with gateway.client(narrow) as known, gateway.stranger() as stranger:
        for path in ("ValueSet/administrative-gender", "CodeSystem?_count=1", f"ValueSet/$expand?url={GENDER_SET}"):
            assert known.get(f"/fhir/{path}").status_code == 200
            assert stranger.get(f"/fhir/{path}").status_code == 401


# --- audit


async def test_the_audit_says_what_was_asked_and_never_about_what(gateway: Gateway) -> None:
    given = {"system": "https://fhir.nhs.uk/Id/nhs-number", "code": "9434765919"}
    answer = gateway.http.get("/fhir/CodeSystem/$lookup", params=given | {"9434765919": "x"})
    assert answer.status_code == 400
    answer = post(gateway, "CodeSystem/$lookup", part("coding", valueCoding={"system": GENDERS, "code": "male"}))
    connection = await asyncpg.connect(gateway.settings.database_url)
    try:
        bodies = [each["body"] for each in await connection.fetch("SELECT body FROM audit")]
    finally:
        await connection.close()
    (told,) = [each for each in bodies if answer.headers["x-request-id"] in each]
    assert "lookup" in told
    assert "coding" in told
    assert "male" not in told
    assert not any("9434765919" in each for each in bodies)
