"""Brings a database to the newest schema. Alembic, configured in code: it must work from an installed wheel.

Releases N and N+1 run side by side during an upgrade, and N may start again on what N+1 has migrated: migrations only add, so N finds
everything it knows. The check is therefore not "is the schema mine" but "may I use it": the table ``compatibility`` names the newest
revision known to the oldest release that still can. A migration that takes something away (two releases after its last use) raises it.

The decision a reader would question: an additive migration never raises it, and a release never reads what it did not migrate to. So the
answer lives in the database, where an old release can read it, and not in the code, of which the old release has only its own.

Alembic is imported only where something is to be migrated: most starts find the schema as they need it, and would load 11 MiB for that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, select, text

from responder.model.errors import SettingsError
from responder.stores.sql import tables

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).parent / "migrations"
TURN = 7_305_912_446
"""Key of the advisory lock: one migrates at a time, the others wait and find nothing left to do. Any number would do."""

_VERSION = "alembic_version"
"""Alembic's own table, of one row and one column ``version_num``."""


def migrate(connection: Connection, *, scripts: Path = HERE) -> str:
    """Run every migration that is missing, in the connection's own transaction.

    Args:
        connection: In a transaction.
        scripts: Where the migrations are.

    Returns:
        The schema's revision when it is ahead of this release and fit for it; "" otherwise.

    Raises:
        SettingsError: A newer release has made this database unfit for this one, or nobody knows whether it has.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:turn)"), {"turn": TURN})
    head = newest(scripts)
    present = revision(connection)
    if present == head:
        return ""
    if present is not None and present not in known(scripts):
        least = least_revision(connection)
        if least is None or least > head:
            raise SettingsError(
                f"the store's schema is {present}, made by a newer release, and needs a release that knows at least "
                f"{least or 'nobody knows which'}; this one knows {head}: run the newer release, or restore an older database"
            )
        return present
    from alembic import command  # noqa: PLC0415 - see above

    command.upgrade(_config(connection, scripts), "head")
    return ""


def _config(connection: Connection, scripts: Path) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.attributes["connection"] = connection
    return config


def known(scripts: Path = HERE) -> frozenset[str]:
    """Return all revisions that this release knows: a migration's file begins with its revision."""
    return frozenset(path.stem.partition("_")[0] for path in (scripts / "versions").glob("[0-9]*_*.py"))


def newest(scripts: Path = HERE) -> str:
    """Return the revision that this release migrates to."""
    return max(known(scripts))


def revision(connection: Connection) -> str | None:
    """Return the schema's revision; None for an empty database."""
    if not inspect(connection).has_table(_VERSION):
        return None
    found: str | None = connection.execute(text(f"select version_num from {_VERSION}")).scalar()  # noqa: S608 - a constant
    return found


def least_revision(connection: Connection) -> str | None:
    """Return the newest revision known to the oldest release that can use this schema; None when it does not say."""
    if not inspect(connection).has_table(tables.compatibility.name):
        return None
    return connection.execute(select(tables.compatibility.c.least_revision)).scalar()
