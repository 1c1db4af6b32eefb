"""The one wrapper round tenacity: what is repeated, how often, how long. By error type, always capped, with jitter.

Nothing here may wrap a write that is not idempotent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from responder.model.errors import ThrottledError, TransientError

R = TypeVar("R")


def _wait(state: RetryCallState, first: float) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    backoff: float = wait_random_exponential(multiplier=first, max=5)(state)
    if isinstance(error, ThrottledError) and error.retry_after is not None:
        return max(backoff, error.retry_after.total_seconds())
    return backoff


async def repeated(
    read: Callable[[], Awaitable[R]],
    *,
    attempts: int = 3,
    within: timedelta = timedelta(seconds=8),
    on: type[Exception] = TransientError,
    pause: timedelta = timedelta(milliseconds=200),
) -> R:
    """Repeat a read, or a transaction that was rolled back, while it fails transiently.

    Args:
        read: Idempotent.
        attempts: Most tries.
        within: No further try begins after this long.
        on: What is repeated.
        pause: Longest before the second try; doubled for each further one, at most 5 s.

    Raises:
        TransientError: The last one (or ``on``), when it never worked.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        return await read()  # nearly always all there is to it: what repeats costs more than many a read
    except on as error:
        if attempts <= 1:
            raise
        failed: Exception | None = error
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(on),
        stop=stop_after_attempt(attempts) | stop_before_delay(max(0.0, within.total_seconds() - (loop.time() - began))),
        wait=lambda state: _wait(state, pause.total_seconds()),
        reraise=True,
    )

    async def once() -> R:
        nonlocal failed
        if failed is not None:
            first, failed = failed, None
            raise first
        return await read()  # a plain function that returns an awaitable is not awaited by tenacity

    return await retrying(once)


LONGEST_ASKED = timedelta(days=1)


def asked_pause(said: str, *, date: str = "") -> timedelta | None:
    """Read a header ``Retry-After``: seconds, or an HTTP date; None when it says neither, or something that is no pause.

    Args:
        said: Its value.
        date: The same answer's ``Date``, from which a date is counted, since clocks differ.
    """
    try:
        seconds = float(said)
    except ValueError:
        until, there = _http_date(said), _http_date(date)
        if until is None or there is None:
            return None
        seconds = (until - there).total_seconds()
    if not 0 <= seconds < float("inf"):
        return timedelta(0) if seconds < 0 else None
    return min(timedelta(seconds=math.ceil(min(seconds, LONGEST_ASKED.total_seconds()))), LONGEST_ASKED)


def _http_date(said: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(said)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
