"""The store: resources, their history, what they are found by, where they came from.

Written as SQL, because it is about what SQLAlchemy does not say: partitions and storage.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TYPES = [
    "Appointment",
    "AuditEvent",
    "Binary",
    "CarePlan",
    "CareTeam",
    "Communication",
    "Composition",
    "Condition",
    "Consent",
    "Device",
    "DeviceRequest",
    "DeviceUseStatement",
    "DocumentReference",
    "Encounter",
    "EpisodeOfCare",
    "Flag",
    "Goal",
    "HealthcareService",
    "List",
    "Location",
    "MedicationAdministration",
    "MedicationStatement",
    "Observation",
    "Organization",
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Provenance",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "RiskAssessment",
    "ServiceRequest",
    "Task",
]

# Bodies are read far more than written, mostly whole: kept uncompressed, and in the row up to 8 kB.

TABLES = (
    r"""
CREATE TABLE fhirgw.resource (
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version int NOT NULL,
    updated timestamptz NOT NULL,
    patient text COLLATE "C",
    origin text COLLATE "C" NOT NULL,
    controller text COLLATE "C",
    tokens bigint[] NOT NULL,
    date1_low timestamptz, date1_high timestamptz,
    date2_low timestamptz, date2_high timestamptz,
    date3_low timestamptz, date3_high timestamptz,
    date4_low timestamptz, date4_high timestamptz,
    body text COLLATE "C" NOT NULL,
    CONSTRAINT resource_pkey PRIMARY KEY (type, id),
    CONSTRAINT resource_body_plain CHECK (body !~ '[\x01-\x1f]')
) PARTITION BY LIST (type)""",
    "ALTER TABLE fhirgw.resource ALTER COLUMN body SET STORAGE EXTERNAL",
    "CREATE INDEX resource_by_patient ON fhirgw.resource (patient) WHERE patient IS NOT NULL",
    "CREATE INDEX resource_by_updated ON fhirgw.resource (updated)",
    "CREATE INDEX resource_by_tokens ON fhirgw.resource USING gin (tokens)",
    "CREATE INDEX resource_by_date1 ON fhirgw.resource (date1_low) WHERE date1_low IS NOT NULL",
    *(
        f"CREATE TABLE fhirgw.resource_{name.lower()} PARTITION OF fhirgw.resource"
        f" FOR VALUES IN ('{name}') WITH (toast_tuple_target = 8160)"
        for name in TYPES
    ),
    "CREATE TABLE fhirgw.resource_other PARTITION OF fhirgw.resource DEFAULT WITH (toast_tuple_target = 8160)",
    r"""
CREATE TABLE fhirgw.search_string (
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    param text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL
)""",
    "CREATE INDEX search_string_by_value ON fhirgw.search_string (type, param, value)",
    "CREATE INDEX search_string_by_resource ON fhirgw.search_string (type, id)",
    r"""
CREATE TABLE fhirgw.history (
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version int NOT NULL,
    updated timestamptz NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    patient text COLLATE "C",
    origin text COLLATE "C" NOT NULL,
    controller text COLLATE "C",
    body text COLLATE "C" NOT NULL,
    CONSTRAINT history_pkey PRIMARY KEY (type, id, version),
    CONSTRAINT history_body_plain CHECK (body !~ '[\x01-\x1f]')
) WITH (toast_tuple_target = 8160)""",
    "ALTER TABLE fhirgw.history ALTER COLUMN body SET STORAGE EXTERNAL",
    r"""
CREATE TABLE fhirgw.change (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version int NOT NULL,
    kind text COLLATE "C" NOT NULL,
    origin text COLLATE "C" NOT NULL,
    recorded timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT change_kind CHECK (kind IN ('create', 'update', 'delete'))
)""",
    r"""
CREATE TABLE fhirgw.lineage (
    system text COLLATE "C" NOT NULL,
    mapping text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (system, mapping, key)
)""",
    r"""
CREATE TABLE fhirgw.identifier (
    system text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    patient text COLLATE "C" NOT NULL,
    origin text COLLATE "C" NOT NULL,
    sure text COLLATE "C" NOT NULL,
    PRIMARY KEY (system, value, patient)
)""",
    "CREATE INDEX identifier_by_patient ON fhirgw.identifier (patient)",
    r"""
CREATE TABLE fhirgw.sync_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    system text COLLATE "C" NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished timestamptz,
    outcome text COLLATE "C",
    counts jsonb NOT NULL DEFAULT '{}'
)""",
    r"""
CREATE TABLE fhirgw.watermark (
    system text COLLATE "C" NOT NULL,
    mapping text COLLATE "C" NOT NULL,
    rows bigint NOT NULL,
    run bigint NOT NULL,
    PRIMARY KEY (system, mapping)
)""",
)


def upgrade() -> None:
    """Makes the tables in one transaction."""
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    """Forgets everything: there is nothing before the first version."""
    op.execute(
        "DROP TABLE fhirgw.resource, fhirgw.search_string, fhirgw.history, fhirgw.change, fhirgw.lineage,"
        " fhirgw.identifier, fhirgw.sync_run, fhirgw.watermark"
    )
