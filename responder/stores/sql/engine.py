"""Engines for SQLite: WAL, synchronous FULL, and every transaction ``BEGIN IMMEDIATE`` (engine.md O8)."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.pool import StaticPool

from responder.model.errors import InvariantError, ResponderError, SettingsError, StoreUnavailableError

LEAST_SQLITE = (3, 35, 0)
"""RETURNING and UPDATE … FROM."""

PAGE_BYTES = 8192
"""Of a database that is made: with twice SQLite's own, a storm's rows cost a fifth less, and a lone alert's commit hardly more. One that is there keeps its."""


def check_sqlite() -> None:
    """Refuse an SQLite that is too old.

    Raises:
        SettingsError: It is.
    """
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        raise SettingsError(f"SQLite {sqlite3.sqlite_version} is too old; at least {'.'.join(map(str, LEAST_SQLITE))} is needed")


def translated(
    error: DBAPIError,
    *,
    where: str,
    doing: str,
    advice: str = "nothing was stored; check the disk and its free space, it is tried again",
) -> ResponderError:
    """Return our error for a driver's: a statement that the schema refuses is a bug in us, everything else is the store's trouble.

    The difference matters: what is unavailable is tried again, and a bug tried again is tried for ever.

    Args:
        error: As raised.
        where: Which store.
        doing: The operation's name.
        advice: For the store's trouble: what to do.
    """
    bug = isinstance(error, IntegrityError | ProgrammingError | DataError | NotSupportedError)
    bug = bug or str(getattr(error.orig, "sqlstate", "") or "").startswith(
        "22"
    )  # data that PostgreSQL refuses, under whatever class
    said = f"store {where}, {doing}: {error.orig}"
    problem = InvariantError(f"{said}; nothing was stored") if bug else StoreUnavailableError(f"{said}; {advice}")
    problem.__cause__ = error
    return problem


def sqlite_engine(path: str, *, read_only: bool = False) -> Engine:
    """Return an engine with one connection of its own.

    Args:
        path: Of the file; ``:memory:`` for none.
        read_only: Refuse to write and begin deferred.
    """
    check_sqlite()
    engine = create_engine(f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False, "timeout": 5.0})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        if path != ":memory:":
            cursor.execute(f"PRAGMA page_size={PAGE_BYTES}")
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=5000")
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
