"""Reads what a lone delivery will be judged by while the delivery is still being stored: a read of the cluster changes nothing, so it may come first.

Never here: what comes of an alert. The delivery is routed as if nobody had looked ahead; router and worker find answers that were asked for already, or ask.

The decision a reader would question: a delivery is read twice, here and by the router. At night one alert comes alone, and the milliseconds until its
target is looked at are those in which a crashing pod still has its log; while many come, nothing is looked at ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

from responder.model.alert import Alert, AlertStatus, SourceKind
from responder.model.errors import ResponderError
from responder.model.storing import NewDelivery
from responder.model.target import TargetKind
from responder.policy.entitlement import Entitlement, overreach
from responder.ports import Clock, Reads
from responder.service.reading import Reader
from responder.service.router import ready_rules
from responder.service.rulebook import Rulebook
from responder.service.targeting import Targeting

MOST_BYTES = 64 << 10
MOST_ALERTS = 4
MOST_AT_ONCE = 4
MOST_KNOWN = 2_000
APART = timedelta(milliseconds=20)
"""Between two deliveries that are looked at ahead: what comes faster waits for its turn."""

_READ = frozenset({TargetKind.WORKLOAD, TargetKind.POD, TargetKind.SERVICE})
_OURS = (ResponderError, ValueError, KeyError, TypeError)
"""What a delivery may raise; the router says so."""


class Foresight:
    """Looks ahead, until cancelled."""

    def __init__(
        self,
        *,
        clock: Clock,
        read: Reads,
        rulebook: Rulebook,
        targeting: Targeting,
        reader: Reader,
        entitlements: Mapping[str, Entitlement] | None = None,
    ) -> None:
        self._clock = clock
        self._read = read
        self._rulebook = rulebook
        self._targeting = targeting
        self._reader = reader
        self._entitlements = entitlements or {}
        self._waiting: asyncio.Queue[NewDelivery] = asyncio.Queue(MOST_AT_ONCE)
        self._known: dict[str, None] = {}
        self._last = 0.0

    def look(self, delivery: NewDelivery) -> None:
        """Have a delivery looked at that is alone and about to be stored; at once nothing happens."""
        now = self._clock.boottime()
        if len(delivery.body) > MOST_BYTES or self._waiting.full() or 0 <= now - self._last < APART.total_seconds():
            return
        self._last = now
        self._waiting.put_nowait(delivery)

    async def run(self) -> None:
        """Look at what is said, a few at once."""
        async with asyncio.TaskGroup() as group:
            for _ in range(MOST_AT_ONCE):
                group.create_task(self._turns(), name="foresight")

    async def _turns(self) -> None:
        while True:
            delivery = await self._waiting.get()
            try:
                await self._look(delivery)
            except _OURS:
                continue  # whatever it is, the router meets it too, and tells

    async def _look(self, delivery: NewDelivery) -> None:
        made = self._read(
            SourceKind(delivery.source), delivery.body, source_name=delivery.source_name, received_at=delivery.received_at
        )
        for alert in self._new(made.alerts):
            entitled = self._entitlements.get(alert.source_name)
            if entitled is not None and overreach(alert, entitled):
                continue
            ready, _ = ready_rules(alert, self._rulebook.index.candidates(alert), self._clock.now())
            for rule in ready:
                found = await self._targeting.find(rule, alert)
                if found.resolved and found.target.kind in _READ:
                    await self._reader.foresee(found.target)
                    break

    def _new(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Return firing alerts that were not seen lately: a repeat opens and wakes nothing."""
        if len(alerts) > MOST_ALERTS:
            return []
        new = [one for one in alerts if one.status is AlertStatus.FIRING and not one.test and one.instance not in self._known]
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known |= dict.fromkeys(one.instance for one in new)
        return new
