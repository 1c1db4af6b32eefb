"""What may act at all: the kill switch, the mode of each cluster, and what ``act:`` arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from responder.model.incident import Mode
from responder.model.target import Target
from responder.ports import Store

GLOBAL = "global"


def cluster_scope(cluster: str) -> str:
    """Return the name of a cluster's own switch."""
    return f"cluster/{cluster}"


class Switches:
    """Reads the switches from the store at every question: a kill switch that waits for a cache is none."""

    def __init__(
        self, *, store: Store, armed: Callable[[str, Target], bool], configured: Mapping[str, Mode] | None = None
    ) -> None:
        self._store = store
        self.armed = armed
        self._configured = dict(configured or {})

    async def least(self, cluster: str) -> Mode:
        """Return the least mode of the global switch, the cluster's switch and the configuration."""
        rows = {row.scope: row.mode for row in await self._store.modes()}
        scopes = (GLOBAL, cluster_scope(cluster))
        modes = [rows[scope] for scope in scopes if scope in rows] + [
            self._configured[scope] for scope in scopes if scope in self._configured
        ]
        return min(modes, key=lambda mode: mode.rank, default=Mode.ARMED)
