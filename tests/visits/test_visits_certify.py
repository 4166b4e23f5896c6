"""Certification: who sends the samples as they are described passes; of each one sent wrongly it is said what is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import yaml
from typer.testing import CliRunner, Result

from fhirgw.cli.commands import app
from fhirgw.cli.running import CommandError
from fhirgw.visits.certify import Cases, cases
from tests.gateway import Gateway
from tests.put import connected
from tests.visits.visiting import HERON, KESTREL, MR_B, MRS_A

MAPPINGS = Path(__file__).parents[2] / "mappings"
PUSH, CERTIFICATION = "/homecare/visits", "/homecare/certification"
FIRST, SECOND = "2026-03-02", "2026-03-03"
MRS = {"person": {"nhsNumber": MRS_A}}


def at(clock: str, day: str = FIRST) -> str:
    return f"{day}T{clock}"


def planned(start: str, end: str, **more: Any) -> dict[str, Any]:
    return {"planned": {"start": start, "end": end, **more}}


def carer(start: str, end: str, name: str = "C1") -> dict[str, Any]:
    return {"carer": name, "start": start, "end": end, "method": "nfc-tag"}


def came(day: str, start: str, end: str, arrived: str, left: str, **parts: Any) -> dict[str, Any]:
    """A visit by one carer, all of it on a day."""
    return {**planned(at(start, day), at(end, day)), "carers": [carer(at(arrived, day), at(left, day))], **parts}


def nobody(start: str, end: str, code: str) -> dict[str, Any]:
    return {**planned(at(start), at(end)), "outcome": {"code": code, "reason": "As the sample says"}}


TASKS = [{"task": "T1", "outcome": "completed"}, {"task": "T2", "outcome": "not-completed", "reason": "Asleep"}]
MEDICINE = {"medicine": "Paracetamol 500 mg", "outcome": "given", "at": at("12:05", SECOND)}
DAWN, DARK = "2025-10-26T00:30:00+01:00", "2025-10-26T01:30:00+00:00"

PERFECT: dict[str, list[dict[str, Any]]] = {
    "on-time": [came(FIRST, "08:00", "08:30", "08:02", "08:31")],
    "late": [came(FIRST, "09:00", "09:30", "09:40", "10:10")],
    "short": [came(FIRST, "10:00", "10:30", "10:00", "10:12")],
    "double-up": [
        planned(at("11:00"), at("11:30"), carers=2)
        | {"carers": [carer(at("11:00"), at("11:30")), carer(at("11:05"), at("11:30"), "C2")]}
    ],
    "double-up-alone": [
        planned(at("12:00"), at("12:30"), carers=2) | {"carers": [carer(at("12:00"), at("12:30"))]},
    ],
    "missed": [nobody("13:00", "13:30", "missed-by-provider")],
    "early": [came(FIRST, "17:00", "17:30", "16:30", "17:00")],
    "overrun": [came(FIRST, "18:00", "18:30", "18:00", "19:00")],
    "no-reply": [came(FIRST, "14:00", "14:30", "14:00", "14:08", outcome={"code": "no-reply"})],
    "refused-at-door": [
        came(FIRST, "14:30", "15:00", "14:31", "14:35", outcome={"code": "refused-by-person", "reason": "Not today"})
    ],
    "cancelled-with-notice": [nobody("15:00", "15:30", "cancelled-by-person-notice")],
    "cancelled-at-short-notice": [nobody("15:30", "16:00", "cancelled-by-person-short-notice")],
    "hospital": [nobody("16:00", "16:30", "hospital")],
    "midnight": [
        planned(at("23:30"), at("00:30", SECOND)) | {"carers": [carer(at("23:30"), at("00:30", SECOND))]},
    ],
    "summer": [came("2026-06-01", "08:00", "08:30", "08:00", "08:30")],
    "clocks-go-back": [planned(DAWN, DARK) | {"carers": [carer(DAWN, DARK)]}],
    "time-that-was-not": [planned("2026-03-29T01:30", "2026-03-29T02:30")],
    "roster-first": [
        planned(at("08:00", SECOND), at("08:30", SECOND)),
        {"carers": [carer(at("08:00", SECOND), at("08:30", SECOND))]},
    ],
    "rostered": [
        {
            **planned(at("08:30", SECOND), at("09:00", SECOND), carers=2, rostered=["C1", "C2"]),
            "carers": [carer(at("08:30", SECOND), at("09:00", SECOND), name) for name in ("C1", "C3")],
        }
    ],
    "correction": [
        came(SECOND, "09:00", "09:30", "09:00", "09:20"),
        came(SECOND, "09:00", "09:30", "09:00", "09:30"),
    ],
    "sent-again": [came(SECOND, "10:00", "10:30", "10:00", "10:30")],
    "withdrawn": [
        planned(at("11:00", SECOND), at("11:30", SECOND)),
        {"outcome": {"code": "entered-in-error"}},
    ],
    "medication": [
        {
            **planned(at("12:00", SECOND), at("12:30", SECOND), timeCritical=True),
            "carers": [carer(at("12:00", SECOND), at("12:30", SECOND))],
            "medication": [MEDICINE],
        }
    ],
    "medicine-by-its-code": [
        came(
            *(SECOND, "12:30", "13:00", "12:30", "13:00"),
            medication=[{**MEDICINE, "dmd": "322236009", "at": at("12:35", SECOND)}],
        )
    ],
    "task-not-done": [came(SECOND, "13:00", "13:30", "13:00", "13:30", tasks=TASKS)],
    "out-of-order": [
        came(SECOND, "14:00", "14:30", "14:00", "14:20"),
        came(SECOND, "14:00", "14:30", "14:00", "14:30"),
    ],
}
"""What a system would send that does all as described, by hand: each thing it says of a visit, in its order."""


def rows(name: str, whose: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    """A sample's rows, under an id that says nothing of it."""
    id = f"rota-{list(PERFECT).index(name):03}"
    told = [{"visit": id, "version": n, **whose, **each, **changes} for n, each in enumerate(PERFECT[name], 1)]
    return told[::-1] if name == "out-of-order" else told


