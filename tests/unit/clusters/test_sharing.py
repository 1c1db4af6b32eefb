"""What concerns a whole namespace is read once for all who ask within a few seconds."""

from __future__ import annotations

import asyncio

import pytest

from responder.clusters.kubernetes.sharing import Shared
from responder.model.errors import TransientError
from tests.fakes.clock import FakeClock


class Counted:
    """A read that counts, and may fail first."""

    def __init__(self, *, fails: int = 0) -> None:
        self.reads = 0
        self._fails = fails

    async def __call__(self) -> int:
        self.reads += 1
        await asyncio.sleep(0)
        if self.reads <= self._fails:
            raise TransientError("no answer", system="kubernetes", operation="GET", target="x")
        return self.reads


async def test_many_at_once_are_one_read_and_five_seconds_later_another() -> None:
    """Each name by itself."""
    clock, read = FakeClock(), Counted()
    shared = Shared(now=clock.now)

    first = await asyncio.gather(*(shared.get("budgets/shop", read) for _ in range(20)))
    other = await shared.get("budgets/other", read)
    clock.forward(seconds=5)
    later = await shared.get("budgets/shop", read)

    assert (set(first), other, later) == ({1}, 2, 3)


async def test_a_read_that_failed_is_not_kept() -> None:
    """Who waited for it hears of it; the next one asks again."""
    read = Counted(fails=1)
    shared = Shared(now=FakeClock().now)
    with pytest.raises(TransientError):
        await shared.get("quotas/shop", read)

    assert await shared.get("quotas/shop", read) == 2


async def test_who_gives_up_waiting_takes_the_answer_from_nobody() -> None:
    """A cancelled reader is one of many."""
    read = Counted()
    shared = Shared(now=FakeClock().now)
    impatient = asyncio.ensure_future(shared.get("events/shop", read))
    await asyncio.sleep(0)
    impatient.cancel()

    assert await shared.get("events/shop", read) == 1
