"""Visits as they are stored: a row each, joined of all that was said of it, by one statement for a batch.

A batch reads what is known of its visits, joins what it says (fhirgw.visits.batch, which is pure) and writes back, if
nobody has changed one of them since; if somebody has, nothing is kept and all of it is joined anew. Whatever is locked
is locked in the order of the keys, so nobody waits for another who waits; who was first makes no difference. Before it,
the people whose visits they are: who takes a number or a record away meanwhile waits for the batch, or the batch for
them, and then it is asked anew whose the visits are (alembic's 0042).

What was said is kept: of a visit that one row spoke of, the row is that; the first that says more brings both into
`visit_said`. A visit of somebody whom its care provider does not look after, or whom nobody knows, is kept all the
same, in nobody's record: which of the two it is, is not told.

Long, because a third of it is SQL and its columns; whose visits are stands in fhirgw.store.visit_whose.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import chain, starmap
from typing import Any, NamedTuple, TypeVar

import asyncpg
import orjson

from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import visit_stays, visit_whose
from fhirgw.store.database import Connection
from fhirgw.store.visit_lines import LINELESS, NOT_YET, Ordered, lines
from fhirgw.store.visit_stays import CELL, Stays
from fhirgw.store.visit_whose import OUR_OWN, Asked, Sought, allocated, led, numbers
from fhirgw.visits.alert import due
from fhirgw.visits.batch import UNHEARD, First, Held, Status, Taken, ambiguous, key, met, placed, taken
from fhirgw.visits.merge import ENTRIES, OVERRULED, Known, Register, Said, Stamp, parts, top
from fhirgw.visits.moment import instant
from fhirgw.visits.outcome import derived
from fhirgw.visits.reading import Fault, Sent
from fhirgw.visits.rules import Rules

TURN = 250
"""Visits joined before anybody else has a turn: some ten milliseconds."""
Item = TypeVar("Item")

CLOSED = Fault(
    "person",
    "closed",
    "the time for sending visits of this person is over, or never began",
    "Ask the council whether the package of care has ended",
)
KNOWN = """
SELECT v.key::text, v.version, v.source_version, v.changed, v.digest, v.updated, v.patient, v.parts, v.stamps, v.line,
    CASE WHEN v.version > 1 THEN ARRAY (SELECT s.digest FROM fhirgw.visit_said s WHERE s.key = v.key) END AS digests
FROM fhirgw.visit v WHERE v.key = ANY ($1::uuid[])
"""

# What was said at the same version and moment as a row that is new.
ALIKE = """
SELECT s.key::text, s.source_version, s.changed, s.digest, s.parts FROM fhirgw.visit_said s
JOIN unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS g (key, source_version, changed)
    USING (key, source_version, changed)
"""

LOCK = "SELECT FROM fhirgw.visit WHERE key = ANY ($1::uuid[]) ORDER BY key FOR UPDATE"

CELLS = {
    "key": "uuid",
    "was": "int",
    "version": "int",
    "source_version": "bigint",
    "changed": "timestamptz",
    "digest": "bytea",
    **dict.fromkeys(("start", "finish", "began", "ended"), "timestamptz"),
    **dict.fromkeys(("provider", "controller", "visit", "held", "patient", "outcome", "parts", "stamps"), "text"),
    "due": "timestamptz",
    **dict.fromkeys(("line", "organisation", "derived"), "text"),
}
"""A visit's own columns, as they are handed over: a text for each, its values apart by a character that none has.

