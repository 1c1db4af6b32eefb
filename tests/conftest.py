"""Shared fixtures. Fakes and builders live in ``tests/fakes`` and ``tests/builders.py``."""

from __future__ import annotations

import logging

import pytest
import structlog
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Log lines go nowhere unless a test looks at them."""
    structlog.configure(
        processors=[structlog.processors.JSONRenderer(default=str)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
