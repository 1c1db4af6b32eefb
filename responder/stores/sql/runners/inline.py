"""Operations inline on a ``:memory:`` database: for tests, which run on virtual time and therefore without threads.

The schema is migrated once per process and cloned by ``serialize`` (engine.md O13).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from responder.model.errors import StoreUnavailableError
from responder.stores.sql.engine import sqlite_engine, translated
from responder.stores.sql.migrate import migrate

R = TypeVar("R")


@cache
def _template() -> bytes:
    engine = sqlite_engine(":memory:")
    with engine.begin() as connection:
        migrate(connection)
    raw = engine.raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    data = driver.serialize()
    raw.close()
    engine.dispose()
    return data


class InlineRunner:
    """Runs each operation at once in a transaction of its own.

    Attributes:
        on_commit: Called before each commit; tests make it raise.
        unavailable: Set to a sentence to make every operation fail with it.
    """

    def __init__(self) -> None:
        self._engine = sqlite_engine(":memory:")
        raw = self._engine.raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.deserialize(_template())
        raw.close()
        self.on_commit: Callable[[], None] = lambda: None
        self.on_notify: Callable[[], None] = lambda: None
        self.schema_ahead = ""
        self.commits = 0
        self.unavailable = ""

    async def run(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Run an operation now."""
        return self._now(self.on_commit, operation, arguments)

    async def read(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Run a reading operation now."""
        return self._now(lambda: None, operation, arguments)

    def _now(self, before_commit: Callable[[], None], operation: Callable[..., R], arguments: tuple[Any, ...]) -> R:
        if self.unavailable:
            raise StoreUnavailableError(self.unavailable)
        try:
            with self._engine.begin() as connection:
                result = operation(connection, *arguments)
                before_commit()
        except DBAPIError as error:
            raise translated(error, where="in memory", doing=operation.__name__) from error
        return result

    async def close(self) -> None:
        """Drop the database; idempotent."""
        self.unavailable = "the store is closed"
        self._engine.dispose()