By hand, because asyncpg's encoding of arrays looks at every element: a third of what storing a visit costs here.
"""
BLANK = " "
"""Stands for an empty text where an empty one is NULL."""
ORGANISATION = "Organization/"


def _column(at: int, kind: str) -> str:
    return f"string_to_array(${at}, E'\\x03', '')::{kind}[]"


# In the order of the keys, so that two batches never wait for each other: what is there is locked before any of it is
# changed, whatever order a plan would change it in, and what is new comes after that.
STORE = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(
        {", ".join(starmap(_column, enumerate(CELLS.values(), 1)))}
    ) AS g ({", ".join(CELLS)})
    ORDER BY key),
said AS MATERIALIZED (
    SELECT * FROM unnest($23::uuid[], $24::bytea[], $25::bigint[], $26::timestamptz[], $27::timestamptz[], $28::text[])
        AS s (key, digest, source_version, changed, received, parts)),
places AS MATERIALIZED (
    SELECT count(pg_advisory_xact_lock_shared(47, place)) AS locked FROM (
        SELECT DISTINCT fhirgw.visit_place(patient) FROM given WHERE patient IS NOT NULL ORDER BY 1) AS p (place)),
rows AS MATERIALIZED (
    SELECT FROM fhirgw.visit WHERE key = ANY (ARRAY(SELECT key FROM given WHERE was > 0))
        AND (SELECT locked FROM places) >= 0
    ORDER BY key FOR NO KEY UPDATE),
locked AS MATERIALIZED (SELECT count(*) AS rows FROM rows),
renewed AS (
    UPDATE fhirgw.visit v SET
        version = g.version, source_version = g.source_version, changed = g.changed, digest = g.digest,
        updated = $29, start = g.start, finish = g.finish, began = g.began, ended = g.ended, patient = g.patient,
        outcome = g.outcome, parts = g.parts, stamps = g.stamps, transaction = pg_current_xact_id(),
        due = CASE WHEN v.alerted OR v.due <= $29 THEN $29 ELSE g.due END,
        line = btrim(g.line), organisation = g.organisation, derived = g.derived
    FROM given g WHERE v.key = g.key AND v.version = g.was AND v.patient IS NOT DISTINCT FROM g.held AND g.was > 0
        AND (SELECT rows FROM locked) >= 0
    RETURNING v.key),
created AS (
    INSERT INTO fhirgw.visit (key, version, source_version, changed, digest, updated, start, finish, began, ended,
        provider, visit, patient, controller, outcome, parts, stamps, due, line, organisation, derived)
    SELECT key, version, source_version, changed, digest, $29, start, finish, began, ended,
        provider, visit, patient, controller, outcome, parts, stamps, due, btrim(line), organisation, derived
    FROM given WHERE was = 0 AND (SELECT rows FROM locked) >= 0 ORDER BY key
    ON CONFLICT (key) DO NOTHING RETURNING key),
written AS (SELECT key FROM renewed UNION ALL SELECT key FROM created),
kept AS (
    INSERT INTO fhirgw.visit_said (key, digest, source_version, changed, received, parts)
    SELECT s.key, s.digest, s.source_version, s.changed, s.received, s.parts FROM said s JOIN written USING (key)
    ON CONFLICT (key, digest) DO NOTHING)
SELECT count(*) FROM written
"""
FILE = "INSERT INTO fhirgw.visit_file (provider, reference, received) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
# A care provider was heard of: at most every ten seconds, so that its pushes do not wait for one another. And whether
# something was taken away from one of the people not long ago, as it can be seen once they are locked.
HEARD = """
WITH heard AS (
INSERT INTO fhirgw.visit_provider (provider, controller, heard, due)
SELECT p.code, p.controller, $3::timestamptz, $3 FROM unnest($1::text[], $2::text[]) AS p (code, controller)
WHERE NOT EXISTS (
    SELECT FROM fhirgw.visit_provider v WHERE v.provider = p.code AND v.heard > $3::timestamptz - interval '10 seconds')
ORDER BY p.code
ON CONFLICT (provider) DO UPDATE SET heard = greatest(excluded.heard, visit_provider.heard), due = excluded.due)
SELECT EXISTS (SELECT FROM fhirgw.visit_parting WHERE patient = ANY ($4::text[]))
"""
BEFORE = "SELECT received FROM fhirgw.visit_file WHERE provider = $1 AND reference = $2"


