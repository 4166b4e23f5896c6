"""Break-glass: grants, their reasons and their reviews; and who has opted out of uses beyond their own care."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE fhirgw.break_glass (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    person text COLLATE "C" NOT NULL,
    practitioner text COLLATE "C" NOT NULL,
    organisation text COLLATE "C" NOT NULL,
    registration text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    granted timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires timestamptz NOT NULL,
    alerted timestamptz,
    reviewed timestamptz,
    finding text COLLATE "C",
    reviewer text,
    CONSTRAINT break_glass_reason CHECK (char_length(reason) >= 10),
    CONSTRAINT break_glass_minutes CHECK (expires <= granted + interval '30 minutes'),
    CONSTRAINT break_glass_finding CHECK (finding IN ('appropriate', 'inappropriate')),
    CONSTRAINT break_glass_review CHECK (num_nulls(reviewed, finding, reviewer) IN (0, 3))
)""",
    "CREATE INDEX break_glass_by_practitioner ON fhirgw.break_glass (practitioner, expires)",
    "CREATE INDEX break_glass_to_review ON fhirgw.break_glass (granted) WHERE reviewed IS NULL",
    'CREATE TABLE fhirgw.opt_out (nhs_number text COLLATE "C" NOT NULL PRIMARY KEY)',
    """
CREATE TABLE fhirgw.opt_out_list (
    one boolean NOT NULL PRIMARY KEY DEFAULT true,
    produced timestamptz NOT NULL,
    loaded timestamptz NOT NULL DEFAULT clock_timestamp(),
    rows bigint NOT NULL,
    CONSTRAINT opt_out_list_one CHECK (one)
)""",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Forgets them: nobody has broken a glass, and planning and research see nobody until a list is loaded."""
    op.execute("DROP TABLE fhirgw.break_glass, fhirgw.opt_out, fhirgw.opt_out_list")
