"""Exports asked for over HTTP: what was asked, under which permit, how far each is and what it left behind."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.execute(
        """
CREATE TABLE fhirgw.export_job (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    state text COLLATE "C" NOT NULL DEFAULT 'running',
    permit jsonb NOT NULL,
    types text[] NOT NULL,
    request text NOT NULL,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished timestamptz,
    polled boolean NOT NULL DEFAULT false,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    expected bigint NOT NULL DEFAULT 0,
    result jsonb,
    CONSTRAINT export_job_state CHECK (state IN ('running', 'done', 'failed', 'cancelled'))
)"""
    )


def downgrade() -> None:
    """Forgets the exports; their files stay."""
    op.execute("DROP TABLE fhirgw.export_job")
