"""What agreements have had with pseudonyms: as of when, and of which lists of people, as long as they may have more.

What comes after is compared with it (fhirgw.jobs.apart), long after the files are gone. Exports that are there have
pseudonyms of keys that were not their agreement's, by which nobody could be taken out any more: they are cancelled.
"""

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

POLICIES = {
    "permitted": "FOR SELECT USING (fhirgw.permitted())",
    "written_insert": "FOR INSERT WITH CHECK (fhirgw.writing())",
    "written_update": "FOR UPDATE USING (fhirgw.writing())",
    "written_delete": "FOR DELETE USING (fhirgw.writing())",
}
TABLES = (
    """
CREATE TABLE fhirgw.pseudonymised (
    organisation text COLLATE "C" NOT NULL,
    agreement text COLLATE "C" NOT NULL,
    project text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    PRIMARY KEY (organisation, agreement, project, time)
)""",
    """
CREATE TABLE fhirgw.pseudonymised_cohort (
    organisation text COLLATE "C" NOT NULL,
    agreement text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    members text[] COLLATE "C" NOT NULL,
    PRIMARY KEY (organisation, agreement, digest)
)""",
)
OLD = (
    "SET LOCAL fhirgw.writing = 'on'",
    "UPDATE fhirgw.export_job SET state = 'cancelled', finished = clock_timestamp()"
    " WHERE state <> 'cancelled' AND asked ->> 'project' IS NOT NULL",
)


def upgrade() -> None:
    """Makes the tables, and locks the one that has people's ids in it."""
    for each in (*OLD, *TABLES):
        op.execute(each)
    op.execute("ALTER TABLE fhirgw.pseudonymised_cohort ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    for name, policy in POLICIES.items():
        op.execute(f"CREATE POLICY {name} ON fhirgw.pseudonymised_cohort {policy}")


def downgrade() -> None:
    """Forgets what was had."""
    op.execute("DROP TABLE fhirgw.pseudonymised_cohort, fhirgw.pseudonymised")
