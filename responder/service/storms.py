"""Knows which storm has an incident now, and which of a storm's children have their evidence taken.

Never here: when a storm is one (``policy.decide``), or when it is over (``policy.storms``).

The decision a reader would question: a parent is remembered for a second. Two thousand children ask for the same one row; an intention is checked against
the store itself in the transaction that stores it, so what is remembered here saves reads and permits nothing.
"""

from __future__ import annotations

from datetime import timedelta

from responder.model.incident import Incident
from responder.model.storing import Counts
from responder.policy import storms
from responder.ports import Clock, Store
from responder.service.names import incident_id

REMEMBERED_FOR = timedelta(seconds=1)
SAMPLED_FOR = timedelta(hours=1)
MOST_SYMPTOMS = 1_000


class Storms:
    """The storms of all clusters, as seen by this process."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._parents: dict[str, tuple[float, Incident | None]] = {}
        self._samples: dict[str, tuple[float, set[str]]] = {}

    async def parent_of(self, child: Incident) -> Incident | None:
        """Return the parent that has this incident now; None when none has."""
        key = storms.parent_key(child.cluster, child.mode)
        now = self._clock.boottime()
        kept = self._parents.get(key)
        if kept is None or now >= kept[0]:
            found = (await self._store.unclosed([key])).get(key)
            kept = self._parents[key] = (now + REMEMBERED_FOR.total_seconds(), found)
        parent = kept[1]
        return parent if parent is not None and storms.holds(parent, child) else None

    def asked(self, child: Incident, cause: str) -> Incident:
        """Return the parent that a child asks for, and look for it anew from now on."""
        now = self._clock.now()
        seed = storms.parent_of(child, cause, detail=child.detail, identity=incident_id(now), now=now)
        self.forget(child)
        return seed

    def forget(self, one: Incident) -> None:
        """Remember nothing of a cluster's storm."""
        self._parents.pop(storms.parent_key(one.cluster, one.mode), None)

    def may_sample(self, child: Incident, counts: Counts | None) -> bool:
        """Tell whether a child may have its evidence taken although it is part of a storm: one of the first five, and five at most."""
        if counts is not None and counts.rank >= storms.SAMPLES:
            return False
        taken = self._taken(child)
        return child.id in taken or len(taken) < storms.SAMPLES

    def sampled(self, child: Incident) -> None:
        """Note that evidence of an incident is taken."""
        self._taken(child).add(child.id)

    def _taken(self, child: Incident) -> set[str]:
        name = f"{child.mode}/{child.cluster}/{child.symptom}"
        now = self._clock.boottime()
        kept = self._samples.get(name)
        if kept is None or now >= kept[0]:
            if len(self._samples) >= MOST_SYMPTOMS:
                self._samples.clear()
            kept = self._samples[name] = (now + SAMPLED_FOR.total_seconds(), set())
        return kept[1]
