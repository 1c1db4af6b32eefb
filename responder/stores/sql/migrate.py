"""Brings a database to the newest schema. Alembic, configured in code: it must work from an installed wheel."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

HERE = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Run every migration that is missing, in the connection's own transaction."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
