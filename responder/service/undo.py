"""Gives back by hand what an incident still holds (``responder undo``): only while the field is still ours."""

from __future__ import annotations

from collections.abc import Sequence

from responder.ports import Clock, Store
from responder.service.hands import Hands


class Undo:
    """Undoes changes that are owed."""

    def __init__(self, *, store: Store, clock: Clock, hands: Hands) -> None:
        self._store = store
        self._clock = clock
        self._hands = hands

    async def of_incident(self, incident: str) -> Sequence[str]:
        """Give back everything an incident holds; return one line a change, also for those that could not be given back."""
        found = await self._store.incident(incident)
        owed = await self._store.owed(incident=incident)
        if found is None or not owed:
            return ["nothing is owed"]
        return [one.text for one in await self._hands.undo(owed)]
