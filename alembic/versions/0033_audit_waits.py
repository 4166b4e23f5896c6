"""Whoever appends to the audit waits for the disk: no session promises to flush by itself any more.

Writes in two steps (0028) gained nothing: of 16 who create at once the CPU time and the rate were the same, one alone
was a third slower for the round trip more (November 2026). Who writes nothing but the audit still parts its commit
(`audit_write`), in one round trip.
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

BODY = """
CREATE OR REPLACE FUNCTION fhirgw.audit_append(
    recorded timestamptz[], persons text[], registration text[], organisation text[], purpose text[], outcome text[],
    body text[]
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    last bigint;
    chained bytea;
    digests bytea[];
BEGIN
    {}
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
WAITS = "PERFORM set_config('synchronous_commit', 'on', true);"
PROMISED = f"""
    IF current_setting('fhirgw.flushes', true) IS DISTINCT FROM 'on' THEN
        {WAITS}
    END IF;"""

FLUSHED = """
CREATE FUNCTION fhirgw.flushed() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM pg_logical_emit_message(true, 'fhirgw', '');
END $$"""


def upgrade() -> None:
    """Appending sets the session right, whatever it says; nobody flushes apart."""
    op.execute(BODY.format(WAITS))
    op.execute("DROP FUNCTION fhirgw.flushed")


def downgrade() -> None:
    """Lets sessions promise again."""
    op.execute(FLUSHED)
    op.execute(BODY.format(PROMISED))
