"""The watch: an alert for each cause, once, when its moment comes; late data end it, nobody else does."""

import asyncio
import os
import signal
import sys
import textwrap
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhirgw.jobs.watch import Watch
from fhirgw.store.database import connect
from fhirgw.validation import validate
from fhirgw.visits.alert import spans
from tests.put import connected
from tests.visits.test_visits_alert import RULES, START, at, planned, stay
from tests.visits.visiting import MR_B, A, B, visit
from tests.visits.watching import look, send, tasks, told

BEFORE = START - timedelta(hours=2)


def minute(of: float) -> datetime:
    return START + timedelta(minutes=of)


def faults(task: Any) -> list[str | None]:
    """Where a Task breaks R4, UK Core's Task or our profile of it, which it claims."""
    return [each.expression for each in validate(task) if each.severity == "error"]


async def emptied(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "TRUNCATE fhirgw.visit, fhirgw.visit_said, fhirgw.visit_alert, fhirgw.visit_provider CASCADE;"
        "DELETE FROM fhirgw.resource WHERE type = 'Task'; DELETE FROM fhirgw.history WHERE type = 'Task'"
    )


@pytest.fixture(autouse=True)
async def nothing_yet(connection: asyncpg.Connection) -> None:
    await emptied(connection)


def row(id: str = "V1", version: int = 1, **parts: Any) -> dict[str, Any]:
    """What is said of a visit: only what is named."""
    plain = {
        name: value for name, value in visit(id, version=version).items() if name in ("visit", "version", "person")
    }
    return plain | parts


async def test_a_visit_that_nobody_begins_is_told_when_its_tolerance_is_over(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(**planned()), row("V2", **planned()))
    await send(connection, minute(3), row("V2", 2, carers=[stay("C1", 2)]))
    for when, expected in ((0, []), (14, []), (15, [("visit-not-started", "requested")])):
        await look(connection, minute(when))
        assert await told(connection) == expected
    assert await look(connection, minute(16)) == 0, "nothing is looked at twice"
    (task,) = await tasks(connection)
    assert faults(task) == []
    assert faults({name: task[name] for name in task if name != "owner"}) == ["Task.owner"]
    assert faults(task | {"code": {"text": "Something is wrong"}}) == ["Task.code"]
    assert (task["for"], task["priority"]) == ({"reference": f"Patient/{A}"}, "urgent")
    assert task["focus"]["reference"].startswith("Appointment/a1b")
    assert (task["executionPeriod"]["start"], task["businessStatus"]["text"]) == (
        at(15).replace("07:45:00+00:00", "08:45:00+01:00"),
        "Care provider's on-call",
    )


@pytest.mark.parametrize(
    ("since", "rows", "late", "expected", "after"),
    [
        ("15", [], row(version=2, carers=[stay("C1", 20)]), "visit-not-started", "completed"),
        ("15", [], row(version=2, carers=[stay("C1", 1, 30)]), "visit-not-started", "cancelled"),
        ("15", [], row(version=2, outcome={"code": "hospital"}), "visit-not-started", "cancelled"),
        (
            "16",
            [row(version=2, planned=planned(carers=2)["planned"]), row(version=3, carers=[stay("C1", 0)])],
            row(version=4, carer=stay("C2", 17)),
            "done-alone",
            "completed",
        ),
        ("91", [row(version=2, carers=[stay("C1", 0)])], row(version=3, carers=[stay("C1", 0, 29)]),
         "nobody-checked-out", "cancelled"),
    ],
)  # fmt: skip
async def test_late_data_end_an_alert_by_themselves(
    connection: asyncpg.Connection, since: str, rows: list[Any], late: Any, expected: str, after: str
) -> None:
    now = minute(int(since))
    await send(connection, BEFORE, row(**planned()))
    for each in rows:
        await send(connection, minute(2), each)
    await look(connection, now)
    assert (expected, "requested") in await told(connection)
    await send(connection, minute(100), late)
    await look(connection, minute(100))
    assert (expected, after) in await told(connection)
    versions = await connection.fetchval("SELECT count(*) FROM fhirgw.history WHERE type = 'Task'")
    assert versions >= 1, "what was, is kept"
    last = (await tasks(connection))[-1]
    assert faults(last) == []


