"""The tables, as SQLAlchemy Core sees them; alembic makes them, and a test compares the two.

`resource` holds current versions only, by list partitions on the type, so that a query names its type and plans on
one partition. `history` holds what was superseded or deleted. Everything is in the schema `fhirgw`. Long: it is data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    FromClause,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    any_,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.sql.type_api import UserDefinedType

SCHEMA = "fhirgw"
DATE_SLOTS = 4
"""How many date search parameters of a type have columns of their own (fhirgw.fhir.index fills them)."""

metadata = MetaData(schema=SCHEMA)


def _labelled(table: str) -> tuple[Any, ...]:
    """What security labels come to: classes as bits, and what to serve instead where part of it is withheld.

    `also` is the id of another Patient whom the row tells of: a carer who is somebody's related person.
    """
    return (
        Column("labels", SmallInteger, nullable=False, server_default=text("0")),
        _text("also", nullable=True),
        _text("redacted", nullable=True),
        CheckConstraint(NO_CONTROL.format("redacted"), name=f"{table}_redacted_plain"),
    )


class Xid8(UserDefinedType[int]):
    """A transaction id that does not wrap: https://www.postgresql.org/docs/15/datatype-oid.html"""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """How DDL names the type."""
        return "xid8"


def _text(name: str, **options: Any) -> Column[str]:
    """Compared byte by byte: prefixes use the index, and no locale of the server changes an order."""
    return Column(name, Text(collation="C"), **({"nullable": False} | options))


def _instant(name: str, **options: Any) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True, precision=None), **({"nullable": False} | options))


NO_CONTROL = r"{} !~ '[\x01-\x1f]'"
"""What lets a body be a line of NDJSON as it is, and be staged as it is: a JSON text needs no control character."""


def _dates() -> list[Column[Any]]:
    slots = range(1, DATE_SLOTS + 1)
    return [_instant(f"date{slot}_{end}", nullable=True) for slot in slots for end in ("low", "high")]


