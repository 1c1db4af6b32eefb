"""Looks at ourselves and at our senders: what is wrong there becomes alerts of the source ``responder``, which rules match like any other.

Never here: saying them (``watcher``). What cannot be said because the store is gone is said by ``outage``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from responder.model.errors import StoreUnavailableError
from responder.model.storing import DamagedRow
from responder.model.symptom import Sighting, Symptom
from responder.ports import Clock, Store
from responder.telemetry import DAMAGED_TABLES, Metrics, logger

EVERY = timedelta(seconds=15)
SHOWN = 5


class SelfWatch:
    """Implements ``ports.ClusterWatch`` about ourselves.

    Symptoms: ``SourceSilent`` (a sender that should be heard is not), ``DeliveryFailed`` (deliveries that could not be routed three times),
    ``StoreDamaged`` (rows of a table that cannot be read).
    """

    name = "responder"

    def __init__(self, *, store: Store, clock: Clock, silent_after: Mapping[str, timedelta], metrics: Metrics) -> None:
        """Take the senders that must be heard at least this often, by their names."""
        self._metrics = metrics
        self._damaged: frozenset[str] = frozenset()
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
        found += self._damage(await self._store.damaged())
        self._sighting = Sighting(symptoms=tuple(found), complete=True)

    def _damage(self, rows: Sequence[DamagedRow]) -> list[Symptom]:
        """Return a symptom for each table with rows that cannot be read; count them, and log those that are new."""
        by_table: dict[str, list[DamagedRow]] = {}
        for one in rows:
            by_table.setdefault(one.table, []).append(one)
            if f"{one.table}/{one.key}" not in self._damaged:
                logger().error("row_damaged", table=one.table, key=one.key, incident=one.incident, problem=one.problem)
        self._damaged = frozenset(f"{one.table}/{one.key}" for one in rows)
        for table in DAMAGED_TABLES:
            self._metrics.damaged.labels(table).set(len(by_table.get(table, ())))
        return [_damaged(table, some) for table, some in by_table.items()]

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


def _damaged(table: str, rows: Sequence[DamagedRow]) -> Symptom:
    """An incident that nobody works on, or what is owed to a cluster, is as bad as what it is about may be."""
    shown = ", ".join(f"{one.key} of {one.incident}" if one.incident not in {"", one.key} else one.key for one in rows[:SHOWN])
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return Symptom(
        name="StoreDamaged",
        labels={"table": table},
        subject=table,
        severity="critical" if table in {"incidents", "changes", "pinned_rules"} else "error",
        says=f"{_DAMAGED.get(table, 'rows cannot be read')}: {shown}{more}; {rows[0].problem}. responder db check says what to do for each",
        since=min(one.at for one in rows),
    )


_DAMAGED = {
    "incidents": "incidents cannot be read and nobody works on them",
    "changes": "what is owed to a cluster cannot be read and is not given back",
    "pinned_rules": "the rules of incidents cannot be read and nobody works on those",
    "alerts": "alerts cannot be read beyond their names",
    "deliveries": "deliveries cannot be read and are not routed",
}
