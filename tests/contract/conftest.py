"""The store, over its three runners: every test that asks for ``store`` runs on each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from responder.stores import SqlStore, open_memory, open_postgres, open_sqlite
from tests.fakes.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["inline", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> AsyncIterator[SqlStore]:
    if request.param == "inline":
        opened = open_memory(clock)
    elif request.param == "sqlite":
        opened = open_sqlite(tmp_path / "store.sqlite", clock)
    else:
        opened = await open_postgres(request.getfixturevalue("postgres_url"), clock, database_time=False)
    yield opened
    await opened.close()
