"""Lists of people (Group): a partition of their own, and what is served of one to whoever may not see all its members.

Bodies are JSON as text, and PostgreSQL's `json` (not `jsonb`) hands on each part of one as it is spelt: what is left of
a list keeps its decimals and its order. `targets` are what a Provenance is of; `export_member` is whom an export of a
Group is of, as of its snapshot.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

POLICIES = {
    "permitted": "FOR SELECT USING (fhirgw.permitted())",
    "written_insert": "FOR INSERT WITH CHECK (fhirgw.writing())",
    "written_update": "FOR UPDATE USING (fhirgw.writing())",
    "written_delete": "FOR DELETE USING (fhirgw.writing())",
}

# A reference to a version, `Patient/p1/_history/2`, is to who it is of. A list may have ten thousand members: each is
# looked at once, and a type that nobody is of not at all.
REFERENCE = "m #>> '{entity,reference}'"

STATEMENTS = (
    "CREATE TABLE fhirgw.resource_group PARTITION OF fhirgw.resource FOR VALUES IN ('Group')"
    " WITH (toast_tuple_target = 8160)",
    f"""
CREATE FUNCTION fhirgw.members(body text, kind text, active boolean DEFAULT false) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN strpos(body, '"' || kind || '/') = 0 THEN '{{}}' ELSE (
        SELECT coalesce(array_agg(split_part(named, '/', 2)), '{{}}') FROM (
            SELECT {REFERENCE} AS named FROM json_array_elements(body::json -> 'member') AS m
            WHERE NOT active OR coalesce(m ->> 'inactive', '') <> 'true' OFFSET 0
        ) AS found WHERE starts_with(named, kind || '/')
    ) END
$$""",
    f"""
CREATE FUNCTION fhirgw.listing(body text, shown text[]) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH member AS (
        SELECT text, at,
            (split_part(named, '/', 1) || '/' || split_part(named, '/', 2) IN (SELECT unnest(shown))) IS TRUE AS kept
        FROM (
            SELECT m::text AS text, at, {REFERENCE} AS named
            FROM json_array_elements(body::json -> 'member') WITH ORDINALITY AS each (m, at) OFFSET 0
        ) AS found
    ), kept AS (SELECT '[' || string_agg(text, ',' ORDER BY at) || ']' AS text FROM member WHERE kept)
    SELECT CASE WHEN NOT EXISTS (SELECT FROM member WHERE NOT kept) THEN body ELSE (
        SELECT '{{' || string_agg(
            to_json(key)::text || ':' || CASE key WHEN 'member' THEN kept.text ELSE value::text END, ',' ORDER BY at
        ) || '}}'
        FROM kept, json_each(body::json) WITH ORDINALITY AS each (key, value, at)
        WHERE key NOT IN ('quantity', 'text', 'contained') AND (key <> 'member' OR kept.text IS NOT NULL)
    ) END
$$""",
    """
CREATE FUNCTION fhirgw.targets(body text) RETURNS TABLE (kind text, id text) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT DISTINCT split_part(t ->> 'reference', '/', 1), split_part(t ->> 'reference', '/', 2)
    FROM json_array_elements(body::json -> 'target') AS t WHERE t ->> 'reference' IS NOT NULL
$$""",
    """
CREATE FUNCTION fhirgw.token(text text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ('x' || left(encode(sha256(convert_to(text, 'UTF8')), 'hex'), 16))::bit(64)::bigint
$$""",
    """
CREATE TABLE fhirgw.export_member (
    job text COLLATE "C" NOT NULL REFERENCES fhirgw.export_job ON DELETE CASCADE,
    patient text COLLATE "C" NOT NULL,
    PRIMARY KEY (job, patient)
)""",
)


def upgrade() -> None:
    """Makes the partition, the functions, and the table, and locks the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
    op.execute("ALTER TABLE fhirgw.resource_group ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE fhirgw.export_member ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    for name, policy in POLICIES.items():
        op.execute(f"CREATE POLICY {name} ON fhirgw.export_member {policy}")


def downgrade() -> None:
    """Forgets lists: no earlier version knows of any."""
    op.execute("DROP TABLE fhirgw.export_member")
    op.execute("DROP FUNCTION fhirgw.token, fhirgw.targets, fhirgw.listing, fhirgw.members")
    op.execute("DROP TABLE fhirgw.resource_group")
