"""Asks senders what holds now: at start, after an outage of our own, and every few minutes. Source: ARCHITECTURE.md, "Router".

A Resolved that never arrived is never repeated by its sender, and an alert that fired while nobody listened may not come again for hours. What is found
is posted to our own intake in the sender's format and goes the way of every delivery: stored, understood, routed; so asking twice, or by two
replicas, changes nothing.

Never here: how a sender is asked, or what its answer means (``sources``).

The decision a reader would question: what the store knows is read before the sender is asked, and once more afterwards. An alert that arrives in between
is newer than the answer, and an answer must never undo it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from responder.model.alert import AlertStatus
from responder.model.asking import Current
from responder.model.errors import IntakeFullError, RemoteError, StoreUnavailableError
from responder.model.incident import Instance
from responder.policy.grouping import FORGET, fires
from responder.ports import Askable, Clock, Store, TakesIn
from responder.telemetry import Metrics, logger

EVERY = timedelta(minutes=5)
AGAIN_AFTER = timedelta(seconds=30)
"""After a sender that could not be read, or a store that took nothing."""

SAY_AGAIN = FORGET / 2
"""A firing alert that its sender says only once (Azure Monitor) is said again by us when it was not heard of for this long: so it is not forgotten."""

WITHIN = timedelta(minutes=2)
MOST_KNOWN = 20_000


class Asker:
    """Asks one sender.

    Attributes:
        asked_at: When it was last read completely; None for never.
        problem: Why the last time failed; "" when it did not.
    """

    def __init__(
        self,
        *,
        source: Askable,
        store: Store,
        intake: TakesIn,
        clock: Clock,
        metrics: Metrics,
        every: timedelta = EVERY,
        poke: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the sender, and where what it answers goes."""
        self._source = source
        self._store = store
        self._intake = intake
        self._clock = clock
        self._metrics = metrics
        self._every = every
        self._poke = poke
        self._due = asyncio.Event()
        self.asked_at: datetime | None = None
        self.problem = "not asked yet"
        for result in ("asked", "in_part", "failed"):
            metrics.asked.labels(source.name, result)
        for what in ("fires", "over"):
            metrics.found.labels(source.name, what)

    def wake(self) -> None:
        """Say that we may have missed something: it is asked at once."""
        self._due.set()

    async def run(self) -> None:
        """Ask until cancelled, whatever the sender does."""
        again = AGAIN_AFTER
        while True:
            self._due.clear()
            if await self.ask():
                wait, again = self._every, AGAIN_AFTER
            else:
                wait, again = min(again, self._every), again * 2
            await self._pause(wait)

    async def _pause(self, wait: timedelta) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(wait))
        waking = asyncio.ensure_future(self._due.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (sleeping, waking):
                one.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(sleeping, waking, return_exceptions=True)

    async def ask(self) -> bool:
        """Ask once and take in what is news; return whether the sender was read completely and all of it is stored."""
        name = self._source.name
        try:
            async with asyncio.timeout(WITHIN.total_seconds()):
                current, fires_now, over = await self._look()
        except (RemoteError, StoreUnavailableError, IntakeFullError, TimeoutError) as error:
            self.problem = str(error) or f"no answer within {WITHIN.total_seconds():g} s"
            self._metrics.asked.labels(name, "failed").inc()
            logger().warning("source_not_asked", source=name, problem=self.problem)
            return False
        self.problem = "; ".join(current.problems)
        self._metrics.asked.labels(name, "in_part" if self.problem else "asked").inc()
        self._metrics.found.labels(name, "fires").inc(fires_now)
        self._metrics.found.labels(name, "over").inc(over)
        if self.problem:
            logger().warning("source_not_asked", source=name, problem=self.problem, listed=current.listed)
        else:
            self.asked_at = self._clock.now()
        if fires_now or over:
            logger().info("source_asked", source=name, listed=current.listed, firing=fires_now, resolved=over)
            self._poke()
        return not self.problem

    async def _look(self) -> tuple[Current, int, int]:
        source = self._source
        before = await self._store.firing(source=source.source, source_name=source.name, limit=MOST_KNOWN)
        known = {one.instance: one for one in before}
        asked_at = self._clock.now()
        current = await source.current(known)
        now = await self._store.known([*current.fires, *current.over])
        fires_now = {
            instance: said for instance, said in current.fires.items() if self._is_news(now.get(instance), asked_at=asked_at)
        }
        over = {
            instance: said for instance, said in current.over.items() if _is_unchanged(known.get(instance), now.get(instance))
        }
        await self._say({**fires_now, **over})
        return current, len(fires_now), len(over)

    def _is_news(self, stored: Instance | None, *, asked_at: datetime) -> bool:
        """Tell whether that an alert fires is unknown to the store; what was heard after the question was asked is newer than the answer."""
        if stored is None:
            return True
        if stored.seen_at >= asked_at:
            return False
        if stored.status is AlertStatus.RESOLVED:
            return not self._source.resolved_is_final
        now = self._clock.now()
        return not fires(stored, now=now) or now - stored.seen_at >= SAY_AGAIN

    async def _say(self, said: Mapping[str, Any]) -> None:
        for body in self._source.bodies(list(said.values())):
            await self._intake.accept(source=self._source.source, source_name=self._source.name, body=body, sender="asked")


def _is_unchanged(before: Instance | None, now: Instance | None) -> bool:
    return (
        before is not None
        and now is not None
        and now.status is AlertStatus.FIRING
        and (now.seen_at, now.count) == (before.seen_at, before.count)
    )
