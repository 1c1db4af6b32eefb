"""Whose child an incident is: counted and let go by its parent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add a column and its index."""
    op.add_column("incidents", sa.Column("parent", sa.Text(), server_default="", nullable=False))
    has = sa.text("parent != ''")
    op.create_index("incidents_parent", "incidents", ["parent"], sqlite_where=has, postgresql_where=has)
