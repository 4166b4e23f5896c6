"""What a directive concerns, as a function that PostgreSQL writes into the statement: for reading a whole table.

`fhirgw.concerns` (0003) says the same. A search plans it as it is, which is a fifth of planning all of it; an export
plans once for thousands of rows, and a call would cost each row that somebody has dissented about forty microseconds.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the function."""
    op.execute(
        """
CREATE FUNCTION fhirgw.regards(
    rule fhirgw.directive, kind text, classes int, asking text[], purpose text, named boolean, at timestamptz
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT rule.starts <= at AND rule.ends > at
        AND (rule.party = ANY (asking) OR (rule.party IS NULL AND NOT named))
        AND (rule.purpose IS NULL OR rule.purpose = regards.purpose)
        AND (rule.kinds IS NULL OR regards.kind = ANY (rule.kinds))
        AND (rule.classes = 0 OR (rule.classes & regards.classes) <> 0)
$$"""
    )


def downgrade() -> None:
    """Takes it away."""
    op.execute("DROP FUNCTION fhirgw.regards")
