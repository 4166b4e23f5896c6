"""What visits are rendered as: sound FHIR that says what was said, found by what our own index finds in it."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.index import index
from fhirgw.fhir.issue import Resource
from fhirgw.store.schema import RENDERED
from fhirgw.store.visits import Provider, take
from fhirgw.validation import validate
from fhirgw.visits import bundle
from fhirgw.visits.reading import Reader, Sent
from fhirgw.visits.rules import rules
from tests.conftest import NewDatabase
from tests.put import connected
from tests.visits.visiting import MRS_A, A, county

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
STAYS = PERIODS | PERIODS.map(lambda each: {"start": each["start"]}) | st.just({})
CARER = st.builds(
    lambda stay, rest: {**rest, **stay},
    STAYS,
    _some({"carer": SOMEBODY}, method=METHODS, endMethod=METHODS, distance=st.integers(0, 999)),
)
TASK = _some({"task": NAMES, "reason": WORDS}, text=WORDS, outcome=st.sampled_from(RULES.tasks), carer=SOMEBODY)
PARTS = _some(
    {},
    line=_some({"order": NAMES}),
    planned=st.builds(
        lambda period, rest: {**period, **rest},
        PERIODS,
        _some({}, carers=st.integers(1, 3), type=NAMES, timeCritical=st.booleans()),
    ),
    carers=_each(CARER, "carer"),
    claimed=_some({"start": TIMES, "minutes": st.integers(0, 90)}),
    outcome=_some({"code": st.sampled_from(sorted(RULES.outcomes))}, reason=WORDS),
    tasks=_each(TASK, "task"),
    medication=st.lists(
        _some(
            {"medicine": WORDS, "outcome": st.sampled_from(RULES.support)},
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
        _some(
            {"name": WORDS, "value": st.decimals("-999", "999", places=2) | st.integers(-9, 9)},
            unit=WORDS,
            at=TIMES,
            carer=SOMEBODY,
        ),
        max_size=2,
    ),
    amended=_some({"by": NAMES, "reason": WORDS}, at=TIMES),
)


@pytest.fixture(scope="module")
async def connection(new_database: NewDatabase) -> AsyncIterator[asyncpg.Connection]:
    async with new_database() as url:
        await county(url)
        connection = await connected(url)
        try:
            yield connection
        finally:
            await connection.close()


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
            await take(connection, KESTREL, [each], NOW)
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
        (profile,) = resource["meta"]["profile"]
        wrong = [each for each in validate(resource, [profile]) if each.severity in ("error", "fatal")]
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
    kept = {**said} if came else {name: value for name, value in said.items() if name != "carers"}
    assert encode(_sorted(whole.said.parts)) == encode(_sorted(kept))


def _sorted(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts, and their tasks, which resources are in no order of, by name."""
    tasks = {"tasks": sorted(parts["tasks"], key=lambda each: each["task"])} if "tasks" in parts else {}
    return dict(sorted({**parts, **tasks}.items()))


def _is_found_by_its_own(resource: Resource, row: asyncpg.Record) -> None:
    """What the view says a resource is found by is what its body would be indexed by, were it stored."""
    own = index(resource)
    assert (row["type"], row["id"], row["patient"]) == (resource["resourceType"], resource["id"], own.patient)
    assert row["updated"].isoformat(timespec="milliseconds") == resource["meta"]["lastUpdated"].replace("Z", "+00:00")
    assert str(row["version"]) == resource["meta"]["versionId"]
    assert sorted(row["tokens"]) == sorted(own.tokens), resource
    assert row["present"] == own.present, resource
    dates = [each or (None, None) for each in own.dates]
    assert [(row[f"date{at}_low"], row[f"date{at}_high"]) for at in range(1, 5)] == dates, resource
    assert own.strings == own.spans == []
    beside = orjson.loads(row["beside"]) if row["beside"] else {"numbers": []}
    numbers = [(each["place"], each["low"], each["high"], None, None, each.get("unit")) for each in beside["numbers"]]
    expected = [(place, float(low), float(high), *rest) for place, low, high, *rest in (n[:6] for n in own.numbers)]
    assert [(place, float(low), float(high), *rest) for place, low, high, *rest in numbers] == expected
    assert all(each["tokens"] == [] for each in beside["numbers"]) and all(not each[6] for each in own.numbers)
