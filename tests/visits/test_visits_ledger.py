"""The ledger over HTTP, against a plain count of what was sent; who sees what of it; what its figures are made of."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from fhirgw.fhir.canonical import decode
from fhirgw.fhir.issue import Resource
from fhirgw.store.registration import Registration
from fhirgw.validation import validate
from fhirgw.visits.ledger import COLUMNS, FIGURES
from tests.gateway import Gateway
from tests.put import put, supersede
from tests.visits.ledger_oracle import ledger
from tests.visits.reckoned import COUNCIL, Dice, line, patient, person, tie
from tests.visits.visiting import HERON, KESTREL, NOBODY

PUSH, LEDGER = "/homecare/visits", "/homecare/ledger"
WEEKS = {"2025-W13": date(2025, 3, 24), "2025-W43": date(2025, 10, 20), "2025-W23": date(2025, 6, 2)}
"""Those in which the clocks change, on the Sunday; and one in which they do not."""
OLD = person(0xE00)
"""Somebody whom Kestrel looked after until lately."""
DISSENTING, IN_HOSPITAL, HELD, FORMULA = (person(0xD00 + each) for each in range(4))
WEEK, MONDAY = "2026-W05", date(2026, 1, 26)


def _world() -> list[Any]:
    gone = (datetime.now(UTC) - timedelta(days=3)).date().isoformat()
    people = [*(person(0x100 + each) for each in range(18)), DISSENTING, IN_HOSPITAL, HELD, FORMULA]
    ties = [tie(each, provider) for each in people for provider in ("kestrel", "heron")]
    ended = {"status": "finished", "period": {"start": "2025-01-01", "end": gone}}
    old = line("e0000000-1111-5000-8000-000000000000", OLD, "kestrel", "OLD-1", status="completed")
    old["occurrenceTiming"]["repeat"]["boundsPeriod"]["end"] = gone
    formula = line("d0300000-1111-5000-8000-000000000000", FORMULA, "kestrel", "=HYPERLINK(1)")
    return [
        *map(patient, [*people, OLD]),
        *ties,
        tie(OLD, "kestrel", **ended),
        old,
        *(
            line(f"{each[:3]}00000-1111-5000-8000-000000000000", each, "kestrel", f"P-{each[:3]}")
            for each in people[-4:-1]
        ),
        formula,
        *(record for dice in _dice().values() for record in dice.records),
    ]


def _dice() -> dict[str, Dice]:
    people = {name: [person(0x100 + at * 6 + each) for each in range(6)] for at, name in enumerate(WEEKS)}
    return {name: Dice(at, WEEKS[name], people[name]) for at, name in enumerate(WEEKS)}


@pytest.fixture(scope="module")
def besides() -> tuple[Resource, ...]:
    return tuple(_world())


@pytest.fixture(scope="module")
def clients(gateway: Gateway) -> Iterator[dict[str, httpx.Client]]:
    """By ODS code: the care providers' own, and the council's."""
    with gateway.client(KESTREL) as kestrel, gateway.client(HERON) as heron, gateway.client(COUNCIL) as council:
        yield {"K01": kestrel, "H01": heron, "Z99": council}


@pytest.fixture(scope="module")
def sent(clients: dict[str, httpx.Client]) -> dict[str, list[tuple[str, Any]]]:
    """What was pushed, week by week, as it is known."""
    told: dict[str, list[tuple[str, Any]]] = {}
    for name, dice in _dice().items():
        for provider in ("K01", "H01"):
            rows, known = dice.visits(provider, 150)
            answer = push(clients[provider], rows)
            assert answer["refused"] == answer["unallocated"] == 0, answer
            told.setdefault(name, []).extend((provider, each) for each in known)
    return told


def push(client: httpx.Client, rows: Any) -> Any:
    answer = client.post(PUSH, json=rows)
    assert answer.status_code == 200, answer.text
    return answer.json()


def asked(client: httpx.Client, week: str = WEEK, **parameters: str) -> Any:
    answer = client.get(LEDGER, params={"week": week, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def camel(name: str) -> str:
    """As JSON spells a figure."""
    first, *others = name.split("_")
    return first + "".join(each.title() for each in others)


def figures(rows: Any) -> dict[Any, dict[str, int]]:
    """Rows as the oracle has them: by person, provider and line, or what visits of none call it, what is not 0."""
    counted = [each for each in rows if each["kind"] != "unallocated"]
    whose = [(each["person"], each["provider"], each.get("line")) for each in counted]
    strange = [None if "line" in each else each.get("order") for each in counted]
    told = [{name: each[camel(name)] for name in FIGURES if each[camel(name)]} for each in counted]
    return {(*key, order): row for key, order, row in zip(whose, strange, told, strict=True)}


@pytest.mark.parametrize("week", WEEKS)
def test_the_ledger_is_what_a_plain_count_finds(
    clients: dict[str, httpx.Client], sent: dict[str, list[tuple[str, Any]]], week: str
) -> None:
    dice = _dice()[week]
    wanted = ledger(dice.lines, sent[week], dice.monday, datetime.now(UTC), {})
    council = asked(clients["Z99"], week, _count="1000")
    rows = [each for each in council["rows"] if each["person"] in dice.people]
    assert figures(rows) == wanted
    for provider in ("K01", "H01"):
        own = asked(clients[provider], week, _count="1000")["rows"]
        seen = [each for each in sent[week] if each[0] == provider]  # who told of a stay in hospital, of others nothing
        found = ledger(dice.lines, seen, dice.monday, datetime.now(UTC), {})
        theirs = {key: row for key, row in found.items() if key[1] == provider}
        assert figures(each for each in own if each["person"] in dice.people) == theirs
        assert {each["provider"] for each in own} == {provider}
    named = asked(clients["Z99"], week, provider="K01", _count="1000")["rows"]
    assert named == [each for each in council["rows"] if each["provider"] == "K01"]


def test_the_dice_show_every_figure(sent: dict[str, list[tuple[str, Any]]]) -> None:
    """But what is still to come: see test_what_is_to_come_is_neither_done_nor_missed."""
    found = [ledger(_dice()[week].lines, sent[week], WEEKS[week], datetime.now(UTC), {}) for week in WEEKS]
    assert {name for rows in found for row in rows.values() for name in row} == set(FIGURES) - {"pending_visits"}


def test_what_is_to_come_is_neither_done_nor_missed(clients: dict[str, httpx.Client]) -> None:
    push(clients["K01"], [visit("p1", IN_HOSPITAL, date(2098, 1, 7), carers=[])])
    (row,) = asked(clients["Z99"], "2098-W02", person=IN_HOSPITAL)["rows"]
    assert (row["plannedVisits"], row["pendingVisits"], row["missedVisits"]) == (1, 1, 0)


@pytest.mark.parametrize("week", ["2025-W13"])
def test_figures_lead_to_their_visits(
    clients: dict[str, httpx.Client], sent: dict[str, list[tuple[str, Any]]], week: str
) -> None:
    """Each row's counts are the counts of the visits that its trace lists."""
    rows = [each for each in asked(clients["Z99"], week, _count="1000")["rows"] if each["plannedVisits"]]
    assert rows
    for whose in {each["person"] for each in rows}:
        told = clients["Z99"].get(f"{LEDGER}/visits", params={"week": week, "person": whose}).json()
        for row in (each for each in rows if each["person"] == whose):
            own = [
                each
                for each in told["visits"]
                if each["provider"] == row["provider"]
                and each.get("line") == row.get("line")
                and ("line" in row or each.get("order") == row.get("order"))
            ]
            made = [each for each in own if each["came"] == "made"]
            assert row["deliveredVisits"] == len(made)
            assert row["plannedMinutes"] == sum(each.get("plannedMinutes", 0) for each in own)
            assert row["deliveredMinutes"] == sum(each.get("deliveredMinutes", 0) for each in made)
            assert row["claimedMinutes"] == sum(each.get("claimedMinutes", 0) for each in own)
            assert row["missedVisits"] == sum(each["came"] == "missed" for each in own)
            assert row["punctualVisits"] == sum(each["punctual"] for each in own)
            assert row["singleHandedVisits"] == sum(each["singleHanded"] for each in own)
            expected = [each for each in told["lines"] if each["line"] == row.get("line")]
            visits = [each for one in expected for each in one["expected"] if "suspended" not in each]
            assert row["commissionedVisits"] == len(visits)


