"""Turns what a watched cluster, or a look at ourselves, shows into deliveries, durable like everybody's. Needs no Prometheus.

Never here: what is a symptom (``clusters``), or when it is an alert (``policy.symptoms``).

The decision a reader would question: an alert of ours is posted to our own intake instead of going to the router. It is stored before it counts, a
crash repeats it, and ``responder explain`` shows it like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from responder.model.alert import AlertStatus, SourceKind
from responder.model.errors import IntakeFullError, StoreUnavailableError
from responder.model.incident import Instance
from responder.model.symptom import Symptom
from responder.policy.symptoms import Spoken, Standing, speak
from responder.ports import Clock, ClusterWatch, Store
from responder.service.intake import Intake
from responder.telemetry import logger

EVERY = timedelta(seconds=5)
MOST_A_DELIVERY = 100
MOST_KNOWN = 10_000


class Watcher:
    """Follows one cluster's symptoms."""

    def __init__(
        self,
        *,
        watch: ClusterWatch,
        store: Store,
        intake: Intake,
        clock: Clock,
        poke: Callable[[], None],
        source: SourceKind = SourceKind.KUBERNETES,
    ) -> None:
        self._watch = watch
        self._source = source
        self._labels = {"cluster": watch.name} if source is SourceKind.KUBERNETES else {}
        self._store = store
        self._intake = intake
        self._clock = clock
        self._poke = poke
        self._standing: dict[str, Standing] | None = None

    async def run(self) -> None:
        """Watch and say, until cancelled. A store that is down loses nothing: what was not stored is said again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run(), name=f"watch {self._watch.name}")
            while True:
                try:
                    await self.look()
                except (StoreUnavailableError, IntakeFullError) as error:
                    logger().warning("watch_not_stored", cluster=self._watch.name, problem=str(error))
                await self._clock.sleep(EVERY)

    async def look(self) -> Spoken:
        """Look once, and say what changed.

        Raises:
            StoreUnavailableError: Nothing counts as said; look again.
            IntakeFullError: The same.
        """
        if self._standing is None:
            self._standing = await self._remembered()
        now = self._clock.now()
        spoken = speak(self._standing, self._watch.sighting(), cluster=self._watch.name, now=now)
        said = [_said(one, self._labels) for one in spoken.fires]
        said += [_said(one, self._labels, ends_at=now) for one in spoken.over]
        for place in range(0, len(said), MOST_A_DELIVERY):
            body = msgspec.json.encode({"format": 1, "alerts": said[place : place + MOST_A_DELIVERY]})
            await self._intake.accept(source=self._source, source_name=self._watch.name, body=body, sender="responder")
        self._standing = dict(spoken.standing)
        if said:
            logger().info("symptoms_said", cluster=self._watch.name, firing=len(spoken.fires), resolved=len(spoken.over))
            self._poke()
        return spoken

    async def _remembered(self) -> dict[str, Standing]:
        """Return what fires as far as the store knows: what ended while nobody watched must be said to be over."""
        firing = await self._store.instances(why=None, firing=True, limit=MOST_KNOWN)
        mine = [one for one in firing if one.source == self._source and one.source_name == self._watch.name]
        found = [_standing(one) for one in mine if one.status is AlertStatus.FIRING]
        return {one.symptom.id: one for one in found}


def _said(one: Standing, more: Mapping[str, str], *, ends_at: datetime | None = None) -> dict[str, Any]:
    symptom = one.symptom
    labels = {**symptom.labels, "alertname": symptom.name, "severity": symptom.severity, **more}
    said: dict[str, Any] = {
        "id": symptom.subject,
        "status": "firing" if ends_at is None else "resolved",
        "labels": labels,
        "annotations": {"summary": symptom.says} if symptom.says else {},
        "startsAt": one.first_seen_at.isoformat(),
    }
    return said if ends_at is None else {**said, "endsAt": ends_at.isoformat()}


def _standing(one: Instance) -> Standing:
    labels = {name: value for name, value in one.labels.items() if name not in {"alertname", "severity", "cluster"}}
    symptom = Symptom(
        name=one.name, labels=labels, subject=one.instance.partition("/")[2], severity=one.labels.get("severity", "warning")
    )
    began = one.started_at or one.first_seen_at
    return Standing(symptom=symptom, first_seen_at=began, last_seen_at=one.seen_at, said_at=one.seen_at)
