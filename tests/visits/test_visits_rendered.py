"""What visits are rendered as: sound FHIR that says what was said, found by what our own index finds in it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fhirgw.fhir import tokens
from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.index import Index, index
from fhirgw.fhir.issue import Resource
from fhirgw.store.schema import RENDERED
from fhirgw.store.visits import Provider, take
from fhirgw.validation import validate
from fhirgw.visits import bundle
from fhirgw.visits.reading import Reader, Sent
from fhirgw.visits.rules import rules
from tests.visits.visiting import MRS_A, NHS, A

NOW = datetime(2026, 4, 1, tzinfo=UTC)
RULES = rules(Path(__file__).parents[2] / "mappings")
READER = Reader(RULES)
KESTREL = Provider("K01", ("Organization/kestrel",), "Z99")

EVENING = datetime(2026, 3, 28, 22, tzinfo=UTC)
"""Of the night in which the clocks go forward."""


def _spelt(minute: int, fraction: int, offset: int) -> str:
    moment = EVENING + timedelta(minutes=minute, microseconds=fraction)
    return moment.astimezone(timezone(timedelta(hours=offset))).isoformat()


FRACTIONS, OFFSETS = st.sampled_from([0, 500_000, 123_456]), st.sampled_from([0, 1])
TIMES = st.builds(_spelt, st.integers(0, 900), FRACTIONS, OFFSETS)
PERIODS = st.builds(
    lambda start, length, fraction, offset: {
        "start": _spelt(start, fraction, offset),
        "end": _spelt(start + length, fraction, 1 - offset),
    },
    *(st.integers(0, 600), st.integers(0, 300), FRACTIONS, OFFSETS),
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
NAMES = st.from_regex(r"[A-Z][A-Za-z0-9._:/-]{0,5}", fullmatch=True)
SOMEBODY = st.sampled_from(["C1", "C2", "C3"])


def _some(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


def _each(of: st.SearchStrategy[dict[str, Any]], key: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(of, max_size=3, unique_by=lambda each: each[key])


METHODS = st.sampled_from(sorted(RULES.verification))
PLANNED = list(READER.shapes["planned"].fields)
STAYS = PERIODS | PERIODS.map(lambda each: {"start": each["start"]}) | st.just({})
CARER = st.builds(
    lambda stay, rest: {**rest, **stay},
    STAYS,
    _some({"carer": SOMEBODY}, method=METHODS, endMethod=METHODS, distance=st.integers(0, 999), exception=NAMES),
)
TASK = _some({"task": NAMES, "reason": WORDS}, text=WORDS, outcome=st.sampled_from(RULES.tasks), carer=SOMEBODY)
CODED = {"code": "276885007", "system": "http://snomed.info/sct"}
UNIT = {"unit": "degrees C", "unitCode": "Cel", "unitSystem": "http://unitsofmeasure.org"}
PARTS = _some(
    {},
    line=_some({"order": NAMES}),
    planned=st.builds(
        lambda period, rest: {**period, **rest},
        PERIODS,
        _some(
            {},
            carers=st.integers(1, 3),
            rostered=st.lists(SOMEBODY, min_size=1, unique=True),
            type=NAMES,
            timeCritical=st.booleans(),
        ),
    ),
    carers=_each(CARER, "carer"),
    claimed=_some({"start": TIMES, "minutes": st.integers(0, 90)}),
    outcome=_some({"code": st.sampled_from(sorted(RULES.outcomes))}, reason=WORDS),
    tasks=_each(TASK, "task"),
    medication=st.lists(
        _some(
            {"medicine": WORDS, "outcome": st.sampled_from(RULES.support)},
            dmd=st.sampled_from(["22298006", "999000401000000107"]),
            at=TIMES,
            dose=WORDS,
            reason=WORDS,
            timeCritical=st.booleans(),
            carer=SOMEBODY,
        ),
        max_size=2,
    ),
    notes=st.lists(_some({"text": WORDS}, at=TIMES, carer=SOMEBODY), max_size=2),
    observations=st.lists(
        st.builds(
            lambda said, coded: {**said, **coded},
            _some(
                {"name": WORDS, "value": st.decimals("-999", "999", places=2) | st.integers(-9, 9)},
                unit=WORDS,
                at=TIMES,
                carer=SOMEBODY,
            ),
            st.sampled_from([{}, CODED, {**CODED, **UNIT}]),
        ),
        max_size=2,
    ),
    amended=_some({"by": NAMES, "reason": WORDS}, at=TIMES),
)


def _sound(parts: dict[str, Any]) -> list[Sent]:
    """The visit, if a care provider may say so."""
    read = READER.read({"visit": "V1", "changed": "2026-03-30T08:00:00Z", **parts}, "K01", NOW)
    return [read] if isinstance(read, Sent) else []


def _consistent(parts: dict[str, Any]) -> dict[str, Any]:
    """The same, of a visit to which nobody came if its outcome says so; of what was done only if it was to be."""
    made = RULES.outcomes[parts["outcome"]["code"]].made if "outcome" in parts else True
    if made is False:
        carers = [{name: value for name, value in each.items() if name == "carer"} for each in parts.get("carers", ())]
        parts = {**parts, "carers": carers}
    return parts


ROWS = PARTS.map(lambda parts: {"person": {"nhsNumber": MRS_A}, **_consistent(parts)}).filter(_sound)


async def rendered(connection: asyncpg.Connection, *said: Sent) -> list[tuple[Resource, asyncpg.Record]]:
    """What a visit is rendered as, each resource with its row; nothing is kept."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        for each in said:
            await take(connection, KESTREL, [each], RULES, NOW)
        found = [await connection.fetch(f"SELECT * FROM fhirgw.visit_{each.lower()} ORDER BY id") for each in RENDERED]
    finally:
        await transaction.rollback()
    return [(decode(row["body"]), row) for rows in found for row in rows]


