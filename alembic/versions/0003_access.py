"""What decides who may see what: labels on rows, relationships, directives, delegations; and the second lock.

What few rows need is decided by functions (tied, forbids, concerns): the planner takes each as it is, where the same
conditions spelt out made a search three times as long to plan as to run.

Row-level security is forced on every table that holds people's data. It asks one thing, whether this transaction has
declared a permit (or writes): which rows a permit shows is the business of the one predicate, fhirgw.store.visibility.

Its functions are called immutable although they read a setting, so that the planner works them out when it plans. A
condition left in the plan would be a security barrier, behind which no array operator may use its index: every search
by token would read the whole table. So a prepared statement keeps the answer it was planned with; those of the gateway
are always prepared where a permit is declared. https://www.postgresql.org/docs/18/rules-privileges.html
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

GUARDED = ("resource", "history", "search_string", "identifier")
BY_PERSON = """
    starts timestamptz NOT NULL DEFAULT '-infinity',
    ends timestamptz NOT NULL DEFAULT 'infinity',
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL
)"""

STATEMENTS = (
    *(
        f"ALTER TABLE fhirgw.{table} ADD COLUMN labels smallint NOT NULL DEFAULT 0,"
        ' ADD COLUMN also text COLLATE "C",'
        rf""" ADD COLUMN redacted text COLLATE "C"
        CONSTRAINT {table}_redacted_plain CHECK (redacted !~ '[\x01-\x1f]')"""
        for table in ("resource", "history")
    ),
    "ALTER TABLE fhirgw.history ADD COLUMN tokens bigint[] NOT NULL DEFAULT '{}'",
    f"""
