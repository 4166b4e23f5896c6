"""Subscribers are told of homecare visits: found by the transaction that wrote them, for no change is logged of them.

A batch is one transaction, so an entry of the index is a few bytes, and is put where the last one was.
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the index, and says from when on visits are told of where a restore has begun the transactions anew."""
    op.execute("CREATE INDEX visit_by_transaction ON fhirgw.visit (transaction) WHERE patient IS NOT NULL")
    op.execute("ALTER TABLE fhirgw.subscription ADD COLUMN visited timestamptz")


def downgrade() -> None:
    """Visits are told of no more."""
    op.execute("ALTER TABLE fhirgw.subscription DROP COLUMN visited")
    op.execute("DROP INDEX fhirgw.visit_by_transaction")