async def test_a_medicine_that_was_missed_is_told_besides_and_more_urgently(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(**planned(type="medication")))
    await look(connection, minute(29))
    assert await told(connection) == [("visit-not-started", "requested")]
    await look(connection, minute(30))
    assert await told(connection) == [("medication-missed", "requested"), ("visit-not-started", "requested")]
    assert {each["priority"] for each in await tasks(connection)} >= {"stat"}


async def test_it_is_raised_anew_only_where_it_is_so_anew(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(**planned()))
    await look(connection, minute(15))
    await send(connection, minute(20), row(version=2, notes=[{"text": "Nobody knows"}]))
    await look(connection, minute(20))
    assert await told(connection) == [("visit-not-started", "requested")]
    await send(connection, minute(21), row(version=3, carers=[stay("C1", 20)]))
    await look(connection, minute(21))
    await send(connection, minute(25), row(version=4, carers=None))
    await look(connection, minute(25))
    assert await told(connection) == [("visit-not-started", "completed"), ("visit-not-started", "requested")]


async def test_an_alert_that_the_table_has_forgotten_keeps_nobody_from_the_next(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(**planned()))
    await look(connection, minute(15))
    await connection.execute("TRUNCATE fhirgw.visit_alert; UPDATE fhirgw.visit SET due = $$2026-03-30$$")
    await look(connection, minute(16))
    assert await told(connection) == [("visit-not-started", "requested")] * 2


async def test_what_somebody_has_closed_stays_closed(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(**planned()))
    await look(connection, minute(15))
    await connection.execute(
        'UPDATE fhirgw.resource SET body = replace(body, \'"status":"requested"\', \'"status":"completed"\')'
        " WHERE type = 'Task'"
    )
    await send(connection, minute(20), row(version=2, notes=[{"text": "Nobody knows"}]))
    await look(connection, minute(50))
    assert await told(connection) == [("visit-not-started", "completed")]


async def of_visits(connection: asyncpg.Connection) -> list[Any]:
    return [each for each in await tasks(connection) if "for" in each]


async def test_nobody_acknowledges_and_it_climbs(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(**planned()))
    seen = []
    for when in (15, 24, 25, 44, 45, 500):
        await look(connection, minute(when))
        (task,) = await of_visits(connection)
        seen.append(
            (task["businessStatus"]["coding"][0]["code"], task["priority"], task["owner"]["identifier"]["value"])
        )
    call, desk, boss = (
        ("provider-on-call", "urgent", "K01"),
        ("duty-desk", "asap", "Z99"),
        ("duty-manager", "stat", "Z99"),
    )
    assert seen == [call, call, desk, desk, boss, boss]
    assert [each["text"].split(":")[0] for each in task["note"]] == [
        "Raised to Care provider's on-call",
        "Not acknowledged",
        "Not acknowledged",
    ]
    assert "restriction" not in task


async def test_a_watch_that_was_away_takes_every_step_that_it_missed(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(**planned()))
    await look(connection, minute(15))
    await look(connection, minute(600))
    (task,) = await of_visits(connection)
    assert (task["businessStatus"]["coding"][0]["code"], len(task["note"])) == ("duty-manager", 3)


async def test_a_provider_of_whom_nothing_is_heard_is_an_alert_until_it_sends(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(**planned()))
    await look(connection, minute(59))
    assert "provider-silent" not in {kind for kind, _ in await told(connection)}
    await look(connection, minute(60))
    silent = next(each for each in await tasks(connection) if each["code"]["coding"][0]["code"] == "provider-silent")
    assert "for" not in silent and silent["focus"]["identifier"]["value"] == "K01"
    assert faults(silent) == []
    await send(connection, minute(70), row("V9", **planned()))
    await look(connection, minute(70))
    assert ("provider-silent", "completed") in await told(connection)


async def test_a_provider_without_visits_may_be_silent(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(outcome={"code": "hospital"}, **planned()))
    await look(connection, minute(600))
    assert await told(connection) == []