@settings(max_examples=40, phases=[Phase.generate])
@given(row=ROWS)
async def test_what_is_rendered_is_sound_and_says_what_was_said(
    connection: asyncpg.Connection, row: dict[str, Any]
) -> None:
    (sent,) = _sound(row)
    found = await rendered(connection, sent)
    for resource, columns in found:
        _is_found_by_its_own(resource, columns)
        profiles = resource["meta"].get("profile", [])
        assert len(profiles) == (resource["resourceType"] != "Provenance"), "R4's own says all of that"
        wrong = [each for each in validate(resource, profiles) if each.severity in ("error", "fatal")]
        assert wrong == [], (wrong, resource)
    said = {name: value for name, value in sent.said.parts.items() if value not in (None, [])}
    came = any("start" in each for each in said.get("carers", ()))
    if not ("planned" in said or came):
        assert found == [], "nobody planned it and nobody came"
        return
    assert {"Encounter"} & {each["resourceType"] for each, _ in found} == ({"Encounter"} if came else set())
    entries = [{"resource": each} for each, _ in found]
    ((_, again),) = bundle.rows({"resourceType": "Bundle", "type": "collection", "entry": entries}, "K01")
    assert isinstance(again, dict)
    assert again.pop("person") == {"id": A}
    (whole,) = _sound({**again, "person": {"nhsNumber": MRS_A}})
    assert encode(_sorted(whole.said.parts)) == encode(_sorted(_told(said)))


def _told(said: dict[str, Any]) -> dict[str, Any]:
    """What resources say of it: who is named and did not come was to come, if anything was planned."""
    carers = said.get("carers", [])
    kept = {**said, "carers": [each for each in carers if "start" in each]}
    if "planned" in said:
        waited = [each["carer"] for each in carers if "start" not in each]
        rostered = list(dict.fromkeys([*said["planned"].get("rostered", ()), *waited]))
        named = {"carers": 1, **said["planned"], "rostered": rostered} if rostered else said["planned"]
        kept["planned"] = dict(sorted(named.items(), key=lambda each: PLANNED.index(each[0])))
    return {name: value for name, value in kept.items() if value != []}


