"""Amended visits are joined with what they were before, and new ones with their lines, as a batch is.

A statement's trigger is planned once for a session, and first for a batch that amends nothing: for none, a loop over
all pairs is cheapest, and it stays. 500 amended visits cost 190 microseconds each by it, and 40 without.

Lines were looked for visit by visit, 200 microseconds each, and by the sweep for all that wait: now once for all that
name one, and the sweep asks of each that they name once.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

JOINING = "fhirgw.visit_superseded()"
SWEEPING = "fhirgw.visit_sweep()"

# As visit_lined has it (0038), which asks this now. `parties` are of the providers `code`, apart by what no text has.
# Lines are found by whose they are, never by their tokens, of which nearly all have the same.
LINES = r"""
CREATE FUNCTION fhirgw.visit_lines(provider text[], person text[], ordered text[], code text[], parties text[])
RETURNS TABLE (of_provider text, of_person text, called text, line text) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH asked AS MATERIALIZED (
        SELECT p, w, o, fhirgw.token('identifier||' || o) AS named FROM unnest(provider, person, ordered) AS a (p, w, o)
    ), performing AS MATERIALIZED (
        SELECT c, ARRAY(SELECT fhirgw.token(CASE WHEN starts_with(party, 'Organization/')
            THEN 'performer|' || party ELSE 'performer:identifier|' || party END)
            FROM unnest(string_to_array(s, E'\x03')) AS party) AS tokens
        FROM unnest(code, parties) AS k (c, s)
    ), held AS MATERIALIZED (
        SELECT r.patient, r.id, r.tokens FROM fhirgw.resource r
        WHERE r.type = 'ServiceRequest' AND r.patient = ANY (person) AND r.labels = 0
            AND fhirgw.token('intent||order') = ANY (r.tokens)
            AND (fhirgw.token('status||active') = ANY (r.tokens) OR fhirgw.token('status||on-hold') = ANY (r.tokens)
                OR fhirgw.token('status||completed') = ANY (r.tokens)))
    SELECT a.p, a.w, a.o, coalesce(min(h.id), '') FROM asked a JOIN performing k ON k.c = a.p
    LEFT JOIN held h ON h.patient = a.w AND (h.id = a.o OR a.named = ANY (h.tokens)) AND h.tokens && k.tokens
    GROUP BY a.p, a.w, a.o
$$"""
LINED = r"""
CREATE OR REPLACE FUNCTION fhirgw.visit_lined(ordered text, parties text[], person text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT line FROM fhirgw.visit_lines(
        ARRAY[''], ARRAY[person], ARRAY[ordered], ARRAY[''], ARRAY[array_to_string(parties, E'\x03')])
    WHERE ordered IS NOT NULL AND person IS NOT NULL
$$"""

LOOKED = r"""
        ), known AS MATERIALIZED (
            SELECT provider, fhirgw.visit_parties(provider) AS parties
            FROM (SELECT DISTINCT provider FROM lineless) AS p)
        SELECT l.key FROM lineless l JOIN known k USING (provider)
        WHERE fhirgw.visit_lined(l.ordered, k.parties, l.patient) <> '' LIMIT"""
FOUND = r"""
        ), known AS MATERIALIZED (
            SELECT array_agg(provider) AS code,
                array_agg(array_to_string(fhirgw.visit_parties(provider), E'\x03')) AS parties
            FROM (SELECT DISTINCT provider FROM lineless) AS p
        ), named AS MATERIALIZED (
            SELECT array_agg(provider) AS provider, array_agg(patient) AS person, array_agg(ordered) AS ordered
            FROM (SELECT DISTINCT provider, patient, ordered FROM lineless WHERE ordered IS NOT NULL) AS n
        ), lines AS MATERIALIZED (
            SELECT f.* FROM named n, known k,
                fhirgw.visit_lines(n.provider, n.person, n.ordered, k.code, k.parties) AS f WHERE f.line <> '')
        SELECT l.key FROM lineless l JOIN lines f
            ON f.of_provider = l.provider AND f.of_person = l.patient AND f.called = l.ordered LIMIT"""


def _sweeps(was: str, now: str) -> None:
    """Puts a text of the sweep in place of another; raises ValueError where it is not there, once."""
    (body,) = op.get_bind().exec_driver_sql(f"SELECT pg_get_functiondef('{SWEEPING}'::regprocedure)").one()
    if body.count(was) != 1:
        raise ValueError("the sweep is not as 0038 has made it: look for what it is amended by")
    op.get_bind().exec_driver_sql(body.replace(was, now))


def upgrade() -> None:
    """Joins whole batches."""
    op.execute(f"ALTER FUNCTION {JOINING} SET enable_nestloop = off")
    op.get_bind().exec_driver_sql(LINES)
    op.get_bind().exec_driver_sql(LINED)
    _sweeps(LOOKED, FOUND)


def downgrade() -> None:
    """Leaves joining to the first batch, and looks for lines one by one."""
    _sweeps(FOUND, LOOKED)
    op.get_bind().exec_driver_sql(_lined_before())
    op.execute("DROP FUNCTION fhirgw.visit_lines(text[], text[], text[], text[], text[])")
    op.execute(f"ALTER FUNCTION {JOINING} RESET enable_nestloop")


def _lined_before() -> str:
    """visit_lined as 0038 makes it."""
    spec = spec_from_file_location("visit_line", Path(__file__).with_name("0038_visit_line.py"))
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    (made,) = (each for each in module.NEW if "CREATE FUNCTION fhirgw.visit_lined" in each)
    return str(made).replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
