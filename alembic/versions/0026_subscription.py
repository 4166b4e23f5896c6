"""Subscriptions to topics: who is to be told what, how far they have been; and what happened that they are told of.

A subscription has read the change log up to a snapshot: what that shows has become its notices, or was none of its
business. A notice is of one event, and is kept a while after it was sent, to be asked for again.
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

TABLES = ("subscription", "notice")

POLICIES = {
    "permitted": "FOR SELECT USING (fhirgw.permitted())",
    "written_insert": "FOR INSERT WITH CHECK (fhirgw.writing())",
    "written_update": "FOR UPDATE USING (fhirgw.writing())",
    "written_delete": "FOR DELETE USING (fhirgw.writing())",
}

STATEMENTS = (
    """
CREATE TABLE fhirgw.subscription (
    id text COLLATE "C" PRIMARY KEY,
    registration text COLLATE "C" NOT NULL,
    scopes text COLLATE "C" NOT NULL,
    purpose text COLLATE "C" NOT NULL,
    base text COLLATE "C" NOT NULL,
    version int NOT NULL DEFAULT 1,
    updated timestamptz NOT NULL DEFAULT clock_timestamp(),
    status text COLLATE "C" NOT NULL,
    body text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    filters text[] NOT NULL,
    endpoint text COLLATE "C" NOT NULL,
    origin text COLLATE "C" NOT NULL,
    headers text[] NOT NULL,
    content text COLLATE "C" NOT NULL,
    most int NOT NULL,
    seconds int NOT NULL,
    heartbeat int,
    ends timestamptz,
    snapshot text COLLATE "C",
    floor bigint NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    sent bigint NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 0,
    failing timestamptz,
    reason text COLLATE "C",
    due timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat timestamptz NOT NULL DEFAULT 'infinity',
    lease timestamptz,
    token bigint NOT NULL DEFAULT 0,
    worker text COLLATE "C",
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT subscription_status CHECK (status IN ('requested', 'active', 'error', 'off')),
    CONSTRAINT subscription_content CHECK (content IN ('empty', 'id-only', 'full-resource')),
    CONSTRAINT subscription_sent CHECK (sent <= events)
)""",
    "CREATE INDEX subscription_by_registration ON fhirgw.subscription (registration)",
    """
CREATE TABLE fhirgw.notice (
    subscription text COLLATE "C" NOT NULL REFERENCES fhirgw.subscription ON DELETE CASCADE,
    number bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    happened timestamptz NOT NULL,
    noted timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscription, number),
    CONSTRAINT notice_kind CHECK (kind IN ('create', 'update', 'delete'))
)""",
    "CREATE INDEX notice_by_noted ON fhirgw.notice USING brin (noted)",
    # What transactions that have ended since have changed: they end in another order than they began.
    "CREATE INDEX change_by_transaction ON fhirgw.change (transaction)",
)


def upgrade() -> None:
    """Makes the tables and locks them: notices name resources, and headers are secrets."""
    for statement in STATEMENTS:
        op.execute(statement)
    for table in TABLES:
        op.execute(f"ALTER TABLE fhirgw.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        for name, policy in POLICIES.items():
            op.execute(f"CREATE POLICY {name} ON fhirgw.{table} {policy}")


def downgrade() -> None:
    """Forgets who subscribed, and what they were still to be told."""
    op.execute("DROP INDEX fhirgw.change_by_transaction")
    op.execute("DROP TABLE fhirgw.notice, fhirgw.subscription")
