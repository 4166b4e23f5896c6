"""What happened to homecare visits between two snapshots, as the change log would tell it: by the visits' own rows.

No change is logged of a visit, so that taking a batch in costs no more. Its row has the transaction that wrote it, and
what it was before is in `visit_past` until which transaction; so a window of transactions is found in these two, and
told by what a visit is rendered as (alembic 0022): what it was not before is created, what it is no more is deleted. A
visit that is moved to another's record is deleted in the one, and created in the other, where its id is another.
"""

from __future__ import annotations

NEWEST = """
    (SELECT v.transaction FROM fhirgw.visit v
     WHERE v.patient IS NOT NULL AND v.transaction < pg_snapshot_xmax(pg_current_snapshot())
     ORDER BY v.transaction DESC LIMIT 1)
    UNION ALL
    (SELECT p.superseded FROM fhirgw.visit_past p WHERE p.superseded < pg_snapshot_xmax(pg_current_snapshot())
     ORDER BY p.superseded DESC LIMIT 1)"""
"""The newest transactions that wrote a visit."""

ENDED = """
    SELECT FROM fhirgw.visit v
    WHERE v.patient IS NOT NULL AND v.transaction = ANY (ARRAY(SELECT pg_snapshot_xip(s.snapshot::pg_snapshot)))
    UNION ALL
    SELECT FROM fhirgw.visit_past p
    WHERE p.superseded = ANY (ARRAY(SELECT pg_snapshot_xip(s.snapshot::pg_snapshot)))"""
"""Whether a transaction that was running when the subscription `s` looked last has written one."""

VERSION = "v.version + coalesce(v.again, 0)"
"""Of what a visit is rendered as."""
_STATE = "{0}.key, {1} AS version, {0}.updated, {0}.patient, {0}.start, {0}.began, {0}.parts"
_BETWEEN = """{0} >= pg_snapshot_xmax($1::text::pg_snapshot)
        AND {0} < pg_snapshot_xmax($2::text::pg_snapshot) AND pg_visible_in_snapshot({0}, $2::text::pg_snapshot)"""
_RUNNING = """{0} = ANY (ARRAY(SELECT running FROM pg_snapshot_xip($1::text::pg_snapshot) AS running
        WHERE pg_visible_in_snapshot(running, $2::text::pg_snapshot)))"""
_MADE = """CASE WHEN $5 THEN fhirgw.visit_made({0}.start, {0}.began, {0}.parts) ELSE ARRAY[
        CASE WHEN {0}.start IS NOT NULL THEN 'Appointment' END, CASE WHEN {0}.began IS NOT NULL THEN 'Encounter' END]
    END"""
_GONE = "SELECT p.key, p.next AS version, p.until AS updated, p.patient, unnest(p.gone) AS made FROM"

# What was written and superseded in one window, or since, is no row of `visit` any more.
CHANGED = f"""
WITH written AS MATERIALIZED (
    SELECT {_STATE.format("v", VERSION)} FROM fhirgw.visit v
    WHERE v.patient IS NOT NULL AND {_BETWEEN.format("v.transaction")}
    UNION ALL
    SELECT {_STATE.format("v", VERSION)} FROM fhirgw.visit v
    WHERE v.patient IS NOT NULL AND {_RUNNING.format("v.transaction")}
    UNION ALL
    SELECT {_STATE.format("p", "p.version")} FROM fhirgw.visit_past p
    WHERE p.superseded >= pg_snapshot_xmin($1::text::pg_snapshot)
        AND NOT pg_visible_in_snapshot(p.transaction, $1::text::pg_snapshot)
        AND pg_visible_in_snapshot(p.transaction, $2::text::pg_snapshot)),
said AS (
    SELECT w.key, w.version, w.updated, w.patient, made,
        CASE WHEN made = ANY ({_MADE.format("before")}) THEN 'update' ELSE 'create' END AS kind
    FROM written w CROSS JOIN LATERAL unnest({_MADE.format("w")}) AS made
    LEFT JOIN LATERAL (
        SELECT * FROM fhirgw.visit_past p
        WHERE p.key = w.key AND p.next = w.version AND p.patient = w.patient LIMIT 1) AS before ON true
    WHERE made IS NOT NULL
    UNION ALL
    SELECT *, 'delete' FROM (
        {_GONE} fhirgw.visit_past p WHERE p.gone IS NOT NULL AND {_BETWEEN.format("p.superseded")}
        UNION ALL
        {_GONE} fhirgw.visit_past p WHERE p.gone IS NOT NULL AND {_RUNNING.format("p.superseded")}) AS gone)
SELECT row_number() OVER (ORDER BY updated, key, version, made) AS sequence, type,
    fhirgw.visit_id(patient, key) || substr(made, length(type) + 1) AS id, version, kind,
    updated AS recorded, true AS of_visits
FROM said CROSS JOIN LATERAL split_part(made, '.', 1) AS type
WHERE type = ANY ($4) AND ($3::timestamptz IS NULL OR updated > $3)
ORDER BY sequence"""
"""Of what has ended between the snapshots $1 and $2, after $3, what is of the types $4; $5: these are of entries."""

ENTRIES = frozenset(("MedicationAdministration", "Observation", "Task"))
"""The types that entries of visits are rendered as: of a visit there may be many."""
