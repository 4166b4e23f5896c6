"""When a visit came into the record in which it is, where that was later than the visit itself: its sender is told.

Two moments that nearly all visits do not have, and which take no room there.
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE fhirgw.visit ADD COLUMN moved timestamptz, ADD COLUMN received timestamptz",
    # Whoever moves a visit, and however; what is sent with it is no other moment than when it was sent.
    """
CREATE FUNCTION fhirgw.visit_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.moved := NEW.updated;
    NEW.received := CASE WHEN NEW.version > OLD.version THEN NULL
        WHEN OLD.received IS NOT NULL AND OLD.moved = OLD.updated THEN OLD.received ELSE OLD.updated END;
    RETURN NEW;
END $$""",
    "CREATE TRIGGER visit_moved BEFORE UPDATE ON fhirgw.visit FOR EACH ROW"
    " WHEN (NEW.patient IS DISTINCT FROM OLD.patient) EXECUTE FUNCTION fhirgw.visit_moved()",
)


def upgrade() -> None:
    """Makes the columns, and what fills them."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Nobody is told since when."""
    op.execute("DROP TRIGGER visit_moved ON fhirgw.visit")
    op.execute("DROP FUNCTION fhirgw.visit_moved()")
    op.execute("ALTER TABLE fhirgw.visit DROP COLUMN received, DROP COLUMN moved")
