"""One process on one SQLite file: a writer thread with group commit, and a reader thread beside it.

The writer drains its queue into one transaction; when an operation raises, everything is rolled back and repeated one by one, so that only
the guilty one fails. A lock file proves that nobody else has the database (never on NFS, SMB or Azure Files: engine.md O8).
"""

from __future__ import annotations

import asyncio
import fcntl
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from responder.model.errors import SettingsError, StoreUnavailableError
from responder.stores.sql.engine import sqlite_engine, translated
from responder.stores.sql.migrate import migrate

R = TypeVar("R")
MOST_QUEUED = 5_000
MOST_IN_A_BATCH = 500
WITHIN = timedelta(seconds=20)
"""One operation with everything it waits for, as on PostgreSQL: a disk that hangs must keep no sender and no loop waiting for ever."""


@dataclass(slots=True)
class _Job:
    operation: Callable[..., Any]
    arguments: tuple[Any, ...]
    result: Future[Any] = field(default_factory=Future)


class SqliteRunner:
    """Runs operations on one SQLite file.

    Attributes:
        on_commit: Called in the writer thread before each commit; tests make it raise.
    """

    def __init__(self, path: Path) -> None:
        """Open, lock and migrate the database.

        Raises:
            SettingsError: The file cannot be opened, another process has it, or a newer release has migrated it.
        """
        self._path = path
        self._lock = _locked(path)
        self._queue: queue.Queue[_Job | None] = queue.Queue(maxsize=MOST_QUEUED)
        self._reads: queue.Queue[_Job | None] = queue.Queue(maxsize=MOST_QUEUED)
        self.on_commit: Callable[[], None] = lambda: None
        self.on_notify: Callable[[], None] = lambda: None
        try:
            self._engine = sqlite_engine(str(path))
            with self._engine.begin() as connection:
                self.schema_ahead = migrate(connection)
            self._read_engine = sqlite_engine(str(path), read_only=True)
        except SettingsError:
            self._lock.close()
            raise
        except DBAPIError as error:
            self._lock.close()
            raise SettingsError(
                f"store.path {path} cannot be opened as a database: {error.orig}; give another path or restore it"
            ) from error
        self._threads = [
            threading.Thread(target=self._write, name="store-writer", daemon=True),
            threading.Thread(target=self._read, name="store-reader", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._closed = False

    async def run(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Run a writing operation in a transaction shared with others; it is durable when this returns.

        Raises:
            StoreUnavailableError: The store could not do it, or too much waits for it already; nothing was stored. Or it did not answer in time:
                then what had begun may still be stored, and whoever comes back looks; what had not begun is dropped.
            InvariantError: The schema refused it: a bug in us.
        """
        return await self._put(self._queue, operation, arguments)

    async def read(self, operation: Callable[..., R], *arguments: Any) -> R:
        """Run a reading operation beside the writer."""
        return await self._put(self._reads, operation, arguments)

    async def _put(self, where: queue.Queue[_Job | None], operation: Callable[..., R], arguments: tuple[Any, ...]) -> R:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        job = _Job(operation, arguments)
        try:
            where.put_nowait(job)
        except queue.Full:
            raise StoreUnavailableError(f"store {self._path}: {MOST_QUEUED} operations wait for it already; come back") from None
        try:
            async with asyncio.timeout(WITHIN.total_seconds()):
                result: R = await asyncio.wrap_future(job.result)
        except TimeoutError:
            raise StoreUnavailableError(
                f"store {self._path}, {operation.__name__}: no answer within {WITHIN.total_seconds():g} s; check the disk, it is tried again"
            ) from None
        return result

    async def close(self) -> None:
        """Finish what is queued, close the database and give the lock back; idempotent."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._join)

    def _join(self) -> None:
        self._queue.put(None)  # here and not on the event loop: a full queue makes it wait
        self._reads.put(None)
        for thread in self._threads:
            thread.join(timeout=10)
        self._engine.dispose()
        self._read_engine.dispose()
        self._lock.close()

    def _write(self) -> None:
        while True:
            jobs = self._next_batch()
            if jobs is None:
                return
            jobs = [job for job in jobs if not job.result.cancelled()]  # nobody waits for it any more
            if not self._together(jobs):
                for job in jobs:
                    self._alone(self._engine, job, before_commit=self.on_commit)

    def _next_batch(self) -> list[_Job] | None:
        first = self._queue.get()
        if first is None:
            return None
        jobs = [first]
        while len(jobs) < MOST_IN_A_BATCH:
            try:
                one = self._queue.get_nowait()
            except queue.Empty:
                break
            if one is None:
                self._queue.put(None)
                break
            jobs.append(one)
        return jobs

    def _together(self, jobs: list[_Job]) -> bool:
        """Run a batch in one transaction; False when any of it failed (then nothing of it happened)."""
        try:
            with self._engine.begin() as connection:
                results = [job.operation(connection, *job.arguments) for job in jobs]
                self.on_commit()
        except Exception:  # noqa: BLE001 - the batch is repeated one by one, where each error reaches its own caller
            return False
        for job, result in zip(jobs, results, strict=True):
            _answer(job, result)
        return True

    def _read(self) -> None:
        while (job := self._reads.get()) is not None:
            if not job.result.cancelled():
                self._alone(self._read_engine, job, before_commit=lambda: None)

    def _alone(self, engine: Engine, job: _Job, *, before_commit: Callable[[], None]) -> None:
        try:
            with engine.begin() as connection:
                result = job.operation(connection, *job.arguments)
                before_commit()
        except DBAPIError as error:
            _fail(job, translated(error, where=str(self._path), doing=job.operation.__name__))
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who awaits it
            _fail(job, error)
        else:
            _answer(job, result)


def _answer(job: _Job, result: Any) -> None:
    if job.result.set_running_or_notify_cancel():
        job.result.set_result(result)


def _fail(job: _Job, error: BaseException) -> None:
    if job.result.set_running_or_notify_cancel():
        job.result.set_exception(error)


def _locked(path: Path) -> IO[str]:
    """Take the lock file beside the database for as long as this process lives."""
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_path.open("a")
    except OSError as error:
        raise SettingsError(f"store.path {path}: its folder cannot be written: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise SettingsError(
            f"store.path {path} is in use by another responder (lock {lock_path}); run one replica on SQLite"
        ) from error
    return lock
