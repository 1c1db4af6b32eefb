"""Everything as of the first release."""

from __future__ import annotations

from alembic import op

from responder.stores.sql.tables import METADATA

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create all tables. Until the first release is out this follows ``tables.py``; afterwards it is frozen by value."""
    METADATA.create_all(op.get_bind())
