"""What a week's ledger looks visits up by: those that nobody planned, those in vain, those that a batch has changed."""

from alembic import op

revision = "0024"
down_revision = "0022"
branch_labels = None
depends_on = None

INDEXES = {
    # Of few visits each; the third is a few pages.
    "visit_unplanned": "(began) WHERE start IS NULL",
    "visit_in_vain": "(patient, start) WHERE outcome = 'hospital'",
    "visit_by_change": "USING brin (updated)",
}


def upgrade() -> None:
    """Makes the indexes."""
    for name, what in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON fhirgw.visit {what}")


def downgrade() -> None:
    """Drops them."""
    for name in INDEXES:
        op.execute(f"DROP INDEX fhirgw.{name}")
