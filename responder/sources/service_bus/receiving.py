"""The loop that owns a receiver: settle what is stored, renew what is held, receive what there is room for. Source: azure.md 1.7.

Never here: the SDK (``bus``), understanding a body (the router does that later, from the store).

Exactly one task speaks to a link. Handlers only store a message and say how to settle it. A message is completed after it is durable, so a
crash anywhere delivers it again, and its key makes the repeat change nothing. Any error but a lost lock throws the link away and opens a new
one after a pause; what was held through the old link runs out of its lock and comes again.

The decision a reader would question: while the store is down, messages are held and their locks renewed, not abandoned. Abandoning counts
a delivery each time, and ten of those put a perfectly good alert into the dead-letter queue.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from responder.model.alert import SourceKind
from responder.model.errors import (
    ContestedError,
    IntakeFullError,
    MalformedError,
    OversizeError,
    RemoteError,
    StoreUnavailableError,
)
from responder.ports import Clock, TakesIn
from responder.sources.service_bus.bus import Bus, Held, Link
from responder.telemetry import Metrics, logger

RECEIVE_SECONDS = 0.5
"""Longest wait inside a receive: a settle waits at most this long, and nothing is ever cancelled to make it sooner."""

QUIET_SECONDS = 30.0
"""A link that brought nothing for this long is asked something: an empty queue and a broker that fell silent look the same."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
STORE_PAUSE = timedelta(seconds=1)
SHORTEST_HALF_LIFE = 1.0


class Settle(StrEnum):
    """How a message ends."""

    COMPLETE = "completed"
    ABANDON = "abandoned"
    DEAD_LETTER = "dead_lettered"