def test_pages_and_csv_and_totals_agree(clients: dict[str, httpx.Client], sent: Any) -> None:
    for client in clients.values():
        whole = asked(client, "2025-W23", _count="1000")
        paged, page = [], asked(client, "2025-W23", _count="2")
        while True:
            paged += page["rows"]
            if "next" not in page:
                break
            page = client.get(page["next"]).json()
        assert paged == whole["rows"]
        answer = client.get(LEDGER, params={"week": "2025-W23"}, headers={"accept": "text/csv"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        table = list(csv.DictReader(io.StringIO(answer.text)))
        assert tuple(table[0]) == COLUMNS
        assert [each["person"] for each in table] == [each.get("person", "") for each in paged]
        for name in ("commissioned_minutes", "delivered_minutes", "claimed_minutes", "variance_minutes"):
            total = sum(int(each[name]) for each in table)
            assert total == sum(each[camel(name)] for each in paged) == whole["totals"][camel(name)]


def visit(id: str, whose: str, day: date, clock: str = "08:30", **more: Any) -> dict[str, Any]:
    """A visit that was made as it was planned, for half an hour."""
    start = f"{day.isoformat()}T{clock}"
    end = f"{start[:11]}{int(clock[:2]):02}:{int(clock[3:]) + 29:02}"
    made = {"carers": [{"carer": "C1", "start": start, "end": end}]} if "outcome" not in more else {}
    planned = {"start": start, "end": end}
    told = {"visit": id, "version": 1, "changed": "2026-03-01T00:00:00Z", "person": {"id": whose}}
    return told | {"planned": planned} | made | more


def test_hospital_suspends_what_is_expected_until_somebody_comes(clients: dict[str, httpx.Client], places: str) -> None:
    kestrel, council = clients["K01"], clients["Z99"]
    days = [MONDAY + timedelta(days=each) for each in range(7)]
    rows = [visit("h0", IN_HOSPITAL, days[0]), visit("h1", IN_HOSPITAL, days[1], outcome={"code": "hospital"})]
    push(kestrel, [*rows, visit("h2", IN_HOSPITAL, days[2], carers=[])])
    for client in (kestrel, council):  # both are told
        (row,) = asked(client, person=IN_HOSPITAL)["rows"]
        assert row["hospital"] == {"from": "2026-01-27T08:30:00+00:00", "restart": "awaited"}
        assert (row["commissionedVisits"], row["suspendedVisits"], row["suspendedMinutes"]) == (2, 12, 360)
        assert (row["missedVisits"], row["awayVisits"], row["deliveredVisits"]) == (0, 2, 1)
    (later,) = asked(council, "2026-W06", person=IN_HOSPITAL)["rows"]
    assert (later["commissionedVisits"], later["suspendedVisits"], later["hospital"]["restart"]) == (0, 14, "awaited")


async def test_a_discharge_starts_the_package_again(clients: dict[str, httpx.Client], places: str) -> None:
    kestrel, council = clients["K01"], clients["Z99"]
    whose, coding = person(0x100), {"system": f"{SYSTEM}/task-code", "code": "discharge-notice"}
    week, monday = "2026-W06", MONDAY + timedelta(days=7)
    await put(
        places,
        line("10000000-2222-5000-8000-000000000000", whose, "kestrel", "AGAIN"),
        {
            "resourceType": "Task",
            "id": "10000000-3333-5000-8000-000000000000",
            "status": "in-progress",
            "intent": "plan",
            "code": {"coding": [coding]},
            "for": {"reference": f"Patient/{whose}"},
            "restriction": {"period": {"end": "2026-02-05"}},
        },
    )
    push(kestrel, [visit("d0", whose, monday, outcome={"code": "hospital"})])

    def row() -> Any:
        return next(each for each in asked(council, week, person=whose)["rows"] if each.get("order") == "AGAIN")

    # Suspended from half past eight on Monday to the end of Thursday, the day of discharge: seven of eight visits.
    assert (row()["suspendedVisits"], row()["commissionedVisits"]) == (8, 6)
    stay = {"from": "2026-02-02T08:30:00+00:00", "to": "2026-02-06T00:00:00+00:00", "discharged": "2026-02-05"}
    assert row()["hospital"] == stay | {"restart": "due"}
    push(kestrel, [visit("d1", whose, monday + timedelta(days=4))])
    assert row()["hospital"] == stay | {"restart": "done"}


SYSTEM = "https://fhirgw.uk/fhir/CodeSystem"


async def test_a_line_on_hold_commissions_nothing_from_then_on(clients: dict[str, httpx.Client], places: str) -> None:
    id = f"{HELD[:3]}00000-1111-5000-8000-000000000000"
    (running,) = asked(clients["Z99"], person=HELD)["rows"]
    assert (running["commissionedVisits"], running["status"]) == (14, "active")
    before = line(id, HELD, "kestrel", f"P-{HELD[:3]}")
    noon = datetime(2026, 1, 28, 12, tzinfo=UTC)
    await supersede(places, before, {**before, "status": "on-hold"}, 2, noon)
    (held,) = asked(clients["Z99"], person=HELD)["rows"]
    assert (held["commissionedVisits"], held["suspendedVisits"], held["status"]) == (5, 9, "on-hold")
    await supersede(places, {**before, "status": "on-hold"}, before, 3, noon + timedelta(days=1))
    (again,) = asked(clients["Z99"], person=HELD)["rows"]
    assert (again["commissionedVisits"], again["suspendedVisits"]) == (12, 2)


def test_an_uncommissioned_visit_is_kept_by_itself(clients: dict[str, httpx.Client]) -> None:
    push(clients["H01"], [visit("u1", FORMULA, MONDAY)])
    push(clients["K01"], [visit("u2", FORMULA, MONDAY, line={"order": "not-yet"})])
    rows = asked(clients["Z99"], person=FORMULA)["rows"]
    told = [(each["kind"], each["provider"], each["deliveredVisits"]) for each in rows]
    assert told == [("uncommissioned", "H01", 1), ("commissioned", "K01", 0), ("uncommissioned", "K01", 1)]


async def test_a_line_that_appears_takes_its_visits(clients: dict[str, httpx.Client], places: str) -> None:
    """They are not sent again."""
    whose, week = person(0x101), "2026-W08"
    push(clients["K01"], [visit("late-line", whose, MONDAY + timedelta(days=21), line={"order": "not-yet-there"})])

    def kinds() -> list[tuple[str, int]]:
        rows = asked(clients["K01"], week, person=whose)["rows"]
        return [(each["kind"], each["deliveredVisits"]) for each in rows if each["deliveredVisits"]]

    assert kinds() == [("uncommissioned", 1)]
    await put(places, line(f"{whose[:3]}00000-4444-5000-8000-000000000000", whose, "kestrel", "not-yet-there"))
    assert kinds() == [("commissioned", 1)]


def test_visits_of_nobody_are_their_senders_and_the_councils(clients: dict[str, httpx.Client]) -> None:
    push(clients["H01"], [visit("n1", "", MONDAY, person={"nhsNumber": NOBODY})])
    for code, wanted in (("H01", 1), ("Z99", 1), ("K01", 0)):
        rows = [each for each in asked(clients[code])["rows"] if each["kind"] == "unallocated"]
        assert [each["plannedVisits"] for each in rows] == [1] * wanted, code


async def test_who_is_hidden_is_in_no_row_and_no_total(clients: dict[str, httpx.Client], places: str) -> None:
    kestrel, week = clients["K01"], "2026-W07"
    push(kestrel, [visit("x1", DISSENTING, MONDAY + timedelta(days=14))])
    before = asked(kestrel, week, _count="1000")
    assert DISSENTING in {each["person"] for each in before["rows"]}
    rule = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]}
    whose = {"reference": f"Patient/{DISSENTING}"}
    consent = {"resourceType": "Consent", "id": "no", "status": "active", "patient": whose, "policyRule": rule}
    await put(places, consent)
    after = asked(kestrel, week, _count="1000")
    gone = [each for each in before["rows"] if each["person"] == DISSENTING]
    assert after["rows"] == [each for each in before["rows"] if each["person"] != DISSENTING]
    for name in ("commissionedMinutes", "deliveredVisits"):
        assert after["totals"][name] == before["totals"][name] - sum(each[name] for each in gone)
    assert DISSENTING not in kestrel.get(LEDGER, params={"week": week, "_format": "csv"}).text
    assert asked(kestrel, week, person=DISSENTING)["rows"] == []
    trace = kestrel.get(f"{LEDGER}/visits", params={"week": week, "person": DISSENTING}).json()
    assert (trace["lines"], trace["visits"]) == ([], [])
    assert asked(clients["Z99"], week, person=DISSENTING)["rows"], "the council keeps its own record"


