"""Alerts: when a visit is to be looked at, when each care provider was heard of, and which alert has which cause."""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

TABLES = ("visit_provider", "visit_alert")

STATEMENTS = (
    "ALTER TABLE fhirgw.visit ADD COLUMN due timestamptz, ADD COLUMN alerted boolean",
    # Only what may yet go wrong is in it: a visit that was made as it was to is not.
    "CREATE INDEX visit_by_due ON fhirgw.visit (due) WHERE due IS NOT NULL AND patient IS NOT NULL",
    """
CREATE TABLE fhirgw.visit_provider (
    provider text COLLATE "C" PRIMARY KEY,
    controller text COLLATE "C" NOT NULL,
    heard timestamptz NOT NULL,
    due timestamptz,
    alerted boolean
)""",
    "CREATE INDEX visit_provider_by_due ON fhirgw.visit_provider (due) WHERE due IS NOT NULL",
    """
CREATE TABLE fhirgw.visit_alert (
    id text COLLATE "C" PRIMARY KEY,
    key uuid NOT NULL,
    kind text COLLATE "C" NOT NULL,
    again int NOT NULL,
    provider text COLLATE "C" NOT NULL,
    controller text COLLATE "C" NOT NULL,
    patient text COLLATE "C",
    since timestamptz NOT NULL,
    raised timestamptz NOT NULL,
    ended timestamptz,
    rung int NOT NULL DEFAULT 0,
    climbs timestamptz,
    CONSTRAINT visit_alert_once UNIQUE (key, kind, again)
)""",
    "CREATE UNIQUE INDEX visit_alert_open ON fhirgw.visit_alert (key, kind) WHERE ended IS NULL",
    "CREATE INDEX visit_alert_by_climbs ON fhirgw.visit_alert (climbs) WHERE climbs IS NOT NULL",
)

POLICIES = (
    ("permitted", "FOR SELECT USING (fhirgw.permitted())"),
    ("written_insert", "FOR INSERT WITH CHECK (fhirgw.writing())"),
    ("written_update", "FOR UPDATE USING (fhirgw.writing())"),
    ("written_delete", "FOR DELETE USING (fhirgw.writing())"),
)


def upgrade() -> None:
    """Makes them, behind the second lock."""
    for statement in STATEMENTS:
        op.execute(statement)
    for table in TABLES:
        op.execute(f"ALTER TABLE fhirgw.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        for name, what in POLICIES:
            op.execute(f"CREATE POLICY {name} ON fhirgw.{table} {what}")


def downgrade() -> None:
    """Forgets which alert has which cause; the Tasks stay."""
    op.execute("DROP TABLE fhirgw.visit_alert, fhirgw.visit_provider")
    op.execute("DROP INDEX fhirgw.visit_by_due")
    op.execute("ALTER TABLE fhirgw.visit DROP COLUMN due, DROP COLUMN alerted")