def send(client: httpx.Client, told: list[dict[str, Any]]) -> None:
    for each in told:
        assert client.post(PUSH, json=[each]).status_code == 200


@pytest.fixture(scope="module")
def kestrel(gateway: Gateway) -> Iterator[httpx.Client]:
    """Sends every sample as it is described."""
    with gateway.client(KESTREL) as client:
        for name in PERFECT:
            send(client, rows(name, MRS))
        send(client, rows("sent-again", MRS))
        yield client


def states(client: httpx.Client, query: str = "") -> dict[str, Any]:
    answer = client.get(f"{CERTIFICATION}{query}")
    assert answer.status_code == 200, answer.text
    return {each["case"]: each for each in answer.json()["cases"]}


def test_there_is_a_sample_for_each_case() -> None:
    assert [each.case for each in cases(MAPPINGS).cases] == list(PERFECT)


def test_a_system_that_does_as_described_passes(kestrel: httpx.Client) -> None:
    found = states(kestrel)
    assert {name: each.get("wrong") for name, each in found.items() if each["state"] != "right"} == {}
    assert kestrel.get(CERTIFICATION).json()["passes"] is True


def test_nothing_that_came_before_counts(kestrel: httpx.Client) -> None:
    """Nor anything of another's."""
    assert {each["state"] for each in states(kestrel, "?since=2099-01-01T00:00Z").values()} == {"missing"}
    assert kestrel.get(f"{CERTIFICATION}?since=now").status_code == 400


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "on-time": ({"carers": [{**carer(at("08:02"), at("08:31")), "method": None}]}, "carers.method is not filled in"),
    "late": ({"carers": [carer(at("09:00"), at("09:30"))]}, "It came to delivered, and not to delivered-late"),
    "short": ({"carers": [{"carer": "C1", "start": at("10:00")}]}, "It has no end, and not 12"),
    "double-up": ({"carers": [carer(at("11:00"), at("11:30"))]}, "Carers who came: 1, and not 2"),
    "double-up-alone": (planned(at("12:00"), at("12:30")), "planned.carers is not 2"),
    "missed": ({"outcome": {"code": "missed-by-provider"}}, "outcome.reason is not filled in"),
    "early": ({"carers": [carer(at("17:00"), at("17:30"))]}, "It does not show: early-start"),
    "overrun": ({"carers": [carer(at("18:00"), at("18:30"))]}, "It took 30 minutes, and not 60"),
    "refused-at-door": ({"outcome": {"code": "refused-by-person"}}, "outcome.reason is not filled in"),
    "cancelled-at-short-notice": (
        {"outcome": {"code": "cancelled-by-person-notice", "reason": "Away"}},
        "It came to cancelled-by-person-notice, and not to cancelled-by-person-short-notice",
    ),
    "rostered": (planned(at("08:30", SECOND), at("09:00", SECOND), carers=2), "planned.rostered is not filled in"),
    "medicine-by-its-code": (
        {"medication": [{**MEDICINE, "at": at("12:35", SECOND)}]},
        "medication.dmd is not filled in",
    ),
    "no-reply": ({"outcome": None}, "It came to delivered-short, and not to no-reply"),
    "hospital": ({"person": {"nhsNumber": MRS_A}}, "It is in nobody's record"),
    "midnight": ({"carers": [carer(at("23:30"), at("23:59"))]}, "It took 29 minutes, and not 60"),
    "medication": ({"medication": [{**MEDICINE, "outcome": "refused"}]}, "medication.outcome is not given"),
    "task-not-done": ({"tasks": TASKS[:1]}, "It does not show: missed-tasks"),
}


