"""Rows whose bytes cannot be read are listed, so that every replica sees and says the same of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "damaged",
        sa.Column("row", sa.Text(), nullable=False),
        sa.Column("incident", sa.Text(), server_default="", nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row"),
    )