def test_a_package_that_has_ended_is_in_the_councils_ledger_alone(clients: dict[str, httpx.Client]) -> None:
    """The grace for late visits is for sending them."""
    (row,) = asked(clients["Z99"], person=OLD)["rows"]
    assert (row["order"], row["commissionedVisits"]) == ("OLD-1", 14)
    assert asked(clients["K01"], person=OLD)["rows"] == []


def test_no_cell_is_a_formula(clients: dict[str, httpx.Client]) -> None:
    text = clients["Z99"].get(LEDGER, params={"week": WEEK, "person": FORMULA, "_format": "csv"}).text
    assert "'=HYPERLINK(1)" in text
    assert ",=HYPERLINK" not in text
    assert ",-420," in text, "a number below 0 is none"


def test_what_was_changed_since_is_told_alone(clients: dict[str, httpx.Client], sent: Any) -> None:
    dice = _dice()["2025-W43"]
    rows = asked(clients["Z99"], "2025-W43", _count="1000")["rows"]
    (row, *_) = [each for each in sent["2025-W43"] if each[0] == "K01" and each[1].get("planned")]
    since = datetime.now(UTC).isoformat()
    assert asked(clients["Z99"], "2025-W43", _since=since)["rows"] == []
    push(clients["K01"], [row[1] | {"version": 9, "claimed": {"start": row[1]["planned"]["start"], "minutes": 99}}])
    changed = asked(clients["Z99"], "2025-W43", _since=since)["rows"]
    whose = row[1]["person"]["id"]
    assert {each["person"] for each in changed} == {whose}
    assert len(changed) == len([each for each in rows if each["person"] == whose])
    assert whose in dice.people


