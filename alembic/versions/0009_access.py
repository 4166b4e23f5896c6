"""The second lock on what decides who sees whom, and how far finished exports have been looked through by the clock.

Who dissents, who is restricted, who acts for whom, who has opted out and why somebody broke the glass is as telling as
the records themselves: the same policies as in 0003, worked out when a statement is planned.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

GUARDED = ("relationship", "directive", "delegation", "narrowed", "opt_out", "break_glass", "export_job")
POLICIES = {
    "permitted": "FOR SELECT USING (fhirgw.permitted())",
    "written_insert": "FOR INSERT WITH CHECK (fhirgw.writing())",
    "written_update": "FOR UPDATE USING (fhirgw.writing())",
    "written_delete": "FOR DELETE USING (fhirgw.writing())",
}

STATEMENTS = (
    # It asked fhirgw.writing(), whose answer PL/pgSQL kept from the session's first time: a connection that had read
    # under a permit before it wrote saw nothing when it wrote. What it asks now is a setting, each time.
    """
CREATE OR REPLACE FUNCTION fhirgw.permitted() RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN coalesce(current_setting('fhirgw.permit', true), '') <> ''
        OR coalesce(current_setting('fhirgw.writing', true), '') = 'on';
END $$""",
    # Until when a finished export has been looked through for what ended by its own date.
    "ALTER TABLE fhirgw.export_job ADD COLUMN looked timestamptz NOT NULL DEFAULT clock_timestamp()",
    "UPDATE fhirgw.export_job SET looked = created",
    # What ends by its own date is looked for every few seconds, by when it ends: most rules never do.
    *(
        f"CREATE INDEX {table}_by_{bound} ON fhirgw.{table} ({bound}) WHERE {bound} {beyond}"
        for table, bound, beyond in (
            ("relationship", "ends", "< 'infinity'"),
            ("directive", "starts", "> '-infinity'"),
            ("directive", "ends", "< 'infinity'"),
            ("delegation", "ends", "< 'infinity'"),
        )
    ),
)

# Rows go in by one statement, and the trigger on that statement moves the head: whoever adds a row by hand either adds
# what the chain wants next, or nothing. A row further on would have stopped every later one.
APPEND = """
CREATE OR REPLACE FUNCTION fhirgw.audit_append(
    recorded timestamptz[], persons text[], registration text[], organisation text[], purpose text[], outcome text[],
    body text[]
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    last bigint;
    chained bytea;
    digests bytea[];
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT head.sequence, head.digest INTO STRICT last, chained FROM fhirgw.audit_head head FOR UPDATE;
    FOR at IN 1 .. cardinality(body) LOOP
        chained := sha256(chained || convert_to(body[at], 'UTF8') || int8send(last + at));
        digests[at] := chained;
    END LOOP;
    INSERT INTO fhirgw.audit
        SELECT last + n, r, string_to_array(p, ' '), g, o, u, c, b, d
        FROM unnest(recorded, persons, registration, organisation, purpose, outcome, body, digests)
            WITH ORDINALITY AS rows (r, p, g, o, u, c, b, d, n) ORDER BY n;
    RETURN last + cardinality(body);
END $$"""

GUARD = (
    """
CREATE FUNCTION fhirgw.audit_follows() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    last bigint;
    chained bytea;
    sound boolean;
BEGIN
    SELECT head.sequence, head.digest INTO STRICT last, chained FROM fhirgw.audit_head head FOR UPDATE;
    SELECT bool_and(sequence = last + n AND digest = sha256(before || convert_to(body, 'UTF8') || int8send(sequence)))
        INTO sound
        FROM (SELECT sequence, body, digest, row_number() OVER w AS n, lag(digest, 1, chained) OVER w AS before
              FROM added WINDOW w AS (ORDER BY sequence)) AS rows;
    IF NOT sound THEN
        RAISE EXCEPTION 'The audit is only ever added to, at its end' USING ERRCODE = 'insufficient_privilege';
    END IF;
    UPDATE fhirgw.audit_head SET (sequence, digest) =
        (SELECT a.sequence, a.digest FROM added a ORDER BY a.sequence DESC LIMIT 1)
        WHERE EXISTS (SELECT FROM added);
    RETURN NULL;
END $$""",
    """
CREATE TRIGGER audit_added AFTER INSERT ON fhirgw.audit
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.audit_follows()""",
)

APPENDED_BEFORE = """
CREATE OR REPLACE FUNCTION fhirgw.audit_append(
    recorded timestamptz[], persons text[], registration text[], organisation text[], purpose text[], outcome text[],
    body text[]
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    last bigint;
    chained bytea;
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT head.sequence, head.digest INTO STRICT last, chained FROM fhirgw.audit_head head FOR UPDATE;
    FOR at IN 1 .. cardinality(body) LOOP
        last := last + 1;
        chained := sha256(chained || convert_to(body[at], 'UTF8') || int8send(last));
        INSERT INTO fhirgw.audit VALUES (
            last, recorded[at], string_to_array(persons[at], ' '), registration[at], organisation[at], purpose[at],
            outcome[at], body[at], chained
        );
    END LOOP;
    UPDATE fhirgw.audit_head SET sequence = last, digest = chained;
    RETURN last;
END $$"""
"""As 0005 made it."""


def upgrade() -> None:
    """Adds to the tables, and locks them."""
    for statement in (*STATEMENTS, APPEND, *GUARD):
        op.execute(statement)
    for table in GUARDED:
        op.execute(f"ALTER TABLE fhirgw.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        for name, policy in POLICIES.items():
            op.execute(f"CREATE POLICY {name} ON fhirgw.{table} {policy}")


def downgrade() -> None:
    """Opens the lock; the function stays, for it only says better what it said."""
    op.execute("DROP TRIGGER audit_added ON fhirgw.audit")
    op.execute("DROP FUNCTION fhirgw.audit_follows")
    op.execute(APPENDED_BEFORE)
    for table in GUARDED:
        for name in POLICIES:
            op.execute(f"DROP POLICY {name} ON fhirgw.{table}")
        op.execute(f"ALTER TABLE fhirgw.{table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY")
    for index in ("relationship_by_ends", "directive_by_starts", "directive_by_ends", "delegation_by_ends"):
        op.execute(f"DROP INDEX fhirgw.{index}")
    op.execute("ALTER TABLE fhirgw.export_job DROP COLUMN looked")
