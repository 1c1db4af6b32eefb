"""Looks at ourselves and at our senders: what is wrong there becomes alerts of the source ``responder``, which rules match like any other.

Never here: saying them (``watcher``). What cannot be said because the store is gone is said by ``outage``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from responder.model.errors import StoreUnavailableError
from responder.model.symptom import Sighting, Symptom
from responder.ports import Clock, Store
from responder.telemetry import logger

EVERY = timedelta(seconds=15)


class SelfWatch:
    """Implements ``ports.ClusterWatch`` about ourselves.

    Symptoms: ``SourceSilent`` (a sender that should be heard is not), ``DeliveryFailed`` (deliveries that could not be routed three times).
    """

    name = "responder"

    def __init__(self, *, store: Store, clock: Clock, silent_after: Mapping[str, timedelta]) -> None:
        """Take the senders that must be heard at least this often, by their names."""
        self._store = store
        self._clock = clock
        self._silent_after = silent_after
        self._began_at = clock.now()
        self._sighting = Sighting()

    async def run(self) -> None:
        """See ``ports.ClusterWatch``."""
        while True:
            try:
                await self.look()
            except StoreUnavailableError as error:
                logger().error("store_failed", problem=str(error))
                self._sighting = Sighting()
            await self._clock.sleep(EVERY)

    async def look(self) -> None:
        """Look once.

        Raises:
            StoreUnavailableError: Nothing is known.
        """
        now = self._clock.now()
        found: list[Symptom] = []
        for one in await self._store.heard(list(self._silent_after)):
            if one.failed:
                found.append(_failed(one.name, one.failed, one.at))
            else:
                silent = _silent(one.name, one.at, began_at=self._began_at, after=self._silent_after[one.name], now=now)
                found += [silent] if silent is not None else []
        self._sighting = Sighting(symptoms=tuple(found), complete=True)

    def sighting(self) -> Sighting:
        """See ``ports.ClusterWatch``."""
        return self._sighting


def _silent(name: str, at: datetime | None, *, began_at: datetime, after: timedelta, now: datetime) -> Symptom | None:
    """A sender is given its whole time from our start: while we were away it may have been told to come back."""
    since = began_at if at is None else max(at, began_at)
    if now - since < after:
        return None
    heard = f"last heard at {at:%Y-%m-%d %H:%M:%S} UTC" if at is not None else "never heard"
    return Symptom(
        name="SourceSilent",
        labels={"source_name": name},
        subject=name,
        severity="error",
        says=f"sender {name} is silent: {heard}, and it should be heard at least every {after}",
        since=since,
    )


def _failed(name: str, count: int, at: datetime | None) -> Symptom:
    return Symptom(
        name="DeliveryFailed",
        labels={"source_name": name},
        subject=name,
        severity="error",
        says=f"{count} deliveries of {name} could not be routed and are kept: GET /v1/deliveries?state=failed says why",
        since=at,
    )