def test_it_is_audited_by_whom_it_names(gateway: Gateway, clients: dict[str, httpx.Client]) -> None:
    id = str(uuid4())
    clients["K01"].get(LEDGER, params={"week": WEEK, "person": FORMULA}, headers={"x-request-id": id})
    with gateway.client(Registration("auditor-ledger", "Z99", "system/AuditEvent.rs", sector="council")) as auditor:
        found = auditor.get("/fhir/AuditEvent", params={"patient": f"Patient/{FORMULA}", "_count": "5"}).json()
    line = f"{FORMULA[:3]}00000-1111-5000-8000-000000000000"
    assert any(id in str(each) and line in str(each) for each in found["entry"])


def test_a_copy_of_very_many_is_audited_as_that(
    gateway: Gateway, clients: dict[str, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fhirgw.api.visit_ledger.MOST_NAMED", 1)
    id = str(uuid4())
    clients["Z99"].get(LEDGER, params={"week": WEEK, "_format": "csv"}, headers={"x-request-id": id})
    with gateway.client(Registration("auditor-copy", "Z99", "system/AuditEvent.rs", sector="council")) as auditor:
        found = auditor.get("/fhir/AuditEvent", params={"_count": "3"}).json()["entry"]
        (told,) = [each["resource"] for each in found if id in str(each)]
        assert "Patient/" not in str(told["entity"]), "nobody is named, because everybody was looked at"
        looked = auditor.get(f"/fhir/Patient/{FORMULA}/$who-looked").json()
    assert any(id in str(each) for each in looked["entry"]), "each of them is told of it"


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({}, 200),
        ({"week": "2026-40"}, 400),
        ({"week": "2026-W60"}, 400),
        ({"week": WEEK, "person": "a b"}, 400),
        ({"week": WEEK, "person": f"Patient/{FORMULA}"}, 200),
        ({"week": WEEK, "provider": "no code"}, 400),
        ({"week": WEEK, "_cursor": "a b"}, 400),
        ({"week": WEEK, "_since": "lately"}, 400),
        ({"week": WEEK, "_since": "2026-01-01", "person": FORMULA}, 400),
        ({"week": WEEK, "week ": WEEK}, 400),
        ({"week": WEEK, "name": "Smith"}, 400),
        ({"week": WEEK, "_count": "0"}, 400),
        ({"week": WEEK, "_format": "xml"}, 406),
        ({"week": WEEK, "_count": "1"}, 200),
    ],
)
def test_what_is_asked_wrongly_is_told(clients: dict[str, httpx.Client], parameters: Any, status: int) -> None:
    answer = clients["Z99"].get(LEDGER, params=parameters)
    assert answer.status_code == status
    assert "Smith" not in answer.text


