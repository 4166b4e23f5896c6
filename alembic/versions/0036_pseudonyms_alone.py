"""Registrations say whether their agreement is for pseudonymised data alone.

Those that are there keep what they had: only who made them knows what was agreed.
"""

from alembic import op

revision = "0036"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the column."""
    op.execute("ALTER TABLE fhirgw.registration ADD COLUMN pseudonyms boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """Applications for pseudonymised data are stopped first: they would read records as they are."""
    op.execute("UPDATE fhirgw.registration SET active = false WHERE pseudonyms")
    op.execute("ALTER TABLE fhirgw.registration DROP COLUMN pseudonyms")
