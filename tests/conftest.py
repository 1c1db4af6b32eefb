"""Shared fixtures. Fakes and builders live in ``tests/fakes`` and ``tests/builders.py``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests import postgres

settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the acceptance cases (tests/cases)."""
    group = parser.getgroup("cases")
    group.addoption("--back-end", choices=("sandbox", "control-plane"), default="sandbox", help="which cluster the cases run on")
    group.addoption("--table", action="store_true", help="write what this run found into tests/cases/TABLE.md")


SECOND_TRIES = ("cases", "contract", "e2e", "scenario")
"""Folders whose tests run real processes and servers on real time (PostgreSQL too), on a machine that others use as well."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """CI tries a failed test once more (``--reruns``) and names it: not one that makes its own time, nor one that looks for what happens rarely."""
    for item in items:
        folder, file = item.path.parent.name, item.path.name
        if folder not in SECOND_TRIES or file == "test_deaths.py":
            item.add_marker(pytest.mark.flaky(reruns=0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was tried again is told with all that it failed for."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"tried again: {report.nodeid} ({report.when})")
        terminalreporter.line(report.longreprtext)


@pytest.fixture(scope="session", autouse=True)
def _outer_loop() -> Iterator[None]:
    """Give pytest-asyncio a loop to put back after each test; the one it would make by itself on 3.11 is never closed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Log lines go nowhere unless a test looks at them."""
    structlog.configure(
        processors=[structlog.processors.JSONRenderer(default=str)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.PostgresServer]:
    """A PostgreSQL of this session; skipped with the reason where there is none, and never in CI."""
    with postgres.running_server() as server:
        postgres.now(postgres.prepare(server))
        yield server


@pytest.fixture
def postgres_url(postgres_server: postgres.PostgresServer) -> Iterator[str]:
    """A fresh database of the newest schema."""
    name = postgres.now(postgres.create(postgres_server))
    yield postgres_server.database(name)
    postgres.now(postgres.drop(postgres_server, name))
