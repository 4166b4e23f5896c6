"""Which searches find few by how rare a code is: for those one plan suits, and planning takes as long as finding.

How rare is what PostgreSQL's statistics say, asked once for a code and kept a while. A plan that is right for few is
wrong for many by a thousandfold: so whatever is not known to be rare is planned for its own values.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import orjson

from fhirgw.fhir.criterion import Tokens
from fhirgw.fhir.query import Query
from fhirgw.store.database import Connection

RARE = 2_000
"""Resources that may be found and sorted for each page."""

SECONDS = 600.0
"""For how long an estimate is kept: statistics change no faster."""

MOST = 10_000
"""Estimates kept."""

ESTIMATE = "EXPLAIN (FORMAT JSON) SELECT FROM fhirgw.resource WHERE type = $1 AND tokens @> ARRAY[$2::bigint]"


class Rarity:
    """`await rarity.few(connection, query)`, over any connection that reads. One for a process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, float]] = {}

    def known(self, query: Query) -> bool | None:
        """Whether the search finds few; None where that has to be asked (`ask`)."""
        keys = list(_demanded(query))
        now = time.monotonic()
        kept = [self._known.get(key, (0.0, 0.0)) for key in keys]
        if any(rows <= RARE for rows, until in kept if until > now):
            return True
        return False if all(until > now for _, until in kept) else None

    async def ask(self, connection: Connection, query: Query) -> None:
        """Asks how many have each of the codes."""
        if len(self._known) >= MOST:
            self._known.clear()
        for key in _demanded(query):
            (plan,) = orjson.loads(await connection.fetchval(ESTIMATE, *key))
            self._known[key] = plan["Plan"]["Plan Rows"], time.monotonic() + SECONDS


def _demanded(query: Query) -> Iterator[tuple[str, int]]:
    """The codes that all it finds have; none where it asks anything else, which one plan might not suit."""
    plain = all(isinstance(each, Tokens) and len(each.any_of) == 1 and not each.negated for each in query.criteria)
    if plain and not query.others:
        yield from ((query.type, each.any_of[0]) for each in query.criteria if isinstance(each, Tokens))
