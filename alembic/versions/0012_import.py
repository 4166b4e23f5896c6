"""Imports of NDJSON: what was asked for, how far each input is, why lines were refused, and which references wait.

How far an input is changes in the transaction that takes its lines in: whoever goes on, after whatever, goes on there.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
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
CREATE TABLE fhirgw.import_job (
    id text COLLATE "C" PRIMARY KEY,
    state text COLLATE "C" NOT NULL DEFAULT 'running',
    permit jsonb NOT NULL,
    origin text COLLATE "C" NOT NULL,
    bases text[] NOT NULL DEFAULT '{}',
    local boolean NOT NULL DEFAULT false,
    request text COLLATE "C" NOT NULL,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished timestamptz,
    polled boolean NOT NULL DEFAULT false,
    result jsonb,
    CONSTRAINT import_job_state CHECK (state IN ('running', 'done', 'cancelled'))
)""",
    "CREATE INDEX import_job_by_created ON fhirgw.import_job (created)",
    """
CREATE TABLE fhirgw.import_input (
    job text COLLATE "C" NOT NULL REFERENCES fhirgw.import_job ON DELETE CASCADE,
    number int NOT NULL,
    source text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL DEFAULT '',
    stamp text COLLATE "C",
    state text COLLATE "C" NOT NULL DEFAULT 'waiting',
    attempts int NOT NULL DEFAULT 0,
    token bigint NOT NULL DEFAULT 0,
    lease timestamptz,
    worker text COLLATE "C",
    size bigint NOT NULL DEFAULT 0,
    place bigint NOT NULL DEFAULT 0,
    line bigint NOT NULL DEFAULT 1,
    created bigint NOT NULL DEFAULT 0,
    updated bigint NOT NULL DEFAULT 0,
    unchanged bigint NOT NULL DEFAULT 0,
    refused bigint NOT NULL DEFAULT 0,
    reason text COLLATE "C",
    PRIMARY KEY (job, number),
    CONSTRAINT import_input_state CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    CONSTRAINT import_input_leased CHECK ((state = 'running') = (lease IS NOT NULL))
)""",
    """
CREATE TABLE fhirgw.import_error (
    job text COLLATE "C" NOT NULL,
    input int NOT NULL,
    line bigint NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    PRIMARY KEY (job, input, line),
    FOREIGN KEY (job, input) REFERENCES fhirgw.import_input (job, number) ON DELETE CASCADE
)""",
    """
CREATE TABLE fhirgw.import_reference (
    job text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    input int NOT NULL,
    line bigint NOT NULL,
    PRIMARY KEY (job, type, id),
    FOREIGN KEY (job, input) REFERENCES fhirgw.import_input (job, number) ON DELETE CASCADE
)""",
)

TABLES = ("import_reference", "import_error", "import_input", "import_job")


def upgrade() -> None:
    """Makes the tables and locks them: ids of people's resources are in them."""
    for statement in STATEMENTS:
        op.execute(statement)
    for table in TABLES:
        op.execute(f"ALTER TABLE fhirgw.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        for name, policy in POLICIES.items():
            op.execute(f"CREATE POLICY {name} ON fhirgw.{table} {policy}")


def downgrade() -> None:
    """Forgets the imports; what they brought stays, with its lineage."""
    for table in TABLES:
        op.execute(f"DROP TABLE fhirgw.{table}")