class Lost(FhirError):
    """Another batch wrote one of the visits while this one was reading: take it again, alone."""

    def __init__(self) -> None:
        super().__init__(Issue("conflict", "Others sent the same visits meanwhile: nothing was kept, send it again"))


class Provider(NamedTuple):
    """Who sends visits: its ODS code, what records call it, and who controls what it sends."""

    code: str
    parties: tuple[str, ...]
    controller: str

    @property
    def organisation(self) -> str:
        """The id of its Organization; empty where it has none."""
        return _organisation(self.parties)


@lru_cache
def _organisation(parties: tuple[str, ...]) -> str:
    known = [each for each in parties if each.startswith(ORGANISATION)]
    return min(known).removeprefix(ORGANISATION) if known else ""


class Result(NamedTuple):
    """What became of a row. `patient`: in whose record it is; `id`: of the resources it is; `fault`: what to mend.

    `meets`: another visit of the care provider's, at which one of the carers was at the same time.
    """

    status: Status
    patient: str | None = None
    id: str | None = None
    fault: Fault | None = None
    meets: str | None = None

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All that is to be told."""
        return (*((self.fault,) if self.fault else ()), *((met(self.meets),) if self.meets else ()))


async def known(connection: Connection, codes: Sequence[str], controller: str) -> dict[str, Provider]:
    """The care providers of ODS codes; none of a code that no Organization has."""
    query = "SELECT code, fhirgw.visit_parties(code) AS parties FROM unnest($1::text[]) AS asked (code)"
    found = [Provider(code, tuple(parties), controller) for code, parties in await connection.fetch(query, codes)]
    return {each.code: each for each in found if len(each.parties) > 1}


async def take_file(connection: Connection, provider: Provider, reference: str, now: datetime) -> None:
    """Notes that a file was taken in. Raises FhirError(duplicate) for one that was before: then nothing of it is."""
    if await connection.execute(FILE, provider.code, reference, now) != "INSERT 0 1":
        before = await connection.fetchval(BEFORE, provider.code, reference)
        when = f"{before.astimezone(LONDON):%d/%m/%Y at %H:%M}"
        told = f"A file with this reference was taken in on {when}, and nothing was done now. If it was corrected since"
        raise FhirError(Issue("duplicate", f"{told}, give it a reference of its own"))


REFUSED = Result("refused")
TOO_LATE = (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError)
"""Another has just made the visit, which the index of ids may see before that of keys; or took something away from
several people one after the other, in another order than that of their visits.
"""


class _Row:
    """A visit's row as it was read: in whose record, since when, and what is known, which few ask."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row
        self.version: int = row["version"]
        self.patient: str | None = row["patient"]
        self.updated: datetime = row["updated"]
        self.line: str | None = row["line"]
        self.digests = frozenset(map(bytes, row["digests"] or (row["digest"],)))
        self.alike: list[Said] = []

    @cached_property
    def held(self) -> Held:
        """What is known, and what was said before that a new row may contradict."""
        known = _known(self._row)
        said = [Said(top(known), _as_said(known))] if self.version == 1 else self.alike
        return Held(self.version, known, self.digests, said)

    def heard(self, sents: Iterable[Sent]) -> bool:
        """Whether all of it was said before: then nothing comes of it."""
        return all(each.timed and each.said.stamp.digest in self.digests for each in sents)


async def take(
    connection: Connection,
    provider: Provider,
    rows: Sequence[Sent],
    rules: Rules,
    now: datetime,
    *,
    alone: bool = False,
) -> list[Result]:
    """What became of each row of a care provider's: as `take_all`."""
    return await take_all(connection, [(provider, each) for each in rows], rules, now, alone=alone)


