"""What judges directives and ties, as cheap as it can be where statements are planned for their own values.

Who searches plans each statement anew, and in such a session PL/pgSQL would plan what is inside of a function anew too,
at every call: that took 200 µs where running it takes 5. So each of these functions keeps its plan. One directive is
judged by what it says; only a deny that is about whoever asks is held against the person's permits. The list of who is
forbidden reads those who deny, and no index by person, which PostgreSQL would else skip through for the effects. What
it costs to ask is told as it is: where it was told as a fivefold, the few rows of a person were sifted by a whole index
of dates first.
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

KEPT = "SET plan_cache_mode = force_generic_plan"
TIED = "ALTER FUNCTION fhirgw.tied(text, text[], text[], timestamptz)"
FORBIDS = """
CREATE OR REPLACE FUNCTION fhirgw.forbids(
    rule fhirgw.directive, kind text, classes int, asking text[], purpose text, named boolean, at timestamptz,
    effects text[], whereabouts boolean
) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE COST {} AS $$
BEGIN
    {}
END $$"""
JUDGED = """IF NOT rule.effect = ANY (effects) OR rule.starts > at OR rule.ends <= at THEN RETURN false; END IF;
    IF rule.effect <> 'deny' THEN RETURN rule.effect = 'seal' OR whereabouts; END IF;
    IF fhirgw.regards(rule, kind, classes, asking, purpose, named, at) IS NOT TRUE THEN RETURN false; END IF;
    RETURN NOT EXISTS (
        SELECT FROM fhirgw.directive p
        WHERE p.person = rule.person AND p.effect = 'permit' AND p.weight > rule.weight
        AND fhirgw.regards(p, forbids.kind, forbids.classes, asking, forbids.purpose, named, at));"""
FORBIDDEN = """
CREATE OR REPLACE FUNCTION fhirgw.forbidden(
    kind text, asking text[], purpose text, named boolean, at timestamptz, effects text[], whereabouts boolean
) RETURNS SETOF text LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 500 SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY SELECT d.person FROM fhirgw.directive d
    WHERE d.effect <> 'permit' AND d.effect{} = ANY (effects) AND d.starts <= at AND d.ends > at
    AND CASE WHEN d.effect = 'deny' THEN
        fhirgw.regards(d, forbidden.kind, 0, asking, forbidden.purpose, named, at) AND NOT EXISTS (
            SELECT FROM fhirgw.directive p WHERE p.person = d.person AND p.effect = 'permit' AND p.weight > d.weight
            AND fhirgw.regards(p, forbidden.kind, 0, asking, forbidden.purpose, named, at))
        ELSE d.effect = 'seal' OR whereabouts END;
END $$"""
# An alert is a Task; whose visit it is of stands beside it.
OWN_ALERT = f"""
CREATE FUNCTION fhirgw.own_alert(alert text, asking text) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE COST 100 {KEPT} AS $$
BEGIN
    RETURN EXISTS (SELECT FROM fhirgw.visit_alert a WHERE a.id = alert AND a.provider = asking);
END $$"""
CONCERNS = """
CREATE FUNCTION fhirgw.concerns(
    rule fhirgw.directive, kind text, classes int, asking text[], purpose text, named boolean, at timestamptz
) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 100 AS $$
BEGIN
    RETURN fhirgw.regards(rule, kind, classes, asking, purpose, named, at);
END $$"""
BEFORE = """IF NOT rule.effect = ANY (effects) THEN RETURN false; END IF;
    IF rule.effect = 'deny' THEN
        RETURN fhirgw.concerns(rule, kind, classes, asking, purpose, named, at) AND NOT EXISTS (
            SELECT FROM fhirgw.directive p
            WHERE p.person = rule.person AND p.effect = 'permit' AND p.weight > rule.weight
            AND fhirgw.concerns(p, forbids.kind, forbids.classes, asking, forbids.purpose, named, at));
    END IF;
    RETURN rule.starts <= at AND rule.ends > at AND (rule.effect = 'seal' OR whereabouts);"""


def upgrade() -> None:
    """Makes them keep their plans."""
    op.execute(FORBIDS.format(f"10 {KEPT}", JUDGED))
    op.execute(FORBIDDEN.format(" || ''"))
    op.execute(f"{TIED} COST 200 {KEPT}")
    op.execute(OWN_ALERT)
    op.execute("DROP FUNCTION fhirgw.concerns")


def downgrade() -> None:
    """As they were."""
    op.execute(CONCERNS)
    op.execute("DROP FUNCTION fhirgw.own_alert")
    op.execute(f"{TIED} COST 1000 RESET plan_cache_mode")
    op.execute(FORBIDDEN.format(""))
    op.execute(FORBIDS.format("100", BEFORE))
