"""The store's time on PostgreSQL: the database's clock, carried between samples by our own boot-time clock.

Replicas whose clocks differ would steal each other's leases, so the whole service is given this clock (engine.md O9). Between two samples
it runs on ``boottime``, which neither steps nor stops while the machine is suspended (O12). Never here: a query's result is taken on
trust when its answer took long; half of the round trip is how wrong a sample may be.

The decision a reader would question: a clock that has just begun, or that moved apart from ours, is not ``steady`` for one lease. A step
forward frees every lease while its holder still believes in it; whoever takes over therefore only looks until that belief has run out on
the holder's own clock. A replica that has just started cannot know whether there was a step right before.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from responder.ports import Clock

NOW = text("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
"""Not ``now()``: that is when the transaction began."""

UNSTEADY_FOR = timedelta(seconds=15)
"""The longest that a worker believes in its lease without having heard from the store (``service.worker.LEASE``)."""

APART = timedelta(seconds=5)
"""Source: ARCHITECTURE.md "Takeover"."""

COMPARED_EVERY = timedelta(seconds=5)
LONGEST_ANSWER = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DatabaseTime:
    """Implements ``ports.Clock``; ``now`` before the first sample is the given clock's.

    Attributes:
        stepped_back: The database's clock went back and nobody has looked after leases and wake-ups since.
    """

    speed = 1.0

    def __init__(self, own: Clock) -> None:
        self._own = own
        self._offset: float | None = None
        self._compared: tuple[float, float] = (0.0, 0.0)
        self._steady_from = own.boottime() + UNSTEADY_FOR.total_seconds()
        self.stepped_back = False

    def now(self) -> datetime:
        """Return the database's time, UTC, as of the last sample and what has passed since."""
        if self._offset is None:
            return self._own.now()
        return _EPOCH + timedelta(seconds=self._own.boottime() + self._offset)

    def boottime(self) -> float:
        """Return our own."""
        return self._own.boottime()

    async def sleep(self, duration: timedelta) -> None:
        """Wait at least this long; cancellable."""
        await self._own.sleep(duration)

    def steady(self) -> bool:
        """Tell whether the clock has kept pace with ours for one lease."""
        return self._offset is not None and self._own.boottime() >= self._steady_from

    def sample(self, db: Connection) -> None:
        """Ask the database what time it is."""
        before = self._own.boottime()
        answer = db.execute(NOW).scalar_one()
        self.take(answer / 1000, before=before, after=self._own.boottime())

    def take(self, seconds: float, *, before: float, after: float) -> None:
        """Take a sample in.

        Args:
            seconds: The database's clock, since 1970.
            before: Our boot-time clock when it was asked, in seconds.
            after: When it answered. A slow answer says too little about when it was read and is dropped, but for the first.
        """
        if after - before > LONGEST_ANSWER.total_seconds() and self._offset is not None:
            return
        offset = seconds - (before + after) / 2
        if self._offset is None:
            self._compared = (after, offset)
        apart = offset - self._compared[1]
        if abs(apart) > APART.total_seconds():
            self._steady_from = after + UNSTEADY_FOR.total_seconds()
            self.stepped_back = self.stepped_back or apart < 0
            self._compared = (after, offset)
        elif after - self._compared[0] >= COMPARED_EVERY.total_seconds():
            self._compared = (after, offset)
        self._offset = offset