async def test_a_visit_that_moves_to_another_record_takes_its_alert_along(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(**planned()))
    await look(connection, minute(15))
    await connection.execute("UPDATE fhirgw.visit SET patient = $1, due = $2", B, minute(16))
    await look(connection, minute(16))
    assert [(each["for"]["reference"], each["status"]) for each in await tasks(connection)] == [
        (f"Patient/{A}", "cancelled"),
        (f"Patient/{B}", "requested"),
    ]


@pytest.mark.parametrize("how", ["DELETE FROM fhirgw.visit", "UPDATE fhirgw.visit SET patient = NULL"])
async def test_a_visit_that_is_no_more_has_no_open_alert(connection: asyncpg.Connection, how: str) -> None:
    await send(connection, BEFORE, row(**planned()), row("V2", **planned()))
    await look(connection, minute(16))
    await connection.execute(f"{how} WHERE visit = 'V1'")
    await look(connection, minute(17))
    found = sorted(await tasks(connection), key=lambda each: each["status"])
    assert [each["status"] for each in found] == ["cancelled", "requested"]
    assert found[0]["statusReason"]["coding"][0]["code"] == "gone"
    assert faults(found[0]) == []
    assert await connection.fetchval("SELECT count(*) FROM fhirgw.visit_alert WHERE ended IS NULL") == 1


async def test_whoever_is_told_of_an_alert_sees_nothing_more_by_it(connection: asyncpg.Connection) -> None:
    """The owner of a Task works with the person, and sees their record: of an alert that would be anybody named."""
    ties = "SELECT count(*) FROM fhirgw.relationship WHERE type = 'Task'"
    await send(connection, BEFORE, row(**planned()))
    await look(connection, minute(15))
    assert await connection.fetchval(ties) == 0


async def test_what_nobody_knows_whose_it_is_waits(connection: asyncpg.Connection) -> None:
    await send(connection, BEFORE, row(person={"nhsNumber": MR_B}, **planned()))
    assert (await look(connection, minute(20)), await told(connection)) == (1, []), "the care provider was listened to"
    await connection.execute("UPDATE fhirgw.visit SET patient = $1", B)
    await look(connection, minute(21))
    assert await told(connection) == [("visit-not-started", "requested")]


async def test_two_watches_raise_one_alert_each(connection: asyncpg.Connection, places: str) -> None:
    await send(connection, BEFORE, *[row(f"V{n}", **planned()) for n in range(250)])
    engine = connect(places, size=4)
    try:
        watches = [Watch(engine, RULES, lambda: minute(15)) for _ in range(3)]
        await asyncio.gather(*(each.look() for each in watches))
    finally:
        await engine.dispose()
    assert await told(connection) == [("visit-not-started", "requested")] * 250


KILLED = """
    import asyncio, os, signal, sys
    from datetime import datetime
    from fhirgw.jobs.watch import Watch
    from fhirgw.store import write
    from fhirgw.store.database import connect
    from tests.visits.test_visits_alert import RULES

    written = write.write

    async def dying(connection, origin, incoming):
        await written(connection, origin, incoming)
        os.kill(os.getpid(), signal.SIGKILL)

    write.write = dying
    now = datetime.fromisoformat(sys.argv[2])
    asyncio.run(Watch(connect(sys.argv[1]), RULES, lambda: now).look())
"""


async def test_killed_between_alert_and_commit_nothing_is_lost_and_nothing_twice(
    connection: asyncpg.Connection, places: str
) -> None:
    await send(connection, BEFORE, row(**planned()))
    script = textwrap.dedent(KILLED)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, places, minute(15).isoformat(), env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    assert await process.wait() == -signal.SIGKILL
    assert await told(connection) == []
    await look(connection, minute(16))
    assert await told(connection) == [("visit-not-started", "requested")]


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(
            [
                {"carers": [stay("C1", 2)]},
                {"carers": [stay("C1", 2, 30)]},
                {"carers": [stay("C1", 40, 70)]},
                {"carers": None},
                {"carer": stay("C2", 3, 30)},
                {"outcome": {"code": "hospital"}},
                {"outcome": None},
                planned(carers=2),
                planned(type="medication"),
            ]
        ),
        st.integers(80, 180),
    ),
    max_size=6,
)