@pytest.mark.parametrize(
    ("registered", "provider", "status"),
    [
        (KESTREL, "K01", 200),
        (KESTREL, "H01", 403),
        (Registration("trust-ledger", "R99", "system/*.rs"), None, 403),
        (Registration("half-ledger", "K01", "system/Encounter.rs", sector="care-provider"), None, 403),
        (
            Registration(
                "part-ledger",
                "K01",
                "system/Encounter.rs?status=finished system/Appointment.rs system/ServiceRequest.rs",
                sector="care-provider",
            ),
            None,
            403,
        ),
    ],
    ids=["own", "another's", "no party", "not all", "a part"],
)
def test_it_is_between_the_council_and_the_provider(
    gateway: Gateway, registered: Registration, provider: str | None, status: int
) -> None:
    with gateway.client(registered) as client:
        query = {"week": WEEK} | ({"provider": provider} if provider else {})
        assert client.get(LEDGER, params=query).status_code == status


MEASURE = "/fhir/Measure/homecare-week/$evaluate-measure"
PERIOD = {"periodStart": "2025-03-24", "periodEnd": "2025-03-30"}


def test_a_week_is_a_measure_report(clients: dict[str, httpx.Client], sent: Any) -> None:
    """Sound by our own validator, and its counts the ledger's: of a person, of a care provider, of all."""
    council = clients["Z99"]
    whole = asked(council, "2025-W13", _count="1000")
    whose = max(whole["rows"], key=lambda each: each["deliveredVisits"])["person"]
    for more, kind, told in (
        ({"subject": f"Patient/{whose}"}, "individual", asked(council, "2025-W13", person=whose)),
        ({"reporter": "Organization/kestrel"}, "summary", asked(council, "2025-W13", provider="K01", _count="1000")),
        ({"reporter": "H01"}, "summary", asked(council, "2025-W13", provider="H01", _count="1000")),
        ({}, "summary", whole),
    ):
        answer = council.get(MEASURE, params=PERIOD | more)
        assert answer.status_code == 200, answer.text
        report = answer.json()
        assert [each for each in validate(decode(answer.text)) if each.severity in ("error", "warning")] == []
        assert (report["type"], report["measure"]) == (kind, "https://fhirgw.uk/fhir/Measure/homecare-week|0.1.0")
        groups = {each["code"]["coding"][0]["code"]: each for each in report["group"]}
        missed = {each["code"]["coding"][0]["code"]: each["count"] for each in groups["visits-missed"]["population"]}
        totals = told["totals"]
        assert missed == {"denominator": totals["plannedVisits"], "numerator": totals["missedVisits"]}
        assert groups["punctuality"]["measureScore"]["value"] == totals["punctuality"]
    posted = {"resourceType": "Parameters", "parameter": [{"name": n, "valueDate": v} for n, v in PERIOD.items()]}
    assert council.post(MEASURE, json=posted).json()["group"] == report["group"]