def _sorted(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts, and their tasks, which resources are in no order of, by name."""
    tasks = {"tasks": sorted(parts["tasks"], key=lambda each: each["task"])} if "tasks" in parts else {}
    return dict(sorted({**parts, **tasks}.items()))


def _is_found_by_its_own(resource: Resource, row: asyncpg.Record) -> None:
    """What the view says a resource is found by is what its body would be indexed by, were it stored."""
    own = _indexed(resource)
    assert (row["type"], row["id"], row["patient"]) == (resource["resourceType"], resource["id"], own.patient)
    assert row["updated"].isoformat(timespec="milliseconds") == resource["meta"]["lastUpdated"].replace("Z", "+00:00")
    assert str(row["version"]) == resource["meta"]["versionId"]
    assert sorted(row["tokens"]) == sorted(own.tokens), resource
    assert row["present"] == own.present, resource
    dates = [each or (None, None) for each in own.dates]
    assert [(row[f"date{at}_low"], row[f"date{at}_high"]) for at in range(1, 5)] == dates, resource
    assert own.strings == own.spans == []
    beside = orjson.loads(row["beside"]) if row["beside"] else {"numbers": []}
    named = ("place", "low", "high", "system", "code", "unit")
    numbers = [tuple(each.get(name) for name in named) for each in beside["numbers"]]
    expected = [(place, float(low), float(high), *rest) for place, low, high, *rest in (n[:6] for n in own.numbers)]
    assert [(place, float(low), float(high), *rest) for place, low, high, *rest in numbers] == expected
    assert all(each["tokens"] == [] for each in beside["numbers"]) and all(not each[6] for each in own.numbers)


def _indexed(resource: Resource) -> Index:
    """What it would be found by; a Provenance, which is in the record that its visit is in, as if it were of that."""
    if resource["resourceType"] != "Provenance":
        return index(resource)
    found = index({**resource, "target": [*resource["target"], {"reference": f"Patient/{A}"}]})
    found.tokens.remove(tokens.plain_reference("target", f"Patient/{A}"))
    return found


WHOSE = {"person": {"nhsNumber": MRS_A}, "line": {"order": "L1"}}
MORNING = {"start": "2026-03-30T07:30:00+01:00", "end": "2026-03-30T08:00:00+01:00"}
VISITED = {"carer": "C1", "start": "2026-03-30T07:31:00+01:00", "end": "2026-03-30T08:01:00+01:00"}
CARERS = "https://fhirgw.uk/Id/K01/carer"


async def _of(connection: asyncpg.Connection, **parts: Any) -> dict[str, Resource]:
    (sent,) = _sound({**WHOSE, "planned": MORNING, **parts})
    return {each["resourceType"]: each for each, _ in await rendered(connection, sent)}


def _participants(appointment: Resource) -> list[tuple[str | None, str | None, str]]:
    """Of the carers: by what name, whether needed, and what they said."""
    return [
        (each["actor"]["identifier"]["value"] if "actor" in each else None, each.get("required"), each["status"])
        for each in appointment["participant"][1:]
    ]


async def test_who_is_to_come_and_who_came_are_two_things(connection: asyncpg.Connection) -> None:
    planned = {**MORNING, "carers": 2, "rostered": ["C1", "C3"]}
    found = await _of(connection, planned=planned, carers=[VISITED, {"carer": "C2"}])
    assert _participants(found["Appointment"]) == [
        ("C1", "required", "accepted"),
        ("C3", "required", "accepted"),
        ("C2", "optional", "accepted"),
    ]
    assert [each["individual"]["identifier"] for each in found["Encounter"]["participant"]] == [
        {"system": CARERS, "value": "C1"}
    ]
    assert (found["Encounter"]["status"], found["Appointment"]["status"]) == ("finished", "fulfilled")


async def test_a_place_that_nobody_is_rostered_for_is_told_without_a_name(connection: asyncpg.Connection) -> None:
    found = await _of(connection, planned={**MORNING, "carers": 2, "rostered": ["C1"]})
    assert _participants(found["Appointment"]) == [("C1", "required", "accepted"), (None, "required", "accepted")]


@pytest.mark.parametrize(
    ("code", "status", "reason", "person"),
    [
        ("cancelled-by-person-notice", "cancelled", "pat", "declined"),
        ("cancelled-by-person-short-notice", "cancelled", "pat", "declined"),
        ("cancelled-by-provider", "cancelled", "prov", "accepted"),
        ("hospital", "cancelled", "pat", "accepted"),
        ("respite", "cancelled", "pat", "accepted"),
        ("deceased", "cancelled", "pat-dec", "accepted"),
        ("not-required", "cancelled", "other", "accepted"),
        ("missed-by-provider", "noshow", None, "accepted"),
    ],
)
async def test_a_visit_that_nobody_made_has_no_encounter(
    connection: asyncpg.Connection, code: str, status: str, reason: str | None, person: str
) -> None:
    found = await _of(connection, outcome={"code": code, "reason": "Why"})
    appointment = found.pop("Appointment")
    assert found == {}
    assert (appointment["status"], appointment["participant"][0]["status"]) == (status, person)
    system = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"
    coded = {"coding": [{"system": system, "code": reason}], "text": "Why"}
    assert appointment.get("cancelationReason") == (coded if reason else None), "R4 has no reason of a noshow"


@pytest.mark.parametrize(("code", "status"), [("no-reply", "noshow"), ("refused-by-person", "fulfilled")])
async def test_a_carer_who_was_not_let_in_has_been_there(
    connection: asyncpg.Connection, code: str, status: str
) -> None:
    found = await _of(connection, carers=[VISITED], outcome={"code": code, "reason": "Door shut"})
    assert (found["Appointment"]["status"], found["Encounter"]["status"]) == (status, "finished")
    coding = {"system": "https://fhirgw.uk/fhir/CodeSystem/visit-outcome", "code": code}
    assert found["Encounter"]["reasonCode"] == [{"coding": [coding], "text": "Door shut"}]


async def test_a_task_says_for_whom_and_under_what_it_is_done(connection: asyncpg.Connection) -> None:
    task = (await _of(connection, tasks=[{"task": "T1", "text": "Wash"}]))["Task"]
    order = {"type": "ServiceRequest", "identifier": {"system": "https://fhirgw.uk/Id/order", "value": "L1"}}
    ods = {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "K01"}
    assert task["basedOn"] == [order]
    kestrel = {"reference": "Organization/kestrel", "type": "Organization", "identifier": ods}
    assert task["requester"] == kestrel


@pytest.fixture(scope="module")
def worked() -> Resource:
    """The worked Bundle of the reference data, beside the repository, as one of K01's about Mrs A."""
    path = Path(__file__).parents[3] / "shared" / "data" / "homecare" / "visit-example-bundle.json"
    if not path.is_file():
        pytest.fail("The worked Bundle is not at ../shared/data/homecare beside the repository", False)
    person = f'"type": "Patient", "identifier": {{"system": "{NHS}", "value": "{MRS_A}"}}'
    found = orjson.loads(path.read_text().replace('"reference": "Patient/p1"', person).replace("A1B2C", "K01"))
    assert isinstance(found, dict)
    return found


def _name(reference: Resource) -> str:
    """Whom or what a reference leads to, as the worked Bundle calls them."""
    value: str = reference.get("identifier", {}).get("value") or reference["reference"].rpartition("/")[2]
    return {MRS_A: "the person", A: "the person", "K01.CPLI-778": "pkg-line-1"}.get(value, value)


def _gist(resource: Resource) -> dict[str, Any]:
    """What a resource says of a visit, without what places it here (its id, profile, version) or is derived.

    Not told again: the length and lateness, which follow from times; home and episode, which the gateway knows of
    the person; when a task was asked for.
    """
    told = {name: resource.get(name) for name in ("status", "start", "end", "period", "intent", "code", "statusReason")}
    told["participants"] = [
        (_name(each.get("actor") or each["individual"]), each.get("period"), each.get("status"))
        for each in resource.get("participant", ())
    ]
    told["cancelled"] = [each["code"] for each in resource.get("cancelationReason", {}).get("coding", ())]
    told["why"] = resource.get("cancelationReason", {}).get("text")
    told["class"] = resource.get("class", {}).get("code")
    told["under"] = [_name(each) for each in resource.get("basedOn", ())]
    told["planned"] = len(resource.get("appointment", ())) + ("focus" in resource)
    told["made"] = "encounter" in resource
    who = ("subject", "for", "serviceProvider", "requester", "owner")
    return told | {name: _name(resource[name]) for name in who if name in resource}


async def test_the_worked_bundle_is_read_back_as_it_was_sent(connection: asyncpg.Connection, worked: Resource) -> None:
    sent = [READER.read(row, "K01", NOW) for _, row in bundle.rows(worked, "K01")]
    assert all(isinstance(each, Sent) for each in sent), sent
    found = await rendered(connection, *(each for each in sent if isinstance(each, Sent)))
    kinds = ("Appointment", "Encounter", "Task")
    expected = [each["resource"] for each in worked["entry"] if each["resource"]["resourceType"] in kinds]
    assert len(expected) == 6

    def by(each: Resource) -> tuple[str, str]:
        return each["resourceType"], each["identifier"][0]["value"]

    assert {by(each): _gist(each) for each, _ in found} == {by(each): _gist(each) for each in expected}
