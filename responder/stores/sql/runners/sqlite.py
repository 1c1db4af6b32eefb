"""One process on one SQLite file: a writer thread with group commit, and a reader thread beside it.

The writer drains its queue into one transaction; when an operation raises, everything is rolled back and repeated one by one, so that only
the guilty one fails. A lock file proves that nobody else has the database (never on NFS, SMB or Azure Files: engine.md O8).

The decision a reader would question: a transaction that only takes or renews leases is not waited for until it is on the disk. A process that
dies loses nothing of it (the operating system has it); a machine that dies takes the lease's holder with it, and the next start frees what
is left. Whatever is stored after it brings it to the disk too.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from responder.model.errors import SettingsError, StoreUnavailableError
from responder.stores.sql import deliveries, incidents, outbox, replicas, routing
from responder.stores.sql.engine import sqlite_engine, translated
from responder.stores.sql.migrate import migrate

R = TypeVar("R")
MOST_QUEUED = 5_000
MOST_IN_A_BATCH = 500
MOST_READ_AT_ONCE = 16
"""Each waits for the others' answers."""

WITHIN = timedelta(seconds=20)
"""One operation with everything it waits for, as on PostgreSQL: a disk that hangs must keep no sender and no loop waiting for ever."""


PAGES_KEPT_KIB = 8 << 10
"""Of the database in memory: alerts have random keys, and a storm's touch all pages of their index again and again."""

CHECKPOINT_BYTES = 32 << 20
"""Of the log, eight times SQLite's own: a page that a storm writes twenty times is then copied from the log into the file once and not twenty times."""

LEASES: frozenset[Callable[..., Any]] = frozenset(
    {deliveries.claim, routing.due_instances, incidents.claim, incidents.renew, outbox.claim, replicas.beat}
)
"""What may be forgotten when the machine dies."""


