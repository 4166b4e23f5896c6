"""What alembic runs: the caller hands in the connection, inside the transaction that the whole upgrade is."""

from sqlalchemy import text

from alembic import context
from fhirgw.store.schema import SCHEMA, metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("Run `fhirgw migrate`: it knows the database and hands its connection to alembic")

# A migration waits for nobody for long: a lock it cannot have is a lock the whole gateway queues behind.
connection.execute(text("SET LOCAL lock_timeout = '5s'"))
connection.execute(text("SET LOCAL statement_timeout = '10min'"))
connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
context.configure(connection=connection, target_metadata=metadata, version_table_schema=SCHEMA)
with context.begin_transaction():
    context.run_migrations()
