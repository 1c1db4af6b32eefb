"""A store looked at or migrated from the command line, without a service: one connection, one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from responder.model.errors import SettingsError
from responder.ports import Clock
from responder.stores.sql.codec import millis
from responder.stores.sql.database_time import NOW
from responder.stores.sql.engine import sqlite_engine
from responder.stores.sql.inspecting import Inspection, exported, inspected
from responder.stores.sql.migrate import migrate, newest, revision
from responder.stores.sql.runners.sqlite import SqliteRunner

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did: revisions before ("" for an empty database) and after, and that which this release knows."""

    before: str
    after: str
    known: str


class Administration:
    """One store, by its file or its URL; exactly one of them is given."""

    def __init__(self, clock: Clock, *, path: Path | None = None, url: str = "") -> None:
        self._clock = clock
        self._path = path
        self._url = url

    async def migrate(self) -> Migrated:
        """Bring the schema up to date: on PostgreSQL one at a time, beside running replicas; on SQLite only while no service runs.

        Raises:
            SettingsError: It cannot be reached, is in use (SQLite), or a newer release has made it unfit for this one.
        """
        if self._path is not None:
            before = self._on_file(revision) if self._path.exists() else None
            await SqliteRunner(self._path).close()
            return Migrated(before or "", self._on_file(revision) or "", newest())
        before, after = await self._on_server(_migrate)
        return Migrated(before or "", after or "", newest())

    async def inspect(self) -> Inspection:
        """Look it over, also while a service runs; changes nothing.

        Raises:
            SettingsError: It cannot be reached or opened.
        """
        if self._path is not None:
            return self._on_file(lambda db: inspected(db, millis(self._clock.now())))
        return await self._on_server(_at_one_moment, inspected)

    async def export(self, write: Callable[[bytes], object]) -> dict[str, int]:
        """Write everything out as of one moment, also while a service runs; return table to number of rows.

        Raises:
            SettingsError: It cannot be reached or opened.
        """
        if self._path is not None:
            return self._on_file(lambda db: exported(db, millis(self._clock.now()), write))
        return await self._on_server(_at_one_moment, lambda db, now: exported(db, now, write))

    def _on_file(self, operation: Callable[[Connection], R]) -> R:
        assert self._path is not None
        if not self._path.is_file():
            raise SettingsError(
                f"store.path {self._path} is not there; give --config with the right one, or run responder db migrate"
            )
        engine = sqlite_engine(str(self._path), read_only=True)
        try:
            with engine.begin() as db:
                return operation(db)
        except DBAPIError as error:
            raise SettingsError(
                f"store.path {self._path} cannot be read as a database: {error.orig}; restore a backup"
            ) from error
        finally:
            engine.dispose()

    async def _on_server(self, operation: Callable[..., R], *arguments: Any) -> R:
        from responder.stores.sql.runners.postgres import once  # noqa: PLC0415 - who runs on SQLite does not load its driver

        return await once(self._url, operation, *arguments)


def _migrate(db: Connection) -> tuple[str | None, str | None]:
    before = revision(db)
    migrate(db)
    return before, revision(db)


def _at_one_moment(db: Connection, look: Callable[[Connection, int], R]) -> R:
    db.execute(text("set transaction isolation level repeatable read, read only"))
    return look(db, int(db.execute(NOW).scalar_one()))
