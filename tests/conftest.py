"""Shared fixtures. Fakes and builders live in ``tests/fakes`` and ``tests/builders.py``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")


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
