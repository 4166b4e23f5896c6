"""Brief AuditEvents: what those of one application and interaction have in common is kept once, under its digest.

The chain goes on as it was: a row's digest covers its body, which names the form by the digest of what that says. A
third of a row is left, or less. Older rows stay whole, and so do those of writes and of what is seldom.

The view `audited` is the one way to read bodies. To undo this the brief rows would have to be made whole, and the chain
anew: so it refuses where there are any.
"""

from alembic import op

revision = "0040"
down_revision = "0034"
branch_labels = None
depends_on = None

TABLE = r"""
CREATE TABLE fhirgw.audit_form (
    key text PRIMARY KEY,
    pieces text[] NOT NULL,
    holes smallint[] NOT NULL,
    CONSTRAINT audit_form_key CHECK (key = left(encode(sha256(convert_to(
        array_to_string(pieces || array_to_string(holes, ','), E'\n'), 'UTF8')), 'hex'), 32))
)"""
GUARD = """
CREATE TRIGGER audit_form_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fhirgw.audit_form
    FOR EACH STATEMENT EXECUTE FUNCTION fhirgw.audit_refuse()"""

# Every name is told in full instead of by a SET clause, which would be set and unset for every row.
EVENT = r"""
CREATE FUNCTION fhirgw.audit_event(body text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN body NOT LIKE '~%' THEN body ELSE (
        SELECT pg_catalog.string_agg(piece ||
            CASE hole WHEN 0 THEN '' ELSE (pg_catalog.string_to_array(body, E'\n'))[hole + 1] END, '' ORDER BY at)
        FROM fhirgw.audit_form form, unnest(form.pieces, form.holes) WITH ORDINALITY AS part (piece, hole, at)
        WHERE form.key = pg_catalog.substr(pg_catalog.split_part(body, E'\n', 1), 2)
    ) END
$$"""

VIEW = """
CREATE VIEW fhirgw.audited AS
    SELECT sequence, recorded, persons, registration, organisation, purpose, outcome, fhirgw.audit_event(body) AS body,
        digest
    FROM fhirgw.audit"""

WHOLE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM fhirgw.audit WHERE body LIKE '~%') THEN
        RAISE EXCEPTION 'The audit has brief rows, which the version before cannot read: stay with this one';
    END IF;
END $$"""


def upgrade() -> None:
    """Adds the table of forms, and the view that makes brief bodies whole."""
    op.execute(TABLE)
    op.execute(GUARD)
    op.execute(EVENT)
    op.execute(VIEW)


def downgrade() -> None:
    """Takes all of it away, where nothing rests on them."""
    op.execute(WHOLE)
    op.execute("DROP VIEW fhirgw.audited")
    op.execute("DROP FUNCTION fhirgw.audit_event")
    op.execute("DROP TABLE fhirgw.audit_form")
