"""What was pulled and is loaded, exports that no worker may take, and whom a Group has had only since a moment."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
ALTER TABLE fhirgw.pull
    ADD COLUMN loaded timestamptz,
    ADD COLUMN refused bigint,
    ADD CONSTRAINT pull_loaded CHECK (loaded IS NULL OR (state = 'done' AND refused IS NOT NULL))""",
    "ALTER TABLE fhirgw.export_job ADD COLUMN local boolean NOT NULL DEFAULT false",
    "ALTER TABLE fhirgw.export_member ADD COLUMN joined boolean NOT NULL DEFAULT false",
)


def upgrade() -> None:
    """Of pulls of before nobody knows whether they were loaded: not by this."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Exports of the command line's own that have not ended are forgotten: any worker would take them."""
    op.execute("DELETE FROM fhirgw.export_job WHERE local AND state = 'running'")
    op.execute("ALTER TABLE fhirgw.export_member DROP COLUMN joined")
    op.execute("ALTER TABLE fhirgw.export_job DROP COLUMN local")
    op.execute("ALTER TABLE fhirgw.pull DROP COLUMN loaded, DROP COLUMN refused")
