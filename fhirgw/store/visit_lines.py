"""Which line of the person's package a visit is of: the ServiceRequest that its care provider performs, by the number
that the visit calls it (the council's, or its id).

Looked for as a visit is written; where it is not there yet, whatever makes it finds the visits that wait for it
(alembic/versions/0038). What is withheld of the person from anybody is not found.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fhirgw.store.database import Connection
from fhirgw.visits.reading import Fault

NOT_YET = ""
"""The line of a visit that names one which is not there, or has not been looked for."""
Ordered = tuple[str, str, str]
"""What a visit calls its line: the care provider's code, whose the line is, and its number."""

LINELESS = Fault(
    "line.order",
    "line",
    "no line of the person's package that you deliver, as far as you may see it, has this number",
    "The visit is kept, and counts for the line once the council has it: check the number, or ask the council",
)

LINES = "SELECT * FROM fhirgw.visit_lines($1, $2, $3, $4, $5)"


async def lines(
    connection: Connection, sought: Collection[Ordered], parties: Mapping[str, str]
) -> Mapping[Ordered, str]:
    """The ids of lines; NOT_YET where there is none. `parties`: by code, what records call a care provider."""
    if not sought:
        return {}
    rows = await connection.fetch(LINES, *zip(*sorted(sought), strict=True), list(parties), list(parties.values()))
    return {(provider, patient, ordered): line for provider, patient, ordered, line in rows}
