"""The view that a part of an export is written as, and how many people it is about where that must not be few."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A part of before is of none."""
    op.execute(
        """
ALTER TABLE fhirgw.export_part
    ADD COLUMN view text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN persons bigint NOT NULL DEFAULT 0"""
    )


def downgrade() -> None:
    """Exports as tables that have not ended are forgotten: nobody would know what their parts are."""
    op.execute(
        "DELETE FROM fhirgw.export_job j WHERE state = 'running'"
        " AND EXISTS (SELECT FROM fhirgw.export_part p WHERE p.job = j.id AND p.view <> '')"
    )
    op.execute("ALTER TABLE fhirgw.export_part DROP COLUMN view, DROP COLUMN persons")
