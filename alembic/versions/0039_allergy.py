"""Allergies and intolerances: a partition of their own."""

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the partition, and locks it."""
    op.execute(
        "CREATE TABLE fhirgw.resource_allergyintolerance PARTITION OF fhirgw.resource"
        " FOR VALUES IN ('AllergyIntolerance') WITH (toast_tuple_target = 2032)"
    )
    op.execute("ALTER TABLE fhirgw.resource_allergyintolerance ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    """Forgets allergies: no earlier version knows of any."""
    op.execute("DROP TABLE fhirgw.resource_allergyintolerance")
