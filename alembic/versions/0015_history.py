"""What changed last, of a type and of everything: by index. Without one a page of it reads and sorts all of history."""

from alembic import op

revision = "0015"
down_revision = "0013"
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE INDEX history_by_updated ON fhirgw.history (updated)",
    "CREATE INDEX history_by_type ON fhirgw.history (type, updated)",
    # The few of which something is withheld: each version that is shown is compared with those (store/visibility).
    "CREATE INDEX history_withheld ON fhirgw.history (type, id) WHERE labels <> 0 OR redacted IS NOT NULL",
    "CREATE INDEX resource_withheld ON fhirgw.resource (id) WHERE labels <> 0 OR redacted IS NOT NULL",
)


def upgrade() -> None:
    """Makes them."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes them away."""
    op.execute("DROP INDEX fhirgw.history_by_updated, fhirgw.history_by_type")
    op.execute("DROP INDEX fhirgw.history_withheld, fhirgw.resource_withheld")
