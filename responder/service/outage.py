"""The store is gone: one page that needs no store, after a minute, and its end when the store is back.

Without the store nothing is judged and no level is escalated, so people must know that nobody looks. Never here: what the store's trouble is.

The decision a reader would question: a probe of its own instead of counting the loops' errors. It asks what every loop needs, it is the same on every
replica, and PagerDuty makes one page of theirs by the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from responder.model.alert import Severity
from responder.model.errors import RemoteError, StoreUnavailableError
from responder.model.notice import Notice, NoticeKind
from responder.model.reason import Reason
from responder.ports import Clock, Notifier, Store
from responder.telemetry import Metrics, logger

EVERY = timedelta(seconds=10)
PAGE_AFTER = timedelta(seconds=60)
PROBE_WITHIN = timedelta(seconds=10)
SEND_WITHIN = timedelta(seconds=12)
AGAIN_AFTER = timedelta(seconds=30)
"""A channel that took nothing is tried again; one that did is not."""

KEY = "responder/store"


class Outage:
    """Watches the store.

    Attributes:
        down_since: None while it answers.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        notifiers: Mapping[str, Notifier],
        channels: Sequence[str],
        name: str,
        metrics: Metrics,
        sped_up: float = 1.0,
        back: Callable[[], None] = lambda: None,
    ) -> None:
        """Take what is needed without a store.

        Args:
            store: What is watched.
            clock: Ours; the store's own is gone with it.
            notifiers: All channels.
            channels: Who is told: those of the first level for critical incidents.
            name: Of this installation, for people.
            metrics: Told how many incidents are open.
            sped_up: Factor of the clock.
            back: Called once the store is back: senders were told to come back meanwhile, and not all do.
        """
        self._back = back
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._notifiers = notifiers
        self._channels = channels
        self._name = name
        self._sped_up = sped_up
        self._problem = ""
        self._was_back = True
        self._open = 0
        self._told: set[str] = set()
        self._tried_at: datetime | None = None
        self.down_since: datetime | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(EVERY)

    async def look(self) -> None:
        """Ask the store once, and tell people when it is time."""
        try:
            async with asyncio.timeout(PROBE_WITHIN.total_seconds()):
                await self._store.writable()
                self._open = await self._store.count_unclosed()
                self._metrics.unclosed.set(self._open)
        except (StoreUnavailableError, TimeoutError) as error:
            self._problem = str(error) or f"no answer within {PROBE_WITHIN.total_seconds():g} s"
            await self._down()
        else:
            await self._up()

    async def _down(self) -> None:
        now = self._clock.now()
        self._was_back = False
        if self.down_since is None:
            self.down_since = now
            logger().error("store_failed", problem=self._problem)
        late = self._tried_at is None or now - self._tried_at >= AGAIN_AFTER
        if now - self.down_since >= PAGE_AFTER and late:
            self._tried_at = now
            await self._tell(NoticeKind.PAGE, [one for one in self._channels if one not in self._told])

    async def _up(self) -> None:
        if self.down_since is None:
            return
        if not self._was_back:
            logger().warning("store_back", down_seconds=(self._clock.now() - self.down_since).total_seconds())
            self._back()
        self._was_back = True
        await self._tell(NoticeKind.RESOLVE, sorted(self._told))
        if not self._told:
            self.down_since, self._tried_at = None, None

    async def _tell(self, kind: NoticeKind, channels: Sequence[str]) -> None:
        notice = self._notice(kind)
        for channel in channels:
            notifier = self._notifiers.get(channel)
            if notifier is None:
                continue
            try:
                async with asyncio.timeout(SEND_WITHIN.total_seconds()):
                    await notifier.send(notice)
            except (RemoteError, TimeoutError) as error:
                logger().warning("notice_failed", incident=KEY, channel=channel, problem=str(error))
                continue
            logger().info("notice_sent", incident=KEY, channel=channel, kind=kind, level=1)
            if kind is NoticeKind.PAGE:
                self._told.add(channel)
            else:
                self._told.discard(channel)

    def _notice(self, kind: NoticeKind) -> Notice:
        since = self.down_since or self._clock.now()
        over = kind is NoticeKind.RESOLVE
        return Notice(
            kind=kind,
            incident=KEY,
            opening=1,
            level=1,
            dedup_key=KEY,
            at=self._clock.now(),
            severity=Severity.CRITICAL,
            title=f"Responder {self._name} cannot use its store",
            state="The store is back: everything due is done now, late pages say so"
            if over
            else "Nothing is judged, nothing is done, and no page is escalated until the store is back",
            reason=Reason.RECOVERED if over else Reason.STORE_DOWN,
            opened_at=since,
            seen=(f"since {since:%H:%M:%S} UTC: {self._problem}", f"{self._open} incidents were open when it was last seen"),
            asks=""
            if over
            else "Look after the open incidents yourself, and bring the store back: its disk, its server, the network to it",
            sped_up=self._sped_up,
        )
