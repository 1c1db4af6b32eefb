"""Alembic's entry: runs on the connection that ``migrate`` hands over."""

from __future__ import annotations

from alembic import context

from responder.stores.sql.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=False)
context.run_migrations()