CREATE TABLE fhirgw.relationship (
    person text COLLATE "C" NOT NULL,
    party text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,{BY_PERSON}""",
    "CREATE INDEX relationship_by_person ON fhirgw.relationship (person, party)",
    "CREATE INDEX relationship_by_party ON fhirgw.relationship (party, kind) INCLUDE (person, starts, ends)",
    "CREATE INDEX relationship_by_resource ON fhirgw.relationship (id)",
    f"""
CREATE TABLE fhirgw.directive (
    person text COLLATE "C" NOT NULL,
    effect text COLLATE "C" NOT NULL,
    party text COLLATE "C",
    purpose text COLLATE "C",
    kinds text[] COLLATE "C",
    classes smallint NOT NULL DEFAULT 0,
    weight smallint NOT NULL,
    decided text COLLATE "C" NOT NULL,
    CONSTRAINT directive_effect CHECK (effect IN ('permit', 'deny', 'restrict', 'seal')),{BY_PERSON}""",
    "CREATE INDEX directive_by_person ON fhirgw.directive (person, effect)",
    "CREATE INDEX directive_against ON fhirgw.directive (person) WHERE effect <> 'permit'",
    "CREATE INDEX directive_by_resource ON fhirgw.directive (id)",
    f"""
CREATE TABLE fhirgw.delegation (
    person text COLLATE "C" NOT NULL,
    delegate text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    kinds text[] COLLATE "C",{BY_PERSON}""",
    "CREATE INDEX delegation_by_person ON fhirgw.delegation (person, delegate)",
    "CREATE INDEX delegation_by_resource ON fhirgw.delegation (id)",
    """
CREATE TABLE fhirgw.narrowed (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person text COLLATE "C" NOT NULL,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded timestamptz NOT NULL DEFAULT clock_timestamp()
)""",
    "ALTER TABLE fhirgw.export_job ADD COLUMN narrowed bigint NOT NULL DEFAULT 0",
    # Nobody is so common among persons that a list of the commonest says anything; comparing two such lists takes the
    # planner 0.8 ms at every search that joins them.
    *(
        f"ALTER TABLE fhirgw.{table} ALTER COLUMN person SET STATISTICS 1"
        for table in ("relationship", "directive", "delegation")
    ),
    """
CREATE FUNCTION fhirgw.tied(whose text, parties text[], kinds text[], at timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE COST 1000 AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM fhirgw.relationship r WHERE r.person = whose AND r.party = ANY (parties)
        AND r.kind = ANY (kinds) AND r.starts <= at AND r.ends > at);
END $$""",
    """
CREATE FUNCTION fhirgw.concerns(
    rule fhirgw.directive, kind text, classes int, asking text[], purpose text, named boolean, at timestamptz
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 100 AS $$
BEGIN
    RETURN rule.starts <= at AND rule.ends > at
        AND (rule.party = ANY (asking) OR (rule.party IS NULL AND NOT named))
        AND (rule.purpose IS NULL OR rule.purpose = concerns.purpose)
        AND (rule.kinds IS NULL OR concerns.kind = ANY (rule.kinds))
        AND (rule.classes = 0 OR (rule.classes & concerns.classes) <> 0);
END $$""",
    """
CREATE FUNCTION fhirgw.forbids(
    rule fhirgw.directive, kind text, classes int, asking text[], purpose text, named boolean, at timestamptz,
    effects text[], whereabouts boolean
) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE COST 1 AS $$
BEGIN
    IF NOT rule.effect = ANY (effects) THEN RETURN false; END IF;
    IF rule.effect = 'deny' THEN
        RETURN fhirgw.concerns(rule, kind, classes, asking, purpose, named, at) AND NOT EXISTS (
            SELECT FROM fhirgw.directive p
            WHERE p.person = rule.person AND p.effect = 'permit' AND p.weight > rule.weight
            AND fhirgw.concerns(p, forbids.kind, forbids.classes, asking, forbids.purpose, named, at));
    END IF;
    RETURN rule.starts <= at AND rule.ends > at AND (rule.effect = 'seal' OR whereabouts);
END $$""",
    """
CREATE FUNCTION fhirgw.writing() RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
$$ BEGIN RETURN coalesce(current_setting('fhirgw.writing', true), '') = 'on'; END $$""",
    """
CREATE FUNCTION fhirgw.permitted() RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
$$ BEGIN RETURN coalesce(current_setting('fhirgw.permit', true), '') <> '' OR fhirgw.writing(); END $$""",
)


def upgrade() -> None:
    """Makes the tables and the lock, in one transaction."""
    for statement in STATEMENTS:
        op.execute(statement)
    for table in GUARDED:
        op.execute(f"ALTER TABLE fhirgw.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY permitted ON fhirgw.{table} FOR SELECT USING (fhirgw.permitted())")
        for command, check in (
            ("INSERT", "WITH CHECK (fhirgw.writing())"),
            ("UPDATE", "USING (fhirgw.writing())"),
            ("DELETE", "USING (fhirgw.writing())"),
        ):
            op.execute(f"CREATE POLICY written_{command.lower()} ON fhirgw.{table} FOR {command} {check}")
    op.execute(
        """
DO $$ DECLARE part regclass; BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'fhirgw.resource'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', part);
    END LOOP;
END $$"""
    )


def downgrade() -> None:
    """Opens the lock and forgets the rules; the records stay, labels and all, in their bodies."""
    for table in GUARDED:
        for policy in ("permitted", "written_insert", "written_update", "written_delete"):
            op.execute(f"DROP POLICY {policy} ON fhirgw.{table}")
        op.execute(f"ALTER TABLE fhirgw.{table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY")
    op.execute(
        """
DO $$ DECLARE part regclass; BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'fhirgw.resource'::regclass LOOP
        EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY', part);
    END LOOP;
END $$"""
    )
    op.execute("DROP FUNCTION fhirgw.permitted(), fhirgw.writing(), fhirgw.forbids, fhirgw.concerns, fhirgw.tied")
    op.execute("ALTER TABLE fhirgw.export_job DROP COLUMN narrowed")
    op.execute("DROP TABLE fhirgw.relationship, fhirgw.directive, fhirgw.delegation, fhirgw.narrowed")
    op.execute("ALTER TABLE fhirgw.history DROP COLUMN tokens")
    for table in ("resource", "history"):
        op.execute(f"ALTER TABLE fhirgw.{table} DROP COLUMN labels, DROP COLUMN also, DROP COLUMN redacted")
