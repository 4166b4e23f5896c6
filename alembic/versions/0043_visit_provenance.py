"""A Provenance of each version of a homecare visit that was amended by hand, made of the visit's own rows when read.

As what 0022 makes: nothing of it is stored, `visit_provenance` has the columns of `resource`, `past_provenance` those
of `history`, so that it is read, searched, included, exported and withheld as the visit is. Its version is the visit's,
and its id ends in it: another amendment is another Provenance, and one that was made does not change.

What was amended when is in `visit_past` and `visit_said`: the version in which the care provider said so, or in which
the visit came into the record. While the visit is in a record, so are they, whatever it is amended to; with it they go,
and come again.
"""

from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

IDS = "https://fhirgw.uk/Id"
HL7 = "http://terminology.hl7.org/CodeSystem"
PURE = "LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE"
SAID = "strpos({0}.parts, '\"amended\"') > 0"
"""That it ever was: a part that is withdrawn leaves its name."""
VISIT = "fhirgw.visit_id(v.patient, v.key)"
NONE = "NULL::timestamptz"
AT = "(a.said ->> 'at')::timestamptz"

FUNCTIONS = (
    # Of a visit in a record: its amended versions, each with the one before, and for each time that it was in the
    # record since (`turn`): in which version it came, and in which it went, if it did. An event was heard when its
    # version was made; what was said once is the row itself, and has no event.
    """
CREATE FUNCTION fhirgw.visit_amendments(sought uuid, whose text) RETURNS TABLE (
    amended int, version int, updated timestamptz, transaction xid8, next int, organisation text,
    planned boolean, made boolean, before int, planned_before boolean, made_before boolean,
    said jsonb, recorded timestamptz
) LANGUAGE sql STABLE PARALLEL SAFE ROWS 1 AS $$
    WITH held AS (
        SELECT v.version + coalesce(v.again, 0) AS version, NULL::int AS next, v.updated, v.transaction, v.start,
            v.began, v.organisation, v.parts
        FROM fhirgw.visit v WHERE v.key = sought AND v.patient = whose
        UNION ALL SELECT p.version, p.next, p.updated, p.transaction, p.start, p.began, p.organisation, p.parts
        FROM fhirgw.visit_past p WHERE p.key = sought AND p.patient = whose
    ), joined AS (
        SELECT *, parts::jsonb -> 'amended' AS amended, lag(next) OVER w IS DISTINCT FROM version AS comes
        FROM held WINDOW w AS (ORDER BY version)
    ), states AS (
        SELECT *, count(*) FILTER (WHERE comes) OVER w AS turn, lag(version) OVER w AS before,
            lag(start) OVER w IS NOT NULL AS planned_before, lag(began) OVER w IS NOT NULL AS made_before,
            lag(parts) OVER w AS parts_before, lag(amended) OVER w AS amended_before
        FROM joined WINDOW w AS (ORDER BY version)
    ), turns AS (
        SELECT turn, min(version) AS first, max(version) AS last, CASE WHEN count(next) = count(*) THEN max(next) END
            AS next FROM states GROUP BY turn
    ), events AS (
        SELECT s.received, s.source_version, s.changed, s.digest, s.parts::jsonb -> 'amended' AS amended
        FROM fhirgw.visit_said s WHERE s.key = sought AND s.parts::jsonb -> 'amended' ->> 'by' IS NOT NULL)
    SELECT o.version, i.version, i.updated, i.transaction, t.next, o.organisation, o.start IS NOT NULL,
        o.began IS NOT NULL, o.before, o.planned_before, o.made_before,
        CASE WHEN e.received = o.updated THEN e.amended ELSE o.amended END,
        coalesce(e.changed, (SELECT w.changed FROM fhirgw.visit w WHERE w.key = sought AND w.version = 1), o.updated)
    FROM states o JOIN turns t ON t.last >= o.version JOIN states i ON i.version = greatest(o.version, t.first)
    LEFT JOIN LATERAL (
        SELECT * FROM events s ORDER BY s.received > o.updated, abs(extract(epoch FROM s.received - o.updated)),
            s.source_version DESC, s.changed DESC, s.digest DESC LIMIT 1) AS e ON true
    WHERE o.amended ->> 'by' IS NOT NULL AND (o.start IS NOT NULL OR o.began IS NOT NULL)
        AND (o.before IS NULL OR o.amended_before IS DISTINCT FROM o.amended
            OR e.received = o.updated AND o.parts_before <> o.parts)
$$""",
    f"""
CREATE FUNCTION fhirgw.visit_moment(moment timestamptz) RETURNS text {PURE} AS $$
BEGIN RETURN to_char(moment AT TIME ZONE 'UTC', CASE WHEN date_trunc('second', moment) = moment
    THEN 'YYYY-MM-DD"T"HH24:MI:SS"Z"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"' END); END $$""",
    # The Encounter and the Appointment of a version: what of them there was.
    f"""
CREATE FUNCTION fhirgw.visit_versions(id text, version int, planned boolean, made boolean) RETURNS jsonb[] {PURE} AS $$
BEGIN RETURN array_remove(ARRAY[
    CASE WHEN made THEN jsonb_build_object('reference', 'Encounter/' || id || '/_history/' || version) END,
    CASE WHEN planned THEN jsonb_build_object('reference', 'Appointment/' || id || '/_history/' || version) END], NULL);
END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_agent(kind text, who json, behalf json DEFAULT NULL) RETURNS json {PURE} AS $$
BEGIN RETURN json_build_object('type', json_build_object('coding', json_build_array(json_build_object(
    'system', '{HL7}/provenance-participant-type', 'code', kind))), 'who', who, 'onBehalfOf', behalf); END $$""",
    f"""
CREATE FUNCTION fhirgw.visit_provenance_body(
    id text, version int, updated timestamptz, provider text, organisation text, target jsonb[], before jsonb[],
    amended jsonb, recorded timestamptz
) RETURNS text {PURE} COST 3000 AS $$
DECLARE maker json := fhirgw.visit_made_by(organisation, provider); BEGIN
    RETURN json_strip_nulls(json_build_object(
        'resourceType', 'Provenance', 'id', id, 'meta', json_build_object(
            'versionId', version::text,
            'lastUpdated', to_char(updated AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
        'target', to_json(target),
        'occurredDateTime', amended ->> 'at',
        'recorded', fhirgw.visit_moment(recorded),
        'reason', json_build_array(json_build_object('text', amended ->> 'reason')),
        'activity', json_build_object('coding', json_build_array(
            json_build_object('system', '{HL7}/v3-DataOperation', 'code', 'UPDATE'))),
        'agent', json_build_array(
            fhirgw.visit_agent('author', maker),
            fhirgw.visit_agent('enterer', fhirgw.visit_carer(provider, amended ->> 'by'), maker)),
        'entity', CASE WHEN cardinality(before) > 0 THEN (
            SELECT json_agg(json_build_object('role', 'revision', 'what', b)) FROM unnest(before) AS b) END
    ))::text;
END $$""",
    # As fhirgw.fhir.index finds it in the body; and whose record it is in, which R4 would look for among its targets.
    f"""
CREATE FUNCTION fhirgw.visit_provenance_tokens(patient text, body text) RETURNS bigint[] {PURE} COST 8000 AS $$
DECLARE b jsonb := body; found bigint[]; BEGIN
    SELECT array_agg(DISTINCT fhirgw.token(x)) INTO found FROM (
        SELECT 'patient|Patient/' || patient
        UNION ALL SELECT 'target|' || split_part(t ->> 'reference', '/_history/', 1)
            FROM jsonb_array_elements(b -> 'target') AS t
        UNION ALL SELECT 'entity|' || split_part(e -> 'what' ->> 'reference', '/_history/', 1)
            FROM jsonb_array_elements(b -> 'entity') AS e
        UNION ALL SELECT unnest(fhirgw.visit_refers('{{agent}}', a -> 'who')
            || fhirgw.visit_codes('agent-type', c ->> 'system', c ->> 'code'))
            FROM jsonb_array_elements(b -> 'agent') AS a, jsonb_array_elements(a -> 'type' -> 'coding') AS c
    ) AS every (x);
    RETURN found;
END $$""",
)
BITS = {"agent": 4, "agent-type": 6, "patient": 9, "recorded": 10, "target": 12}
ENTITY, WHEN = 7, 13
PRESENT = (
    f"({sum(1 << each for each in BITS.values())}::bigint + CASE WHEN a.planned_before OR a.made_before"
    f" THEN {1 << ENTITY} ELSE 0 END + CASE WHEN {AT} IS NOT NULL THEN {1 << WHEN} ELSE 0 END)"
)
"""The bits of fhirgw.fhir.parameters, of what is always said and of what may be."""

