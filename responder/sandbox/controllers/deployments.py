"""Deployments and ReplicaSets: revisions, surge and unavailability, progress. Source: kubernetes.md A6; ``pkg/controller/deployment``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from responder.sandbox.answers import ApiFailure, Object
from responder.sandbox.deleting import delete
from responder.sandbox.kinds import DEPLOYMENTS, PODS, REPLICA_SETS
from responder.sandbox.objects import Storage, clone, stamp
from responder.sandbox.pods import is_finished, is_live, is_ready, new_pod, owner, template_hash

PREFIX = "deployment.kubernetes.io/"
REVISION = f"{PREFIX}revision"
NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration", REVISION, f"{PREFIX}revision-history", f"{PREFIX}desired-replicas",
    f"{PREFIX}max-replicas", "deprecated.deployment.rollback.to",
}  # fmt: skip


def share(value: int | str | None, desired: int, default: str, *, up: bool) -> int:
    """Return maxSurge, maxUnavailable or minAvailable as a count."""
    given = default if value is None else value
    if isinstance(given, str) and given.endswith("%"):
        count = int(given[:-1]) * desired / 100
        return math.ceil(count) if up else math.floor(count)
    return int(given)


def given(status: Mapping[str, Any]) -> Object:
    """Return a status without its zeros, as the API leaves them out."""
    return {name: value for name, value in status.items() if value not in (0, None, [], {})}


def revision(item: Object) -> int:
    """Return a ReplicaSet's revision; 0 for none."""
    return int((item["metadata"].get("annotations") or {}).get(REVISION, 0))


