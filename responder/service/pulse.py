"""The dead man's switch: an outside service is told while we are well, and calls people when it is not told any more.

Never here: what well means for a part; each loop says when it last turned.

The decision a reader would question: a beat that fails is logged and nothing else. Who watches us must miss us; we cannot page about the pager.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from responder.model.errors import RemoteError
from responder.ports import Clock, DeadMansSwitch
from responder.telemetry import Metrics, logger


class Pulse:
    """Beats while everything turns."""

    def __init__(
        self, *, switch: DeadMansSwitch, clock: Clock, every: timedelta, stuck: Callable[[], Sequence[str]], metrics: Metrics
    ) -> None:
        """Take the outside service, the pause between two beats, and who says which loops stand still."""
        self._switch = switch
        self._clock = clock
        self._every = every
        self._stuck = stuck
        self._metrics = metrics

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self.beat()
            await self._clock.sleep(self._every)

    async def beat(self) -> bool:
        """Beat once, unless something stands still; return whether the other end took it."""
        stuck = self._stuck()
        if stuck:
            self._metrics.beats.labels("withheld").inc()
            logger().error("beat_withheld", stuck=list(stuck))
            return False
        try:
            await self._switch.beat()
        except RemoteError as error:
            self._metrics.beats.labels("failed").inc()
            logger().warning("beat_failed", problem=str(error))
            return False
        self._metrics.beats.labels("sent").inc()
        return True
