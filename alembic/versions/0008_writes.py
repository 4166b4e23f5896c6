"""What was answered to writes, so that a request that is sent again has its effect once."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE fhirgw.replay (
    registration text COLLATE "C" NOT NULL,
    request text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    status smallint NOT NULL,
    headers text NOT NULL,
    body text,
    stored timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (registration, request)
)""",
    "CREATE INDEX replay_by_stored ON fhirgw.replay USING brin (stored)",
    # Answers may hold what is in people's records; nobody but who writes needs them.
    "ALTER TABLE fhirgw.replay ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY written ON fhirgw.replay USING (fhirgw.writing()) WITH CHECK (fhirgw.writing())",
)


def upgrade() -> None:
    """Makes the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Forgets it: what is sent again is done again."""
    op.execute("DROP TABLE fhirgw.replay")
