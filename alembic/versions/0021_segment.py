"""What a full export may begin from: the files of the one before, and what they were made by.

A base is the newest finished export of one view (who asks, for what, in which form); its segments are its files, its
rules a digest for each person of what decided who saw them, and stale is what of it an export that begins from it makes
anew. A base outlives its job: the caller who has fetched an export removes it.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TABLES = ("export_base", "export_segment", "export_rule", "export_stale")

POLICIES = {
    "permitted": "FOR SELECT USING (fhirgw.permitted())",
    "written_insert": "FOR INSERT WITH CHECK (fhirgw.writing())",
    "written_update": "FOR UPDATE USING (fhirgw.writing())",
    "written_delete": "FOR DELETE USING (fhirgw.writing())",
}

BASE = 'base text COLLATE "C" NOT NULL REFERENCES fhirgw.export_base ON DELETE CASCADE'

STATEMENTS = (
    """
CREATE TABLE fhirgw.export_base (
    job text COLLATE "C" PRIMARY KEY,
    view text COLLATE "C" NOT NULL,
    permit jsonb NOT NULL,
    snapshot text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    made timestamptz NOT NULL,
    used timestamptz NOT NULL DEFAULT clock_timestamp(),
    ready boolean NOT NULL DEFAULT false
)""",
    "CREATE INDEX export_base_by_view ON fhirgw.export_base (view)",
    f"""
CREATE TABLE fhirgw.export_segment (
    {BASE},
    number int NOT NULL,
    type text COLLATE "C" NOT NULL,
    low text COLLATE "C",
    high text COLLATE "C",
    key text COLLATE "C" NOT NULL,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    PRIMARY KEY (base, number)
)""",
    f"""
CREATE TABLE fhirgw.export_rule (
    {BASE},
    person text COLLATE "C" NOT NULL,
    digest bytea,
    PRIMARY KEY (base, person)
)""",
    f"""
CREATE TABLE fhirgw.export_stale (
    {BASE},
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    PRIMARY KEY (base, type, id)
)""",
    """
ALTER TABLE fhirgw.export_part
    ADD COLUMN base text COLLATE "C",
    ADD COLUMN segment int,
    ADD COLUMN reused bigint NOT NULL DEFAULT 0""",
)


def upgrade() -> None:
    """Makes the tables and locks them: they name persons and ids."""
    for statement in STATEMENTS:
        op.execute(statement)
    for table in TABLES:
        op.execute(f"ALTER TABLE fhirgw.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        for name, policy in POLICIES.items():
            op.execute(f"CREATE POLICY {name} ON fhirgw.{table} {policy}")


def downgrade() -> None:
    """Forgets them: every export is made anew."""
    op.execute("ALTER TABLE fhirgw.export_part DROP COLUMN base, DROP COLUMN segment, DROP COLUMN reused")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE fhirgw.{table}")
