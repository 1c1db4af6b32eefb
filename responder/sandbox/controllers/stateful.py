"""StatefulSets: ordered pods with identity and revisions; a broken one blocks even a rollback. Source: kubernetes.md A6; ``pkg/controller/statefulset``."""

from __future__ import annotations

from responder.sandbox.answers import ApiFailure, Object
from responder.sandbox.controllers.deployments import given, is_available
from responder.sandbox.controllers.revisions import HASH, kept, template_of
from responder.sandbox.deleting import delete
from responder.sandbox.kinds import PODS, REVISIONS, STATEFUL_SETS
from responder.sandbox.objects import Storage
from responder.sandbox.pods import is_finished, is_live, is_ready, new_pod


def stateful_sets(storage: Storage) -> None:
    """Move every StatefulSet one step."""
    for item in storage.all(STATEFUL_SETS):
        if not item["metadata"].get("deletionTimestamp"):
            _move(storage, item)


def _move(storage: Storage, item: Object) -> None:
    meta, spec = item["metadata"], item["spec"]
    update = kept(storage, item)["metadata"]["name"]
    current = (item.get("status") or {}).get("currentRevision") or update
    pods = {pod["metadata"]["name"]: pod for pod in storage.owned(PODS, meta["uid"])}
    desired = spec.get("replicas", 1)
    names = [f"{meta['name']}-{ordinal}" for ordinal in range(desired)]
    strategy = spec.get("updateStrategy") or {}
    rolling = strategy.get("type", "RollingUpdate") == "RollingUpdate"
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0) if rolling else 0
    in_order = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
    if not _whole(storage, item, names, pods, in_order=in_order, partition=partition, current=current, update=update):
        _condemn(storage, meta["name"], desired, pods, in_order=in_order)
        if rolling:
            _roll(storage, names[partition:], pods, update)
    _status(storage, item, current, update)


def _whole(
    storage: Storage, item: Object, names: list[str], pods: dict[str, Object], *, in_order: bool, partition: int, current: str, update: str
) -> bool:  # fmt: skip
    """Bring back what is missing; tell whether the rest has to wait for it."""
    for ordinal, name in enumerate(names):
        pod = pods.get(name)
        if pod is not None and is_finished(pod) and not pod["metadata"].get("deletionTimestamp"):
            storage.event(item, "RecreatingFailedPod", f"StatefulSet {item['metadata']['name']} is recreating failed Pod {name}")
            delete(storage, PODS, pod)
            pod = storage.find(PODS, item["metadata"]["namespace"], name)
        if pod is None:
            wanted = current if ordinal < partition else update
            held = storage.find(REVISIONS, item["metadata"]["namespace"], wanted)
            labels = {HASH: wanted, "statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(ordinal)}
            try:
                new_pod(storage, item, labels=labels, name=name, template=template_of(held) if held else None)
            except ApiFailure:
                return True
            if in_order:
                return True
        elif in_order and (pod["metadata"].get("deletionTimestamp") or not is_ready(pod)):
            return True
    return False


def _condemn(storage: Storage, name: str, desired: int, pods: dict[str, Object], *, in_order: bool) -> None:
    """Take the pods beyond the count down, the last first."""
    extra = sorted(
        (pod for one, pod in pods.items() if one.startswith(f"{name}-") and int(one.rsplit("-", 1)[1]) >= desired),
        key=lambda pod: -int(pod["metadata"]["name"].rsplit("-", 1)[1]),
    )
    for pod in extra:
        if not pod["metadata"].get("deletionTimestamp"):
            delete(storage, PODS, pod)
        if in_order:
            return


def _roll(storage: Storage, names: list[str], pods: dict[str, Object], update: str) -> None:
    """Replace the last pod that has another revision; one that is not healthy is waited for."""
    for name in reversed(names):
        pod = pods.get(name)
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            return
        if (pod["metadata"].get("labels") or {}).get(HASH) != update:
            delete(storage, PODS, pod)
            return
        if not is_ready(pod):
            return


def _status(storage: Storage, item: Object, current: str, update: str) -> None:
    pods = storage.owned(PODS, item["metadata"]["uid"])
    live = [pod for pod in pods if is_live(pod)]
    ready = [pod for pod in pods if is_ready(pod)]
    needs = item["spec"].get("minReadySeconds", 0)
    updated = sum(1 for pod in live if pod["metadata"]["labels"].get(HASH) == update)
    old = sum(1 for pod in live if pod["metadata"]["labels"].get(HASH) == current)
    replicas = len(pods)
    rolling = (item["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
    if rolling and updated == replicas == len(ready) and replicas == item["spec"].get("replicas", 1):
        current, old = update, updated
    storage.set_status(
        STATEFUL_SETS,
        storage.get(STATEFUL_SETS, item["metadata"]["namespace"], item["metadata"]["name"]),
        {
            "replicas": replicas,
            "availableReplicas": len(ready) if not needs else sum(1 for pod in ready if is_available(storage, pod, needs)),
            **given(
                {
                    "observedGeneration": item["metadata"]["generation"],
                    "readyReplicas": len(ready),
                    "currentReplicas": old,
                    "updatedReplicas": updated,
                    "currentRevision": current,
                    "updateRevision": update,
                }
            ),
            "collisionCount": 0,
        },
    )
