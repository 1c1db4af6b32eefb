"""Horizontal autoscalers: they keep the count within their bounds; zero replicas disable them. Source: kubernetes.md A10."""

from __future__ import annotations

from responder.sandbox.kinds import AUTOSCALERS, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS
from responder.sandbox.objects import Storage, clone, stamp

TARGETS = {"Deployment": DEPLOYMENTS, "StatefulSet": STATEFUL_SETS, "ReplicaSet": REPLICA_SETS}


def autoscalers(storage: Storage) -> None:
    """Clamp what each HPA scales into its bounds."""
    for item in storage.all(AUTOSCALERS):
        ref = item["spec"]["scaleTargetRef"]
        kind = TARGETS.get(ref["kind"], DEPLOYMENTS)
        target = storage.find(kind, item["metadata"]["namespace"], ref["name"])
        at = stamp(storage.now())
        known = {one["type"]: one for one in (item.get("status") or {}).get("conditions") or ()}
        said: list[tuple[str, str, str, str]] = []
        if target is None:
            message = f'the HPA controller was unable to get the target\'s current scale: {ref["kind"].lower()}s.apps "{ref["name"]}" not found'
            said.append(("AbleToScale", "False", "FailedGetScale", message))
            now = wanted = 0
        else:
            now = target["spec"].get("replicas", 1)
            low, high = item["spec"].get("minReplicas", 1), item["spec"]["maxReplicas"]
            active = now > 0 or low == 0
            wanted = min(max(now, low), high) if active else 0
            said.append(
                ("AbleToScale", "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale")
            )
            if not active:
                said.append(
                    (
                        "ScalingActive",
                        "False",
                        "ScalingDisabled",
                        "scaling is disabled since the replica count of the target is zero",
                    )
                )
            else:
                said.append(
                    ("ScalingActive", "True", "ValidMetricFound", "the HPA was able to successfully calculate a replica count")
                )
            if wanted != now:
                changed = clone(target)
                changed["spec"]["replicas"] = wanted
                storage.update(kind, target, changed)
                bound = "Current number of replicas " + ("above Spec.MaxReplicas" if now > high else "below Spec.MinReplicas")
                storage.event(item, "SuccessfulRescale", f"New size: {wanted}; reason: {bound}", by="horizontal-pod-autoscaler")
        conditions = []
        for kind_of, status, reason, message in said:
            before = known.get(kind_of)
            since = before["lastTransitionTime"] if before is not None and before["status"] == status else at
            conditions.append(
                {"type": kind_of, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
            )
        storage.set_status(
            AUTOSCALERS,
            item,
            {"currentReplicas": now, "desiredReplicas": wanted, "currentMetrics": None, "conditions": conditions},
        )