class Deployments:
    """Moves every Deployment one step. Remembers when each made its last progress."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._progress: dict[str, tuple[Any, ...]] = {}
        self._hashes: dict[str, tuple[int, str]] = {}
        self._settled: dict[str, tuple[str, int]] = {}

    def step(self) -> None:
        """Move each of them; one that is complete is left alone until it or a ReplicaSet of it changes."""
        for item in self._storage.all(DEPLOYMENTS):
            meta = item["metadata"]
            now = (meta["resourceVersion"], self._storage.touched(meta["uid"]))
            if self._settled.get(meta["uid"]) == now or meta.get("deletionTimestamp"):
                continue
            self._move(item)
            if _complete(item):
                self._settled[meta["uid"]] = now

    def _hash(self, item: Object) -> str:
        uid, generation = item["metadata"]["uid"], item["metadata"]["generation"]
        known = self._hashes.get(uid)
        if known is None or known[0] != generation:
            known = self._hashes[uid] = (generation, template_hash(item["spec"]["template"]))
        return known[1]

    def _move(self, item: Object) -> None:
        storage, uid = self._storage, item["metadata"]["uid"]
        sets = storage.owned(REPLICA_SETS, uid)
        digest = self._hash(item)
        current = _current(sets, digest)
        desired = item["spec"].get("replicas", 1)
        if item["spec"].get("paused"):
            active = [one for one in sets if one["spec"].get("replicas")]
            if len(active) == 1 or (current is not None and not active):
                self._scale(item, active[0] if active else current, desired)
        else:
            current = self._revised(item, current, sets, digest)
            sets = storage.owned(REPLICA_SETS, uid)
            self._roll(item, current, sets, desired)
            _forget_old(storage, item, current)
        fresh = storage.find(DEPLOYMENTS, item["metadata"]["namespace"], item["metadata"]["name"])
        if fresh is not None:
            self._status(fresh, storage.owned(REPLICA_SETS, uid), digest, desired)

    def _revised(self, item: Object, current: Object | None, sets: list[Object], digest: str) -> Object:
        """Return the ReplicaSet of the template, made or made newest; the Deployment says its revision."""
        storage = self._storage
        newest = max((revision(one) for one in sets), default=0)
        notes = {name: value for name, value in (item["metadata"].get("annotations") or {}).items() if name not in NOT_COPIED}
        if current is None:
            current = _new_set(storage, item, digest, newest + 1, notes)
            storage.event(
                item, "ScalingReplicaSet", f"Scaled up replica set {current['metadata']['name']} from 0 to {_first(item)}",
                by="deployment-controller",
            )  # fmt: skip
        else:
            mine = dict(current["metadata"].get("annotations") or {})
            wanted = {**mine, **notes}
            if revision(current) < newest:
                wanted[REVISION] = str(newest + 1)
            if wanted != mine:
                changed = clone(current)
                changed["metadata"]["annotations"] = wanted
                current = storage.update(REPLICA_SETS, current, changed)
        said = str(revision(current))
        if (item["metadata"].get("annotations") or {}).get(REVISION) != said:
            changed = clone(item)
            changed["metadata"].setdefault("annotations", {})
            changed["metadata"]["annotations"] = {**(item["metadata"].get("annotations") or {}), REVISION: said}
            storage.update(DEPLOYMENTS, item, changed)
        return current

    def _scale(self, item: Object, one: Object | None, replicas: int) -> None:
        if one is None or one["spec"].get("replicas") == max(0, replicas):
            return
        changed = clone(one)
        changed["spec"]["replicas"] = max(0, replicas)
        self._storage.update(REPLICA_SETS, one, changed)
        before = one["spec"].get("replicas", 0)
        word = "up" if replicas > before else "down"
        said = f"Scaled {word} replica set {one['metadata']['name']} from {before} to {max(0, replicas)}"
        self._storage.event(item, "ScalingReplicaSet", said, by="deployment-controller")

    def _roll(self, item: Object, current: Object, sets: list[Object], desired: int) -> None:
        strategy = item["spec"].get("strategy") or {}
        old = [one for one in sets if one["metadata"]["uid"] != current["metadata"]["uid"]]
        if strategy.get("type") == "Recreate":
            for one in old:
                self._scale(item, one, 0)
            if not any(self._storage.owned(PODS, one["metadata"]["uid"]) for one in old):
                self._scale(item, current, desired)
            return
        surge, unavailable = bounds(item, desired)
        total = sum(one["spec"].get("replicas", 0) for one in sets)
        have = current["spec"].get("replicas", 0)
        if have > desired:
            self._scale(item, current, desired)
        elif have < desired and total < desired + surge:
            self._scale(item, current, have + min(desired + surge - total, desired - have))
        fresh = self._storage.owned(REPLICA_SETS, item["metadata"]["uid"])
        self._shrink(item, current["metadata"]["uid"], fresh, desired - unavailable)

    def _shrink(self, item: Object, current: str, sets: list[Object], floor: int) -> None:
        """Take down old ReplicaSets: first what is unhealthy anyway, then as far as availability allows."""
        old = sorted((one for one in sets if one["metadata"]["uid"] != current and one["spec"].get("replicas")), key=_age)
        if not old:
            return
        (now,) = (one for one in sets if one["metadata"]["uid"] == current)
        total = sum(one["spec"].get("replicas", 0) for one in sets)
        room = total - floor - (now["spec"].get("replicas", 0) - now["status"].get("availableReplicas", 0))
        if room <= 0:
            return
        left = {one["metadata"]["name"]: one["spec"]["replicas"] for one in old}
        for one in old:
            sick = min(room, left[one["metadata"]["name"]] - one["status"].get("availableReplicas", 0))
            if sick > 0:
                left[one["metadata"]["name"]] -= sick
                room -= sick
        spare = sum(one["status"].get("availableReplicas", 0) for one in sets) - floor
        for one in old:
            down = min(max(0, spare), left[one["metadata"]["name"]])
            left[one["metadata"]["name"]] -= down
            spare -= down
        for one in old:
            self._scale(item, one, left[one["metadata"]["name"]])

    def _status(self, item: Object, sets: list[Object], digest: str, desired: int) -> None:
        current = _current(sets, digest)
        total, ready, available, terminating = (
            sum(one["status"].get(name, 0) for one in sets)
            for name in ("replicas", "readyReplicas", "availableReplicas", "terminatingReplicas")
        )
        updated = current["status"].get("replicas", 0) if current is not None else 0
        conditions = {one["type"]: one for one in item["status"].get("conditions") or ()}
        now = self._storage.now()
        enough = available >= desired - bounds(item, desired)[1]
        _condition(
            conditions,
            "Available",
            "True" if enough else "False",
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            "Deployment has minimum availability." if enough else "Deployment does not have minimum availability.",
            now,
        )
        self._progressing(item, conditions, current, updated=updated, total=total, available=available, desired=desired)
        failed = next(
            (
                one
                for of in sets
                for one in of["status"].get("conditions") or ()
                if (one["type"], one["status"]) == ("ReplicaFailure", "True")
            ),
            None,
        )
        if failed is None:
            conditions.pop("ReplicaFailure", None)
        else:
            _condition(conditions, "ReplicaFailure", "True", failed["reason"], failed["message"], now)
        self._storage.set_status(
            DEPLOYMENTS,
            item,
            given(
                {
                    "observedGeneration": item["metadata"]["generation"],
                    "replicas": total,
                    "updatedReplicas": updated,
                    "readyReplicas": ready,
                    "availableReplicas": available,
                    "unavailableReplicas": max(0, total - available),
                    "conditions": list(conditions.values()),
                }
            )
            | {"terminatingReplicas": terminating},
        )

    def _progressing(
        self, item: Object, conditions: dict[str, Object], current: Object | None, *, updated: int, total: int, available: int, desired: int
    ) -> None:  # fmt: skip
        now, uid = self._storage.now(), item["metadata"]["uid"]
        name = current["metadata"]["name"] if current is not None else ""
        before = conditions.get("Progressing")
        if item["spec"].get("paused"):
            if before is None or before["reason"] != "DeploymentPaused":
                _condition(conditions, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now)
            return
        complete = updated == desired and total == desired and available == desired
        seen = (name, updated, total - updated, available)
        moved = self._progress.get(uid) != seen
        self._progress[uid] = seen
        deadline = item["spec"].get("progressDeadlineSeconds", 600)
        if complete:
            said = f'ReplicaSet "{name}" has successfully progressed.'
            _condition(conditions, "Progressing", "True", "NewReplicaSetAvailable", said, now)
        elif before is None or before["reason"] == "DeploymentPaused":
            said = f'Created new replica set "{name}"'
            _condition(conditions, "Progressing", "True", "NewReplicaSetCreated", said, now)
        elif moved or before["reason"] == "NewReplicaSetAvailable":
            said = f'ReplicaSet "{name}" is progressing.'
            _condition(conditions, "Progressing", "True", "ReplicaSetUpdated", said, now, refresh=True)
        elif before["reason"] in {"ReplicaSetUpdated", "NewReplicaSetCreated"} and (
            now - datetime.fromisoformat(before["lastUpdateTime"]) > timedelta(seconds=deadline)
        ):
            said = f'ReplicaSet "{name}" has timed out progressing.'
            _condition(conditions, "Progressing", "False", "ProgressDeadlineExceeded", said, now)


def _complete(item: Object) -> bool:
    """Tell whether a Deployment waits for nothing but changes."""
    conditions = item["status"].get("conditions") or ()
    return any(
        one["type"] == "Progressing" and one["reason"] in {"NewReplicaSetAvailable", "DeploymentPaused"} for one in conditions
    )


def bounds(item: Object, desired: int) -> tuple[int, int]:
    """Return how many more and how many fewer than desired there may be during a rollout."""
    if (item["spec"].get("strategy") or {}).get("type") == "Recreate":
        return 0, 0
    rolling = (item["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge"), desired, "25%", up=True)
    unavailable = share(rolling.get("maxUnavailable"), desired, "25%", up=False)
    return surge, min(desired, max(unavailable, 1 if not surge else 0))


def _first(item: Object) -> int:
    return int(item["spec"].get("replicas", 1))


def _current(sets: list[Object], digest: str) -> Object | None:
    return next((one for one in sets if one["metadata"]["labels"].get("pod-template-hash") == digest), None)


def _age(item: Object) -> tuple[int, str]:
    return revision(item), item["metadata"]["creationTimestamp"]


def _new_set(storage: Storage, item: Object, digest: str, number: int, notes: Mapping[str, str]) -> Object:
    template = clone(item["spec"]["template"])
    template.setdefault("metadata", {}).setdefault("labels", {})["pod-template-hash"] = digest
    selector = clone(item["spec"]["selector"])
    selector.setdefault("matchLabels", {})["pod-template-hash"] = digest
    desired = item["spec"].get("replicas", 1)
    meta = item["metadata"]
    return storage.create(
        REPLICA_SETS,
        {
            "metadata": {
                "namespace": meta["namespace"],
                "name": f"{meta['name']}-{digest}",
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {
                    **notes,
                    REVISION: str(number),
                    f"{PREFIX}desired-replicas": str(desired),
                    f"{PREFIX}max-replicas": str(desired + bounds(item, desired)[0]),
                },
                "ownerReferences": owner(item),
            },
            "spec": {
                "replicas": 0,
                "selector": selector,
                "template": template,
                **({"minReadySeconds": item["spec"]["minReadySeconds"]} if item["spec"].get("minReadySeconds") else {}),
            },
        },
    )


def _forget_old(storage: Storage, item: Object, current: Object) -> None:
    limit = item["spec"].get("revisionHistoryLimit", 10)
    idle = [
        one
        for one in storage.owned(REPLICA_SETS, item["metadata"]["uid"])
        if not one["spec"].get("replicas") and not one["status"].get("replicas") and one["metadata"]["uid"] != current["metadata"]["uid"]
    ]  # fmt: skip
    for one in sorted(idle, key=_age)[: max(0, len(idle) - limit)]:
        delete(storage, REPLICA_SETS, one, propagation="Background")


def _condition(
    conditions: dict[str, Object], kind: str, status: str, reason: str, message: str, now: datetime, *, refresh: bool = False
) -> None:
    before = conditions.get(kind)
    if (
        before is not None
        and (before["status"], before["reason"], before["message"]) == (status, reason, message)
        and not refresh
    ):
        return
    since = before["lastTransitionTime"] if before is not None and before["status"] == status else stamp(now)
    conditions[kind] = {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
        "lastUpdateTime": stamp(now),
    }


# --- ReplicaSets


class ReplicaSets:
    """Makes as many pods as each ReplicaSet wants; unbound, unready and younger ones leave first."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._settled: dict[str, tuple[str, int]] = {}

    def step(self) -> None:
        """Move each of them; one that has what it wants is left alone until it or a pod of it changes."""
        storage = self._storage
        for item in storage.all(REPLICA_SETS):
            meta = item["metadata"]
            now = (meta["resourceVersion"], storage.touched(meta["uid"]))
            if self._settled.get(meta["uid"]) == now:
                continue
            _replicate(storage, item)
            waits = item["spec"].get("minReadySeconds") or item["status"].get("replicas", 0) != item["spec"].get("replicas", 1)
            if not waits:
                self._settled[meta["uid"]] = now


