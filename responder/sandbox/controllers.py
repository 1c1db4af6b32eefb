"""Controllers in miniature, level-driven: each looks at the storage and moves it one step. Source: kubernetes.md A6, A9, A10."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from responder.sandbox.objects import ApiFailure, Object, Storage, stamp

DEPLOYMENTS, SETS, PODS = "apps/v1/deployments", "apps/v1/replicasets", "v1/pods"
STATEFUL, DAEMONS = "apps/v1/statefulsets", "apps/v1/daemonsets"
REVISION = "deployment.kubernetes.io/revision"


def template_hash(template: Object) -> str:
    """Return a hash of a pod template, restart stamps included: a restart makes a new revision."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def owner(item: Object) -> list[Object]:
    """Return the owner reference of what an object controls."""
    meta = item["metadata"]
    return [
        {
            "apiVersion": item["apiVersion"],
            "kind": item["kind"],
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def is_ready(pod: Object) -> bool:
    """Tell whether a pod's Ready condition is True."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions") or [])


def is_live(pod: Object) -> bool:
    """Tell whether a pod is neither terminating nor finished."""
    return not pod["metadata"].get("deletionTimestamp") and pod["status"].get("phase") not in {"Succeeded", "Failed"}


def rank(value: int | str | None, desired: int, default: str, *, up: bool) -> int:
    """Return maxSurge or maxUnavailable as a count."""
    given = default if value is None else value
    if isinstance(given, str) and given.endswith("%"):
        share = int(given[:-1]) * desired / 100
        return math.ceil(share) if up else math.floor(share)
    return int(given)


def new_pod(storage: Storage, parent: Object, *, labels: dict[str, str], name: str = "") -> Object | None:
    """Create a pod of a controller; None when a quota refuses, which is recorded as the controller would."""
    template = parent["spec"]["template"]
    meta = parent["metadata"]
    namespace = meta["namespace"]
    for quota in storage.all("v1/resourcequotas", namespace):
        hard = (quota["spec"].get("hard") or {}).get("pods")
        used = sum(1 for pod in storage.all(PODS, namespace) if pod["status"].get("phase") not in {"Succeeded", "Failed"})
        if hard is not None and used >= int(hard):
            message = f"pods is forbidden: exceeded quota: {quota['metadata']['name']}, requested: pods=1, used: pods={used}, limited: pods={hard}"
            storage.event(parent, "FailedCreate", f"Error creating: {message}", kind="Warning")
            return None
    annotations = dict((template.get("metadata") or {}).get("annotations") or {})
    pod: Object = {
        "metadata": {
            "namespace": namespace,
            "labels": {**((template.get("metadata") or {}).get("labels") or {}), **labels},
            "annotations": annotations,
            "ownerReferences": owner(parent),
            **({"name": name} if name else {"generateName": f"{meta['name']}-"}),
        },
        "spec": copy.deepcopy(template["spec"]),
        "status": {"phase": "Pending", "conditions": []},
    }
    try:
        return storage.create(PODS, pod)
    except ApiFailure:
        return None


def deployments(storage: Storage) -> None:
    """Move every Deployment: new ReplicaSet for a new template, scale new up and old down within surge and unavailable, status."""
    for item in storage.all(DEPLOYMENTS):
        _deployment(storage, item)


def _deployment(storage: Storage, item: Object) -> None:
    spec, meta = item["spec"], item["metadata"]
    desired = spec.get("replicas", 1)
    sets = list(storage.owned(SETS, meta["uid"]))
    digest = template_hash(spec["template"])
    current = next((one for one in sets if one["metadata"]["labels"].get("pod-template-hash") == digest), None)
    if not spec.get("paused"):
        newest = max((int(one["metadata"]["annotations"].get(REVISION, 0)) for one in sets), default=0)
        if current is None:
            current = _new_set(storage, item, digest, newest + 1)
            sets.append(current)
        elif int(current["metadata"]["annotations"].get(REVISION, 0)) < newest:
            changed = copy.deepcopy(current)
            changed["metadata"]["annotations"][REVISION] = str(newest + 1)
            current = storage.update(SETS, current, changed)
            sets = list(storage.owned(SETS, meta["uid"]))
        _roll(storage, item, current, sets, desired)
        _forget_old(storage, item, sets, current)
    _deployment_status(storage, item, list(storage.owned(SETS, meta["uid"])), digest, desired)


def _new_set(storage: Storage, item: Object, digest: str, number: int) -> Object:
    template = copy.deepcopy(item["spec"]["template"])
    template.setdefault("metadata", {}).setdefault("labels", {})["pod-template-hash"] = digest
    meta = item["metadata"]
    return storage.create(
        SETS,
        {
            "metadata": {
                "namespace": meta["namespace"],
                "name": f"{meta['name']}-{digest}",
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {REVISION: str(number)},
                "ownerReferences": owner(item),
            },
            "spec": {"replicas": 0, "selector": copy.deepcopy(item["spec"]["selector"]), "template": template},
        },
    )


def _scale(storage: Storage, item: Object, replicas: int) -> None:
    if item["spec"].get("replicas") != replicas:
        changed = copy.deepcopy(item)
        changed["spec"]["replicas"] = max(0, replicas)
        storage.update(SETS, item, changed)


def _roll(storage: Storage, item: Object, current: Object, sets: list[Object], desired: int) -> None:
    strategy = item["spec"].get("strategy") or {}
    old = [one for one in sets if one["metadata"]["uid"] != current["metadata"]["uid"]]
    if strategy.get("type") == "Recreate":
        for one in old:
            _scale(storage, one, 0)
        if not any(list(storage.owned(PODS, one["metadata"]["uid"])) for one in old):
            _scale(storage, current, desired)
        return
    rolling = strategy.get("rollingUpdate") or {}
    surge = rank(rolling.get("maxSurge"), desired, "25%", up=True)
    unavailable = rank(rolling.get("maxUnavailable"), desired, "25%", up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    old_total = sum(one["spec"]["replicas"] for one in old)
    have = current["spec"]["replicas"]
    _scale(storage, current, min(desired, have + max(0, desired + surge - old_total - have)) if have < desired else desired)
    ready = sum(one["status"].get("availableReplicas", 0) for one in sets)
    spare = max(0, ready - (desired - unavailable))
    for one in sorted(old, key=lambda one: int(one["metadata"]["annotations"].get(REVISION, 0))):
        sick = max(0, one["spec"]["replicas"] - one["status"].get("availableReplicas", 0))
        down = min(one["spec"]["replicas"], sick + spare)
        spare -= max(0, down - sick)
        if down > 0:
            _scale(storage, one, one["spec"]["replicas"] - down)


def _forget_old(storage: Storage, item: Object, sets: list[Object], current: Object) -> None:
    limit = item["spec"].get("revisionHistoryLimit", 10)
    idle = [one for one in sets if one["spec"].get("replicas") == 0 and one["metadata"]["uid"] != current["metadata"]["uid"]]
    for one in sorted(idle, key=lambda one: int(one["metadata"]["annotations"].get(REVISION, 0)))[: max(0, len(idle) - limit)]:
        storage.remove(SETS, one)


def _deployment_status(storage: Storage, item: Object, sets: list[Object], digest: str, desired: int) -> None:
    current = next((one for one in sets if one["metadata"]["labels"].get("pod-template-hash") == digest), None)
    total = sum(one["status"].get("replicas", 0) for one in sets)
    ready = sum(one["status"].get("readyReplicas", 0) for one in sets)
    available = sum(one["status"].get("availableReplicas", 0) for one in sets)
    updated = current["status"].get("replicas", 0) if current is not None else 0
    complete = updated >= desired and total <= updated and available >= desired
    conditions = {one["type"]: dict(one) for one in item["status"].get("conditions") or []}
    now = storage.now()
    before = item["status"]
    moved = (updated, available, digest) != (
        before.get("updatedReplicas", 0),
        before.get("availableReplicas", 0),
        before.get("sandboxHash"),
    )
    _condition(
        conditions,
        "Available",
        available >= desired - 1 if desired > 1 else available >= desired,
        "MinimumReplicasAvailable",
        now,
    )
    progressing = conditions.get("Progressing")
    deadline = item["spec"].get("progressDeadlineSeconds", 600)
    if complete:
        _condition(conditions, "Progressing", True, "NewReplicaSetAvailable", now)
    elif progressing is None or moved:
        _condition(conditions, "Progressing", True, "ReplicaSetUpdated", now, refresh=True)
    elif (
        progressing["reason"] == "ReplicaSetUpdated" and (now - _parsed(progressing["lastUpdateTime"])).total_seconds() > deadline
    ):
        _condition(conditions, "Progressing", False, "ProgressDeadlineExceeded", now)
    storage.set_status(
        DEPLOYMENTS,
        item,
        {
            "observedGeneration": item["metadata"]["generation"],
            "replicas": total,
            "readyReplicas": ready,
            "updatedReplicas": updated,
            "availableReplicas": available,
            "unavailableReplicas": max(0, desired - available),
            "conditions": list(conditions.values()),
            "sandboxHash": digest,
        },
    )


def _condition(conditions: dict[str, Any], kind: str, holds: bool, reason: str, now: datetime, *, refresh: bool = False) -> None:
    status = "True" if holds else "False"
    before = conditions.get(kind)
    if before is None or before["status"] != status or before["reason"] != reason or refresh:
        since = before["lastTransitionTime"] if before is not None and before["status"] == status else stamp(now)
        conditions[kind] = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": reason,
            "lastTransitionTime": since,
            "lastUpdateTime": stamp(now),
        }


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text)


def replica_sets(storage: Storage) -> None:
    """Make as many pods as each ReplicaSet wants; unready and younger ones leave first."""
    for item in storage.all(SETS):
        pods = [pod for pod in storage.owned(PODS, item["metadata"]["uid"]) if is_live(pod)]
        wanted = item["spec"].get("replicas", 1)
        labels = {"pod-template-hash": item["metadata"]["labels"].get("pod-template-hash", "")}
        for _ in range(wanted - len(pods)):
            if new_pod(storage, item, labels=labels) is None:
                break
        for pod in sorted(pods, key=lambda one: (is_ready(one), one["metadata"]["creationTimestamp"]))[
            : max(0, len(pods) - wanted)
        ]:
            storage.terminate(pod)
        pods = [pod for pod in storage.owned(PODS, item["metadata"]["uid"]) if is_live(pod)]
        ready = sum(1 for pod in pods if is_ready(pod))
        storage.set_status(
            SETS,
            item,
            {
                "replicas": len(pods),
                "readyReplicas": ready,
                "availableReplicas": ready,
                "fullyLabeledReplicas": len(pods),
                "observedGeneration": item["metadata"]["generation"],
            },
        )


def stateful_sets(storage: Storage) -> None:
    """Ordered pods with revisions; a pod is replaced only when all before it are ready, so a broken one blocks even a rollback."""
    for item in storage.all(STATEFUL):
        meta, spec = item["metadata"], item["spec"]
        digest = template_hash(spec["template"])
        revision = f"{meta['name']}-{digest}"
        _keep_revision(storage, item, revision)
        pods = {pod["metadata"]["name"]: pod for pod in storage.owned(PODS, meta["uid"])}
        desired = spec.get("replicas", 1)
        blocked = False
        for ordinal in range(desired):
            name = f"{meta['name']}-{ordinal}"
            pod = pods.get(name)
            if pod is None and not blocked:
                new_pod(
                    storage,
                    item,
                    labels={"controller-revision-hash": revision, "statefulset.kubernetes.io/pod-name": name},
                    name=name,
                )
                blocked = True
            elif pod is None or not is_ready(pod) or pod["metadata"].get("deletionTimestamp"):
                blocked = True
        for name, pod in pods.items():
            if int(name.rsplit("-", 1)[1]) >= desired:
                storage.terminate(pod)
        strategy = spec.get("updateStrategy") or {}
        partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
        if strategy.get("type", "RollingUpdate") == "RollingUpdate" and not blocked:
            for ordinal in range(desired - 1, partition - 1, -1):
                pod = pods.get(f"{meta['name']}-{ordinal}")
                if pod is not None and pod["metadata"]["labels"].get("controller-revision-hash") != revision:
                    storage.terminate(pod)
                    break
        live = [pod for pod in storage.owned(PODS, meta["uid"]) if is_live(pod)]
        updated = [pod for pod in live if pod["metadata"]["labels"].get("controller-revision-hash") == revision]
        before = item["status"].get("currentRevision") or revision
        ready = sum(1 for pod in live if is_ready(pod))
        done = len(updated) >= desired and ready >= desired
        storage.set_status(
            STATEFUL,
            item,
            {
                "observedGeneration": meta["generation"],
                "replicas": len(live),
                "readyReplicas": ready,
                "availableReplicas": ready,
                "updatedReplicas": len(updated),
                "currentReplicas": len(live) - len(updated) if not done else len(updated),
                "updateRevision": revision,
                "currentRevision": revision if done else before,
            },
        )


def _keep_revision(storage: Storage, item: Object, revision: str) -> None:
    meta = item["metadata"]
    kind = "apps/v1/controllerrevisions"
    mine = list(storage.owned(kind, meta["uid"]))
    newest = max((one["revision"] for one in mine), default=0)
    found = storage.find(kind, meta["namespace"], revision)
    if found is None:
        template = copy.deepcopy(item["spec"]["template"])
        template["$patch"] = "replace"
        storage.create(
            kind,
            {
                "metadata": {
                    "namespace": meta["namespace"],
                    "name": revision,
                    "labels": {
                        **(item["spec"]["template"]["metadata"].get("labels") or {}),
                        "controller.kubernetes.io/hash": revision,
                    },
                    "ownerReferences": owner(item),
                },
                "revision": newest + 1,
                "data": {"spec": {"template": template}},
            },
        )
    elif found["revision"] < newest:
        changed = copy.deepcopy(found)
        changed["revision"] = newest + 1
        storage.update(kind, found, changed)


def daemon_sets(storage: Storage) -> None:
    """One pod a node."""
    for item in storage.all(DAEMONS):
        meta = item["metadata"]
        digest = template_hash(item["spec"]["template"])
        revision = f"{meta['name']}-{digest}"
        _keep_revision(storage, item, revision)
        nodes = storage.all("v1/nodes")
        pods = [pod for pod in storage.owned(PODS, meta["uid"]) if is_live(pod)]
        taken = {pod["spec"].get("nodeName") for pod in pods}
        for node in nodes:
            if node["metadata"]["name"] not in taken:
                pod = new_pod(storage, item, labels={"controller-revision-hash": revision})
                if pod is not None:
                    changed = copy.deepcopy(pod)
                    changed["spec"]["nodeName"] = node["metadata"]["name"]
                    storage.update(PODS, pod, changed)
        old = [pod for pod in pods if pod["metadata"]["labels"].get("controller-revision-hash") != revision]
        if old and (item["spec"].get("updateStrategy") or {}).get("type") != "OnDelete":
            storage.terminate(old[0])
        ready = sum(1 for pod in pods if is_ready(pod))
        storage.set_status(
            DAEMONS,
            item,
            {
                "observedGeneration": meta["generation"],
                "desiredNumberScheduled": len(nodes),
                "currentNumberScheduled": len(pods),
                "numberReady": ready,
                "numberAvailable": ready,
                "updatedNumberScheduled": len(pods) - len(old),
            },
        )


def jobs(storage: Storage) -> None:
    """One pod a Job, made again while it has failed no oftener than ``backoffLimit``."""
    for item in storage.all("batch/v1/jobs"):
        meta, spec = item["metadata"], item["spec"]
        pods = list(storage.owned(PODS, meta["uid"]))
        failed = sum(1 for pod in pods if pod["status"].get("phase") == "Failed")
        done = sum(1 for pod in pods if pod["status"].get("phase") == "Succeeded")
        active = len(pods) - failed - done
        if not spec.get("suspend") and not active and not done and failed <= spec.get("backoffLimit", 6):
            new_pod(storage, item, labels={"job-name": meta["name"], "batch.kubernetes.io/job-name": meta["name"]})
        storage.set_status("batch/v1/jobs", item, {"active": active, "failed": failed, "succeeded": done})


def endpoint_slices(storage: Storage) -> None:
    """Keep one slice a service with selector: ready is Ready and not terminating (kubernetes.md A9)."""
    kind = "discovery.k8s.io/v1/endpointslices"
    for service in storage.all("v1/services"):
        selector = service["spec"].get("selector")
        if not selector:
            continue
        meta = service["metadata"]
        endpoints = []
        ports: list[Object] = []
        for pod in storage.all(PODS, meta["namespace"]):
            labels = pod["metadata"].get("labels") or {}
            if all(labels.get(name) == value for name, value in selector.items()) and pod["spec"].get("nodeName"):
                leaving = bool(pod["metadata"].get("deletionTimestamp"))
                ports = ports or _ports(service, pod)
                endpoints.append(
                    {
                        "addresses": [pod["status"].get("podIP", "10.0.0.1")],
                        "conditions": {"ready": is_ready(pod) and not leaving, "serving": is_ready(pod), "terminating": leaving},
                        "targetRef": {
                            "kind": "Pod",
                            "namespace": meta["namespace"],
                            "name": pod["metadata"]["name"],
                            "uid": pod["metadata"]["uid"],
                        },
                    }
                )
        found = storage.find(kind, meta["namespace"], f"{meta['name']}-slice")
        if found is None:
            storage.create(
                kind,
                {
                    "metadata": {
                        "namespace": meta["namespace"],
                        "name": f"{meta['name']}-slice",
                        "labels": {"kubernetes.io/service-name": meta["name"]},
                        "ownerReferences": owner(service),
                    },
                    "addressType": "IPv4",
                    "endpoints": endpoints,
                    "ports": ports,
                },
            )
        elif (found["endpoints"], found["ports"]) != (endpoints, ports):
            changed = copy.deepcopy(found)
            changed["endpoints"], changed["ports"] = endpoints, ports
            storage.update(kind, found, changed)


def _ports(service: Object, pod: Object) -> list[Object]:
    """Return the ports of a service that a pod has; a name that no container gives to a port is left out, as in a cluster."""
    named = {
        port["name"]: port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or []
        if "name" in port
    }
    found: list[Object] = []
    for port in service["spec"].get("ports") or []:
        wanted = port.get("targetPort", port["port"])
        number = wanted if isinstance(wanted, int) else named.get(wanted)
        if number is not None:
            found.append({"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")})
    return found


def autoscalers(storage: Storage) -> None:
    """Clamp what an HPA scales into its bounds; zero replicas disable it (kubernetes.md A10)."""
    for item in storage.all("autoscaling/v2/horizontalpodautoscalers"):
        ref = item["spec"]["scaleTargetRef"]
        kind = DEPLOYMENTS if ref["kind"] == "Deployment" else STATEFUL
        target = storage.find(kind, item["metadata"]["namespace"], ref["name"])
        if target is None:
            continue
        now = target["spec"].get("replicas", 1)
        low, high = item["spec"].get("minReplicas", 1), item["spec"]["maxReplicas"]
        active = now > 0
        wanted = min(max(now, low), high) if active else 0
        if wanted != now:
            changed = copy.deepcopy(target)
            changed["spec"]["replicas"] = wanted
            storage.update(kind, target, changed)
        condition = {
            "type": "ScalingActive",
            "status": "True" if active else "False",
            "reason": "ValidMetricFound" if active else "ScalingDisabled",
        }
        storage.set_status(
            "autoscaling/v2/horizontalpodautoscalers",
            item,
            {"currentReplicas": now, "desiredReplicas": wanted, "conditions": [condition]},
        )


def budgets(storage: Storage) -> None:
    """Count what disruption budgets allow."""
    kind = "policy/v1/poddisruptionbudgets"
    for item in storage.all(kind):
        wanted = (item["spec"].get("selector") or {}).get("matchLabels") or {}
        pods = [
            pod
            for pod in storage.all(PODS, item["metadata"]["namespace"])
            if is_live(pod) and all((pod["metadata"].get("labels") or {}).get(name) == value for name, value in wanted.items())
        ]
        healthy = sum(1 for pod in pods if is_ready(pod))
        spec = item["spec"]
        if "minAvailable" in spec:
            needed = rank(spec["minAvailable"], len(pods), "0", up=True)
        else:
            needed = len(pods) - rank(spec.get("maxUnavailable"), len(pods), "1", up=True)
        storage.set_status(
            kind,
            item,
            {
                "observedGeneration": item["metadata"]["generation"],
                "disruptionsAllowed": max(0, healthy - needed),
                "currentHealthy": healthy,
                "desiredHealthy": needed,
                "expectedPods": len(pods),
            },
        )


def quotas(storage: Storage) -> None:
    """Count what quotas have used."""
    for item in storage.all("v1/resourcequotas"):
        hard = item["spec"].get("hard") or {}
        used = sum(
            1
            for pod in storage.all(PODS, item["metadata"]["namespace"])
            if pod["status"].get("phase") not in {"Succeeded", "Failed"}
        )
        storage.set_status("v1/resourcequotas", item, {"hard": hard, "used": {"pods": str(used)} if "pods" in hard else {}})


CONTROLLERS: tuple[Callable[[Storage], None], ...] = (
    autoscalers,
    deployments,
    replica_sets,
    stateful_sets,
    daemon_sets,
    jobs,
    endpoint_slices,
    budgets,
    quotas,
)