def test_what_is_wrong_is_said_in_words_with_its_remedy(gateway: Gateway, kestrel: httpx.Client) -> None:
    with gateway.client(HERON) as heron:
        assert {each["state"] for each in states(heron).values()} == {"missing"}, "Kestrel's are none of Heron's"
        for name, (change, _) in WRONG.items():
            send(heron, rows(name, {"person": {"nhsNumber": MR_B}}, **change))
        for name in ("roster-first", "correction", "out-of-order"):  # only one thing of two
            send(heron, rows(name, {"person": {"nhsNumber": MR_B}})[:1])
        twice = [{**each, "visit": id} for id in ("x1", "x2") for each in rows("sent-again", {})]
        send(heron, twice)
        utc = {"planned": {"start": "2026-06-01T08:00Z", "end": "2026-06-01T08:30Z"}}
        send(heron, [{"visit": "x3", "person": {"nhsNumber": MR_B}, **utc}, {"visit": "x4", "planned": {}}])
        found = states(heron)
    for name, (_, told) in WRONG.items():
        assert found[name]["state"] == "wrong"
        assert told in [each["what"] for each in found[name]["wrong"]], (name, found[name]["wrong"])
        assert all(each["remedy"] for each in found[name]["wrong"])
    said = {name: " ".join(each["what"] for each in found[name]["wrong"]) for name in ("correction", "out-of-order")}
    assert "Nothing of it was corrected" in said["correction"]
    assert "It arrived in the order" in said["out-of-order"]
    assert "was said of it 1 times" in found["roster-first"]["wrong"][-1]["what"]
    assert found["sent-again"]["wrong"][0]["what"] == "2 visits are planned for this time"
    assert (found["summer"]["state"], found["summer"]["visit"]) == ("wrong", "x3")
    assert (
        "an hour after this time" in found["summer"]["wrong"][0]["what"]
        and "+01:00" in found["summer"]["wrong"][0]["remedy"]
    )
    refused = found["clocks-go-back"]["wrong"][-1]
    assert refused["what"].endswith(": required") and "/homecare/submissions" in refused["remedy"]
    assert (found["clocks-go-back"]["state"], found["time-that-was-not"]["state"]) == ("missing", "missing")
    assert {each["state"] for each in states(kestrel).values()} == {"right"}, "nobody else's samples are touched"


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["homecare", *arguments])


def failed(result: Result) -> int:
    assert isinstance(result.exception, CommandError), result.output
    return result.exception.code


