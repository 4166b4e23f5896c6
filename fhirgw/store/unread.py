"""The rules that rest on refused rows about sharing: as many as the last run refused, no more and no fewer.

They are directives like those of Consents, resting on `unread/<system>/<table>/<key>`, so that the one predicate and
`explain` find them where they find the others. https://hl7.org/fhir/R4/consent.html
"""

from __future__ import annotations

from collections.abc import Iterable

from fhirgw.access.consent import Directive
from fhirgw.access.unread import UNREAD
from fhirgw.store.database import Connection

REPLACED = f"""
WITH wanted AS (
    SELECT DISTINCT * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[])
        AS w (id, person, party, purpose, weight)
), gone AS (
    DELETE FROM fhirgw.directive d WHERE d.type = '{UNREAD}' AND starts_with(d.id, $1) AND NOT EXISTS (
        SELECT FROM wanted w WHERE w.id = d.id AND w.person = d.person
        AND (w.party, w.purpose) IS NOT DISTINCT FROM (d.party, d.purpose))
), made AS (
    INSERT INTO fhirgw.directive (person, effect, party, purpose, weight, decided, type, id)
    SELECT w.person, 'deny', w.party, w.purpose, w.weight, '{UNREAD}', '{UNREAD}', w.id FROM wanted w WHERE NOT EXISTS (
        SELECT FROM fhirgw.directive d WHERE d.type = '{UNREAD}' AND d.id = w.id AND d.person = w.person
        AND (d.party, d.purpose) IS NOT DISTINCT FROM (w.party, w.purpose))
    RETURNING person
)
INSERT INTO fhirgw.narrowed (person) SELECT DISTINCT person FROM made
"""

FORGOTTEN = f"""
DELETE FROM fhirgw.directive
WHERE type = '{UNREAD}' AND split_part(id, '/', 1) = $1 AND NOT split_part(id, '/', 2) = ANY ($2)
"""


async def replace(connection: Connection, system: str, table: str, rules: Iterable[tuple[str, Directive]]) -> None:
    """The rules of a table's refused rows, by the rows' keys, in place of those that its last run left."""
    place = f"{system}/{table}/"
    rows = [(place + key, rule.person, rule.party, rule.purpose, rule.weight) for key, rule in rules]
    columns = [list(each) for each in zip(*rows, strict=True)] or [[], [], [], [], []]
    await connection.execute(REPLACED, place, *columns)


async def forget(connection: Connection, system: str, tables: Iterable[str]) -> None:
    """Takes away those of tables that are declared no more: what they said is nobody's to correct."""
    await connection.execute(FORGOTTEN, system, list(tables))