INDEX = f"CREATE INDEX visit_amended ON fhirgw.visit (patient) WHERE patient IS NOT NULL AND {SAID.format('visit')}"


def _after(time: str) -> str:
    """The end of the span that a time says."""
    return f"{time} + CASE WHEN date_trunc('second', {time}) = {time} THEN interval '1s' ELSE interval '1us' END"


def _rows(table: str, where: str, deleted: bool | None = None) -> str:
    """The Provenance of a table of visits, or (where the visit has left the record) its tombstones."""
    version, updated, transaction = "a.version", "a.updated", "a.transaction"
    if deleted:
        version, updated, transaction = "v.next", "v.until", "v.superseded"
    id = f"({VISIT} || '.a' || a.amended)"
    body = f"""fhirgw.visit_provenance_body({id}, {version}, {updated}, v.provider, a.organisation,
        fhirgw.visit_versions({VISIT}, a.amended, a.planned, a.made),
        fhirgw.visit_versions({VISIT}, a.before, a.planned_before, a.made_before), a.said, a.recorded)"""
    past = "" if deleted is None else f", {str(deleted).lower()} AS deleted, v.superseded"
    return f"""
SELECT 'Provenance'::text COLLATE "C" AS type, {id} AS id, {version} AS version, {updated} AS updated, v.patient,
    v.provider AS origin, v.controller, fhirgw.visit_provenance_tokens(v.patient, {body}) AS tokens,
    a.recorded AS date1_low, {_after("a.recorded")} AS date1_high, {AT} AS date2_low, {_after(AT)} AS date2_high,
    {NONE} AS date3_low, {NONE} AS date3_high, {NONE} AS date4_low, {NONE} AS date4_high,
    {body} COLLATE "C" AS body, v.labels, NULL::text COLLATE "C" AS also, NULL::text COLLATE "C" AS redacted,
    {PRESENT} AS present, {transaction} AS transaction, NULL::jsonb AS beside, {VISIT} AS visit, v.key, v.line,
    NULL::bigint[] AS coded{past}
FROM fhirgw.{table} v CROSS JOIN LATERAL fhirgw.visit_amendments(v.key, v.patient) AS a
WHERE {SAID.format("v")} AND {where}"""


