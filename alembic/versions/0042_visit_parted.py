"""Who takes somebody's number or record away waits for pushes of visits of theirs that have begun, and no other waits.

A push reads whose its visits are, and writes them; what is taken away meanwhile it cannot see, nor can its visits be
seen by who takes it away. So both meet at a lock by person, which pushes share and which is had alone by who takes
something away: before it looks for their visits, and until its transaction ends. A push that had to wait for it, or
came after it, finds the person in `visit_parting`, and asks anew whose the visits are (fhirgw.store.visits).

Locks are of one in 256 people, so that a load which takes away much has no more of them than that.
"""

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

LOCK = """
CREATE FUNCTION fhirgw.visit_place(person text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT hashtext(person COLLATE "C") & 255
$$"""
PART = """
CREATE FUNCTION fhirgw.visit_part(persons text[]) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(47, place) FROM (
        SELECT DISTINCT fhirgw.visit_place(person) FROM unnest(persons) AS person ORDER BY 1) AS places (place);
    INSERT INTO fhirgw.visit_parting (patient, moment)
    SELECT DISTINCT person, statement_timestamp() FROM unnest(persons) AS person ORDER BY 1
    ON CONFLICT (patient) DO UPDATE SET moment = excluded.moment;
    RETURN fhirgw.visit_leave(persons);
END $$"""
NUMBER_GONE = """
CREATE OR REPLACE FUNCTION fhirgw.visit_number_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM gone) THEN
        PERFORM fhirgw.visit_part(ARRAY(SELECT DISTINCT patient FROM gone));
    END IF;
    RETURN NULL;
END $$"""
PERSON_GONE = """
CREATE OR REPLACE FUNCTION fhirgw.visit_person_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM made WHERE type = 'Patient' AND kind = 'delete') THEN
        PERFORM fhirgw.visit_part(ARRAY(SELECT DISTINCT id FROM made WHERE type = 'Patient' AND kind = 'delete'));
    END IF;
    RETURN NULL;
END $$"""

NUMBER_WENT = """
CREATE OR REPLACE FUNCTION fhirgw.visit_number_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fhirgw.visit_leave(ARRAY(SELECT DISTINCT patient FROM gone));
    RETURN NULL;
END $$"""
PERSON_WENT = """
CREATE OR REPLACE FUNCTION fhirgw.visit_person_gone() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    persons text[];
BEGIN
    IF EXISTS (SELECT FROM made WHERE type = 'Patient' AND kind = 'delete') THEN
        persons := ARRAY(SELECT DISTINCT id FROM made WHERE type = 'Patient' AND kind = 'delete');
        PERFORM fhirgw.visit_leave(persons);
        INSERT INTO fhirgw.visit_parting (patient, moment) SELECT unnest(persons), statement_timestamp()
        ON CONFLICT (patient) DO UPDATE SET moment = excluded.moment;
    END IF;
    RETURN NULL;
END $$"""


def upgrade() -> None:
    """Lets those who take away and those who push meet."""
    for statement in (LOCK, PART, NUMBER_GONE, PERSON_GONE):
        op.execute(statement)


def downgrade() -> None:
    """Leaves what is written meanwhile to the sweep."""
    for statement in (NUMBER_WENT, PERSON_WENT):
        op.execute(statement)
    op.execute("DROP FUNCTION fhirgw.visit_part(text[]), fhirgw.visit_place(text)")
