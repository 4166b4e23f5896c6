"""The tables, as SQLAlchemy Core sees them; alembic makes them, and a test compares the two.

`resource` holds current versions only, by list partitions on the type, so that a query names its type and plans on
one partition. `history` holds what was superseded or deleted. Everything is in the schema `fhirgw`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.sql.type_api import UserDefinedType

SCHEMA = "fhirgw"
DATE_SLOTS = 4
"""How many date search parameters of a type have columns of their own (fhirgw.fhir.index fills them)."""

metadata = MetaData(schema=SCHEMA)


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


NO_CONTROL = r"body !~ '[\x01-\x1f]'"
"""What lets COPY write NDJSON itself: a JSON text needs no control character, so nothing is ever quoted."""

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
    *(_instant(f"date{slot}_{end}", nullable=True) for slot in range(1, DATE_SLOTS + 1) for end in ("low", "high")),
    _text("body"),
    CheckConstraint(NO_CONTROL, name="resource_body_plain"),
    Index("resource_by_patient", "patient", postgresql_where=text("patient IS NOT NULL")),
    Index("resource_by_updated", "updated"),
    Index("resource_by_tokens", "tokens", postgresql_using="gin"),
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
    CheckConstraint(NO_CONTROL, name="history_body_plain"),
)

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
    CheckConstraint("state IN ('running', 'done', 'failed', 'cancelled')", name="export_job_state"),
)