HERE = "v.patient IS NOT NULL AND a.next IS NULL"
LEFT = """a.next = v.next
    AND NOT EXISTS (SELECT FROM fhirgw.visit w
        WHERE w.key = v.key AND w.patient = v.patient AND w.version + coalesce(w.again, 0) = v.next)
    AND NOT EXISTS (SELECT FROM fhirgw.visit_past w
        WHERE w.key = v.key AND w.patient = v.patient AND w.version = v.next)"""
"""Of the last version that a visit had in a record before it left it."""
VIEWS = {
    "visit_provenance": _rows("visit", HERE),
    "past_provenance": f"{_rows('visit_past', LEFT, False)}\nUNION ALL{_rows('visit_past', LEFT, True)}",
}


def upgrade() -> None:
    """Makes the functions, the views, and the index by which the few visits that were amended are found."""
    connection = op.get_bind()
    views = [f"CREATE VIEW fhirgw.{name} WITH (security_invoker = true) AS {text}" for name, text in VIEWS.items()]
    for statement in (*FUNCTIONS, *views, INDEX):
        connection.exec_driver_sql(statement)


def downgrade() -> None:
    """An amendment is told by the visit alone."""
    op.execute("DROP INDEX fhirgw.visit_amended")
    op.execute(f"DROP VIEW {', '.join(f'fhirgw.{name}' for name in VIEWS)}")
    for name in ("provenance_tokens", "provenance_body", "agent", "versions", "moment", "amendments"):
        op.execute(f"DROP FUNCTION fhirgw.visit_{name}")
