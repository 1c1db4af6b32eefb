"""Gives what belongs to a workload while many of its namespace are judged: ReplicaSets and pods of a namespace are listed once for all who ask.

Never here: what a write is permitted by. That is read by itself (``ports.ClusterView.snapshot``, ``shared``).

The decision a reader would question: a whole namespace is listed for a few of its workloads. Three lists of some hundred objects cost an API server
less than three requests for each of twenty workloads, just when something is wrong with it; a namespace of more than a page is not listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from responder.clusters.kubernetes import structs as k
from responder.clusters.kubernetes.client import KubernetesClient
from responder.clusters.kubernetes.sharing import Shared
from responder.clusters.kubernetes.snapshots import matches, owner_of
from responder.model.errors import RemoteError

MANY = 2
"""Workloads of a namespace that were read within ``WINDOW``, from which on it is listed."""

WINDOW = 10.0
"""Seconds."""

BIG_FOR = 300.0
"""Seconds for which a namespace that did not fit into a page, or may not be listed, is not tried again."""

MOST_NAMESPACES = 1_000


_WORKLOAD = msgspec.json.Decoder(k.Workload)
_POD = msgspec.json.Decoder(k.Pod)


@dataclass(frozen=True, slots=True)
class Crowd:
    """What a namespace has of one kind of workload and of what belongs to it, as asked for at ``read_at``.

    Held as JSON of the fields that are needed, and decoded for who asks: a tenth of what came, and of what its objects would hold.
    """

    read_at: datetime
    _workloads: Mapping[str, bytes]
    _sets: Mapping[str, Sequence[bytes]]
    _pods: Mapping[str, Sequence[bytes]]

    def workload(self, name: str) -> k.Workload | None:
        """Return a workload, None when the list did not have it."""
        found = self._workloads.get(name)
        return None if found is None else _WORKLOAD.decode(found)

    def sets(self, owner: k.Workload) -> list[k.Workload]:
        """Return the ReplicaSets of a Deployment, as its selector finds them."""
        found = [_WORKLOAD.decode(one) for one in self._sets.get(owner.metadata.uid, ())]
        return [one for one in found if _selects(owner, one.metadata)]

    def pods(self, workload: k.Workload, owners: Sequence[str]) -> list[k.Pod]:
        """Return the pods of a workload that one of these owns, by UID, as its selector finds them."""
        found = [_POD.decode(one) for owner in owners for one in self._pods.get(owner, ())]
        return [one for one in found if _selects(workload, one.metadata)]


class Crowds:
    """The namespaces of a cluster of which many workloads are judged now."""

    def __init__(
        self, client: KubernetesClient, path_of: Callable[..., str], shared: Shared, *, now: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._now = now
        self._path_of = path_of
        self._shared = shared
        self._asked: dict[str, tuple[float, int]] = {}
        self._big: dict[str, float] = {}

    async def of(self, kind: str, namespace: str) -> Crowd | None:
        """Return a namespace as listed within the last seconds; None where the workload is better read by itself.

        Args:
            kind: Of workload.
            namespace: Theirs.
        """
        name = f"{kind}/{namespace}"
        if not self._many(name):
            return None
        return await self._shared.get(f"crowd/{name}", lambda: self._read(name, kind, namespace))

    def _many(self, name: str) -> bool:
        """Count a question; tell whether there are so many that lists are cheaper."""
        now = asyncio.get_running_loop().time()
        since, count = self._asked.get(name, (now, 0))
        if now - since >= WINDOW:
            since, count = now, 0
        if len(self._asked) >= MOST_NAMESPACES:
            self._asked.clear()
        self._asked[name] = (since, count + 1)
        return count >= MANY and now >= self._big.get(name, 0.0)

    async def _read(self, name: str, kind: str, namespace: str) -> Crowd | None:
        read_at, with_sets = self._now(), kind == "Deployment"
        try:
            workloads, sets, pods = await asyncio.gather(
                self._client.page(self._path_of(kind, namespace), k.WorkloadList),
                self._client.page(self._path_of("ReplicaSet", namespace), k.WorkloadList) if with_sets else _none(),
                self._client.page(self._path_of("Pod", namespace), k.PodList),
            )
        except RemoteError:  # not allowed, or it fails now: each workload is read by itself, and says so
            workloads = sets = pods = None
        if workloads is not None and sets is not None and pods is not None:
            named = {one.metadata.name: msgspec.json.encode(one) for one in workloads.items or []}
            return Crowd(read_at, named, _by_owner(sets.items or []), _by_owner(pods.items or []))
        if len(self._big) >= MOST_NAMESPACES:
            self._big.clear()
        self._big[name] = asyncio.get_running_loop().time() + BIG_FOR
        return None


def _by_owner(items: Sequence[k.Workload] | Sequence[k.Pod]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for one in items:
        owner = owner_of(one.metadata)
        if owner is not None:
            found.setdefault(owner.uid, []).append(msgspec.json.encode(one))
    return found


def _selects(workload: k.Workload, meta: k.Meta) -> bool:
    return matches(workload.spec.selector, meta.labels or {})


async def _none() -> k.WorkloadList:
    return k.WorkloadList()
