"""DaemonSets: one pod on each node that takes it, tied to the node by affinity. Source: ``pkg/controller/daemon``."""

from __future__ import annotations

from responder.sandbox.answers import ApiFailure, Object
from responder.sandbox.controllers.deployments import given, is_available, share
from responder.sandbox.controllers.revisions import HASH, kept
from responder.sandbox.deleting import delete
from responder.sandbox.kinds import DAEMON_SETS, NODES, PODS
from responder.sandbox.objects import Storage
from responder.sandbox.pods import is_finished, is_live, is_ready, new_pod, untolerated
from responder.sandbox.selectors import node_selects

ALWAYS_TOLERATED: tuple[Object, ...] = (
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/disk-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/pid-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
)


def daemon_sets(storage: Storage) -> None:
    """Move every DaemonSet one step."""
    for item in storage.all(DAEMON_SETS):
        if not item["metadata"].get("deletionTimestamp"):
            _move(storage, item)


def wants(item: Object, node: Object) -> tuple[bool, bool]:
    """Tell whether a node should get a pod, and whether one that is there may stay."""
    spec = item["spec"]["template"]["spec"]
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(name) != value for name, value in (spec.get("nodeSelector") or {}).items()):
        return False, False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if affinity is not None and not node_selects(affinity.get("nodeSelectorTerms") or [], node):
        return False, False
    tolerations = [*(spec.get("tolerations") or []), *ALWAYS_TOLERATED]
    taints = node["spec"].get("taints") or []
    stays = untolerated(tolerations, taints, {"NoExecute"}) is None
    return stays and untolerated(tolerations, taints, {"NoSchedule"}) is None, stays


def _node_of(pod: Object) -> str:
    """Return the node that a pod is on, or is meant for."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    required = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    for term in (required or {}).get("nodeSelectorTerms") or ():
        for one in term.get("matchFields") or ():
            if one["key"] == "metadata.name":
                return str(one["values"][0])
    return ""


def _move(storage: Storage, item: Object) -> None:
    uid = item["metadata"]["uid"]
    digest = kept(storage, item)["metadata"]["name"].removeprefix(f"{item['metadata']['name']}-")
    pods = storage.owned(PODS, uid)
    there = {_node_of(pod) for pod in pods if not is_finished(pod)}
    desired, misplaced = 0, 0
    for node in storage.all(NODES):
        name = node["metadata"]["name"]
        runs, stays = wants(item, node)
        desired += runs
        misplaced += not runs and name in there
        if runs and name not in there:
            try:
                new_pod(
                    storage, item, labels={HASH: digest, "pod-template-generation": "1"}, node=name, tolerations=ALWAYS_TOLERATED
                )
            except ApiFailure:
                continue
        for pod in pods:
            failed = pod["status"].get("phase") == "Failed"
            if _node_of(pod) == name and (not stays or failed) and not pod["metadata"].get("deletionTimestamp"):
                if failed:
                    said = f"Found failed daemon pod {item['metadata']['namespace']}/{pod['metadata']['name']} on node {name}, will try to kill it"
                    storage.event(item, "FailedDaemonPod", said, kind="Warning", by="daemonset-controller")
                delete(storage, PODS, pod)
    if (item["spec"].get("updateStrategy") or {}).get("type") != "OnDelete":
        _roll(storage, item, digest, desired)
    _status(storage, item, digest, desired, misplaced)


def _roll(storage: Storage, item: Object, digest: str, desired: int) -> None:
    """Replace old pods, no more at a time than may be unavailable; unready old ones first, at once."""
    rolling = (item["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    most = share(rolling.get("maxUnavailable"), desired, "1", up=True) or 1
    pods = [pod for pod in storage.owned(PODS, item["metadata"]["uid"]) if is_live(pod)]
    old = [pod for pod in pods if pod["metadata"]["labels"].get(HASH) != digest]
    room = most - (desired - sum(1 for pod in pods if is_ready(pod)))
    for pod in [one for one in old if not is_ready(one)]:
        delete(storage, PODS, pod)
    for pod in [one for one in old if is_ready(one)][: max(0, room)]:
        delete(storage, PODS, pod)


def _status(storage: Storage, item: Object, digest: str, desired: int, misplaced: int) -> None:
    pods = [pod for pod in storage.owned(PODS, item["metadata"]["uid"]) if is_live(pod)]
    placed = {_node_of(pod): pod for pod in pods}
    here = [
        placed[node["metadata"]["name"]]
        for node in storage.all(NODES)
        if node["metadata"]["name"] in placed and wants(item, node)[0]
    ]
    ready = [pod for pod in here if is_ready(pod)]
    needs = item["spec"].get("minReadySeconds", 0)
    available = len(ready) if not needs else sum(1 for pod in ready if is_available(storage, pod, needs))
    storage.set_status(
        DAEMON_SETS,
        storage.get(DAEMON_SETS, item["metadata"]["namespace"], item["metadata"]["name"]),
        {
            "currentNumberScheduled": len(here),
            "numberMisscheduled": misplaced,
            "desiredNumberScheduled": desired,
            "numberReady": len(ready),
            **given(
                {
                    "observedGeneration": item["metadata"]["generation"],
                    "updatedNumberScheduled": sum(1 for pod in here if pod["metadata"]["labels"].get(HASH) == digest),
                    "numberAvailable": available,
                    "numberUnavailable": desired - available,
                }
            ),
        },
    )  # fmt: skip
