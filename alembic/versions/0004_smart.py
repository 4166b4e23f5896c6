"""Registered applications, their tokens, and assertions that were used."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE fhirgw.registration (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    organisation text COLLATE "C" NOT NULL,
    sector text COLLATE "C" NOT NULL DEFAULT 'nhs',
    purposes text[] NOT NULL,
    scopes text COLLATE "C" NOT NULL,
    jwks jsonb,
    jwks_url text COLLATE "C",
    roles text[] NOT NULL DEFAULT '{}',
    clearance smallint NOT NULL DEFAULT 0,
    patient text COLLATE "C",
    practitioner text COLLATE "C",
    delegate text COLLATE "C",
    agreement text COLLATE "C",
    agreement_until timestamptz,
    rate int NOT NULL DEFAULT 400,
    active boolean NOT NULL DEFAULT true,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT registration_sector CHECK (sector IN ('nhs', 'care-provider', 'voluntary', 'council')),
    CONSTRAINT registration_one_key_set CHECK (jwks IS NULL OR jwks_url IS NULL),
    CONSTRAINT registration_purposes CHECK (cardinality(purposes) > 0),
    CONSTRAINT registration_rate CHECK (rate > 0)
)""",
    """
CREATE TABLE fhirgw.issued_token (
    jti text COLLATE "C" NOT NULL PRIMARY KEY,
    registration text COLLATE "C" NOT NULL,
    expires timestamptz NOT NULL,
    revoked timestamptz
)""",
    "CREATE INDEX issued_token_by_registration ON fhirgw.issued_token (registration)",
    "CREATE INDEX issued_token_by_expires ON fhirgw.issued_token (expires)",
    """
CREATE TABLE fhirgw.used_assertion (
    digest bytea NOT NULL PRIMARY KEY,
    expires timestamptz NOT NULL
)""",
    "CREATE INDEX used_assertion_by_expires ON fhirgw.used_assertion (expires)",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Forgets the applications: every token stops being one."""
    op.execute("DROP TABLE fhirgw.registration, fhirgw.issued_token, fhirgw.used_assertion")
