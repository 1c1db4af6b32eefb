"""Controllers in miniature, level-driven: each looks at the storage and moves it one step.

One that looks only at objects is a function; one that also remembers (what it saw when, what it will do then) is a class with
``step``. Controllers that wait for nothing but changes are left out of a step when nothing they look at has changed.
Source: kubernetes.md A5, A6, A9, A10, A16; kubernetes ``pkg/controller``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from responder.sandbox import kinds as k
from responder.sandbox.controllers import budgets, daemons, deployments, garbage, jobs, nodes, scaling, services, stateful
from responder.sandbox.objects import Storage


@dataclass(slots=True)
class _One:
    """One controller. ``looks_at``: nothing for one that also waits for times."""

    step: Callable[[], None]
    looks_at: tuple[str, ...] = ()
    seen: int = -1


class Controllers:
    """All of them. ``step`` lets each look once."""

    def __init__(self, storage: Storage, times: nodes.NodeTimes) -> None:
        self._storage = storage
        self._all = (
            _One(nodes.NodeLifecycle(storage, times).step),
            _One(nodes.TaintEvictions(storage).step),
            _One(garbage.PodGarbage(storage, times).step),
            _One(lambda: garbage.namespaces(storage), (k.NAMESPACES, k.PODS)),
            _One(lambda: scaling.autoscalers(storage), (k.AUTOSCALERS, k.DEPLOYMENTS, k.STATEFUL_SETS, k.REPLICA_SETS)),
            _One(deployments.Deployments(storage).step),
            _One(deployments.ReplicaSets(storage).step),
            _One(lambda: stateful.stateful_sets(storage), (k.STATEFUL_SETS, k.PODS, k.REVISIONS, k.QUOTAS)),
            _One(lambda: daemons.daemon_sets(storage), (k.DAEMON_SETS, k.PODS, k.REVISIONS, k.NODES, k.QUOTAS)),
            _One(lambda: jobs.jobs(storage)),
            _One(lambda: services.endpoint_slices(storage), (k.SERVICES, k.PODS, k.SLICES)),
            _One(lambda: budgets.budgets(storage)),
            _One(lambda: budgets.quotas(storage)),
            _One(garbage.Garbage(storage, times).step),
        )

    def step(self) -> None:
        """Let each controller look once."""
        for one in self._all:
            if one.looks_at:
                newest = self._storage.last_change(one.looks_at)
                if newest == one.seen:
                    continue
                one.seen = newest
            one.step()
