"""Runs the service: router, worker, outbox, heartbeat and observer, each in a loop of its own, until told to stop.

Never here: what they do. Shutdown: no new work is claimed, what is in flight gets ``drain_within`` (a rung stops before its next write,
which the store keeps), leases run out or are freed by the next start; the pod's grace period is longer than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from responder.model.errors import StoreUnavailableError
from responder.model.storing import Replica, Work
from responder.ports import Clock, Source, Store
from responder.service.backlog import Backlog
from responder.service.observer import Observer
from responder.service.outbox import Outbox
from responder.service.router import Router
from responder.service.worker import Worker
from responder.telemetry import Metrics, logger

POLL = timedelta(seconds=1)
"""The truth; a wake-up by ``poke`` or the next due time is only sooner. Source: engine.md 4."""

HEARTBEAT = timedelta(seconds=5)
OBSERVE = timedelta(minutes=5)
STORE_AGAIN = timedelta(seconds=1)
TURNS_WITHIN = timedelta(seconds=45)
"""Longer than a store's time-outs and a channel's ten seconds; a loop that needs longer stands still."""


_WORK = {"router": Work.ROUTING, "worker": Work.INCIDENTS, "outbox": Work.MESSAGES}
"""Each loop sleeps until its own work is due: that of another, which is due all the time in a storm, would only spin it."""

LIVES = timedelta(seconds=15)
"""A replica that said nothing for this long is taken for dead, by people: its leases have run out too."""


class Supervisor:
    """Owns the tasks of the service.

    Attributes:
        beside: Loops with a life of their own (watches, receivers), by name; each runs until it is cancelled. Filled before ``run``.
        sources: What receives by itself; told to stop, it settles what it holds. Filled before ``run``.
        replicas: Who lived at the last heartbeat, newest first, this one among them.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        router: Router,
        worker: Worker,
        outbox: Outbox,
        observer: Observer,
        metrics: Metrics,
        replica: Replica,
        backlog: Backlog,
    ) -> None:
        self._replica = replica
        self._backlog = backlog
        self._steady = True
        self.replicas: Sequence[Replica] = ()
        self._store = store
        self._clock = clock
        self._router = router
        self._worker = worker
        self._outbox = outbox
        self._observer = observer
        self._metrics = metrics
        self.beside: dict[str, Callable[[], Awaitable[None]]] = {}
        self._turned: dict[str, float] = {}
        self.sources: list[Source] = []
        self._woken = {name: asyncio.Event() for name in ("router", "worker", "outbox")}
        self._stopping = asyncio.Event()

    def poke(self) -> None:
        """Say that something new is due: a person spoke, another replica stored something."""
        for one in self._woken.values():
            one.set()

    def delivered(self) -> None:
        """Say that a delivery was stored: the router has it first, and says to the worker that there is something for it."""
        self._woken["router"].set()

    def stop(self) -> None:
        """Ask all loops to end; idempotent."""
        self._stopping.set()
        self.poke()

    async def run(self, *, drain_within: timedelta = timedelta(seconds=20)) -> None:
        """Run until ``stop``; return when everything in flight ended or ``drain_within`` is over."""
        async with asyncio.TaskGroup() as incidents:

            async def work() -> int:
                return await self._worker.work_due(incidents)

            loops = [
                asyncio.create_task(self._loop("router", self._route), name="router"),
                asyncio.create_task(self._loop("worker", work), name="worker"),
                asyncio.create_task(self._loop("outbox", self._outbox.send_due), name="outbox"),
                asyncio.create_task(self._every(HEARTBEAT, self._heartbeat), name="heartbeat"),
                asyncio.create_task(self._every(OBSERVE, self._observer.observe), name="observer"),
                *(asyncio.create_task(self._kept_running(run, name), name=name) for name, run in self.beside.items()),
            ]
            receiving = [asyncio.create_task(self._receive(one), name=f"source {one.name}") for one in self.sources]
            await self._stopping.wait()
            for one in self.sources:
                one.stop()
            ends_at = self._clock.boottime() + drain_within.total_seconds()
            while (self._worker.busy or not all(one.done() for one in receiving)) and self._clock.boottime() < ends_at:
                await self._clock.sleep(timedelta(milliseconds=100))
            for loop in (*loops, *receiving):
                loop.cancel()
            await asyncio.gather(*loops, *receiving, return_exceptions=True)
            for task in asyncio.all_tasks():
                if task.get_name().startswith("incident "):
                    task.cancel()

    async def _route(self) -> int:
        routed = await self._router.route_due()
        self._backlog.went(routed)
        return routed

    def stuck(self) -> list[str]:
        """Return the loops that have not turned for ``TURNS_WITHIN``: hanging, or without a store."""
        late = self._clock.boottime() - TURNS_WITHIN.total_seconds()
        return [name for name, at in self._turned.items() if at < late]

    async def _loop(self, name: str, step: Callable[[], Awaitable[int]]) -> None:
        """Repeat a step: at once while it finds work, else when something is due, poked, or a second is over."""
        self._turned[name] = self._clock.boottime()
        woken = self._woken[name]
        while not self._stopping.is_set():
            woken.clear()  # before the look: what is said during it is looked at again
            try:
                found = await step()
                self._turned[name] = self._clock.boottime()
                if found:
                    if name == "router":
                        self._woken["worker"].set()
                    continue
                due = await self._store.next_due(_WORK[name])
            except StoreUnavailableError as error:
                logger().error("store_failed", problem=str(error))
                await self._clock.sleep(STORE_AGAIN)
                continue
            except Exception as error:  # noqa: BLE001 - a loop that dies would never be missed; it is counted and goes on
                await self._surprised(error)
                continue
            wait = POLL if due is None else min(POLL, max(timedelta(milliseconds=20), due - self._clock.now()))
            if not woken.is_set():
                await self._wait(wait, woken)

    async def _wait(self, wait: timedelta, woken: asyncio.Event) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(wait))
        waking = asyncio.ensure_future(woken.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (sleeping, waking):
                one.cancel()
            await asyncio.gather(sleeping, waking, return_exceptions=True)

    async def _every(self, pause: timedelta, step: Callable[[], Awaitable[None]]) -> None:
        while True:  # also while what is in flight gets its time: its leases must last; ended with the other loops
            try:
                await step()
            except StoreUnavailableError as error:
                logger().error("store_failed", problem=str(error))
            except Exception as error:  # noqa: BLE001 - as in _loop
                await self._surprised(error)
            await self._clock.sleep(pause)

    async def _kept_running(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        while True:
            try:
                await run()
            except Exception as error:  # noqa: BLE001 - as in _loop
                await self._surprised(error)
            logger().error("loop_ended", loop=name, problem="begun again")
            await self._clock.sleep(STORE_AGAIN)

    async def _receive(self, source: Source) -> None:
        while not self._stopping.is_set():
            try:
                await source.run()
            except Exception as error:  # noqa: BLE001 - as in _loop
                await self._surprised(error)
            if self._stopping.is_set():
                return
            logger().error("loop_ended", loop=source.name, problem="begun again")
            await self._clock.sleep(STORE_AGAIN)

    async def _surprised(self, error: Exception) -> None:
        """Write a bug of ours down, and pause so that it does not spin."""
        self._metrics.errors.inc()
        logger().exception("loop_failed", problem=repr(error))
        await self._clock.sleep(STORE_AGAIN)

    async def _heartbeat(self) -> None:
        await self._worker.heartbeat()
        now = self._clock.now()
        said = await self._store.beat(self._replica)
        self.replicas = [one for one in said if one.seen_at is None or now - one.seen_at < LIVES]
        self._metrics.replicas.set(len(self.replicas))
        if self._steady and not self._store.steady():
            logger().warning("clock_unsteady", why="just started, or the store's clock stepped: no write for one lease")
        self._steady = self._store.steady()
        self._backlog.counted(await self._store.backlog())
        self._metrics.backlog.set(self._backlog.waiting)
