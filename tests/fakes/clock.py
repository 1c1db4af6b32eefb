"""A clock that moves only when told."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.builders import NOON


class FakeClock:
    """Stands still at ``at``."""

    speed = 1.0

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def now(self) -> datetime:
        """Return where it stands."""
        return self.at

    def boottime(self) -> float:
        """Return where it stands, in seconds."""
        return self.at.timestamp()

    async def sleep(self, duration: timedelta) -> None:
        """Move forward at once."""
        self.at += duration

    def forward(self, **by: float) -> None:
        """Move forward."""
        self.at += timedelta(**by)
