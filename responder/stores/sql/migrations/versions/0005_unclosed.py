"""Unclosed incidents by their age: a list of the few that are open does not look through a year of closed ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add an index."""
    unclosed = sa.text("phase != 'closed'")
    op.create_index("incidents_unclosed", "incidents", ["opened_at", "id"], sqlite_where=unclosed, postgresql_where=unclosed)
