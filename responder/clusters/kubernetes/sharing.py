"""What concerns a whole namespace, read once for all who ask within a few seconds.

Autoscalers, budgets, quotas, services, events and a namespace's marks are the same for every workload in it; a storm in a namespace would list them
a hundred times a second. Never here: what a write is permitted by. That is read anew (``ports.ClusterView.snapshot``, ``shared``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

T = TypeVar("T")
SHARED_FOR = timedelta(seconds=5)
MOST_SHARED = 500


class Shared:
    """Answers of the last seconds, by name; who asks while one is being read waits for it."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._kept: dict[str, tuple[datetime, asyncio.Future[Any]]] = {}

    async def get(self, name: str, read: Callable[[], Awaitable[T]]) -> T:
        """Return a kept answer, or read it. What fails is not kept: it fails for those who waited for it, and the next one asks again.

        Raises:
            Exception: As ``read``.
        """
        now = self._now()
        held = self._kept.get(name)
        if held is None or now - held[0] >= SHARED_FOR or _failed(held[1]):
            if len(self._kept) >= MOST_SHARED:
                self._kept = {key: one for key, one in self._kept.items() if now - one[0] < SHARED_FOR}
            reading = asyncio.ensure_future(read())
            reading.add_done_callback(_failed)  # looked at, also when everybody who waited for it is gone
            held = self._kept[name] = (now, reading)
            asyncio.get_running_loop().call_later(SHARED_FOR.total_seconds(), self._forget, name, held)
        return cast("T", await asyncio.shield(held[1]))

    def _forget(self, name: str, held: object) -> None:
        if self._kept.get(name) is held:
            del self._kept[name]


def _failed(read: asyncio.Future[Any]) -> bool:
    return read.done() and (read.cancelled() or read.exception() is not None)
