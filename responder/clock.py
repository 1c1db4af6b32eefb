"""The only reader of real time. Everything else is handed a ``Clock``."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """Real time. Source of ``boottime``: CLOCK_BOOTTIME where the platform has it (it counts while a VM is suspended)."""

    speed = 1.0

    def now(self) -> datetime:
        """Return the current instant, UTC."""
        return datetime.now(tz=UTC)

    def boottime(self) -> float:
        """Return seconds since boot, suspension included."""
        which = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return time.clock_gettime(which)

    async def sleep(self, duration: timedelta) -> None:
        """Wait at least this long; cancellable."""
        await asyncio.sleep(max(0.0, duration.total_seconds()))


class SpedUpClock(SystemClock):
    """Real time, a constant factor faster: for demonstrations, which say so wherever a time is shown."""

    def __init__(self, speed: float) -> None:
        if speed <= 0:
            raise ValueError(f"a clock cannot run at {speed} times real time; give a factor above 0")
        self.speed = speed
        self._began_at = datetime.now(tz=UTC)
        self._began = time.monotonic()

    def now(self) -> datetime:
        """Return the sped-up instant: real at construction, ``speed`` times faster since."""
        return self._began_at + timedelta(seconds=(time.monotonic() - self._began) * self.speed)

    def boottime(self) -> float:
        """Return sped-up seconds, so that leases and the clock agree."""
        return self._began + (time.monotonic() - self._began) * self.speed

    async def sleep(self, duration: timedelta) -> None:
        """Wait this long on the sped-up clock."""
        await asyncio.sleep(max(0.0, duration.total_seconds() / self.speed))
