"""Any number of processes on one PostgreSQL: operations by ``run_sync`` over a bounded pool, each in a transaction of its own.

What the database refuses because somebody else was at the same rows (a deadlock, a unique key that came first) is repeated as a whole: the
second try sees what the other one stored. Deliveries share transactions: what waits is stored together, sorted by key (two replicas that
insert the same keys in different order would deadlock), and one by one when that fails.

READ COMMITTED and row locks, not SERIALIZABLE: the operations lock what they look at before they decide (``FOR UPDATE``), and a storm under
SERIALIZABLE repeats mostly for page-level conflicts between incidents that have nothing to do with each other.

Never here: a lease or an election. NOTIFY is a hint, once per transaction that brings work; the poll of a second is the truth (engine.md O7).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from responder.model.errors import ResponderError, SettingsError, StoreUnavailableError
from responder.model.storing import NewDelivery
from responder.retrying import repeated
from responder.stores.sql import deliveries, incidents, keeping, routing
from responder.stores.sql.engine import translated
from responder.stores.sql.migrate import migrate

R = TypeVar("R")
MOST_WAITING = 5_000
MOST_IN_A_BATCH = 500
"""Rows; what one transaction of deliveries holds at most, and therefore what one failure repeats."""

CONNECT_WITHIN = timedelta(seconds=5)
STATEMENT_WITHIN = timedelta(seconds=10)
WITHIN = timedelta(seconds=20)
"""One operation with everything it waits for."""

LISTEN_AGAIN = timedelta(seconds=5)
ATTEMPTS = 6
CHANNEL = "responder_due"
_NOTIFY = text(f"select pg_notify('{CHANNEL}', '')")
_SESSION = (
    "set statement_timeout = '10s'; set lock_timeout = '5s'; "
    # A replica that is stopped in the middle of a transaction must not hold its rows for longer than a lease; see _END_STOPPED too.
    "set idle_in_transaction_session_timeout = '10s'; set default_transaction_isolation = 'read committed'"
)
_MIGRATION = "set statement_timeout = '10min'; set lock_timeout = '60s'; set application_name = 'responder migrates'"

HOLDS_AT_MOST = timedelta(seconds=10)
LOOK_EVERY = timedelta(seconds=3)
_END_STOPPED = """
select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity
where usename = current_user and datname = current_database() and application_name = 'responder' and pid <> pg_catalog.pg_backend_pid()
  and xact_start is not null and wait_event = 'ClientRead' and state_change < pg_catalog.clock_timestamp() - $1::interval