def _replicate(storage: Storage, item: Object) -> None:
    uid, wanted = item["metadata"]["uid"], item["spec"].get("replicas", 1)
    pods = storage.owned(PODS, uid)
    live = [pod for pod in pods if is_live(pod)]
    failure: ApiFailure | None = None
    leaving = bool(item["metadata"].get("deletionTimestamp"))
    if not leaving and len(live) != wanted:
        labels = {}
        if "pod-template-hash" in (item["metadata"].get("labels") or {}):
            labels["pod-template-hash"] = item["metadata"]["labels"]["pod-template-hash"]
        for _ in range(wanted - len(live)):
            try:
                new_pod(storage, item, labels=labels)
            except ApiFailure as refused:
                failure = refused
                break
        for pod in sorted(live, key=_leaves_first)[: max(0, len(live) - wanted)]:
            said = f"Deleted pod: {pod['metadata']['name']}"
            storage.event(item, "SuccessfulDelete", said, by="replicaset-controller")
            delete(storage, PODS, pod)
        pods = storage.owned(PODS, uid)
        live = [pod for pod in pods if is_live(pod)]
    ready = [pod for pod in live if is_ready(pod)]
    needs = item["spec"].get("minReadySeconds", 0)
    conditions = [one for one in item["status"].get("conditions") or () if one["type"] != "ReplicaFailure"]
    if failure is not None:
        known = next((one for one in item["status"].get("conditions") or () if one["type"] == "ReplicaFailure"), None)
        at = known["lastTransitionTime"] if known else stamp(storage.now())
        message = known["message"] if known and known["reason"] == "FailedCreate" else failure.message
        conditions.append(
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message, "lastTransitionTime": at}
        )
    storage.set_status(
        REPLICA_SETS,
        item,
        {
            "replicas": len(live),
            **given(
                {
                    "fullyLabeledReplicas": len(live),
                    "readyReplicas": len(ready),
                    "availableReplicas": len(ready) if not needs else sum(1 for pod in ready if is_available(storage, pod, needs)),
                    "observedGeneration": item["metadata"]["generation"],
                    "conditions": conditions,
                }
            ),
            "terminatingReplicas": sum(1 for pod in pods if pod["metadata"].get("deletionTimestamp") and not is_finished(pod)),
        },
    )  # fmt: skip


def is_available(storage: Storage, pod: Object, seconds: int) -> bool:
    """Tell whether a pod has been ready for so long."""
    for one in pod["status"].get("conditions") or ():
        if (one["type"], one["status"]) == ("Ready", "True"):
            return storage.now() - datetime.fromisoformat(one["lastTransitionTime"]) >= timedelta(seconds=seconds)
    return False


def _leaves_first(pod: Object) -> tuple[bool, int, bool, int, str]:
    """Return a key: smallest leaves first. Source: ``ActivePodsWithRanks``."""
    phase = {"Pending": 0, "Unknown": 1}.get(pod["status"].get("phase", ""), 2)
    notes = pod["metadata"].get("annotations") or {}
    cost = int(notes.get("controller.kubernetes.io/pod-deletion-cost", 0))
    young = "".join(chr(255 - ord(letter)) for letter in pod["metadata"]["creationTimestamp"])
    return bool(pod["spec"].get("nodeName")), phase, is_ready(pod), cost, young
