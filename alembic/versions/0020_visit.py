"""Homecare visits: a row each for what is known of one, and what was said of those that was said more than once."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TABLES = ("visit", "visit_said", "visit_file")

STATEMENTS = (
    r"""
CREATE TABLE fhirgw.visit (
    key uuid NOT NULL PRIMARY KEY,
    version int NOT NULL,
    source_version bigint NOT NULL,
    changed timestamptz NOT NULL,
    updated timestamptz NOT NULL,
    start timestamptz,
    finish timestamptz,
    began timestamptz,
    ended timestamptz,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    labels smallint NOT NULL DEFAULT 0,
    provider text COLLATE "C" NOT NULL,
    visit text COLLATE "C" NOT NULL,
    patient text COLLATE "C",
    controller text COLLATE "C" NOT NULL,
    outcome text COLLATE "C",
    digest bytea NOT NULL,
    parts text COLLATE "C" NOT NULL,
    stamps text COLLATE "C",
    CONSTRAINT visit_parts_plain CHECK (parts !~ '[\x01-\x1f]')
) WITH (toast_tuple_target = 8160)""",
    # Bodies stay in the row, and as they are: compressing one costs more than writing it.
    "ALTER TABLE fhirgw.visit ALTER COLUMN parts SET STORAGE EXTERNAL",
    "CREATE INDEX visit_by_patient ON fhirgw.visit (patient, start) WHERE patient IS NOT NULL",
    "CREATE INDEX visit_by_provider ON fhirgw.visit (provider, start)",
    """
CREATE TABLE fhirgw.visit_said (
    key uuid NOT NULL REFERENCES fhirgw.visit (key) ON DELETE CASCADE,
    digest bytea NOT NULL,
    source_version bigint NOT NULL,
    changed timestamptz NOT NULL,
    received timestamptz NOT NULL,
    parts text COLLATE "C" NOT NULL,
    PRIMARY KEY (key, digest)
) WITH (toast_tuple_target = 8160)""",
    "ALTER TABLE fhirgw.visit_said ALTER COLUMN parts SET STORAGE EXTERNAL",
    """
CREATE TABLE fhirgw.visit_file (
    provider text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    received timestamptz NOT NULL,
    PRIMARY KEY (provider, reference)
)""",
)

POLICIES = (
    ("permitted", "FOR SELECT USING (fhirgw.permitted())"),
    ("written_insert", "FOR INSERT WITH CHECK (fhirgw.writing())"),
    ("written_update", "FOR UPDATE USING (fhirgw.writing())"),
    ("written_delete", "FOR DELETE USING (fhirgw.writing())"),
)


def upgrade() -> None:
    """Makes the tables, behind the second lock."""
    for statement in STATEMENTS:
        op.execute(statement)
    for table in TABLES:
        op.execute(f"ALTER TABLE fhirgw.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        for name, what in POLICIES:
            op.execute(f"CREATE POLICY {name} ON fhirgw.{table} {what}")


def downgrade() -> None:
    """Forgets every visit."""
    op.execute("DROP TABLE fhirgw.visit_file, fhirgw.visit_said, fhirgw.visit")