"""
"""Ends our sessions whose transaction waits for its client for longer. asyncpg prepares a statement in two messages, and a session whose client was stopped
between them is "active": none of the server's timeouts before 17's transaction_timeout ends it (statement_timeout is ignored while it reads, the idle one
does not run), and it holds its locks for as long as the client is stopped. So whoever lives looks for the others."""

AGAIN = frozenset({"40001", "40P01", "23505", "0A000"})
"""Serialization failure, deadlock, a unique key that somebody else inserted first, a plan that a migration has made invalid."""

READ_ONLY = "25006"

BRINGS_WORK: frozenset[Callable[..., Any]] = frozenset(
    {deliveries.accept, routing.route, routing.route_all, incidents.signal, incidents.wake, incidents.wake_some, keeping.set_mode}
)
_GONE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError)


class _ContestedError(Exception):
    """Nothing was stored, because of others at the same rows or of a dead connection; the whole operation is worth another try."""


@dataclass(slots=True)
class _Accepting:
    now: int
    rows: Sequence[NewDelivery]
    result: asyncio.Future[list[int]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class PostgresRunner:
    """Runs operations on PostgreSQL. Made by ``open``.

    Attributes:
        on_commit: Called before each commit of a writing operation; tests make it raise.
        on_notify: Called when another replica, or we, stored something that is due now.
        commits: Writing transactions that were committed since the start.
        schema_ahead: The schema's revision when a newer release has migrated it in a way that this one can work with; "" otherwise.
    """

    def __init__(self, url: str, *, pool: int) -> None:
        self._url = url
        self._where = described(url)
        self._engine = _engine(url, _SESSION, pool_size=pool, max_overflow=0, pool_timeout=CONNECT_WITHIN.total_seconds())
        self._accepting: asyncio.Queue[_Accepting | None] = asyncio.Queue(maxsize=MOST_WAITING)
        self._waiting = 0
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []
        self.on_commit: Callable[[], None] = lambda: None
        self.on_notify: Callable[[], None] = lambda: None
        self.schema_ahead = ""
        self.commits = 0

    @classmethod
    async def open(cls, url: str, *, pool: int = 8) -> PostgresRunner:
        """Connect, bring the schema up to date (one at a time, whoever comes first), and begin to listen.

        Args:
            url: ``postgresql://…`` as libpq knows it, ``sslmode`` and several hosts included.
            pool: Most connections for operations; one more listens.

        Raises:
            SettingsError: The URL is none, the server cannot be reached, or a newer release has made the schema unfit for this one.
        """
        runner = cls(url, pool=pool)
        try:
            runner.schema_ahead = await migrated(url)
        except BaseException:
            await runner._engine.dispose()
            raise
        # They live as long as the runner and are ended by close: no caller's task group lives that long.
        runner._tasks = [
            asyncio.create_task(runner._accept_all(), name="store-accept"),
            asyncio.create_task(runner._listen(), name="store-listen"),
        ]
        return runner

    async def run(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Run a writing operation in a transaction of its own; it is durable when this returns.

        Raises:
            StoreUnavailableError: The store could not do it, or too much waits for it already. When the connection broke while it was
                committing, nobody knows whether it was stored; whoever comes back looks.
            InvariantError: The schema refused it: a bug in us.
        """
        self._check_open()
        if operation is deliveries.accept:
            result: Any = await self._accept(*arguments)
            return result  # type: ignore[no-any-return] # what accept returns is what R is
        return await self._repeated(operation, arguments, writes=True)

    async def read(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Run a reading operation."""
        self._check_open()
        return await self._repeated(operation, arguments, writes=False)

    async def close(self) -> None:
        """Store what is queued, then release all connections; idempotent."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(asyncio.QueueFull, TimeoutError):
            self._accepting.put_nowait(None)
            async with asyncio.timeout(10):
                await asyncio.gather(*self._tasks[:1], return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._engine.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")

    async def _repeated(self, operation: Callable[..., R], arguments: tuple[Any, ...], *, writes: bool) -> R:
        if self._waiting >= MOST_WAITING:
            raise StoreUnavailableError(f"store {self._where}: {MOST_WAITING} operations wait for it already; come back")
        self._waiting += 1
        try:
            return await repeated(
                lambda: self._once(operation, arguments, writes=writes),
                attempts=ATTEMPTS,
                within=WITHIN,
                on=_ContestedError,
                pause=timedelta(milliseconds=10),
            )
        except _ContestedError as contested:
            error = contested.__cause__
            assert isinstance(error, DBAPIError)
            if _code(error) == "23505" or error.connection_invalidated:
                raise translated(error, where=self._where, doing=operation.__name__, advice=_ADVICE) from error
            raise StoreUnavailableError(
                f"store {self._where}, {operation.__name__}: others were at the same rows {ATTEMPTS} times: {error.orig}; come back"
            ) from error
        except DBAPIError as error:
            raise translated(error, where=self._where, doing=operation.__name__, advice=_ADVICE) from error
        except _GONE as error:
            raise StoreUnavailableError(
                f"store {self._where}, {operation.__name__}: {error or type(error).__name__}; {_ADVICE}"
            ) from error
        finally:
            self._waiting -= 1

    async def _once(self, operation: Callable[..., R], arguments: tuple[Any, ...], *, writes: bool) -> R:
        committing = False
        try:
            async with asyncio.timeout(WITHIN.total_seconds()), self._engine.connect() as connection:
                result = await connection.run_sync(_apply, operation, arguments)
                if operation in BRINGS_WORK:
                    await connection.execute(_NOTIFY)
                if writes:
                    self.on_commit()
                committing = True
                await connection.commit()
                self.commits += writes
                return result
        except DBAPIError as error:
            # A connection that broke before the commit was sent (a server that restarted, a pooled one long dead) stored nothing for sure.
            if _code(error) in AGAIN or (error.connection_invalidated and not committing):
                raise _ContestedError from error
            if _code(error) == READ_ONLY:
                await (
                    self._engine.dispose()
                )  # sessions of a server that became a standby stay read-only; new ones find the primary
            raise

    # --- deliveries together

    async def _accept(self, now: int, rows: Sequence[NewDelivery]) -> list[int]:
        job = _Accepting(now, rows)
        try:
            self._accepting.put_nowait(job)
        except asyncio.QueueFull:
            raise StoreUnavailableError(
                f"store {self._where}: {MOST_WAITING} deliveries wait for it already; come back"
            ) from None
        return await job.result

    async def _accept_all(self) -> None:
        while (job := await self._accepting.get()) is not None:
            jobs, rows = [job], len(job.rows)
            while rows < MOST_IN_A_BATCH and not self._accepting.empty():
                one = self._accepting.get_nowait()
                if one is None:
                    self._accepting.put_nowait(None)
                    break
                jobs.append(one)
                rows += len(one.rows)
            jobs.sort(key=lambda job: min((row.retry_key for row in job.rows), default=""))
            await self._accept_together(jobs)

    async def _accept_together(self, jobs: Sequence[_Accepting]) -> None:
        """Store deliveries in one transaction; when that is refused, each job by itself, where its error reaches its own caller."""
        rows = [row for job in jobs for row in job.rows]
        try:
            now = max(job.now for job in jobs)
            stored = list(await self._repeated(deliveries.accept, (now, rows), writes=True))
        except StoreUnavailableError as error:  # the others would only wait for the same
            for job in jobs:
                _fail(job, error)
        except Exception as error:  # noqa: BLE001 - repeated one by one, or handed to its caller
            if len(jobs) == 1:
                _fail(jobs[0], error)
            else:
                for job in jobs:
                    await self._accept_together([job])
        else:
            for job in jobs:
                if not job.result.done():
                    job.result.set_result(stored[: len(job.rows)])
                del stored[: len(job.rows)]

    # --- the hint

    async def _listen(self) -> None:
        """Listen on a connection of its own, for ever, and end what stopped replicas hold; while there is none, the poll does alone."""
        while True:
            with contextlib.suppress(*_GONE):
                connection = await _connect(self._url, "set application_name = 'responder listens'")
                ended = asyncio.Event()
                try:
                    connection.add_termination_listener(lambda _connection, ended=ended: ended.set())
                    await connection.add_listener(CHANNEL, lambda *_said: self.on_notify())
                    while not ended.is_set():
                        with contextlib.suppress(asyncpg.PostgresError):  # not granted: the hint is still heard
                            await connection.fetch(_END_STOPPED, HOLDS_AT_MOST)
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(LOOK_EVERY.total_seconds()):
                                await ended.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(LISTEN_AGAIN.total_seconds())


_ADVICE = "nothing was stored unless the connection broke while committing; check the database server, it is tried again"


def described(url: str) -> str:
    """Return host and database of a URL, without user and password.

    Raises:
        SettingsError: It is no PostgreSQL URL; says nothing of what it holds.
    """
    try:
        parts = urlsplit(url)
        where = f"{parts.hostname or 'local'}{parts.path}"
    except ValueError:
        raise SettingsError("store.url cannot be read as a URL; expected postgresql://user:password@host/database") from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise SettingsError(
            "store.url is no PostgreSQL URL; expected postgresql://user:password@host/database?sslmode=verify-full"
        )
    return where


async def migrated(url: str) -> str:
    """Bring the schema up to date; return its revision when it is ahead of this release and fit for it, else "".

    Raises:
        SettingsError: The server cannot be reached or does not let us, or its schema is not fit for this release.
    """
    return await once(url, migrate, session=_MIGRATION)


async def once(url: str, operation: Callable[..., R], *arguments: Any, session: str = _MIGRATION) -> R:
    """Run one operation on a connection made for it: migrations, inspections.

    Raises:
        SettingsError: The server cannot be reached or does not let us.
    """
    where = described(url)
    engine = _engine(url, session, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(_apply, operation, arguments)
    except ResponderError:
        raise
    except _GONE as error:
        said = error.orig if isinstance(error, DBAPIError) else error or type(error).__name__
        raise SettingsError(
            f"store.url, {operation.__name__} on {where}: {said}; check that the server runs, may be reached, and that the user owns its schema"
        ) from error
    finally:
        await engine.dispose()


def _engine(url: str, session: str, **options: Any) -> AsyncEngine:
    # SQLAlchemy's own reading of URLs knows neither sslmode nor several hosts; asyncpg's does.
    return create_async_engine("postgresql+asyncpg://", async_creator=lambda: _connect(url, session), **options)


async def _connect(url: str, session: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(
        url,
        timeout=CONNECT_WITHIN.total_seconds(),
        command_timeout=None if session is _MIGRATION else STATEMENT_WITHIN.total_seconds() + 1,
        server_settings={"application_name": "responder"},
    )
    try:
        await connection.execute(session)  # not as start-up parameters: a pooler in between refuses those it does not know
    except BaseException:
        connection.terminate()
        raise
    return connection


def _apply(connection: Connection, operation: Callable[..., R], arguments: tuple[Any, ...]) -> R:
    return operation(connection, *arguments)


def _code(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", "") or "")


def _fail(job: _Accepting, error: Exception) -> None:
    if not job.result.done():
        job.result.set_exception(error)
