"""What care providers sent of homecare visits, and what they are to mend of it: kept for a while, then forgotten."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

POLICIES = (
    ("permitted", "FOR SELECT USING (fhirgw.permitted())"),
    ("written_insert", "FOR INSERT WITH CHECK (fhirgw.writing())"),
    ("written_update", "FOR UPDATE USING (fhirgw.writing())"),
    ("written_delete", "FOR DELETE USING (fhirgw.writing())"),
)


def upgrade() -> None:
    """Makes the table, behind the second lock."""
    op.execute(
        """
CREATE TABLE fhirgw.submission (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text COLLATE "C" NOT NULL,
    submission uuid NOT NULL,
    received timestamptz NOT NULL,
    way text COLLATE "C" NOT NULL,
    file text COLLATE "C",
    stored int NOT NULL,
    unchanged int NOT NULL,
    superseded int NOT NULL,
    refused int NOT NULL,
    unallocated int NOT NULL,
    mending text[],
    receipts text COLLATE "C"
)"""
    )
    op.execute("CREATE INDEX submission_by_provider ON fhirgw.submission (provider, received)")
    op.execute("CREATE INDEX submission_mending ON fhirgw.submission (provider, received) WHERE receipts IS NOT NULL")
    op.execute("CREATE INDEX submission_by_received ON fhirgw.submission USING brin (received)")
    op.execute("ALTER TABLE fhirgw.submission ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    for name, what in POLICIES:
        op.execute(f"CREATE POLICY {name} ON fhirgw.submission {what}")


def downgrade() -> None:
    """Forgets what was sent."""
    op.execute("DROP TABLE fhirgw.submission")
