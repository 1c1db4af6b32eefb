"""What pods are: ready, live, what they tolerate; and how a controller makes one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from responder.sandbox.answers import ApiFailure, Object
from responder.sandbox.kinds import PODS
from responder.sandbox.objects import Storage, clone, suffix


def is_ready(pod: Object) -> bool:
    """Tell whether a pod's Ready condition is True."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions") or ())


def is_live(pod: Object) -> bool:
    """Tell whether a pod is neither terminating nor finished."""
    return not pod["metadata"].get("deletionTimestamp") and not is_finished(pod)


def is_finished(pod: Object) -> bool:
    """Tell whether a pod's containers have ended for good."""
    return pod["status"].get("phase") in {"Succeeded", "Failed"}


def controller_of(item: Object) -> Object | None:
    """Return the owner reference of the controller, or None."""
    return next((one for one in item["metadata"].get("ownerReferences") or () if one.get("controller")), None)


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Tell whether a toleration covers a taint. Source: ``Toleration.ToleratesTaint``."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(tolerations: list[Object], taints: list[Object], effects: set[str]) -> Object | None:
    """Return the first taint with one of these effects that nothing tolerates; None when all are."""
    for taint in taints:
        if taint["effect"] in effects and not any(tolerates(one, taint) for one in tolerations):
            return taint
    return None


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


def template_hash(template: Object) -> str:
    """Return a hash of a pod template, restart stamps included: a restart makes a new revision."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def new_pod(
    storage: Storage,
    parent: Object,
    *,
    labels: Mapping[str, str],
    template: Object | None = None,
    name: str = "",
    node: str = "",
    tolerations: tuple[Object, ...] = (),
) -> Object:
    """Create a pod of a controller.

    ``template`` instead of the parent's own; ``name`` instead of a generated one; ``node`` is the only one that it may run on;
    ``tolerations`` besides those of the template.

    Raises:
        ApiFailure: A quota or the namespace refuses it, or the name is taken; recorded as an Event of the parent.
    """
    made = template or parent["spec"]["template"]
    meta = parent["metadata"]
    spec = clone(made["spec"])
    if node:
        only = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
        affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": only}
    if tolerations:
        spec["tolerations"] = [*(spec.get("tolerations") or []), *tolerations]
    prefix = f"{meta['name']}-"
    body: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": meta["namespace"],
            "name": name or prefix + suffix(),
            "labels": {**((made.get("metadata") or {}).get("labels") or {}), **labels},
            "ownerReferences": owner(parent),
            **({} if name else {"generateName": prefix}),
            **({"annotations": dict(made["metadata"]["annotations"])} if (made.get("metadata") or {}).get("annotations") else {}),
        },
        "spec": spec,
    }
    by = f"{parent['kind'].lower()}-controller"
    try:
        pod = storage.create(PODS, storage.admit(PODS, body))
    except ApiFailure as failure:
        if failure.reason != "AlreadyExists":
            storage.event(parent, "FailedCreate", f"Error creating: {failure.message}", kind="Warning", by=by)
        raise
    storage.event(parent, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", by=by)
    return pod