@dataclass(slots=True, eq=False)
class InHand:
    """A message between receive and settle. ``verdict`` is None while its handler works; ``renew_at`` is the event loop's time."""

    held: Held
    renew_at: float
    verdict: Settle | None = None
    reason: str = ""
    description: str = ""
    lost: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class ServiceBusSource:
    """Receives from one entity until stopped. A dead broker never ends it and never touches readiness.

    Attributes:
        name: The source's configured name.
        problem: See ``ports.Source``.
    """

    def __init__(
        self,
        *,
        name: str,
        bus: Bus,
        intake: TakesIn,
        clock: Clock,
        metrics: Metrics,
        in_flight: int = 50,
        receivers: int = 1,
        poison_after: int = 8,
        drain: timedelta = timedelta(seconds=10),
        stored: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._bus = bus
        self._intake = intake
        self._clock = clock
        self._metrics = metrics
        self._in_flight = in_flight
        self._receivers = receivers
        self._poison_after = poison_after
        self._drain = drain
        self._stored = stored
        self._stopping = asyncio.Event()
        self._connected: set[int] = set()
        self.problem = "not connected yet"
        self._metrics.bus_connected.labels(name).set(0)
        for event in ("received", "known", "lock_lost", *Settle):
            self._metrics.bus_messages.labels(name, event)

    def stop(self) -> None:
        """Receive nothing more; what is in hand is settled, then ``run`` returns. Idempotent."""
        self._stopping.set()

    async def run(self) -> None:
        """Receive until ``stop``; returns within the drain and a few seconds."""
        try:
            async with asyncio.TaskGroup() as owners:
                for number in range(self._receivers):
                    owners.create_task(self._own(number), name=f"source {self.name} {number}")
        finally:
            await self._bus.close()

    async def _own(self, number: int) -> None:
        """Open a link, use it until it breaks, pause, open the next."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            problem = ""
            hand: list[InHand] = []
            try:
                async with asyncio.TaskGroup() as handlers, self._bus.link() as link:
                    try:
                        problem = await self._use(link, hand, handlers, number)
                    finally:
                        for one in hand:
                            one.lost = True
                            if one.task is not None:
                                one.task.cancel()
            except* Exception as group:  # noqa: BLE001 - whatever the SDK lets through means a new link (azure.md 1.5, pitfall 5)
                problem = "; ".join(str(one) or repr(one) for one in group.exceptions)
            if number in self._connected:
                pause = FIRST_PAUSE
            self._connected.discard(number)
            self._metrics.bus_connected.labels(self.name).set(len(self._connected))
            if self._stopping.is_set():
                break
            self.problem = "" if self._connected else problem
            again = random.uniform(0.5, 1.0) * pause  # noqa: S311 - spreads reconnects of replicas, guards nothing
            logger().warning("source_disconnected", source=self.name, problem=problem, again_in_seconds=round(again, 1))
            pause = min(pause * 2, LONGEST_PAUSE)
            await self._sleep(again)

    async def _sleep(self, seconds: float) -> None:
        """Wait on real time (the broker's locks run on it too), or until stopped."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _use(self, link: Link, hand: list[InHand], handlers: asyncio.TaskGroup, number: int) -> str:
        """Settle, renew, receive, until stopped and drained; return the error that broke the link."""
        now = asyncio.get_running_loop().time
        ends_at: float | None = None
        heard_at = now()
        changed = asyncio.Event()
        try:
            while True:
                changed.clear()
                for one in [each for each in hand if each.verdict is not None]:
                    await self._settle(link, one)
                    hand.remove(one)
                for one in [each for each in hand if each.renew_at <= now()]:
                    await self._renew(link, one, hand)
                if self._stopping.is_set():
                    ends_at = ends_at if ends_at is not None else now() + self._drain.total_seconds()
                    if not hand:
                        return ""
                    if now() >= ends_at:
                        self._give_back(hand)
                room = self._in_flight - len(hand)
                if room > 0 and not self._waiting_for_store(hand) and not self._stopping.is_set():
                    for held in await link.receive(room, wait=RECEIVE_SECONDS):
                        hand.append(self._start(held, handlers, changed))
                        heard_at = now()
                    if now() - heard_at > QUIET_SECONDS:
                        await link.peek(1, after=0)
                        heard_at = now()
                    if link.proven and number not in self._connected:
                        self._connected.add(number)
                        self.problem = ""
                        self._metrics.bus_connected.labels(self.name).set(len(self._connected))
                        logger().info("source_connected", source=self.name, entity=self._bus.access.entity)
                elif not any(one.verdict is not None for one in hand):
                    await self._changed(changed)
        except RemoteError as error:
            return str(error)

    @staticmethod
    async def _changed(changed: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(RECEIVE_SECONDS):
                await changed.wait()
        except TimeoutError:
            return

    def _waiting_for_store(self, hand: list[InHand]) -> bool:
        return any(one.reason == "store" and one.verdict is None for one in hand)

    @staticmethod
    def _give_back(hand: list[InHand]) -> None:
        for one in hand:
            if one.verdict is None:
                one.lost, one.verdict = True, Settle.ABANDON
                if one.task is not None:
                    one.task.cancel()

    def _start(self, held: Held, handlers: asyncio.TaskGroup, changed: asyncio.Event) -> InHand:
        self._metrics.bus_messages.labels(self.name, "received").inc()
        half = max(SHORTEST_HALF_LIFE, held.lock_seconds / 2)
        one = InHand(held=held, renew_at=asyncio.get_running_loop().time() + half)
        one.task = handlers.create_task(self._handle(one, changed), name=f"message {held.message.sequence}")
        return one

    async def _renew(self, link: Link, one: InHand, hand: list[InHand]) -> None:
        try:
            await link.renew(one.held)
        except ContestedError as error:
            hand.remove(one)
            one.lost = True
            self._lock_lost(one, str(error))
            return
        one.renew_at = asyncio.get_running_loop().time() + max(SHORTEST_HALF_LIFE, one.held.lock_seconds / 2)

    def _lock_lost(self, one: InHand, problem: str) -> None:
        """Count it; nothing else changes: the broker delivers it again and its key is known if it was stored."""
        self._metrics.bus_messages.labels(self.name, "lock_lost").inc()
        message = one.held.message
        logger().warning(
            "message_lock_lost", source=self.name, message=message.message_id, sequence=message.sequence, problem=problem
        )

    async def _settle(self, link: Link, one: InHand) -> None:
        message = one.held.message
        assert one.verdict is not None
        try:
            match one.verdict:
                case Settle.COMPLETE:
                    await link.complete(one.held)
                case Settle.ABANDON:
                    await link.abandon(one.held)
                case Settle.DEAD_LETTER:
                    await link.dead_letter(one.held, reason=one.reason, description=one.description)
                    logger().warning(
                        "message_dead_lettered",
                        source=self.name,
                        message=message.message_id,
                        sequence=message.sequence,
                        reason=one.reason,
                        description=one.description,
                    )
        except ContestedError as error:
            self._lock_lost(one, str(error))
            return
        self._metrics.bus_messages.labels(self.name, one.verdict).inc()

    async def _handle(self, one: InHand, changed: asyncio.Event) -> None:
        try:
            verdict = await self._judge(one)
        finally:
            changed.set()
        if not one.lost:
            one.verdict = verdict

    async def _judge(self, one: InHand) -> Settle:
        message = one.held.message
        if message.deliveries >= self._poison_after:
            return self._dead(
                one,
                "PoisonMessage",
                f"delivered {message.deliveries} times before and never settled: handling it broke the service, or its lock was lost each "
                "time. Read our log around its deliveries, then resubmit it with responder deadletter resubmit.",
            )
        try:
            body = message.json()
            while not one.lost:
                try:
                    new = await self._intake.accept(
                        source=SourceKind.SERVICE_BUS,
                        source_name=self.name,
                        body=body,
                        sender=f"service bus {message.entity}",
                        key=message.key,
                    )
                except (StoreUnavailableError, IntakeFullError) as error:
                    if self._stopping.is_set():
                        return Settle.ABANDON
                    if one.reason != "store":
                        logger().error("store_failed", source=self.name, sequence=message.sequence, problem=str(error))
                    one.reason = "store"
                    await self._sleep(STORE_PAUSE.total_seconds())
                    continue
                one.reason = ""
                if new:
                    self._stored()
                else:
                    self._metrics.bus_messages.labels(self.name, "known").inc()
                return Settle.COMPLETE
        except MalformedError as error:
            return self._dead(one, "Malformed", f"{error}. Correct the sender; this message cannot be read as it is.")
        except OversizeError as error:
            return self._dead(one, "TooLarge", f"{error}: raise http.largest_body, or send less.")
        except Exception as error:  # noqa: BLE001 - a message that breaks us must end in the dead-letter queue with its reason
            logger().exception("delivery_failed", source=self.name, sequence=message.sequence, problem=repr(error))
            if message.deliveries + 1 >= self._poison_after:
                return self._dead(
                    one,
                    "HandlingFailed",
                    f"taking it in failed {message.deliveries + 1} times, last with {error!r}. Report this to us.",
                )
            await self._sleep(min(30.0, 0.5 * 2**message.deliveries))
        return Settle.ABANDON

    @staticmethod
    def _dead(one: InHand, reason: str, description: str) -> Settle:
        one.reason, one.description = reason, description
        return Settle.DEAD_LETTER
