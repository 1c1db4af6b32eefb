"""Several replicas: who runs, whose turn it is in a cluster, and which releases may use this schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add columns and tables."""
    op.add_column("replicas", sa.Column("incarnation", sa.Text(), server_default="", nullable=False))
    op.add_column("replicas", sa.Column("version", sa.Text(), server_default="", nullable=False))
    op.create_table("cluster_turns", sa.Column("cluster", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("cluster"))
    compatibility = op.create_table(
        "compatibility",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("least_revision", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(compatibility, [{"id": 1, "least_revision": "0001"}])
