"""Looks again for the target of an incident that was opened on the literal target, or whose target is gone.

When the cluster answers, the incident ends as ``moved`` and the store wakes its firing alerts, which the router then routes anew with
opening time and acknowledgement kept. Never here: opening the new incident.
"""

from __future__ import annotations

from responder.model.alert import AlertStatus
from responder.model.incident import Signal, SignalKind
from responder.ports import Clock, Store
from responder.service.hands import Held
from responder.service.router import alert_of
from responder.service.targeting import Targeting


class Moves:
    """Resolves again, and moves."""

    def __init__(self, *, store: Store, clock: Clock, targeting: Targeting) -> None:
        self._store = store
        self._clock = clock
        self._targeting = targeting

    async def resolve_again(self, held: Held) -> None:
        """Ask the cluster again; when it names a target, tell the incident that it moved."""
        incident = held.incident
        for one in held.instances:
            if one.status is not AlertStatus.FIRING or one.problem:
                continue
            for candidate in incident.candidates:
                rule = held.rules.get(candidate.rule)
                if rule is None:
                    continue
                found = await self._targeting.find(rule, alert_of(one))
                if found.literal:
                    return
                if not incident.literal and found.target.identity == incident.target.identity:
                    return
                text = f"now {found.target}: {found.how}"
                await self._store.signal(
                    Signal(
                        incident=incident.id,
                        kind=SignalKind.MOVED,
                        at=self._clock.now(),
                        by="responder",
                        body={"text": text, "target": str(found.target)},
                    )
                )
                return
