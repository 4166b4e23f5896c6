"""The audit: who looked at what, chained by digest, never changed.

Each row's digest covers the one before it, so that nothing can be changed, taken out or put in between. The newest is
kept apart as well, in `audit_head`: a tail cut off would leave a sound chain. Whoever may switch triggers off can forge
both: `fhirgw audit verify` prints the newest for operators to note elsewhere.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = (
    """
CREATE TABLE fhirgw.audit (
    sequence bigint NOT NULL PRIMARY KEY,
    recorded timestamptz NOT NULL,
    persons text[] NOT NULL,
    registration text COLLATE "C" NOT NULL,
    organisation text COLLATE "C" NOT NULL,
    purpose text COLLATE "C" NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    body text COLLATE "C" NOT NULL,
    digest bytea NOT NULL
)""",
    # Without the list of what is pending a write costs a little more, and no reader pays for thousands of them.
    "CREATE INDEX audit_by_person ON fhirgw.audit USING gin (persons) WITH (fastupdate = off)",
    "CREATE INDEX audit_by_recorded ON fhirgw.audit USING brin (recorded)",
    """
CREATE TABLE fhirgw.audit_head (
    one boolean NOT NULL PRIMARY KEY DEFAULT true,
    sequence bigint NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT audit_head_one CHECK (one)
) WITH (fillfactor = 10)""",
    "INSERT INTO fhirgw.audit_head (sequence, digest) VALUES (0, decode(repeat('00', 32), 'hex'))",
)

# One statement and one transaction for many rows: the head's row is locked for as long as that takes, so that all
# processes write one chain. `persons` are ids between spaces.
APPEND = """
CREATE FUNCTION fhirgw.audit_append(
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

GUARDS = (
    """
CREATE FUNCTION fhirgw.audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit is only ever added to' USING ERRCODE = 'insufficient_privilege';
END $$""",
    """
CREATE FUNCTION fhirgw.audit_advance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.sequence <= OLD.sequence THEN
        RAISE EXCEPTION 'The audit is only ever added to' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$""",
    """
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fhirgw.audit
    FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.audit_refuse()""",
    """
CREATE TRIGGER audit_head_stays BEFORE INSERT OR DELETE OR TRUNCATE ON fhirgw.audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.audit_refuse()""",
    """
CREATE TRIGGER audit_head_advances BEFORE UPDATE ON fhirgw.audit_head
    FOR EACH ROW EXECUTE FUNCTION fhirgw.audit_advance()""",
)


def upgrade() -> None:
    """Makes an empty chain, and guards it."""
    for statement in (*TABLES, APPEND, *GUARDS):
        op.execute(statement)


def downgrade() -> None:
    """Forgets the audit."""
    op.execute("DROP TABLE fhirgw.audit, fhirgw.audit_head")
    op.execute("DROP FUNCTION fhirgw.audit_append, fhirgw.audit_refuse, fhirgw.audit_advance")
