"""Search to the letter: numbers, dates that repeat, which parameters have a value; and pages exact while others write.

For these a version says which transaction wrote it and which ended it, and takes what it was found by into history.
Rows from before have no bits and no numbers until they are indexed again, which `fhirgw migrate` does (store/reindex).
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

DATES = ", ".join(f"ADD COLUMN date{slot}_{end} timestamptz" for slot in (1, 2, 3, 4) for end in ("low", "high"))
AS_OF = (
    "ADD COLUMN present bigint NOT NULL DEFAULT 0, ADD COLUMN transaction xid8 NOT NULL DEFAULT pg_current_xact_id()"
)
GUARDED = ("search_number", "search_span")

STATEMENTS = (
    f"ALTER TABLE fhirgw.resource {AS_OF}",
    f"ALTER TABLE fhirgw.history {DATES}, {AS_OF},"
    " ADD COLUMN superseded xid8 NOT NULL DEFAULT pg_current_xact_id(), ADD COLUMN beside jsonb",
    "CREATE INDEX history_by_superseded ON fhirgw.history (type, superseded)",
    """
CREATE TABLE fhirgw.search_number (
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    place text COLLATE "C" NOT NULL,
    low double precision NOT NULL,
    high double precision NOT NULL,
    system text COLLATE "C",
    code text COLLATE "C",
    unit text COLLATE "C",
    tokens bigint[]
)""",
    "CREATE INDEX search_number_by_value ON fhirgw.search_number (type, place, low)",
    "CREATE INDEX search_number_by_high ON fhirgw.search_number (type, place, high)",
    "CREATE INDEX search_number_by_resource ON fhirgw.search_number (type, id)",
    """
CREATE TABLE fhirgw.search_span (
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    param text COLLATE "C" NOT NULL,
    low timestamptz NOT NULL,
    high timestamptz NOT NULL
)""",
    "CREATE INDEX search_span_by_value ON fhirgw.search_span (type, param, low)",
    "CREATE INDEX search_span_by_high ON fhirgw.search_span (type, param, high)",
    "CREATE INDEX search_span_by_resource ON fhirgw.search_span (type, id)",
    """
CREATE TABLE fhirgw.indexed (
    one boolean NOT NULL PRIMARY KEY DEFAULT true,
    version int NOT NULL,
    type text COLLATE "C" NOT NULL DEFAULT '',
    id text COLLATE "C" NOT NULL DEFAULT '',
    CONSTRAINT indexed_one CHECK (one)
)""",
    """
CREATE TABLE fhirgw.cursor_key (
    one boolean NOT NULL PRIMARY KEY DEFAULT true,
    key bytea NOT NULL,
    CONSTRAINT cursor_key_one CHECK (one)
)""",
    # What is random in a version 4 UUID are 122 bits, from the server's strong source: two of them make one key.
    "INSERT INTO fhirgw.cursor_key (key) SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))",
    # Rows of before are laid out as version 1; where there are none, there is nothing to index again.
    "INSERT INTO fhirgw.indexed (version) VALUES (1)",
    # Stable: it sees the side tables as they were when the statement began that supersedes what they are about.
    """
CREATE FUNCTION fhirgw.beside(of_type text, of_id text) RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE strings jsonb; numbers jsonb; spans jsonb; BEGIN
    SELECT jsonb_agg(jsonb_build_object('param', t.param, 'value', t.value)) INTO strings
        FROM fhirgw.search_string t WHERE t.type = of_type AND t.id = of_id;
    SELECT jsonb_agg(jsonb_build_object('place', t.place, 'low', t.low::text, 'high', t.high::text,
        'system', t.system, 'code', t.code, 'unit', t.unit, 'tokens', t.tokens)) INTO numbers
        FROM fhirgw.search_number t WHERE t.type = of_type AND t.id = of_id;
    SELECT jsonb_agg(jsonb_build_object('param', t.param, 'low', t.low, 'high', t.high)) INTO spans
        FROM fhirgw.search_span t WHERE t.type = of_type AND t.id = of_id;
    RETURN nullif(jsonb_strip_nulls(jsonb_build_object('strings', strings, 'numbers', numbers, 'spans', spans)), '{}');
END $$""",
    # The values at a path of properties, through every list on the way. json, not jsonb: that would spell out 1e131071.
    """
CREATE FUNCTION fhirgw.at(node json, path text[]) RETURNS SETOF json LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF json_typeof(node) = 'array' THEN
        RETURN QUERY SELECT v FROM json_array_elements(node) AS e, fhirgw.at(e, path) AS v;
    ELSIF cardinality(path) = 0 THEN
        RETURN NEXT node;
    ELSIF json_typeof(node) = 'object' AND node -> path[1] IS NOT NULL THEN
        RETURN QUERY SELECT v FROM fhirgw.at(node -> path[1], path[2:]) AS v;
    END IF;
END $$""",
    # Text as it is compared, of what is kept and of what is asked alike: without case, accents or spare spaces.
    r"""
CREATE FUNCTION fhirgw.folded(said text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT btrim(regexp_replace(
        lower(regexp_replace(normalize(said, NFKD), '[\u0300-\u036f]', '', 'g')), '\s+', ' ', 'g'))
$$""",
)


def upgrade() -> None:
    """Makes the columns and tables; no row is written, but where rows are the automatic values are read as of now."""
    for statement in STATEMENTS:
        op.execute(statement)
    for table in GUARDED:
        op.execute(f"ALTER TABLE fhirgw.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY permitted ON fhirgw.{table} FOR SELECT USING (fhirgw.permitted())")
        for command, check in (
            ("INSERT", "WITH CHECK (fhirgw.writing())"),
            ("UPDATE", "USING (fhirgw.writing())"),
            ("DELETE", "USING (fhirgw.writing())"),
        ):
            op.execute(f"CREATE POLICY written_{command.lower()} ON fhirgw.{table} FOR {command} {check}")


def downgrade() -> None:
    """Forgets what more can be searched by."""
    op.execute("DROP FUNCTION fhirgw.beside, fhirgw.at, fhirgw.folded")
    op.execute("DROP TABLE fhirgw.search_number, fhirgw.search_span, fhirgw.indexed, fhirgw.cursor_key")
    op.execute("ALTER TABLE fhirgw.resource DROP COLUMN present, DROP COLUMN transaction")
    dates = ", ".join(f"DROP COLUMN date{slot}_{end}" for slot in (1, 2, 3, 4) for end in ("low", "high"))
    op.execute(
        f"ALTER TABLE fhirgw.history {dates}, DROP COLUMN present, DROP COLUMN transaction, DROP COLUMN superseded,"
        " DROP COLUMN beside"
    )