async def take_all(
    connection: Connection, rows: Sequence[tuple[Provider, Sent]], rules: Rules, now: datetime, *, alone: bool = False
) -> list[Result]:
    """What became of each row, in their order; durable when the transaction has ended.

    Raises Lost where another batch wrote one of the visits meanwhile: nothing of this one may be kept, and it is taken
    again in a transaction of its own. `alone`: others are kept from these visits from the beginning.
    """
    groups: dict[str, list[int]] = {}
    for at, (provider, sent) in enumerate(rows):
        groups.setdefault(key(provider.code, sent.visit), []).append(at)
    if alone and groups:
        await connection.execute(LOCK, list(groups))
    results: list[Result] = [REFUSED] * len(rows)
    said = {name: (rows[places[0]][0], [rows[at][1] for at in places]) for name, places in groups.items()}
    found, asked = await _joined(connection, said, now)
    writing = [each.write for each in found if each.write]
    if writing and await _write(connection, writing, rules, now) < len(writing):
        raise Lost
    heard = {each.code: each for each, _ in rows}
    patients = list({each.patient for each in writing if each.patient})
    parted = await connection.fetchval(HEARD, list(heard), [each.controller for each in heard.values()], now, patients)
    if parted and await led(connection, asked) != asked.people:
        raise Lost
    meets = await visit_stays.kept(connection, [each.stays for each in found if each.stays])
    for done in found:
        told = done.told._replace(meets=meets[done.key]) if done.key in meets else done.told
        for at, status in zip(groups[done.key], done.statuses, strict=True):
            results[at] = told if told.status == status else told._replace(status=status)
        for at, column in done.odd.items():
            results[groups[done.key][at]] = Result("refused", fault=ambiguous(column))
    return results


class _Joined(NamedTuple):
    """What becomes of the rows about one visit: their statuses, what is the same in their results, what is written."""

    key: str
    statuses: Sequence[Status]
    told: Result
    write: _Writing | None = None
    stays: Stays | None = None
    odd: Mapping[int, str] = {}


async def _joined(
    connection: Connection, said: Mapping[str, tuple[Provider, Sequence[Sent]]], now: datetime
) -> tuple[list[_Joined], Asked]:
    """By visit, what becomes of its rows, and what is to be written; and what was asked of whose they are."""
    held = {row["key"]: _Row(row) for row in await connection.fetch(KNOWN, list(said))} if said else {}
    await _alike(connection, said, held)
    done: dict[str, Taken | First | None] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    async for name, (_, sents) in _in_turn(said.items()):
        row = held.get(name)
        if row is not None and row.patient is not None and row.heard(sents):
            done[name] = None
        else:
            done[name] = made = taken(row.held if row else UNHEARD, sents, now)
            facts[name] = made.facts
    parties = {provider.code: provider.parties for provider, _ in said.values()}
    sought = {(said[name][0].code, *each) for name, fact in facts.items() for each in numbers(fact.get("person"))}
    sought |= {(said[name][0].code, OUR_OWN, row.patient) for name, row in held.items() if row.patient}
    asked = await visit_whose.asked(connection, parties, sought)
    people = asked.people
    found: list[_Joined] = []
    async for name, (provider, sents) in _in_turn(said.items()):
        row, each = held.get(name), done[name]
        if row is not None and row.patient is not None and (provider.code, OUR_OWN, row.patient) not in people:
            found.append(_Joined(name, ["refused"] * len(sents), Result("refused", fault=CLOSED)))
        elif each is None:
            patient = row.patient if row else None
            told = Result("unchanged", patient, placed(name, patient) if patient else None)
            stays = [stay for sent in sents for stay in visit_stays.of(sent.said.parts)]
            found.append(_Joined(name, ["unchanged"] * len(sents), told, stays=Stays(name, provider.code, stays)))
        else:
            found.append(_written(name, provider, sents[0].visit, row, each, facts[name], people))
    known = await _lines(connection, filter(None, (each.write for each in found)))
    return [_lined(each, held.get(each.key), known) for each in found], asked


