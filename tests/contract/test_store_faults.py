"""What breaks under a real store, and that it goes on afterwards: each is unavailable, which is tried again, and never a bug, which is not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from responder.model.errors import StoreUnavailableError
from responder.stores import SqlStore, open_postgres, open_sqlite
from responder.stores.sql.runners import sqlite
from tests.contract.test_store import delivery
from tests.fakes.clock import FakeClock
from tests.postgres import PostgresServer


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[SqlStore]:
    store = open_sqlite(tmp_path / "s.sqlite", FakeClock())
    yield store
    await store.close()


@pytest.fixture
async def on_postgres(postgres_url: str) -> AsyncIterator[SqlStore]:
    store = await open_postgres(postgres_url, FakeClock(), pool=2, database_time=False)
    yield store
    await store.close()


async def said(store: SqlStore, statement: str) -> None:
    await store.runner.run(lambda db: db.execute(text(statement)))


async def test_a_disk_that_hangs_keeps_nobody_waiting_and_what_had_not_begun_is_dropped(
    on_sqlite: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was being written may be stored; what waited behind it is not, so a long hang leaves no heap of dead work."""
    monkeypatch.setattr(sqlite, "WITHIN", timedelta(seconds=0.3))
    runner = on_sqlite.runner
    assert isinstance(runner, sqlite.SqliteRunner)
    hanging, released = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        released.wait(10)

    runner.on_commit = hang
    first = asyncio.create_task(on_sqlite.accept([delivery("first")]))
    await asyncio.to_thread(hanging.wait, 5)
    with pytest.raises(StoreUnavailableError, match="no answer within"):
        await on_sqlite.accept([delivery("second")])
    with pytest.raises(StoreUnavailableError, match="no answer within"):
        await first
    released.set()
    assert await on_sqlite.accept([delivery("third")]) == [True]

    stored = await on_sqlite.deliveries(state=None, limit=9)
    assert len(stored) == 2, "the first, which was being stored, and the third"


async def test_a_file_that_became_read_only_is_said_and_used_again_afterwards(on_sqlite: SqlStore) -> None:
    """A file system remounted read-only: nothing is stored, reading goes on."""
    await said(on_sqlite, "pragma query_only = on")

    with pytest.raises(StoreUnavailableError, match="readonly"):
        await on_sqlite.accept([delivery("a")])
    with pytest.raises(StoreUnavailableError, match="readonly"):
        await on_sqlite.writable()
    backlog = await on_sqlite.backlog()
    runner = on_sqlite.runner
    assert isinstance(runner, sqlite.SqliteRunner)
    runner._engine.raw_connection().execute(
        "pragma query_only = off"
    )  # not through the store: it begins every transaction as a writing one

    assert backlog == 0
    assert await on_sqlite.accept([delivery("a")]) == [True]


async def test_a_file_that_somebody_else_locks_is_unavailable_until_it_is_free(on_sqlite: SqlStore, tmp_path: Path) -> None:
    """A backup program, or a shell with a transaction left open."""
    await said(on_sqlite, "pragma busy_timeout = 50")
    import sqlite3  # noqa: PLC0415 - the other program's own

    other = sqlite3.connect(tmp_path / "s.sqlite", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreUnavailableError, match="locked"):
        await on_sqlite.accept([delivery("a")])
    other.execute("rollback")
    other.close()

    assert await on_sqlite.accept([delivery("a")]) == [True]


async def test_a_server_that_became_a_standby_is_unavailable_and_its_sessions_are_let_go(
    on_postgres: SqlStore, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """After a failover old sessions stay read-only for ever; the next try makes new ones, which find the new primary."""
    name = postgres_url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    end = f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    await postgres_server.execute(f'alter database "{name}" set default_transaction_read_only = on', end)
    with pytest.raises(StoreUnavailableError, match="read-only"):
        await on_postgres.accept([delivery("a")])
    backlog = await on_postgres.backlog()
    with pytest.raises(StoreUnavailableError, match="read-only"):
        await on_postgres.accept([delivery("a")])

    await postgres_server.execute(f'alter database "{name}" reset default_transaction_read_only')

    assert backlog == 0
    assert await on_postgres.accept([delivery("a")]) == [True]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("53100", "could not extend file"),
        ("53200", "out of memory"),
        ("57P03", "the database system is starting up"),
        ("58030", "could not write"),
    ],
)
async def test_a_server_out_of_disk_or_memory_is_unavailable_and_used_again_afterwards(
    on_postgres: SqlStore, code: str, words: str
) -> None:
    """The server's own words are kept; they say what is wrong to whoever is paged."""
    await said(
        on_postgres,
        f"create function full_() returns trigger language plpgsql as $$ begin raise exception '{words}' using errcode = '{code}'; end $$",
    )
    await said(on_postgres, "create trigger full_ before insert on deliveries execute function full_()")

    with pytest.raises(StoreUnavailableError, match=words):
        await on_postgres.accept([delivery("a")])
    await said(on_postgres, "drop trigger full_ on deliveries")

    assert await on_postgres.accept([replace(delivery("a"), body=b"{}")]) == [True]
