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
down_revision = "0027"
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

# No SET clause, which forbids a COMMIT: so every name is told in full. What is assigned costs less than what is
# performed: an expression is no statement.
WRITE = f"""
CREATE PROCEDURE fhirgw.audit_write({PARAMETERS}) LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
    setting text;
    flushed pg_catalog.pg_lsn;
BEGIN
    last := fhirgw.audit_append(recorded, persons, registration, organisation, purpose, outcome, body);
    setting := pg_catalog.set_config('synchronous_commit', 'off', true);
    COMMIT;
    setting := pg_catalog.set_config('synchronous_commit', 'on', true);
    flushed := pg_catalog.pg_logical_emit_message(true, 'fhirgw', '');
END $$"""


# The guard of 0009, as a loop: a tenth of the whole is saved by what is not planned and started.
FOLLOWS = """
CREATE OR REPLACE FUNCTION fhirgw.audit_follows() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    last bigint;
    chained bytea;
    row record;
BEGIN
    SELECT head.sequence, head.digest INTO STRICT last, chained FROM fhirgw.audit_head head FOR UPDATE;
    FOR row IN SELECT sequence, body, digest FROM added ORDER BY sequence LOOP
        last := last + 1;
        chained := sha256(chained || convert_to(row.body, 'UTF8') || int8send(last));
        IF row.sequence <> last OR row.digest <> chained THEN
            RAISE EXCEPTION 'The audit is only ever added to, at its end' USING ERRCODE = 'insufficient_privilege';
        END IF;
    END LOOP;
    UPDATE fhirgw.audit_head SET sequence = last, digest = chained WHERE sequence < last;
    RETURN NULL;
END $$"""

FOLLOWED_BEFORE = """
CREATE OR REPLACE FUNCTION fhirgw.audit_follows() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
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
END $$"""
"""As 0009 made it."""


def upgrade() -> None:
    """Parts the commit, and makes the guard cheaper."""
    op.execute(APPEND.format(PARAMETERS, PROMISED, "END IF;\n    "))
    op.execute(FLUSHED)
    op.execute(WRITE)
    op.execute(FOLLOWS)


def downgrade() -> None:
    """Waits for the disk with the head in hand again."""
    op.execute("DROP PROCEDURE fhirgw.audit_write")
    op.execute("DROP FUNCTION fhirgw.flushed")
    op.execute(FOLLOWED_BEFORE)
    op.execute(APPEND.format(PARAMETERS, "", ""))