def _written(
    name: str,
    provider: Provider,
    visit: str,
    row: _Row | None,
    made: Taken | First,
    facts: Mapping[str, Any],
    people: Mapping[Sought, set[str]],
) -> _Joined:
    """A visit of which something may be new: whose it is, and what is to be written of it."""
    patient, fault = allocated(provider.code, facts.get("person"), people)
    if patient is None and row is not None and _same_person(row.held.known, made.known):
        patient = row.patient
    told = Result("stored", patient, placed(name, patient)) if patient else Result("stored", fault=fault)
    now = visit_stays.of(facts)
    if not made.added and row is not None and patient == row.patient:
        return _Joined(name, made.statuses, told, stays=Stays(name, provider.code, now), odd=made.odd)
    before = visit_stays.of(parts(row.held.known)) if row else ()
    write = _Writing(name, provider, visit, row, made, facts, patient, _line(row, patient, facts))
    return _Joined(name, made.statuses, told, write, Stays(name, provider.code, now, before, True), made.odd)


async def _alike(
    connection: Connection, said: Mapping[str, tuple[Provider, Sequence[Sent]]], held: Mapping[str, _Row]
) -> None:
    """Reads what was said at the version and moment of new rows, of visits of which more was said than once."""
    sought = [
        (name, each.said.stamp.version, each.said.stamp.changed)
        for name, row in held.items()
        if row.version > 1
        for each in said[name][1]
        if each.timed and each.said.stamp.digest not in row.digests
    ]
    for each in await connection.fetch(ALIKE, *zip(*sought, strict=True)) if sought else ():
        stamp = Stamp(each["source_version"], each["changed"], bytes(each["digest"]))
        held[each["key"]].alike.append(Said(stamp, decode(each["parts"])))


def _line(row: _Row | None, patient: str | None, facts: Mapping[str, Any]) -> str | None:
    """The line that a visit is of, as far as that is known: None where it names none, or is in nobody's record."""
    if patient is None or not facts.get("line"):
        return None
    if row is None or not row.line or row.patient != patient:
        return NOT_YET
    named = row.held.known.get("line")
    return row.line if named and named.value == facts["line"] else NOT_YET


async def _lines(connection: Connection, writing: Iterable[_Writing]) -> Mapping[Ordered, str]:
    """The lines that visits name and that have not been looked for."""
    waiting = [each for each in writing if each.line == NOT_YET]
    parties = {each.provider.code: CELL.join(each.provider.parties) for each in waiting}
    return await lines(connection, {each.ordered for each in waiting}, parties)


def _lined(joined: _Joined, row: _Row | None, known: Mapping[Ordered, str]) -> _Joined:
    """With the line that the visit is of; where it names one that is not there, that is told."""
    write, line = joined.write, row.line if row else None
    if write:
        line = known[write.ordered] if write.line == NOT_YET else write.line
        if line != write.line:
            joined = joined._replace(write=write._replace(line=line))
    if line == NOT_YET and joined.told.id:
        joined = joined._replace(told=joined.told._replace(fault=LINELESS))
    return joined


def _same_person(before: Known, after: Known) -> bool:
    """Whether a visit still says the same of whose it is: then it stays in the record in which it is."""
    return "person" not in after or ("person" in before and before["person"].value == after["person"].value)


class _Writing(NamedTuple):
    key: str
    provider: Provider
    visit: str
    row: _Row | None
    taken: Taken | First
    facts: Mapping[str, Any]
    patient: str | None
    line: str | None

    @property
    def ordered(self) -> Ordered:
        return self.provider.code, self.patient or "", self.facts["line"]["order"]


