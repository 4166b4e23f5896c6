"""Which searches find few by how rare a code is: for those one plan suits, and planning takes as long as finding.

How rare is what PostgreSQL's statistics say, asked once for a code and kept a while. A plan that is right for few is
wrong for many by a thousandfold: so whatever is not known to be rare is planned for its own values.

Of what many have, one plan suits a page too, where it is in the order of ids: it is read along that order until it is
full, which passes over so many more as the code is rarer. Of what few have, all is put in that order first (`way`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import orjson

from fhirgw.access.permit import Permit
from fhirgw.fhir.criterion import Tokens
from fhirgw.fhir.query import Query
from fhirgw.store import rendered
from fhirgw.store.database import Connection
from fhirgw.store.matching import Way, single

RARE = 2_000
"""Resources that may be found and sorted for each page."""

SECONDS = 600.0
"""For how long an estimate is kept: statistics change no faster."""

MOST = 10_000
"""Estimates kept."""

ESTIMATE = "EXPLAIN (FORMAT JSON) SELECT FROM fhirgw.resource WHERE type = $1 AND tokens @> ARRAY[$2::bigint]"
ALL = "EXPLAIN (FORMAT JSON) SELECT FROM fhirgw.resource WHERE type = $1"

WORTH = 1
"""What one that matches costs, to be found and sorted, of those that are passed over: measured, both 0.7 us."""


class Rarity:
    """What is known of codes; `await rarity.ask(connection, query)` over any connection. One for a process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, float]] = {}
        self._sizes: dict[str, int] = {}

    def known(self, query: Query) -> bool | None:
        """Whether the search finds few; None where that has to be asked (`ask`)."""
        keys = list(_demanded(query))
        now = time.monotonic()
        kept = [self._known.get(key, (0.0, 0.0)) for key in keys]
        if any(rows <= RARE for rows, until in kept if until > now):
            return True
        return False if all(until > now for _, until in kept) else None

    def way(self, query: Query) -> Way | None:
        """How a page of what is `walkable` is read soonest; None where that is planned for its own code."""
        (key,) = _demanded(query)
        rows, until = self._known.get(key, (0.0, 0.0))
        if until <= time.monotonic():
            return None
        passed = (query.count + 1) * self._sizes.get(query.type, 0)
        if rows * rows * WORTH > passed:
            return Way.ALONG
        return Way.ORDER if rows <= RARE else None

    async def ask(self, connection: Connection, query: Query) -> None:
        """Asks how many have each of the codes."""
        if len(self._known) >= MOST:
            self._known.clear()
        for key in _demanded(query):
            self._known[key] = await _rows(connection, ESTIMATE, *key), time.monotonic() + SECONDS
            self._sizes[key[0]] = await _rows(connection, ALL, key[0])


def walkable(permit: Permit, query: Query) -> bool:
    """Whether a search is of one code alone, in the order of ids, by somebody who is shown most of what has it.

    Visits that may have it are found by an index of their own, and sorted in between.
    """
    ordered = not query.sort or query.sort[0].parameter.name == "_id"
    plain = ordered and query.cursor is None and single(query) and len(query.criteria) == 1
    narrowed = any(each.constraint or each.context == "patient" for each in permit.covering("s", query.type))
    rendering = rendered.may_match(query.type, query.criteria) and rendered.costly(query.type, query.criteria)
    shown = permit.broad and not narrowed and not rendering
    return plain and shown and len(list(_demanded(query))) == 1


async def _rows(connection: Connection, explain: str, *asked: str | int) -> int:
    (plan,) = orjson.loads(await connection.fetchval(explain, *asked))
    found: int = plan["Plan"]["Plan Rows"]
    return found


def _demanded(query: Query) -> Iterator[tuple[str, int]]:
    """The codes that all it finds have; none where it asks anything else, which one plan might not suit."""
    plain = all(isinstance(each, Tokens) and len(each.any_of) == 1 and not each.negated for each in query.criteria)
    if plain and not query.others:
        yield from ((query.type, each.any_of[0]) for each in query.criteria if isinstance(each, Tokens))
