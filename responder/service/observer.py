"""Remembers which revisions were healthy, by looking at workloads while nothing is wrong.

A rollback goes to the last revision that was *healthy*, and a cluster does not keep that: an old ReplicaSet with no pods says nothing
about its past (kubernetes.md A6). Never here: judgement.
"""

from __future__ import annotations

from collections.abc import Mapping

from responder.model.errors import RemoteError
from responder.ports import ClusterView, Store
from responder.telemetry import logger


class Observer:
    """Looks over every configured cluster and remembers its healthy revisions.

    A revision is remembered when two looks in a row, minutes apart, saw it wholly available: a crash loop is available for seconds too.
    """

    def __init__(self, *, views: Mapping[str, ClusterView], store: Store) -> None:
        self._views = views
        self._store = store
        self._last: dict[str, frozenset[str]] = {}

    async def observe(self) -> None:
        """Look once; a cluster that does not answer is logged and looked at next time."""
        for name, view in self._views.items():
            try:
                healthy = await view.healthy_revisions()
            except (RemoteError, TimeoutError) as error:
                logger().warning("observation_failed", cluster=name, problem=str(error))
                continue
            steady = self._last.get(name, frozenset()) & frozenset(healthy)
            self._last[name] = frozenset(healthy)
            if steady:
                await self._store.remember_healthy([f"{name}/{revision}" for revision in sorted(steady)])