async def test_whoever_runs_the_sandbox_sees_the_same(
    kestrel: httpx.Client, places: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FHIRGW_DATABASE_URL", places)
    monkeypatch.setenv("FHIRGW_DATA", str(tmp_path))
    monkeypatch.setenv("FHIRGW_CONTROLLER", "Z99")
    passed = _apart("certify", "--provider", "K01", "--json")
    assert passed.exit_code == 0, passed.output
    assert {each["state"] for each in orjson.loads(passed.stdout)["cases"]} == {"right"}
    missing = _apart("certify", "--provider", "X99")
    assert failed(missing) == 9
    assert "0 of 26 samples arrived right" in missing.stdout
    connection = await connected(places)
    try:
        audited = "SELECT count(*) FROM fhirgw.audited WHERE body LIKE '%homecare-certify%'"
        assert await connection.fetchval(audited) == 2
    finally:
        await connection.close()


def _apart(*arguments: str) -> Result:
    """The command in a thread, for it runs an event loop of its own; signals stay where they are."""
    from concurrent.futures import ThreadPoolExecutor
    from unittest.mock import patch

    with ThreadPoolExecutor(1) as pool, patch("fhirgw.cli.running.listen"):
        return pool.submit(command, *arguments).result()


HEADER = "Visit,NHS number,Date,Planned start,Planned end,Carer,Arrived,Left,How,Order\n"


def test_a_file_is_judged_before_it_is_sent(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    line = "V{},9990000018,30/03/2026,07:30,08:00,C1,07:31,08:01,Tag,L1\n"
    good.write_text(HEADER + line.format(1))
    bad.write_text(HEADER + line.format(1) + line.format(2).replace("0018", "0019").replace("L1", ""))
    passed = command("certify", "--file", str(good), "--json")
    assert passed.exit_code == 0, passed.output
    told = orjson.loads(passed.stdout)
    assert (told["rows"], told["refused"], told["receipts"]) == (1, 0, [])
    assert "medication.outcome" in told["unused"]
    assert not {"carers.method", "line.order", "person.nhsNumber"} & set(told["unused"])
    refused = command("certify", "--file", str(bad))
    assert failed(refused) == 9
    assert "NHS number" in refused.stdout
    assert "9990000019" not in refused.stdout, "no value is told again"
    assert "2 rows: 1 would be taken, 1 refused." in refused.stdout


@pytest.mark.parametrize("ending", ["json", "ndjson"])
def test_other_kinds_of_files_are_judged(ending: str, tmp_path: Path) -> None:
    told = [each for name in ("on-time", "roster-first", "hospital") for each in rows(name, MRS)]
    file = tmp_path / f"their.{ending}"
    file.write_text(json.dumps(told) if ending == "json" else "\n".join(map(json.dumps, told)))
    passed = command("certify", "--file", str(file), "--json")
    assert passed.exit_code == 0, passed.output
    found = orjson.loads(passed.stdout)
    assert (found["rows"], found["incomplete"]) == (4, {"line.order": 2})
    file.write_bytes(file.read_bytes().replace(b"07:30", b"07:30").replace(b'"version": 1', b'"version": -1'))
    assert failed(command("certify", "--file", str(file))) == 9


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("--provider", "no code"), 2),
        (("--provider", "K01", "--since", "yesterday"), 2),
        (("--file", "their.xls"), 2),
        (("--file", "their.csv", "--layout", "abacos"), 2),
        (("--file", "nowhere.csv"), 3),
    ],
)
def test_what_is_asked_wrongly_is_said(arguments: tuple[str, ...], code: int) -> None:
    assert failed(command("certify", *arguments)) == code


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given["remedies"].pop("minutes"),
        lambda given: given["cases"][0].pop("at"),
        lambda given: given["cases"][0].update(at=given["cases"][1]["at"]),
        lambda given: given["cases"][0]["expect"].update(weather="fine"),
    ],
)
def test_samples_that_are_none_are_said(change: Any) -> None:
    given = yaml.safe_load((MAPPINGS / "homecare/certification/cases.yaml").read_text())
    assert Cases.model_validate(given)
    change(given)
    with pytest.raises(ValueError):
        Cases.model_validate(given)