@dataclass(slots=True)
class _Job:
    operation: Callable[..., Any]
    arguments: tuple[Any, ...]
    result: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class SqliteRunner:
    """Runs operations on one SQLite file.

    Attributes:
        on_commit: Called in the writer thread before each commit; tests make it raise.
        commits: Writing transactions that were committed since the start.
    """

    def __init__(self, path: Path) -> None:
        """Open, lock and migrate the database.

        Raises:
            SettingsError: The file cannot be opened, another process has it, or a newer release has migrated it.
        """
        self._path = path
        self._lock = _locked(path)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.commits = 0
        self._durable = True
        self._said: list[_Job] = []
        self.on_commit: Callable[[], None] = lambda: None
        self.on_notify: Callable[[], None] = lambda: None
        try:
            self._engine = sqlite_engine(str(path))
            with self._engine.begin() as connection:
                self.schema_ahead = migrate(connection)
            self._set(f"cache_size = -{PAGES_KEPT_KIB}", f"wal_autocheckpoint = {CHECKPOINT_BYTES // self._page_bytes()}")
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

    async def _put(self, where: queue.SimpleQueue[_Job | None], operation: Callable[..., R], arguments: tuple[Any, ...]) -> R:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        if where.qsize() + len(self._said) >= MOST_QUEUED:
            raise StoreUnavailableError(f"store {self._path}: {MOST_QUEUED} operations wait for it already; come back")
        loop = asyncio.get_running_loop()
        job = _Job(operation, arguments, loop.create_future(), loop)
        if where is self._queue:
            self._said.append(job)
            if len(self._said) == 1:
                loop.call_soon(self._say)
        else:
            where.put(job)
        late = loop.call_later(WITHIN.total_seconds(), self._late, job)
        try:
            result: R = await job.result
        finally:
            late.cancel()
        return result

    def _say(self) -> None:
        """Give the writer what was asked for in this turn of the loop: woken for the first alone, it would commit it alone."""
        said, self._said = self._said, []
        for job in said:
            self._queue.put(job)

    def _late(self, job: _Job) -> None:
        if not job.result.done():
            problem = f"no answer within {WITHIN.total_seconds():g} s; check the disk, it is tried again"
            job.result.set_exception(StoreUnavailableError(f"store {self._path}, {job.operation.__name__}: {problem}"))

    async def close(self) -> None:
        """Finish what is queued, close the database and give the lock back; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._say()
        await asyncio.get_running_loop().run_in_executor(None, self._join)

    def _join(self) -> None:
        self._queue.put(None)
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
            jobs = [job for job in jobs if not job.result.done()]  # nobody waits for it any more
            if not self._together(jobs):
                for job in jobs:
                    self._alone(self._engine, job, before_commit=self.on_commit)

    def _next_batch(self) -> list[_Job] | None:
        return _drained(self._queue, MOST_IN_A_BATCH)

    def _together(self, jobs: list[_Job]) -> bool:
        """Run a batch in one transaction; False when any of it failed (then nothing of it happened)."""
        try:
            self._wait_for_disk(wait=not all(job.operation in LEASES for job in jobs))
            with self._engine.begin() as connection:
                answers = _answers(connection, jobs)
                self.on_commit()
        except Exception:  # noqa: BLE001 - the batch is repeated one by one, where each error reaches its own caller
            return False
        self.commits += 1
        _tell(answers)
        return True

    def _wait_for_disk(self, *, wait: bool) -> None:
        if wait is not self._durable:
            self._set(f"synchronous = {'full' if wait else 'normal'}")
            self._durable = wait

    def _set(self, *settings: str) -> None:
        """Set what SQLite does not let be set within a transaction."""
        raw = self._engine.raw_connection()
        try:
            cursor = raw.cursor()
            for one in settings:
                cursor.execute(f"pragma {one}")
            cursor.close()
        finally:
            raw.close()

    def _page_bytes(self) -> int:
        """Return the size of the database's pages: one that was there keeps what it was made with."""
        with self._engine.connect() as connection:
            return int(connection.exec_driver_sql("pragma page_size").scalar_one())

    def _read(self) -> None:
        """Read what waits in one look at the database; who fails fails alone."""
        while (jobs := _drained(self._reads, MOST_READ_AT_ONCE)) is not None:
            answers: list[_Answer] = []
            try:
                with self._read_engine.begin() as connection:
                    answers = [self._read_one(connection, job) for job in jobs if not job.result.done()]
            except Exception as error:  # noqa: BLE001 - no look at all; handed to the callers, who await it
                problem = translated(error, where=str(self._path), doing="read") if isinstance(error, DBAPIError) else error
                answers = [(job, None, problem) for job in jobs]
            _tell(answers)

    def _read_one(self, connection: Connection, job: _Job) -> _Answer:
        try:
            return job, job.operation(connection, *job.arguments), None
        except DBAPIError as error:
            return job, None, translated(error, where=str(self._path), doing=job.operation.__name__)
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who awaits it
            return job, None, error

    def _alone(self, engine: Engine, job: _Job, *, before_commit: Callable[[], None]) -> None:
        try:
            if engine is self._engine:
                self._wait_for_disk(wait=True)
            with engine.begin() as connection:
                result = job.operation(connection, *job.arguments)
                before_commit()
        except DBAPIError as error:
            _tell([(job, None, translated(error, where=str(self._path), doing=job.operation.__name__))])
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who awaits it
            _tell([(job, None, error)])
        else:
            if engine is self._engine:
                self.commits += 1
            _tell([(job, result, None)])


_Answer = tuple[_Job, Any, BaseException | None]


def _drained(waiting: queue.SimpleQueue[_Job | None], most: int) -> list[_Job] | None:
    """Wait for a job, and return it with what else waits; None at the end."""
    first = waiting.get()
    if first is None:
        return None
    jobs = [first]
    while len(jobs) < most:
        try:
            one = waiting.get_nowait()
        except queue.Empty:
            break
        if one is None:
            waiting.put(None)
            break
        jobs.append(one)
    return jobs


def _answers(connection: Connection, jobs: list[_Job]) -> list[_Answer]:
    """Run operations in their order, but deliveries first and as one: they depend on nothing, and share their statements."""
    accepting = [job for job in jobs if job.operation is deliveries.accept]
    answers: list[_Answer] = []
    if accepting:
        now = max(job.arguments[0] for job in accepting)
        stored = iter(deliveries.accept(connection, now, [row for job in accepting for row in job.arguments[1]]))
        answers += [(job, [next(stored) for _ in job.arguments[1]], None) for job in accepting]
    answers += [(job, job.operation(connection, *job.arguments), None) for job in jobs if job.operation is not deliveries.accept]
    return answers


def _tell(answers: list[_Answer]) -> None:
    """Give answers to those who await them: one call into each event loop for all."""
    loops = {answer[0].loop for answer in answers}
    for loop in loops:
        with contextlib.suppress(RuntimeError):  # a loop that is closed awaits nothing
            loop.call_soon_threadsafe(_settle, [answer for answer in answers if answer[0].loop is loop])


def _settle(answers: list[_Answer]) -> None:
    for job, result, error in answers:
        if job.result.done():  # whoever asked was cancelled
            continue
        if error is None:
            job.result.set_result(result)
        else:
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
