"""Knows which storm has an incident now, and which of a storm's children have their evidence taken.

Never here: when a storm is one (``policy.decide``), or when it is over (``policy.storms``).

The decision a reader would question: a parent is remembered for a second. Two thousand children ask for the same one row; an intention is checked against
the store itself in the transaction that stores it, so what is remembered here saves reads and permits nothing.
"""

from __future__ import annotations

from datetime import timedelta

from responder.model.cluster import Snapshot
from responder.model.incident import Incident, Mode, Phase
from responder.policy import storms
from responder.policy.containment import containers, lost_node
from responder.policy.grouping import key_of
from responder.ports import Clock, Store
from responder.service.names import incident_id

REMEMBERED_FOR = timedelta(seconds=1)
SAMPLED_FOR = timedelta(minutes=10)
"""What was captured earlier is no sample of a storm that begins now."""

MOST_SYMPTOMS = 1_000
MOST_REMEMBERED = 10_000


class Storms:
    """The storms of all clusters, as seen by this process."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._parents: dict[str, tuple[float, Incident | None]] = {}
        self._samples: dict[str, tuple[float, set[str]]] = {}

    async def parent_of(self, child: Incident) -> Incident | None:
        """Return the parent that has this incident now; None when none has."""
        parent = await self._unclosed(storms.parent_key(child.cluster, child.mode))
        return parent if parent is not None and storms.holds(parent, child) else None

    async def container_of(self, incident: Incident, snapshot: Snapshot | None) -> tuple[str, str] | None:
        """Return the armed incident for what all failing parts are in, and what to say of it.

        A node that is read as not Ready counts before it has one: its id is "" then.
        """
        now = self._clock.now()
        for target in containers(incident, snapshot, now=now):
            one = await self._unclosed(key_of(Mode.ARMED, target))
            if one is not None and one.id != incident.id and one.phase not in {Phase.RECOVERED, Phase.CLOSED}:
                return one.id, f"{one.id} is for {one.target}"
        lost = lost_node(snapshot, now=now)
        return ("", f"node {lost}, which all its failing pods are on, is not Ready") if lost else None

    async def _unclosed(self, key: str) -> Incident | None:
        now = self._clock.boottime()
        kept = self._parents.get(key)
        if kept is None or now >= kept[0]:
            found = (await self._store.unclosed([key])).get(key)
            if len(self._parents) >= MOST_REMEMBERED:
                self._parents = {name: one for name, one in self._parents.items() if now < one[0]}
            kept = self._parents[key] = (now + REMEMBERED_FOR.total_seconds(), found)
        return kept[1]

    def asked(self, child: Incident, cause: str, detail: str) -> Incident:
        """Return the parent that a child asks for, and look for it anew from now on."""
        now = self._clock.now()
        seed = storms.parent_of(child, cause, detail=detail, identity=incident_id(now), now=now)
        self.forget(child)
        return seed

    def forget(self, one: Incident) -> None:
        """Remember nothing of a cluster's storm."""
        self._parents.pop(storms.parent_key(one.cluster, one.mode), None)

    def wants_sample(self, child: Incident) -> bool:
        """Tell whether evidence of an incident would be one of the five samples of a storm of its symptom."""
        taken = self._taken(child)
        return child.evidence_at is None and (child.id in taken or len(taken) < storms.SAMPLES)

    def take_sample(self, child: Incident) -> bool:
        """Take one of the five for this incident, and tell whether it has it; without waiting in between, so that there are never six."""
        wanted = self.wants_sample(child)
        if wanted:
            self._taken(child).add(child.id)
        return wanted

    def _taken(self, child: Incident) -> set[str]:
        name = f"{child.mode}/{child.cluster}/{child.symptom}"
        now = self._clock.boottime()
        kept = self._samples.get(name)
        if kept is None or now >= kept[0]:
            if len(self._samples) >= MOST_SYMPTOMS:
                self._samples.clear()
            kept = self._samples[name] = (now + SAMPLED_FOR.total_seconds(), set())
        return kept[1]