@settings(max_examples=12)
@given(events=EVENTS, data=st.data())
async def test_looked_at_as_it_comes_is_what_is_known_from_scratch(
    places: str, events: list[tuple[int, Any, int]], data: st.DataObject
) -> None:
    """At each moment the open alerts are those of all that was said till then; in whatever order it was said."""
    connection = await connected(places)
    try:
        await emptied(connection)
        await send(connection, BEFORE, row("V0", **planned()), row("V1", **planned()))
        said: dict[str, dict[str, list[tuple[int, Any]]]] = {}
        arrivals = sorted(events, key=lambda each: each[2])
        versions = data.draw(st.permutations(range(2, 2 + len(arrivals))))
        for (n, parts, when), version in zip(arrivals, versions, strict=True):
            await send(connection, minute(when), row(f"V{n}", version, **parts))
            for name, value in parts.items():
                said.setdefault(f"V{n}", {}).setdefault(name, []).append((version, value))
            await look(connection, minute(when))
            assert await open_kinds(connection) == oracle(said, minute(when))
        await look(connection, minute(400))
        assert await open_kinds(connection) == oracle(said, minute(400))
    finally:
        await connection.close()


async def open_kinds(connection: asyncpg.Connection) -> set[tuple[str, str]]:
    rows = await connection.fetch(
        "SELECT v.visit, a.kind, t.body::json ->> 'status' AS status FROM fhirgw.visit_alert a"
        " JOIN fhirgw.visit v USING (key) JOIN fhirgw.resource t ON t.type = 'Task' AND t.id = a.id"
    )
    return {(each["visit"], each["kind"]) for each in rows if each["status"] == "requested"}


def oracle(said: dict[str, dict[str, list[tuple[int, Any]]]], now: datetime) -> set[tuple[str, str]]:
    """By hand: of each part the newest version counts, of a carer only what is newer than the list, and that nobody
    came only if nobody arrived in a newer one."""
    found = set()
    for id in ("V0", "V1"):
        parts = {"planned": planned()["planned"]}
        told = said.get(id, {})
        for name in ("planned", "carers", "outcome"):
            if name in told:
                parts[name] = max(told[name], key=lambda each: each[0])[1]
        listed = max((version for version, _ in told.get("carers", [])), default=0)
        single = [each for each in told.get("carer", []) if each[0] > listed]
        carers = [*(parts.get("carers") or ()), *([max(single, key=lambda each: each[0])[1]] if single else ())]
        arrived = max([listed] * bool(parts.get("carers")) + [version for version, _ in single], default=0)
        if arrived > max((version for version, _ in told.get("outcome", [])), default=0):
            parts["outcome"] = None
        found |= {(id, kind) for kind in wrong(parts | {"carers": carers}, now)}
    return found


def wrong(parts: dict[str, Any], now: datetime) -> set[str]:
    """What is wrong, asked as a person would, and by none of the code that is judged."""
    minutes = (now - START) / timedelta(minutes=1)
    if parts.get("outcome"):
        return set()

    def of(text: str) -> float:
        return (datetime.fromisoformat(text) - START) / timedelta(minutes=1)

    stays = sorted((of(each["start"]), of(each["end"]) if "end" in each else None) for each in parts["carers"])
    medicine, two = parts["planned"].get("type") == "medication", parts["planned"].get("carers") == 2
    if not stays:
        late = {"visit-not-started"} if minutes >= (10 if medicine else 15) else set()
        return late | ({"medication-missed"} if medicine and minutes >= 30 else set())
    found = set()
    (came, gone), *others = stays
    if two and not others and minutes >= min(came + 15, came + 15 if gone is None else gone):
        found.add("done-alone")
    if two and others and gone is not None and others[0][0] >= gone:
        found.add("done-alone")
    if any(end is None for _, end in stays) and minutes >= max(30, came + 30) + 60:
        found.add("nobody-checked-out")
    return found


def test_the_oracle_tells_right_from_wrong() -> None:
    assert wrong(planned() | {"carers": []}, minute(14)) == set()
    assert wrong(planned() | {"carers": []}, minute(15)) == {"visit-not-started"}
    assert set(spans(planned(), RULES)) == {"visit-not-started"}
