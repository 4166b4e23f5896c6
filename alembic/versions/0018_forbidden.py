"""Whom a directive forbids, all at once: for reading a whole table, or counting what matches.

Of rows with no class of their own it depends on nothing but their kind, and most rows are such: one list of persons,
made once a statement, decides about them. It says what `fhirgw.forbids` (0003) says of each. The function keeps its
plan; spelt out in a statement the same was planned in 0.8 ms each time. What judges one directive says what it costs:
it is asked after all that is cheaper.
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


FORBIDS = """
ALTER FUNCTION fhirgw.forbids(fhirgw.directive, text, int, text[], text, boolean, timestamptz, text[], boolean) COST"""


def upgrade() -> None:
    """Adds the function."""
    op.execute(f"{FORBIDS} 100")
    op.execute(
        """
CREATE FUNCTION fhirgw.forbidden(
    kind text, asking text[], purpose text, named boolean, at timestamptz, effects text[], whereabouts boolean
) RETURNS SETOF text LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 500 SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY SELECT d.person FROM fhirgw.directive d
    WHERE d.effect <> 'permit' AND d.effect = ANY (effects) AND d.starts <= at AND d.ends > at
    AND CASE WHEN d.effect = 'deny' THEN
        fhirgw.regards(d, forbidden.kind, 0, asking, forbidden.purpose, named, at) AND NOT EXISTS (
            SELECT FROM fhirgw.directive p WHERE p.person = d.person AND p.effect = 'permit' AND p.weight > d.weight
            AND fhirgw.regards(p, forbidden.kind, 0, asking, forbidden.purpose, named, at))
        ELSE d.effect = 'seal' OR whereabouts END;
END $$"""
    )


def downgrade() -> None:
    """Takes it away."""
    op.execute("DROP FUNCTION fhirgw.forbidden")
    op.execute(f"{FORBIDS} 1")
