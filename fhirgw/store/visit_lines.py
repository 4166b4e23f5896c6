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

# What a care provider is called by is worked out once, not for each of its visits.
LINES = """
WITH whom AS MATERIALIZED (
    SELECT provider, fhirgw.visit_performed(string_to_array(parties, E'\\x03')) AS performed
    FROM unnest($4::text[], $5::text[]) AS w (provider, parties))
SELECT g.provider, g.patient, g.ordered, coalesce(l.line, '') AS line
FROM unnest($1::text[], $2::text[], $3::text[]) AS g (provider, patient, ordered) JOIN whom w USING (provider)
CROSS JOIN LATERAL fhirgw.visit_line_of(g.ordered, w.performed, g.patient) AS l (line)
"""


async def lines(
    connection: Connection, sought: Collection[Ordered], parties: Mapping[str, str]
) -> Mapping[Ordered, str]:
    """The ids of lines; NOT_YET where there is none. `parties`: by code, what records call a care provider."""
    if not sought:
        return {}
    rows = await connection.fetch(LINES, *zip(*sorted(sought), strict=True), list(parties), list(parties.values()))
    return {(provider, patient, ordered): line for provider, patient, ordered, line in rows}
