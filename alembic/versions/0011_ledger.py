"""The ledger of parts: what each export is made of, who has which part for how long, and what each part came to.

An export is read as of its job's snapshot whenever a part is (fhirgw.store.export), so a part that is done again comes
out the same. A part's `token` rises with each attempt: what a worker that was given up for dead finishes is refused.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

POLICIES = {
    "permitted": "FOR SELECT USING (fhirgw.permitted())",
    "written_insert": "FOR INSERT WITH CHECK (fhirgw.writing())",
    "written_update": "FOR UPDATE USING (fhirgw.writing())",
    "written_delete": "FOR DELETE USING (fhirgw.writing())",
}

STATEMENTS = (
    """
ALTER TABLE fhirgw.export_job
    ADD COLUMN asked jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN effective text[] NOT NULL DEFAULT '{}',
    ADD COLUMN policy text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN place text COLLATE "C",
    ADD COLUMN snapshot text COLLATE "C",
    ADD COLUMN time timestamptz""",
    "CREATE INDEX export_job_by_created ON fhirgw.export_job (created)",
    """
CREATE TABLE fhirgw.export_part (
    job text COLLATE "C" NOT NULL REFERENCES fhirgw.export_job ON DELETE CASCADE,
    number int NOT NULL,
    kind text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL DEFAULT '',
    low text COLLATE "C",
    high text COLLATE "C",
    state text COLLATE "C" NOT NULL DEFAULT 'waiting',
    attempts int NOT NULL DEFAULT 0,
    token bigint NOT NULL DEFAULT 0,
    lease timestamptz,
    worker text COLLATE "C",
    expected bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    sha256 text COLLATE "C",
    key text COLLATE "C",
    reason text COLLATE "C",
    PRIMARY KEY (job, number),
    CONSTRAINT export_part_kind CHECK (kind IN ('plan', 'output', 'deleted', 'error')),
    CONSTRAINT export_part_state CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    CONSTRAINT export_part_leased CHECK ((state = 'running') = (lease IS NOT NULL)),
    CONSTRAINT export_part_done CHECK (state <> 'done' OR kind = 'plan' OR (sha256 IS NOT NULL AND key IS NOT NULL))
)""",
    "CREATE INDEX export_part_open ON fhirgw.export_part (job, number) WHERE state IN ('waiting', 'running')",
)


def upgrade() -> None:
    """Makes the table and locks it: a job's key ranges are ids."""
    for statement in STATEMENTS:
        op.execute(statement)
    op.execute("ALTER TABLE fhirgw.export_part ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    for name, policy in POLICIES.items():
        op.execute(f"CREATE POLICY {name} ON fhirgw.export_part {policy}")


def downgrade() -> None:
    """Forgets the parts; finished exports keep their manifests."""
    op.execute("DROP TABLE fhirgw.export_part")
    op.execute("DROP INDEX fhirgw.export_job_by_created")
    columns = ", ".join(f"DROP COLUMN {name}" for name in ("asked", "effective", "policy", "snapshot", "time", "place"))
    op.execute(f"ALTER TABLE fhirgw.export_job {columns}")
