"""Exports of other servers that are taken in: what was asked for, and the ledger of its files.

One at a time of each source is under way. What it was as of (`time`) is what the next one is asked for since.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE fhirgw.pull (
    id text COLLATE "C" PRIMARY KEY,
    source text COLLATE "C" NOT NULL,
    base text COLLATE "C" NOT NULL,
    asked text COLLATE "C" NOT NULL,
    place text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'asked'
        CONSTRAINT pull_state CHECK (state IN ('asked', 'waiting', 'fetching', 'done', 'failed')),
    since text COLLATE "C",
    status_url text COLLATE "C",
    time text COLLATE "C",
    reason text COLLATE "C",
    token boolean,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished timestamptz,
    CONSTRAINT pull_finished CHECK ((state IN ('done', 'failed')) = (finished IS NOT NULL)),
    CONSTRAINT pull_time CHECK (state NOT IN ('fetching', 'done') OR time IS NOT NULL)
)""",
    "CREATE UNIQUE INDEX pull_open ON fhirgw.pull (source) WHERE finished IS NULL",
    """
CREATE TABLE fhirgw.pull_file (
    pull text COLLATE "C" NOT NULL REFERENCES fhirgw.pull (id) ON DELETE CASCADE,
    number integer NOT NULL,
    kind text COLLATE "C" NOT NULL CONSTRAINT pull_file_kind CHECK (kind IN ('output', 'deleted', 'error')),
    type text COLLATE "C" NOT NULL,
    url text COLLATE "C" NOT NULL,
    count bigint,
    state text COLLATE "C" NOT NULL DEFAULT 'waiting'
        CONSTRAINT pull_file_state CHECK (state IN ('waiting', 'done')),
    attempts integer NOT NULL DEFAULT 0,
    packed boolean NOT NULL DEFAULT false,
    bytes bigint,
    lines bigint,
    etag text COLLATE "C",
    sha256 text COLLATE "C",
    name text COLLATE "C",
    PRIMARY KEY (pull, number),
    CONSTRAINT pull_file_done CHECK (state <> 'done' OR (sha256 IS NOT NULL AND name IS NOT NULL))
)""",
)


def upgrade() -> None:
    """Adds both tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes them away."""
    op.execute("DROP TABLE fhirgw.pull_file, fhirgw.pull")