async def _write(connection: Connection, writing: Sequence[_Writing], rules: Rules, now: datetime) -> int:
    """Writes the rows; how many of them nobody wrote meanwhile."""
    cells = [_cells(each, rules, now) async for each in _in_turn(writing)]
    said = list(chain.from_iterable(_said(each, now) for each in writing))
    kept: Iterable[Sequence[Any]] = zip(*said, strict=True) if said else [[]] * 6
    lists = (*map(CELL.join, zip(*cells, strict=True)), *map(list, kept))
    try:
        written: int = await connection.fetchval(STORE, *lists, now)
    except TOO_LATE:
        raise Lost from None
    return written


async def _in_turn(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The items, letting others have their turn now and then: ten thousand visits take long to join."""
    for at, each in enumerate(items, 1):
        yield each
        if at % TURN == 0:
            await asyncio.sleep(0)


def _cells(writing: _Writing, rules: Rules, now: datetime) -> tuple[str, ...]:
    """The columns of a visit's row that are its own, by CELLS; an empty text is NULL."""
    made, facts, row = writing.taken, writing.facts, writing.row
    was = row.version if row else 0
    version, changed, digest = made.newest
    planned, outcome, older = facts.get("planned"), facts.get("outcome"), made.older
    moment = due(facts, now)
    return (
        *(writing.key, str(was), str(was + len(made.added))),
        *(str(version), changed.isoformat(), "\\x" + digest.hex()),
        *((planned["start"], planned["end"]) if planned else ("", "")),
        *_actual(facts.get("carers") or ()),
        *(writing.provider.code, writing.provider.controller, writing.visit),
        *((row.patient if row else None) or "", writing.patient or ""),
        outcome["code"] if outcome else "",
        encode(made.values).decode(),
        orjson.dumps(older).decode() if older else "",
        moment.isoformat() if moment else "",
        *(BLANK if writing.line == NOT_YET else writing.line or "", writing.provider.organisation),
        derived(facts, rules) or "",
    )


def _actual(carers: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """From the first arrival to the last departure; no end while somebody is there; of those who came."""
    came = [each for each in carers if "start" in each]
    if len(came) == 1:
        return came[0]["start"], came[0].get("end", "")
    ends = [each["end"] for each in came if "end" in each]
    last = max(ends, key=instant) if ends and len(ends) == len(came) else ""
    return min((each["start"] for each in came), key=instant, default=""), last


def _said(writing: _Writing, now: datetime) -> Iterator[tuple[Any, ...]]:
    """What is to be kept of what was said: nothing of a visit that was spoken of once, for the row is that."""
    row, added = writing.row, writing.taken.added
    if (row.version if row else 0) + len(added) < 2:
        return
    if row and row.version == 1:
        first = Said(top(row.held.known), _as_said(row.held.known))
        yield _kept(writing.key, first, row.updated)
    for each in added:
        yield _kept(writing.key, each, now)


def _as_said(known: Known) -> Mapping[str, Any]:
    """The parts as they were said, of a visit that was spoken of once: an entry's list is one entry."""
    singles = {list_name: name for name, (list_name, _) in ENTRIES.items()}
    split = {place: place.partition("/") for place in known}
    return {singles[name] if key else name: known[place].value for place, (name, _, key) in split.items()}


def _kept(key: str, said: Said, received: datetime | None) -> tuple[Any, ...]:
    version, changed, digest = said.stamp
    return (
        key,
        digest,
        version,
        changed,
        received,
        encode({name: said.parts[name] for name in sorted(said.parts)}).decode(),
    )


def _known(row: Mapping[str, Any]) -> Known:
    newest = Stamp(row["source_version"], row["changed"], bytes(row["digest"]))
    older = {
        place: Stamp(version, datetime.fromisoformat(changed), bytes.fromhex(digest))
        for place, (version, changed, digest) in (orjson.loads(row["stamps"]) if row["stamps"] else {}).items()
    }
    values = {name.removeprefix(OVERRULED): value for name, value in decode(row["parts"]).items()}
    return {place: Register(older.get(place, newest), value) for place, value in values.items()}
