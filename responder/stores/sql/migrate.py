"""Brings a database to the newest schema. Alembic, configured in code: it must work from an installed wheel."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from responder.model.errors import SettingsError

HERE = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Run every migration that is missing, in the connection's own transaction.

    Raises:
        SettingsError: A newer release has migrated this database already.
    """
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SettingsError(
            f"the store's schema cannot be brought up to date: {error}; was it used by a newer release? then run that one"
        ) from error
