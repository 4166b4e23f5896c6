"""Homecare visits find their person by themselves, when the person, the number or the package appears; and leave them.

Triggers, because the person, the number and the tie come by many ways (a sync, an import, a FHIR write), and each of
them is to find the visits in its own transaction: a statement of any of them hands on just the rows that it wrote.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

TABLES = ("visit_waiting", "visit_left", "visit_stay")

STATEMENTS = (
    """
CREATE TABLE fhirgw.visit_waiting (
    key uuid NOT NULL REFERENCES fhirgw.visit (key) ON DELETE CASCADE,
    system text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    PRIMARY KEY (key, system)
)""",
    "CREATE INDEX visit_waiting_by_number ON fhirgw.visit_waiting (system, value)",
    """
CREATE TABLE fhirgw.visit_left (
    key uuid NOT NULL,
    patient text COLLATE "C" NOT NULL,
    moment timestamptz NOT NULL,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (key, patient)
)""",
    "CREATE INDEX visit_left_by_patient ON fhirgw.visit_left (patient)",
    """
CREATE TABLE fhirgw.visit_stay (
    carer bigint NOT NULL,
    began timestamptz NOT NULL,
    ended timestamptz NOT NULL,
    key uuid NOT NULL
)""",
    "CREATE INDEX visit_stay_by_carer ON fhirgw.visit_stay (carer, began)",
)

# By what a visit says whose it is (fhirgw.store.visits): the empty system is that of our own ids.
NUMBERS = """
CREATE FUNCTION fhirgw.visit_numbers(parts text) RETURNS TABLE (system text, value text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT said.system, said.value FROM (SELECT parts::json -> 'person') AS p (person), LATERAL (VALUES
        ('https://fhir.nhs.uk/Id/nhs-number', p.person ->> 'nhsNumber'),
        (p.person ->> 'system', p.person ->> 'number'),
        ('', p.person ->> 'id')
    ) AS said (system, value) WHERE said.system IS NOT NULL AND said.value IS NOT NULL
$$"""

# What records call a care provider, as a permit's parties are (fhirgw.store.registration).
PARTIES = """
CREATE FUNCTION fhirgw.visit_parties(provider text) RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ARRAY['https://fhir.nhs.uk/Id/ods-organization-code|' || provider] || ARRAY(
        SELECT 'Organization/' || id FROM fhirgw.resource WHERE type = 'Organization' AND tokens @> ARRAY[
            fhirgw.token('identifier|https://fhir.nhs.uk/Id/ods-organization-code|' || provider)])
$$"""

# A visit is the one Patient's to whom all its numbers lead, of those whom its care provider looks after. Where that is
# nobody, or two, it stays with whom it is, if the numbers (all that it says) are still theirs; else it is nobody's.
# Who is being written by another at the moment is left to the sweep, so that nobody waits for anybody here.
ALLOT = """
CREATE FUNCTION fhirgw.visit_allot(sought uuid[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    moved integer;
BEGIN
    IF coalesce(cardinality(sought), 0) = 0 THEN RETURN 0; END IF;
    WITH held AS MATERIALIZED (
        SELECT v.key, v.provider, v.patient, v.parts FROM fhirgw.visit v WHERE v.key = ANY (sought)
        ORDER BY v.key FOR UPDATE SKIP LOCKED
    ), known AS MATERIALIZED (
        SELECT provider, fhirgw.visit_parties(provider) AS parties FROM (SELECT DISTINCT provider FROM held) AS p
    ), said AS MATERIALIZED (
        SELECT h.key, n.system, n.value FROM held h, fhirgw.visit_numbers(h.parts) AS n
    ), many AS (
        SELECT key, count(*) AS numbers FROM said GROUP BY key
    ), led AS (
        SELECT s.key, i.patient FROM said s JOIN fhirgw.identifier i USING (system, value) WHERE s.system <> ''
        UNION ALL
        SELECT s.key, s.value FROM said s WHERE s.system = ''
    ), theirs AS (
        SELECT l.key, l.patient FROM led l JOIN many m USING (key) GROUP BY l.key, l.patient, m.numbers
        HAVING count(*) = m.numbers
        UNION ALL
        SELECT h.key, h.patient FROM held h WHERE h.patient IS NOT NULL AND NOT EXISTS (
            SELECT FROM many m WHERE m.key = h.key)
    ), there AS (
        SELECT t.key, t.patient, fhirgw.tied(
            t.patient, k.parties, ARRAY['care-provider', 'late-visits'], statement_timestamp()) AS tied
        FROM theirs t JOIN held h USING (key) JOIN known k USING (provider) WHERE EXISTS (
            SELECT FROM fhirgw.resource r WHERE r.type = 'Patient' AND r.id = t.patient)
    ), chosen AS (
        SELECT h.key, CASE
            WHEN count(*) FILTER (WHERE t.tied) = 1 THEN min(t.patient) FILTER (WHERE t.tied)
            WHEN bool_or(t.patient = h.patient) THEN h.patient END AS patient
        FROM held h LEFT JOIN there t USING (key) GROUP BY h.key, h.patient
    )
    UPDATE fhirgw.visit v SET patient = c.patient, updated = statement_timestamp(), transaction = pg_current_xact_id()
    FROM chosen c WHERE v.key = c.key AND v.patient IS DISTINCT FROM c.patient;
    GET DIAGNOSTICS moved = ROW_COUNT;
    RETURN moved;
END $$"""

# Whose record it was is sure before the end of this: who writes one of these visits now is waited for.
LEAVE = """
CREATE FUNCTION fhirgw.visit_leave(persons text[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    theirs uuid[] := ARRAY(
        SELECT key FROM fhirgw.visit WHERE patient = ANY (persons) ORDER BY key FOR UPDATE);
BEGIN
    RETURN fhirgw.visit_allot(theirs);
END $$"""

# What nobody's transaction did: a tie that began by its own date, two that wrote at the same moment.
SWEEP = """
CREATE FUNCTION fhirgw.visit_sweep() RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM fhirgw.visit_waiting) THEN RETURN 0; END IF;
    RETURN fhirgw.visit_allot(ARRAY(
        WITH waiting AS MATERIALIZED (
            SELECT w.key, w.system, w.value, v.provider FROM fhirgw.visit_waiting w JOIN fhirgw.visit v USING (key)
        ), known AS MATERIALIZED (
            SELECT provider, fhirgw.visit_parties(provider) AS parties
            FROM (SELECT DISTINCT provider FROM waiting) AS p
        ), led AS (
            SELECT w.key, w.provider, i.patient FROM waiting w
            JOIN fhirgw.identifier i USING (system, value) WHERE w.system <> ''
            UNION ALL
            SELECT w.key, w.provider, w.value FROM waiting w WHERE w.system = '')
        SELECT DISTINCT l.key FROM led l JOIN known k USING (provider) WHERE fhirgw.tied(
            l.patient, k.parties, ARRAY['care-provider', 'late-visits'], statement_timestamp())));
END $$"""

# Who waits, and for which numbers; who left a record, so that what was exported of it is looked through again.
MOVES = (
    """
CREATE FUNCTION fhirgw.visit_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN DELETE FROM fhirgw.visit_waiting WHERE key = NEW.key; END IF;
    INSERT INTO fhirgw.visit_waiting (key, system, value)
    SELECT NEW.key, n.system, n.value FROM fhirgw.visit_numbers(NEW.parts) AS n ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$""",
    """
CREATE FUNCTION fhirgw.visit_finds() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM fhirgw.visit_waiting WHERE key = NEW.key;
    DELETE FROM fhirgw.visit_left WHERE key = NEW.key AND patient = NEW.patient;
    RETURN NULL;
END $$""",
    """
CREATE FUNCTION fhirgw.visit_leaves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fhirgw.visit_left (key, patient, moment) VALUES (OLD.key, OLD.patient, statement_timestamp())
    ON CONFLICT (key, patient) DO UPDATE SET moment = excluded.moment, transaction = excluded.transaction;
    INSERT INTO fhirgw.narrowed (person) VALUES (OLD.patient);
    RETURN NULL;
END $$""",
    "CREATE TRIGGER visit_waits_from_the_first AFTER INSERT ON fhirgw.visit FOR EACH ROW"
    " WHEN (NEW.patient IS NULL) EXECUTE FUNCTION fhirgw.visit_waits()",
    "CREATE TRIGGER visit_waits AFTER UPDATE ON fhirgw.visit FOR EACH ROW"
    " WHEN (NEW.patient IS NULL) EXECUTE FUNCTION fhirgw.visit_waits()",
    "CREATE TRIGGER visit_finds AFTER UPDATE ON fhirgw.visit FOR EACH ROW"
    " WHEN (NEW.patient IS NOT NULL AND NEW.patient IS DISTINCT FROM OLD.patient)"
    " EXECUTE FUNCTION fhirgw.visit_finds()",
    "CREATE TRIGGER visit_leaves AFTER UPDATE ON fhirgw.visit FOR EACH ROW"
    " WHEN (OLD.patient IS NOT NULL AND NEW.patient IS DISTINCT FROM OLD.patient)"
    " EXECUTE FUNCTION fhirgw.visit_leaves()",
)

# What was written that a visit may have waited for, or that took a visit's person away: in proportion to that.
APPEARS = (
    """
CREATE FUNCTION fhirgw.visit_number_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM fhirgw.visit_waiting) THEN
        PERFORM fhirgw.visit_allot(ARRAY(
            SELECT DISTINCT w.key FROM made m JOIN fhirgw.visit_waiting w USING (system, value)));
    END IF;
    RETURN NULL;
END $$""",
    """
CREATE FUNCTION fhirgw.visit_tie_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM fhirgw.visit_waiting) THEN
        PERFORM fhirgw.visit_allot(ARRAY(
            WITH whom AS MATERIALIZED (
                SELECT DISTINCT person FROM made WHERE kind IN ('care-provider', 'late-visits'))
            SELECT w.key FROM whom JOIN fhirgw.identifier i ON i.patient = whom.person
            JOIN fhirgw.visit_waiting w USING (system, value)
            UNION
            SELECT w.key FROM whom JOIN fhirgw.visit_waiting w ON w.system = '' AND w.value = whom.person));
    END IF;
    RETURN NULL;
END $$""",
    """
CREATE FUNCTION fhirgw.visit_number_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fhirgw.visit_leave(ARRAY(SELECT DISTINCT patient FROM gone));
    RETURN NULL;
END $$""",
    """
CREATE FUNCTION fhirgw.visit_person_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM made WHERE type = 'Patient' AND kind = 'delete') THEN
        PERFORM fhirgw.visit_leave(ARRAY(SELECT id FROM made WHERE type = 'Patient' AND kind = 'delete'));
    END IF;
    RETURN NULL;
END $$""",
    "CREATE TRIGGER visit_number_made AFTER INSERT ON fhirgw.identifier REFERENCING NEW TABLE AS made"
    " FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.visit_number_made()",
    "CREATE TRIGGER visit_number_gone AFTER DELETE ON fhirgw.identifier REFERENCING OLD TABLE AS gone"
    " FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.visit_number_gone()",
    "CREATE TRIGGER visit_tie_made AFTER INSERT ON fhirgw.relationship REFERENCING NEW TABLE AS made"
    " FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.visit_tie_made()",
    "CREATE TRIGGER visit_person_gone AFTER INSERT ON fhirgw.change REFERENCING NEW TABLE AS made"
    " FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.visit_person_gone()",
)

POLICIES = (
    ("permitted", "FOR SELECT USING (fhirgw.permitted())"),
    ("written_insert", "FOR INSERT WITH CHECK (fhirgw.writing())"),
    ("written_update", "FOR UPDATE USING (fhirgw.writing())"),
    ("written_delete", "FOR DELETE USING (fhirgw.writing())"),
)

# Those that are there already wait too.
WAITING = """
INSERT INTO fhirgw.visit_waiting (key, system, value)
SELECT v.key, n.system, n.value FROM fhirgw.visit v, fhirgw.visit_numbers(v.parts) AS n WHERE v.patient IS NULL"""

TRIGGERS = {
    "identifier": ("visit_number_made", "visit_number_gone"),
    "relationship": ("visit_tie_made",),
    "change": ("visit_person_gone",),
    "visit": ("visit_waits_from_the_first", "visit_waits", "visit_finds", "visit_leaves"),
}
FUNCTIONS = (
    *("visit_number_made()", "visit_number_gone()", "visit_tie_made()", "visit_person_gone()", "visit_waits()"),
    *(
        "visit_finds()",
        "visit_leaves()",
        "visit_sweep()",
        "visit_leave(text[])",
        "visit_allot(uuid[])",
        "visit_parties(text)",
    ),
    "visit_numbers(text)",
)


def upgrade() -> None:
    """Makes the tables, and what fills them."""
    op.execute("SET LOCAL fhirgw.writing = 'on'")
    for statement in (*STATEMENTS, NUMBERS, PARTIES, ALLOT, LEAVE, SWEEP, WAITING, *MOVES, *APPEARS):
        op.execute(statement)
    for table in TABLES:
        op.execute(f"ALTER TABLE fhirgw.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        for name, what in POLICIES:
            op.execute(f"CREATE POLICY {name} ON fhirgw.{table} {what}")


def downgrade() -> None:
    """Visits wait until they are sent again."""
    for table, names in TRIGGERS.items():
        for name in names:
            op.execute(f"DROP TRIGGER {name} ON fhirgw.{table}")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION fhirgw.{function}")
    op.execute("DROP TABLE fhirgw.visit_waiting, fhirgw.visit_left, fhirgw.visit_stay")
