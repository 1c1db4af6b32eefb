"""Sends what the outbox holds: at least once, per lane in order, rendered when sent, with a fallback.

Never here: what a message says (``notices``) or when it is due (``policy.escalate``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from responder.model.errors import RejectedError, RemoteError, ThrottledError
from responder.model.incident import Incident
from responder.model.notice import Notice
from responder.model.storing import OutboxRow
from responder.ports import Clock, Notifier, Store
from responder.service.notices import ALERTS_SHOWN, render
from responder.service.pinning import Pins
from responder.telemetry import Metrics, logger

LEASE = timedelta(seconds=30)
SEND_WITHIN = timedelta(seconds=12)
BATCH = 50
BACKOFF = (timedelta(seconds=5), timedelta(seconds=15), timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2))
"""Pauses between tries; the last one repeats. A page is never given up for transient trouble."""

FALLBACK_AFTER_TRIES = 4
"""A channel that is down this many tries in a row also hands its message to the fallback, once, and goes on trying."""


class Outbox:
    """Delivers notices through the configured channels.

    Attributes:
        fallbacks: Channel to the channel that takes over when it refuses.
        base_url: For links; "" for none.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        notifiers: Mapping[str, Notifier],
        fallbacks: Mapping[str, str],
        pins: Pins,
        metrics: Metrics,
        base_url: str = "",
        sped_up: float = 1.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._notifiers = notifiers
        self._fallbacks = fallbacks
        self._pins = pins
        self._metrics = metrics
        self._base_url = base_url
        self._sped_up = sped_up

    async def send_due(self) -> int:
        """Send every due row once and return how many there were."""
        rows = await self._store.claim_outbox(limit=BATCH, lease=LEASE)
        await asyncio.gather(*(self._send(row) for row in rows))
        return len(rows)

    async def _send(self, row: OutboxRow) -> None:
        incident = await self._store.incident(row.incident)
        notifier = self._notifiers.get(row.channel)
        if incident is None:
            await self._store.outbox_sent(row, answer="its incident is gone", reached=False)
            return
        if notifier is None:
            await self._failed(row, f"channel {row.channel} is not configured any more", again_at=None)
            return
        try:
            notice = await self._notice(incident, row)
            async with asyncio.timeout(SEND_WITHIN.total_seconds()):
                receipt = await notifier.send(notice)
        except RejectedError as error:
            await self._failed(row, str(error), again_at=None)
        except (RemoteError, TimeoutError) as error:
            wait = BACKOFF[min(row.tries, len(BACKOFF) - 1)]
            if isinstance(error, ThrottledError) and error.retry_after is not None:
                wait = max(wait, error.retry_after)
            await self._failed(row, str(error) or "no answer in time", again_at=self._clock.now() + wait)
        else:
            self._metrics.notices.labels(row.tell.kind, "sent").inc()
            logger().info("notice_sent", incident=row.incident, channel=row.channel, kind=row.tell.kind, level=row.tell.level)
            await self._store.outbox_sent(row, answer=receipt.answer, reached=receipt.reached)

    async def _notice(self, incident: Incident, row: OutboxRow) -> Notice:
        rules = await self._pins.rules(incident)
        instances = await self._store.held(incident.id, limit=ALERTS_SHOWN + 1)
        return render(
            incident,
            row.tell,
            opening=row.opening,
            rules=rules,
            instances=instances,
            now=self._clock.now(),
            base_url=self._base_url,
            sped_up=self._sped_up,
        )

    async def _failed(self, row: OutboxRow, problem: str, *, again_at: datetime | None) -> None:
        """Try again at ``again_at``, or end the row; the fallback takes over when it ends or has failed often."""
        fallback = self._fallbacks.get(row.channel, "")
        takes_over = fallback if again_at is None or row.tries + 1 == FALLBACK_AFTER_TRIES else ""
        self._metrics.notices.labels(row.tell.kind, "failed").inc()
        logger().warning(
            "notice_failed", incident=row.incident, channel=row.channel, problem=problem, again_at=again_at, fallback=takes_over
        )
        await self._store.outbox_failed(row, answer=problem, again_at=again_at, fallback=takes_over)