def _kept_as_of() -> tuple[Column[Any], ...]:
    """Which parameters have a value, a bit each (fhirgw.fhir.index); and the transaction that wrote the version."""
    return (
        Column("present", BigInteger, nullable=False, server_default=text("0")),
        Column("transaction", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    )


resource = Table(
    "resource",
    metadata,
    _text("type", primary_key=True),
    _text("id", primary_key=True),
    Column("version", Integer, nullable=False),
    _instant("updated"),
    _text("patient", nullable=True),
    _text("origin"),
    _text("controller", nullable=True),
    Column("tokens", ARRAY(BigInteger), nullable=False),
    *_dates(),
    _text("body"),
    *_labelled("resource"),
    *_kept_as_of(),
    CheckConstraint(NO_CONTROL.format("body"), name="resource_body_plain"),
    Index("resource_by_patient", "patient", postgresql_where=text("patient IS NOT NULL")),
    Index("resource_by_updated", "updated"),
    Index("resource_by_tokens", "tokens", postgresql_using="gin"),
    Index("resource_withheld", "id", postgresql_where=text("labels <> 0 OR redacted IS NOT NULL")),
    Index("resource_by_date1", "date1_low", postgresql_where=text("date1_low IS NOT NULL")),
    postgresql_partition_by="LIST (type)",
)

search_string = Table(
    "search_string",
    metadata,
    _text("type"),
    _text("id"),
    _text("param"),
    _text("value"),
    Index("search_string_by_value", "type", "param", "value"),
    Index("search_string_by_resource", "type", "id"),
)

search_number = Table(
    "search_number",
    metadata,
    _text("type"),
    _text("id"),
    _text("place"),
    Column("low", Double, nullable=False),
    Column("high", Double, nullable=False),
    _text("system", nullable=True),
    _text("code", nullable=True),
    _text("unit", nullable=True),
    Column("tokens", ARRAY(BigInteger)),
    Index("search_number_by_value", "type", "place", "low"),
    Index("search_number_by_high", "type", "place", "high"),
    Index("search_number_by_resource", "type", "id"),
)
"""Numbers and quantities by where they stand (`component.valueQuantity`); `tokens` are of what they stand beside.

Compared as doubles, exactly so up to 15 digits: of decimals the planner would not use its statistics, because their
comparison is not leakproof and the table is under row-level security.
"""

search_span = Table(
    "search_span",
    metadata,
    _text("type"),
    _text("id"),
    _text("param"),
    _instant("low"),
    _instant("high"),
    Index("search_span_by_value", "type", "param", "low"),
    Index("search_span_by_high", "type", "param", "high"),
    Index("search_span_by_resource", "type", "id"),
)
"""Dates that may repeat, or for which a type has no slot left."""

history = Table(
    "history",
    metadata,
    _text("type", primary_key=True),
    _text("id", primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    _instant("updated"),
    Column("deleted", Boolean, nullable=False, server_default=text("false")),
    _text("patient", nullable=True),
    _text("origin"),
    _text("controller", nullable=True),
    _text("body"),
    *_labelled("history"),
    Column("tokens", ARRAY(BigInteger), nullable=False, server_default=text("'{}'")),
    *_dates(),
    *_kept_as_of(),
    Column("superseded", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    Column("beside", JSONB),
    CheckConstraint(NO_CONTROL.format("body"), name="history_body_plain"),
    Index("history_by_superseded", "type", "superseded"),
    Index("history_by_updated", "updated"),
    Index("history_by_type", "type", "updated"),
    Index("history_withheld", "type", "id", postgresql_where=text("labels <> 0 OR redacted IS NOT NULL")),
)
"""`superseded`: the transaction that ended the version. `beside`: what the side tables said of it (fhirgw.beside)."""

indexed = Table(
    "indexed",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("version", Integer, nullable=False),
    _text("type", server_default=text("''")),
    _text("id", server_default=text("''")),
    CheckConstraint("one", name="indexed_one"),
)
"""The version of fhirgw.fhir.index that rows are laid out by, and how far a new one has got."""

cursor_key = Table(
    "cursor_key",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("key", LargeBinary, nullable=False),
    CheckConstraint("one", name="cursor_key_one"),
)
"""What cursors are sealed with: every process of the gateway reads those of every other."""

change = Table(
    "change",
    metadata,
    Column("sequence", BigInteger, Identity(always=True), primary_key=True),
    _text("type"),
    _text("id"),
    Column("version", Integer, nullable=False),
    _text("kind"),
    _text("origin"),
    _instant("recorded", server_default=text("clock_timestamp()")),
    Column("transaction", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    CheckConstraint("kind IN ('create', 'update', 'delete')", name="change_kind"),
    Index("change_by_transaction", "transaction"),
)

lineage = Table(
    "lineage",
    metadata,
    _text("system", primary_key=True),
    _text("mapping", primary_key=True),
    _text("key", primary_key=True),
    _text("type"),
    _text("id"),
    Column("digest", LargeBinary, nullable=False),
)

identifier = Table(
    "identifier",
    metadata,
    _text("system", primary_key=True),
    _text("value", primary_key=True),
    _text("patient", primary_key=True),
    _text("origin"),
    _text("sure"),
    Index("identifier_by_patient", "patient"),
)

sync_run = Table(
    "sync_run",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _text("system"),
    _instant("started", server_default=text("clock_timestamp()")),
    _instant("finished", nullable=True),
    _text("outcome", nullable=True),
    Column("counts", JSONB, nullable=False, server_default=text("'{}'")),
)

watermark = Table(
    "watermark",
    metadata,
    _text("system", primary_key=True),
    _text("mapping", primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("run", BigInteger, nullable=False),
)

export_job = Table(
    "export_job",
    metadata,
    _text("id", primary_key=True),
    _text("state", server_default=text("'running'")),
    Column("permit", JSONB, nullable=False),
    Column("types", ARRAY(Text), nullable=False),
    Column("request", Text, nullable=False),
    _instant("created", server_default=text("clock_timestamp()")),
    _instant("finished", nullable=True),
    Column("polled", Boolean, nullable=False, server_default=text("false")),
    Column("rows", BigInteger, nullable=False, server_default=text("0")),
    Column("bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("expected", BigInteger, nullable=False, server_default=text("0")),
    Column("result", JSONB),
    Column("narrowed", BigInteger, nullable=False, server_default=text("0")),
    _instant("looked", server_default=text("clock_timestamp()")),
    Column("asked", JSONB, nullable=False, server_default=text("'{}'")),
    Column("effective", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    _text("policy", server_default=text("''")),
    _text("place", nullable=True),
    _text("snapshot", nullable=True),
    _instant("time", nullable=True),
    Column("local", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("state IN ('running', 'done', 'failed', 'cancelled')", name="export_job_state"),
    Index("export_job_by_created", "created"),
)
"""`asked`: the Selection, and the form of its files; `place`: the folder, if it is not the one all exports are in.

`local`: the command line's own, which no worker may take.
"""

export_part = Table(
    "export_part",
    metadata,
    Column("job", Text(collation="C"), ForeignKey("fhirgw.export_job.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("kind"),
    _text("type", server_default=text("''")),
    _text("low", nullable=True),
    _text("high", nullable=True),
    _text("state", server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("token", BigInteger, nullable=False, server_default=text("0")),
    _instant("lease", nullable=True),
    _text("worker", nullable=True),
    *(Column(name, BigInteger, nullable=False, server_default=text("0")) for name in ("expected", "rows", "bytes")),
    *(_text(name, nullable=True) for name in ("sha256", "key", "reason")),
    _text("view", server_default=text("''")),
    Column("persons", BigInteger, nullable=False, server_default=text("0")),
    _text("base", nullable=True),
    Column("segment", Integer),
    Column("reused", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("kind IN ('plan', 'output', 'deleted', 'error')", name="export_part_kind"),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="export_part_state"),
    CheckConstraint("(state = 'running') = (lease IS NOT NULL)", name="export_part_leased"),
    CheckConstraint(
        "state <> 'done' OR kind = 'plan' OR (sha256 IS NOT NULL AND key IS NOT NULL)", name="export_part_done"
    ),
    Index("export_part_open", "job", "number", postgresql_where=text("state IN ('waiting', 'running')")),
)
"""The ledger: `low` <= id < `high` of a type, as of the job's snapshot. `lease`: until when `worker` is believed."""

export_member = Table(
    "export_member",
    metadata,
    Column("job", Text(collation="C"), ForeignKey("fhirgw.export_job.id", ondelete="CASCADE"), primary_key=True),
    _text("patient", primary_key=True),
    Column("joined", Boolean, nullable=False, server_default=text("false")),
)
"""Whom an export of a Group is of, as of the job's snapshot, whether they may be seen or not.

`joined`: they were not in it at the moment since which the export is.
"""

pseudonymised = Table(
    "pseudonymised",
    metadata,
    _text("organisation", primary_key=True),
    _text("agreement", primary_key=True),
    _text("project", primary_key=True),
    _instant("time", primary_key=True),
)
"""As of when an agreement has had exports with pseudonyms, for as long as it may have more."""

pseudonymised_cohort = Table(
    "pseudonymised_cohort",
    metadata,
    _text("organisation", primary_key=True),
    _text("agreement", primary_key=True),
    _text("digest", primary_key=True),
    Column("members", ARRAY(Text(collation="C")), nullable=False),
)
"""Of which lists of people, by their Patients' ids, an agreement has had such exports."""

export_base = Table(
    "export_base",
    metadata,
    _text("job", primary_key=True),
    _text("view"),
    Column("permit", JSONB, nullable=False),
    _text("snapshot"),
    *(_instant(name) for name in ("time", "made")),
    _instant("used", server_default=text("clock_timestamp()")),
    Column("ready", Boolean, nullable=False, server_default=text("false")),
    Index("export_base_by_view", "view"),
)
"""Full exports that a later one of the same view may begin from (fhirgw.store.segments). `made`: when the oldest line
of its files was read."""


def _of_base() -> Column[str]:
    key = ForeignKey("fhirgw.export_base.job", ondelete="CASCADE")
    return Column("base", Text(collation="C"), key, primary_key=True)


export_segment = Table(
    "export_segment",
    metadata,
    _of_base(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("type"),
    *(_text(name, nullable=True) for name in ("low", "high")),
    _text("key"),
    *(Column(name, BigInteger, nullable=False) for name in ("rows", "bytes")),
    _text("sha256"),
)
"""The files of a base, and the stretch that each is of."""

export_rule = Table(
    "export_rule",
    metadata,
    _of_base(),
    _text("person", primary_key=True),
    Column("digest", LargeBinary),
)
"""A digest of what decided who saw a person's record when the base was made; none where it changed meanwhile."""

export_stale = Table(
    "export_stale", metadata, _of_base(), _text("type", primary_key=True), _text("id", primary_key=True)
)
"""What an export that begins from another makes anew: `base` is that export itself, while it runs."""


import_job = Table(
    "import_job",
    metadata,
    _text("id", primary_key=True),
    _text("state", server_default=text("'running'")),
    Column("permit", JSONB, nullable=False),
    _text("origin"),
    Column("bases", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("local", Boolean, nullable=False, server_default=text("false")),
    _text("request"),
    _instant("created", server_default=text("clock_timestamp()")),
    _instant("finished", nullable=True),
    Column("polled", Boolean, nullable=False, server_default=text("false")),
    Column("result", JSONB),
    CheckConstraint("state IN ('running', 'done', 'cancelled')", name="import_job_state"),
    Index("import_job_by_created", "created"),
)
"""What is taken in as NDJSON: under which permit, and by what name the store knows who brought it (`origin`).

`bases`: addresses below which references are local ones; `local`: the command line's own, which no worker may take.
"""

import_input = Table(
    "import_input",
    metadata,
    Column("job", Text(collation="C"), ForeignKey("fhirgw.import_job.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("source"),
    _text("type", server_default=text("''")),
    _text("stamp", nullable=True),
    _text("state", server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("token", BigInteger, nullable=False, server_default=text("0")),
    _instant("lease", nullable=True),
    _text("worker", nullable=True),
    Column("size", BigInteger, nullable=False, server_default=text("0")),
    Column("place", BigInteger, nullable=False, server_default=text("0")),
    Column("line", BigInteger, nullable=False, server_default=text("1")),
    *(
        Column(name, BigInteger, nullable=False, server_default=text("0"))
        for name in ("created", "updated", "unchanged", "refused")
    ),
    _text("reason", nullable=True),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="import_input_state"),
    CheckConstraint("(state = 'running') = (lease IS NOT NULL)", name="import_input_leased"),
)
"""How far each input is: what comes before `place` (bytes of it, unpacked) is taken in, and `line` is the next one's.

`stamp`: what the file was when it was begun; a file that has changed since is not gone on with.
"""


def _of_input() -> ForeignKeyConstraint:
    columns = [f"{SCHEMA}.import_input.{name}" for name in ("job", "number")]
    return ForeignKeyConstraint(["job", "input"], columns, ondelete="CASCADE")


import_error = Table(
    "import_error",
    metadata,
    Column("job", Text(collation="C"), primary_key=True),
    Column("input", Integer, primary_key=True, autoincrement=False),
    Column("line", BigInteger, primary_key=True, autoincrement=False),
    _text("outcome"),
    _of_input(),
)
"""Why a line was not taken, as an OperationOutcome without anything of the line's."""

import_reference = Table(
    "import_reference",
    metadata,
    Column("job", Text(collation="C"), primary_key=True),
    _text("type", primary_key=True),
    _text("id", primary_key=True),
    Column("input", Integer, nullable=False),
    Column("line", BigInteger, nullable=False),
    _of_input(),
)
"""What lines referred to that was not here then: each once, with the first line that did."""


pull = Table(
    "pull",
    metadata,
    _text("id", primary_key=True),
    *(_text(name) for name in ("source", "base", "asked", "place")),
    _text("state", server_default=text("'asked'")),
    *(_text(name, nullable=True) for name in ("since", "status_url", "time", "reason")),
    Column("token", Boolean),
    _instant("created", server_default=text("clock_timestamp()")),
    _instant("finished", nullable=True),
    _instant("loaded", nullable=True),
    Column("refused", BigInteger),
    CheckConstraint("state IN ('asked', 'waiting', 'fetching', 'done', 'failed')", name="pull_state"),
    CheckConstraint("(state IN ('done', 'failed')) = (finished IS NOT NULL)", name="pull_finished"),
    CheckConstraint("state NOT IN ('fetching', 'done') OR time IS NOT NULL", name="pull_time"),
    CheckConstraint("loaded IS NULL OR (state = 'done' AND refused IS NOT NULL)", name="pull_loaded"),
    Index("pull_open", "source", unique=True, postgresql_where=text("finished IS NULL")),
)
"""Exports of other servers. `since` and `time` are in the other server's own spelling; `token`: files need one.

`refused`: of what was taken in here, how much was not; NULL if that has not been tried to its end.
"""

pull_file = Table(
    "pull_file",
    metadata,
    Column("pull", Text(collation="C"), ForeignKey("fhirgw.pull.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    *(_text(name) for name in ("kind", "type", "url")),
    Column("count", BigInteger),
    _text("state", server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("packed", Boolean, nullable=False, server_default=text("false")),
    *(Column(name, BigInteger) for name in ("bytes", "lines")),
    *(_text(name, nullable=True) for name in ("etag", "sha256", "name")),
    CheckConstraint("kind IN ('output', 'deleted', 'error')", name="pull_file_kind"),
    CheckConstraint("state IN ('waiting', 'done')", name="pull_file_state"),
    CheckConstraint("state <> 'done' OR (sha256 IS NOT NULL AND name IS NOT NULL)", name="pull_file_done"),
)
"""The ledger of a pull: `etag` and `packed` tell which bytes lie in the folder, `attempts` how often it was begun."""


def _rule(name: str, *columns: Column[Any]) -> Table:
    """A table of rules about persons: each holds from `starts` to just before `ends`, and rests on one resource."""
    return Table(
        name,
        metadata,
        _text("person"),
        *columns,
        _instant("starts", server_default=text("'-infinity'")),
        _instant("ends", server_default=text("'infinity'")),
        _text("type"),
        _text("id"),
        Index(f"{name}_by_resource", "id"),
    )


def _ending(table: Table) -> None:
    """What ends by its own date is looked for by when it does; most rules never do."""
    Index(f"{table.name}_by_ends", table.c.ends, postgresql_where=text("ends < 'infinity'"))


relationship = _rule("relationship", _text("party"), _text("kind"))
Index("relationship_by_person", relationship.c.person, relationship.c.party)
Index(
    "relationship_by_party",
    relationship.c.party,
    relationship.c.kind,
    postgresql_include=["person", "starts", "ends"],
)
_ending(relationship)

directive = _rule(
    "directive",
    _text("effect"),
    _text("party", nullable=True),
    _text("purpose", nullable=True),
    Column("kinds", ARRAY(Text(collation="C"))),
    Column("classes", SmallInteger, nullable=False, server_default=text("0")),
    Column("weight", SmallInteger, nullable=False),
    _text("decided"),
)
directive.append_constraint(
    CheckConstraint("effect IN ('permit', 'deny', 'restrict', 'seal')", name="directive_effect")
)
Index("directive_by_person", directive.c.person, directive.c.effect)
Index("directive_against", directive.c.person, postgresql_where=text("effect <> 'permit'"))

Index("directive_by_starts", directive.c.starts, postgresql_where=text("starts > '-infinity'"))
_ending(directive)

delegation = _rule("delegation", _text("delegate"), _text("kind"), Column("kinds", ARRAY(Text(collation="C"))))
Index("delegation_by_person", delegation.c.person, delegation.c.delegate)
_ending(delegation)

narrowed = Table(
    "narrowed",
    metadata,
    Column("sequence", BigInteger, Identity(always=True), primary_key=True),
    _text("person"),
    Column("transaction", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    _instant("recorded", server_default=text("clock_timestamp()")),
)
"""Persons of whom somebody may now see less: what has been exported of them is looked through again."""

break_glass = Table(
    "break_glass",
    metadata,
    _text("id", primary_key=True),
    _text("person"),
    _text("practitioner"),
    _text("organisation"),
    _text("registration"),
    Column("reason", Text, nullable=False),
    _instant("granted", server_default=text("clock_timestamp()")),
    _instant("expires"),
    _instant("alerted", nullable=True),
    _instant("reviewed", nullable=True),
    _text("finding", nullable=True),
    Column("reviewer", Text),
    CheckConstraint("char_length(reason) >= 10", name="break_glass_reason"),
    CheckConstraint("expires <= granted + interval '30 minutes'", name="break_glass_minutes"),
    CheckConstraint("finding IN ('appropriate', 'inappropriate')", name="break_glass_finding"),
    CheckConstraint("num_nulls(reviewed, finding, reviewer) IN (0, 3)", name="break_glass_review"),
    Index("break_glass_by_practitioner", "practitioner", "expires"),
    Index("break_glass_to_review", "granted", postgresql_where=text("reviewed IS NULL")),
)
"""Who saw one person's record in an emergency, and why; a finding says whether they should have."""

opt_out = Table("opt_out", metadata, _text("nhs_number", primary_key=True))
"""The NHS numbers of those who have opted out of uses beyond their own care."""

opt_out_list = Table(
    "opt_out_list",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    _instant("produced"),
    _instant("loaded", server_default=text("clock_timestamp()")),
    Column("rows", BigInteger, nullable=False),
    CheckConstraint("one", name="opt_out_list_one"),
)
"""Which list that is: when it was produced, and how many are on it."""

registration = Table(
    "registration",
    metadata,
    _text("id", primary_key=True),
    _text("name"),
    _text("organisation"),
    _text("sector", server_default=text("'nhs'")),
    Column("purposes", ARRAY(Text), nullable=False),
    _text("scopes"),
    Column("jwks", JSONB),
    _text("jwks_url", nullable=True),
    Column("roles", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("clearance", SmallInteger, nullable=False, server_default=text("0")),
    _text("patient", nullable=True),
    _text("practitioner", nullable=True),
    _text("delegate", nullable=True),
    _text("agreement", nullable=True),
    _instant("agreement_until", nullable=True),
    Column("pseudonyms", Boolean, nullable=False, server_default=text("false")),
    Column("rate", Integer, nullable=False, server_default=text("400")),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    _instant("created", server_default=text("clock_timestamp()")),
    _instant("changed", server_default=text("clock_timestamp()")),
    CheckConstraint("sector IN ('nhs', 'care-provider', 'voluntary', 'council')", name="registration_sector"),
    CheckConstraint("jwks IS NULL OR jwks_url IS NULL", name="registration_one_key_set"),
    CheckConstraint("cardinality(purposes) > 0", name="registration_purposes"),
    CheckConstraint("rate > 0", name="registration_rate"),
)
"""The applications that may ask for tokens: `id` is OAuth's client_id; one without keys gets its tokens elsewhere."""

replay = Table(
    "replay",
    metadata,
    _text("registration", primary_key=True),
    _text("request", primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", Text),
    _instant("stored", server_default=text("clock_timestamp()")),
    Index("replay_by_stored", "stored", postgresql_using="brin"),
)
"""What was answered to writes, by the id that their caller gave them: who sends one again gets the same answer."""

issued_token = Table(
    "issued_token",
    metadata,
    _text("jti", primary_key=True),
    _text("registration"),
    _instant("expires"),
    _instant("revoked", nullable=True),
    Index("issued_token_by_registration", "registration"),
    Index("issued_token_by_expires", "expires"),
)

used_assertion = Table(
    "used_assertion",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    _instant("expires"),
    Index("used_assertion_by_expires", "expires"),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    _instant("recorded"),
    Column("persons", ARRAY(Text), nullable=False),
    _text("registration"),
    _text("organisation"),
    _text("purpose"),
    _text("outcome"),
    _text("body"),
    Column("digest", LargeBinary, nullable=False),
    Index("audit_by_person", "persons", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    Index("audit_by_recorded", "recorded", postgresql_using="brin"),
)
"""Who looked at what: each `body` is an AuditEvent, maybe a brief one; the other columns are read from it
(fhirgw.access.audit_event, audit_read).
"""

audited = audit.to_metadata(MetaData(), name="audited")
"""The view to read it by: its bodies are whole."""

audit_form = Table(
    "audit_form",
    metadata,
    Column("key", Text, primary_key=True),
    Column("pieces", ARRAY(Text), nullable=False),
    Column("holes", ARRAY(SmallInteger), nullable=False),
    CheckConstraint(
        "key = left(encode(sha256(convert_to("
        "array_to_string(pieces || array_to_string(holes, ','), E'\\n'), 'UTF8')), 'hex'), 32)",
        name="audit_form_key",
    ),
)
"""What brief AuditEvents have in common; each form is under the digest of what it says."""

audit_head = Table(
    "audit_head",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("sequence", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    CheckConstraint("one", name="audit_head_one"),
)
"""The newest of the audit, kept apart: without it a tail that was cut off would leave a sound chain."""

VISIT_ID = "fhirgw.visit_id(patient, key)"
"""The id of what a visit is rendered as (fhirgw.visits.batch.placed)."""
VISIT_AMENDED = "patient IS NOT NULL AND strpos(parts, '\"amended\"') > 0"
"""That a visit was ever amended by hand."""

visit = Table(
    "visit",
    metadata,
    Column("key", Uuid(), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("source_version", BigInteger, nullable=False),
    _instant("changed"),
    _instant("updated"),
    *(_instant(name, nullable=True) for name in ("start", "finish", "began", "ended")),
    Column("transaction", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    Column("labels", SmallInteger, nullable=False, server_default=text("0")),
    *(_text("provider"), _text("visit")),
    _text("patient", nullable=True),
    _text("controller"),
    _text("outcome", nullable=True),
    Column("digest", LargeBinary, nullable=False),
    _text("parts"),
    _text("stamps", nullable=True),
    _instant("due", nullable=True),
    Column("alerted", Boolean),
    *(_instant(name, nullable=True) for name in ("moved", "received")),
    *(_text(name, nullable=True) for name in ("line", "organisation", "derived")),
    Column("again", Integer),
    Index("visit_by_line", "line", postgresql_where=text("line <> ''")),
    Index(
        "visit_coded",
        text("fhirgw.visit_coded(parts)"),
        postgresql_using="gin",
        postgresql_where=text("strpos(parts, '\"observations') > 0 OR strpos(parts, '\"medication') > 0"),
    ),
    Index("visit_lineless", "patient", postgresql_where=text("line = ''")),
    Index("visit_by_due", "due", postgresql_where=text("due IS NOT NULL AND patient IS NOT NULL")),
    CheckConstraint(NO_CONTROL.format("parts"), name="visit_parts_plain"),
    Index("visit_by_patient", "patient", "start", postgresql_where=text("patient IS NOT NULL")),
    Index("visit_by_provider", "provider", "start"),
    Index("visit_by_id", text(VISIT_ID), unique=True, postgresql_where=text("patient IS NOT NULL")),
    Index("visit_by_updated", "updated", postgresql_where=text("patient IS NOT NULL")),
    Index("visit_by_time", "start", "began", postgresql_using="brin"),
    Index("visit_unplanned", "began", postgresql_where=text("start IS NULL")),
    Index("visit_unbegun", "provider", "start", postgresql_where=text("began IS NULL AND outcome IS NULL")),
    Index("visit_in_vain", "patient", "start", postgresql_where=text("outcome = 'hospital'")),
    Index("visit_by_change", "updated", postgresql_using="brin"),
    Index("visit_by_transaction", "transaction", postgresql_where=text("patient IS NOT NULL")),
    Index("visit_amended", "patient", postgresql_where=text(VISIT_AMENDED)),
)
"""What is known of a homecare visit (fhirgw.visits.merge): its `parts`, and the `stamps` of those that are older.

`version` counts what was said of it. `start` and `finish` are planned, `began` and `ended` actual; `outcome` is as it
was declared. `patient`: in whose record it is, or nobody's. `due`: when to look whether something is wrong with it, and
`alerted`: an alert of it has not ended (fhirgw.store.watch). `moved`: when it came into another record than at first;
if nobody has sent it since, `received` is when it was sent. `line`: the id of the ServiceRequest it is of, an empty
text where none is called what the visit names; `organisation`: the id of who made it; `derived`: what follows
from its times (fhirgw.visits.outcome.derived). `again`: how often it was moved with nothing new said: a version, too.
"""

visit_said = Table(
    "visit_said",
    metadata,
    Column("key", Uuid(), ForeignKey("fhirgw.visit.key", ondelete="CASCADE"), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("source_version", BigInteger, nullable=False),
    _instant("changed"),
    _instant("received"),
    _text("parts"),
)
"""All that was said of the visits of which more was said than once."""

visit_file = Table(
    "visit_file",
    metadata,
    _text("provider", primary_key=True),
    _text("reference", primary_key=True),
    _instant("received"),
)
"""Files of visits that named themselves: each is taken in once."""


visit_waiting = Table(
    "visit_waiting",
    metadata,
    Column("key", Uuid(), ForeignKey("fhirgw.visit.key", ondelete="CASCADE"), primary_key=True),
    _text("system", primary_key=True),
    _text("value"),
    Index("visit_waiting_by_number", "system", "value"),
)
"""The numbers by which visits that are in nobody's record say whose they are; the empty system is that of our ids."""

visit_left = Table(
    "visit_left",
    metadata,
    Column("key", Uuid(), primary_key=True),
    _text("patient", primary_key=True),
    _instant("moment"),
    Column("transaction", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    Index("visit_left_by_patient", "patient"),
)
"""The records in which visits were, and are no more: the ids that they had there are gone."""

visit_parting = Table(
    "visit_parting",
    metadata,
    _text("patient", primary_key=True),
    _instant("moment"),
)
"""Patients who were deleted not long ago: what was written into their record meanwhile is sent on."""

visit_stay = Table(
    "visit_stay",
    metadata,
    Column("carer", BigInteger, nullable=False),
    *(_instant(name) for name in ("began", "ended")),
    Column("key", Uuid(), nullable=False),
    Index("visit_stay_by_carer", "carer", "began"),
)
"""When carers were where: `carer` is a digest of the care provider's code and its own name for them."""

visit_past = Table(
    "visit_past",
    metadata,
    Column("key", Uuid(), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("next", Integer, nullable=False),
    *(_instant(name) for name in ("updated", "until")),
    *(_instant(name, nullable=True) for name in ("start", "finish", "began", "ended")),
    Column("transaction", Xid8(), nullable=False),
    Column("superseded", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    Column("labels", SmallInteger, nullable=False),
    *(_text(name) for name in ("provider", "visit", "patient", "controller", "parts")),
    Column("gone", ARRAY(Text)),
    *(_text(name, nullable=True) for name in ("line", "organisation", "derived")),
    Index("visit_past_by_id", text(VISIT_ID)),
    Index("visit_past_by_patient", "patient"),
    Index("visit_past_by_superseded", "superseded"),
)
"""What visits were in somebody's record, until the version `next`; `gone`: what that version is not rendered as."""


VISIT_LONG = 36
"""Characters of a visit's id, with which the ids of its entries begin."""

views = MetaData(schema=SCHEMA)
"""What visits are rendered as: views, which alembic makes and does not compare."""

RENDERED = ("Appointment", "Encounter", "MedicationAdministration", "Observation", "Provenance", "Task")
"""The types that visits are rendered as."""


def _view(prefix: str, kind: str, table: Table) -> Table:
    columns = [Column(each.name, each.type) for each in table.columns if each.name != "beside"]
    return Table(
        f"{prefix}_{kind.lower()}",
        views,
        *columns,
        Column("beside", JSONB),
        *(_text("visit"), Column("key", Uuid()), _text("line", nullable=True)),
        Column("coded", ARRAY(BigInteger)),
    )


_visits = {kind: _view("visit", kind, resource) for kind in RENDERED}
_past = {kind: _view("past", kind, history) for kind in RENDERED}
RENDERED_AS = {table: kind for each in (_visits, _past) for kind, table in each.items()}
"""The views, each with the one type that is in it."""
PAST = frozenset((history, *_past.values()))
"""Where versions of before are."""


def held(resource_type: str | None) -> tuple[Table, ...]:
    """Where current resources of a type (None: of any) are: `resource`, and what visits are rendered as.

    Each is a branch of its own in a query and not hidden in a view, so that what visits are not rendered as is asked
    for by the statement that it was before, and every branch has the conditions that its indexes answer.
    """
    return resource, *(_visits[each] for each in RENDERED if resource_type in (None, each))


def superseded(resource_type: str | None) -> tuple[Table, ...]:
    """Where versions of before are, and tombstones."""
    return history, *(_past[each] for each in RENDERED if resource_type in (None, each))


def both(resource_type: str | None) -> tuple[Table, ...]:
    """Where all versions are."""
    return held(resource_type) + superseded(resource_type)


def versions(table: FromClause) -> tuple[Table, Table]:
    """Where later versions of what is in a table are: nothing that is stored is ever rendered of a visit, too."""
    kind = RENDERED_AS.get(table)  # type: ignore[call-overload]
    return (resource, history) if kind is None else (_visits[kind], _past[kind])


def same(later: FromClause, table: FromClause) -> Iterator[ColumnElement[bool]]:
    """That two rows are versions of one resource; of what a visit is rendered as by the visit, which an index finds."""
    yield later.c.type == table.c.type
    yield later.c.id == table.c.id
    if "visit" in later.c:
        yield later.c.visit == table.c.visit


def identified(table: FromClause, id: ColumnElement[str]) -> Iterator[ColumnElement[bool]]:
    """That a row has an id."""
    yield table.c.id == id
    if "visit" in table.c:
        yield table.c.visit == func.left(id, VISIT_LONG)


def among(table: FromClause, ids: ColumnElement[Any]) -> Iterator[ColumnElement[bool]]:
    """That a row has one of the ids."""
    yield table.c.id == any_(ids)
    if "visit" in table.c:
        yield table.c.visit == any_(func.fhirgw.visits_of(ids))


visit_provider = Table(
    "visit_provider",
    metadata,
    _text("provider", primary_key=True),
    _text("controller"),
    _instant("heard"),
    _instant("due", nullable=True),
    Column("alerted", Boolean),
    Index("visit_provider_by_due", "due", postgresql_where=text("due IS NOT NULL")),
)
"""When each care provider last sent anything; the others are as in `visit`."""

visit_alert = Table(
    "visit_alert",
    metadata,
    _text("id", primary_key=True),
    Column("key", Uuid(), nullable=False),
    _text("kind"),
    Column("again", Integer, nullable=False),
    *(_text(name) for name in ("provider", "controller")),
    _text("patient", nullable=True),
    *(_instant(name) for name in ("since", "raised")),
    _instant("ended", nullable=True),
    Column("rung", Integer, nullable=False, server_default=text("0")),
    _instant("climbs", nullable=True),
    UniqueConstraint("key", "kind", "again", name="visit_alert_once"),
    Index("visit_alert_open", "key", "kind", unique=True, postgresql_where=text("ended IS NULL")),
    Index("visit_alert_by_climbs", "climbs", postgresql_where=text("climbs IS NOT NULL")),
)
"""Which alert (a Task's `id`) has which cause, and when it goes to the next rung; what became of it is in the Task."""
submission = Table(
    "submission",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _text("provider"),
    Column("submission", Uuid(), nullable=False),
    _instant("received"),
    _text("way"),
    _text("file", nullable=True),
    *(Column(name, Integer, nullable=False) for name in ("stored", "unchanged", "superseded", "refused")),
    Column("unallocated", Integer, nullable=False),
    Column("mending", ARRAY(Text)),
    _text("receipts", nullable=True),
    Index("submission_by_provider", "provider", "received"),
    Index("submission_mending", "provider", "received", postgresql_where=text("receipts IS NOT NULL")),
    Index("submission_by_received", "received", postgresql_using="brin"),
)
"""What care providers sent, a row each transaction of it: a submission that came in pieces is several.

`receipts` are those with something to mend, as JSON; `mending` the care provider's own ids of their visits.
"""

subscription = Table(
    "subscription",
    metadata,
    _text("id", primary_key=True),
    *(_text(name) for name in ("registration", "scopes", "purpose", "base")),
    Column("version", Integer, nullable=False, server_default=text("1")),
    _instant("updated", server_default=text("clock_timestamp()")),
    *(_text(name) for name in ("status", "body", "topic")),
    Column("filters", ARRAY(Text), nullable=False),
    *(_text(name) for name in ("endpoint", "origin")),
    Column("headers", ARRAY(Text), nullable=False),
    _text("content"),
    *(Column(name, Integer, nullable=False) for name in ("most", "seconds")),
    Column("heartbeat", Integer),
    _instant("ends", nullable=True),
    _text("snapshot", nullable=True),
    *(Column(name, BigInteger, nullable=False, server_default=text("0")) for name in ("floor", "events", "sent")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _instant("failing", nullable=True),
    _text("reason", nullable=True),
    _instant("due", server_default=text("clock_timestamp()")),
    _instant("beat", server_default=text("'infinity'")),
    _instant("lease", nullable=True),
    Column("token", BigInteger, nullable=False, server_default=text("0")),
    _text("worker", nullable=True),
    _instant("created", server_default=text("clock_timestamp()")),
    _instant("visited", nullable=True),
    CheckConstraint("status IN ('requested', 'active', 'error', 'off')", name="subscription_status"),
    CheckConstraint("content IN ('empty', 'id-only', 'full-resource')", name="subscription_content"),
    CheckConstraint("sent <= events", name="subscription_sent"),
    Index("subscription_by_registration", "registration"),
)
"""Who is told what, by whom they were when they asked (`registration`, with `scopes` and `purpose` of its token).

`snapshot`: up to where its topic has been looked for in the change log, after `floor`, and in visits, after `visited`
(fhirgw.store.notices). Of its `events`, those up to `sent` have been delivered; `failing`: since when delivery fails,
`due`: when it is tried next. `lease`: until when `worker` is believed to be at it.
"""

notice = Table(
    "notice",
    metadata,
    Column(
        "subscription", Text(collation="C"), ForeignKey("fhirgw.subscription.id", ondelete="CASCADE"), primary_key=True
    ),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    *(_text(name) for name in ("type", "id", "kind")),
    _instant("happened"),
    _instant("noted", server_default=text("clock_timestamp()")),
    CheckConstraint("kind IN ('create', 'update', 'delete')", name="notice_kind"),
    Index("notice_by_noted", "noted", postgresql_using="brin"),
)
"""Events of a subscription, numbered from 1 without a gap: its outbox, and what it may ask for again."""