def test_the_measure_is_carried(clients: dict[str, httpx.Client]) -> None:
    measure = clients["K01"].get("/fhir/Measure/homecare-week").json()
    named = {one["criteria"]["expression"] for each in measure["group"] for one in each["population"]}
    assert named <= set(FIGURES)
    assert [each for each in validate(measure) if each.severity in ("error", "warning")] == []
    assert clients["K01"].get("/fhir/Measure?name=HomecareWeek").json()["total"] == 1


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"periodEnd": "2025-03-31"}, 400),
        ({"periodStart": "2025-03"}, 400),
        ({"subject": "Patient/a b"}, 400),
        ({"reporter": "Organization/nobody"}, 400),
        ({"reportType": "subject-list"}, 400),
        ({"measure": "other"}, 400),
        ({"reportType": "summary"}, 200),
    ],
)
def test_a_measure_asked_for_wrongly(clients: dict[str, httpx.Client], given: dict[str, str], status: int) -> None:
    assert clients["Z99"].get(MEASURE, params=PERIOD | given).status_code == status


def test_a_measure_is_no_way_round_the_ledger(gateway: Gateway, clients: dict[str, httpx.Client]) -> None:
    assert clients["K01"].get(MEASURE, params=PERIOD | {"reporter": "H01"}).status_code == 403
    with gateway.client(Registration("trust-measure", "R99", "system/*.rs")) as trust:
        assert trust.get(MEASURE, params=PERIOD).status_code == 403
