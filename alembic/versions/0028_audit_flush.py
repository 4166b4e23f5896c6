"""The audit's commit in two steps: written, which frees the head of the chain, and then flushed, which takes the time.

A transaction that commits asynchronously is in the write-ahead log, in the order of the chain, but maybe not on disk. A
later transaction of the same session that waits for the disk has everything before it flushed as well: when it is done,
the server has not crashed in between, or the session would be gone. So `audit_write` comes back when its rows are
durable, as a commit that waits does, and others append meanwhile. `audit_append` makes a transaction wait for the disk,
unless its session has promised to flush by itself (`fhirgw.flushes`), before anybody is told.

https://www.postgresql.org/docs/18/wal-async-commit.html
"""

from alembic import op

revision = "0028"
down_revision = "0021"
branch_labels = None
depends_on = None

PARAMETERS = """
    recorded timestamptz[], persons text[], registration text[], organisation text[], purpose text[], outcome text[],
    body text[]
"""
APPEND = """
CREATE OR REPLACE FUNCTION fhirgw.audit_append({}) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    last bigint;
    chained bytea;
    digests bytea[];
BEGIN
    {}PERFORM set_config('synchronous_commit', 'on', true);
    {}SELECT head.sequence, head.digest INTO STRICT last, chained FROM fhirgw.audit_head head FOR UPDATE;
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
PROMISED = "IF current_setting('fhirgw.flushes', true) IS DISTINCT FROM 'on' THEN\n        "

# Whatever else the session has done is flushed as well. The message is a record without effect: a transaction that
# writes nothing waits for nothing.
FLUSHED = """
CREATE FUNCTION fhirgw.flushed() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM pg_logical_emit_message(true, 'fhirgw', '');
END $$"""

# No SET clause, which forbids a COMMIT: so every name is told in full.
WRITE = f"""
CREATE PROCEDURE fhirgw.audit_write({PARAMETERS}) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fhirgw.audit_append(recorded, persons, registration, organisation, purpose, outcome, body);
    PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
    COMMIT;
    PERFORM fhirgw.flushed();
END $$"""


def upgrade() -> None:
    """Parts the commit."""
    op.execute(APPEND.format(PARAMETERS, PROMISED, "END IF;\n    "))
    op.execute(FLUSHED)
    op.execute(WRITE)


def downgrade() -> None:
    """Waits for the disk with the head in hand again."""
    op.execute("DROP PROCEDURE fhirgw.audit_write")
    op.execute("DROP FUNCTION fhirgw.flushed")
    op.execute(APPEND.format(PARAMETERS, "", ""))
