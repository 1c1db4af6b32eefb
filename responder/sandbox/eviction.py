"""The eviction subresource: disruption budgets are asked, spent, and sometimes spent in vain.

Source: kubernetes.md A2; kubernetes ``pkg/registry/core/pod/storage/eviction.go``.
"""

from __future__ import annotations

from responder.sandbox.answers import ApiFailure, Cause, Object, Resource, bad_request, forbidden
from responder.sandbox.deleting import delete, disrupted
from responder.sandbox.kinds import BUDGETS, KINDS, PODS
from responder.sandbox.objects import Storage, clone, stamp
from responder.sandbox.pods import is_finished, is_ready
from responder.sandbox.selectors import selects
from responder.sandbox.writing import preconditions

MOST_DISRUPTED = 2000
DONE: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


def evict(storage: Storage, pod: Object, body: Object, *, dry: bool) -> Object:
    """Evict a pod; ``body`` is a ``policy/v1`` Eviction. With ``dry`` the budget is asked, and nothing changes.

    Raises:
        ApiFailure: 429 without a time when the budget is used up, 429 with ten seconds when it is not counted yet, 500 for two
            budgets, 409 for another UID (after the budget was spent), 403 for a broken budget.
    """
    name = (body.get("metadata") or {}).get("name")
    if name and name != pod["metadata"]["name"]:
        raise bad_request("name in URL does not match name in Eviction object")
    options = body.get("deleteOptions") or {}
    dry = dry or options.get("dryRun") == ["All"]
    if _no_budget_asked(pod):
        _end(storage, pod, options, dry=dry)
        return dict(DONE)
    namespace = pod["metadata"]["namespace"]
    labels = pod["metadata"].get("labels")
    found = [one for one in storage.all(BUDGETS, namespace) if selects(one["spec"].get("selector"), labels)]
    if len(found) > 1:
        message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise ApiFailure(500, "", message)
    for budget in found:
        if not _unhealthy_goes_free(budget, pod):
            _spend(storage, budget, pod["metadata"]["name"], dry=dry)
    _end(storage, pod, options, dry=dry)
    return dict(DONE)


def _no_budget_asked(pod: Object) -> bool:
    return (
        is_finished(pod) or pod["status"].get("phase", "Pending") == "Pending" or bool(pod["metadata"].get("deletionTimestamp"))
    )


def _unhealthy_goes_free(budget: Object, pod: Object) -> bool:
    """Tell whether a pod that is not ready goes without spending anything: as the policy says, or because enough others are healthy."""
    if is_ready(pod):
        return False
    status = budget.get("status") or {}
    if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    desired = int(status.get("desiredHealthy", 0))
    return desired > 0 and int(status.get("currentHealthy", 0)) >= desired


def _spend(storage: Storage, budget: Object, pod: str, *, dry: bool) -> None:
    status, name = budget.get("status") or {}, budget["metadata"]["name"]
    if status.get("observedGeneration", 0) < budget["metadata"]["generation"]:
        cause = Cause("DisruptionBudget", f"The disruption budget {name} is still being processed by the server.")
        raise ApiFailure(429, "TooManyRequests", REFUSED, causes=[cause], retry_after=10)
    about = Resource(group="policy", plural="poddisruptionbudget")
    allowed = int(status.get("disruptionsAllowed", 0))
    if allowed < 0:
        raise forbidden(about, name, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or {}) > MOST_DISRUPTED:
        raise forbidden(about, name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller")
    if allowed == 0:
        said = f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods and has {status.get('currentHealthy', 0)} currently"
        failed = next((one for one in status.get("conditions") or () if one["reason"] == "SyncFailed"), None)
        if failed is not None:
            said = (
                f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {failed['message']}"
            )
        raise ApiFailure(429, "TooManyRequests", REFUSED, causes=[Cause("DisruptionBudget", said)])
    if dry:
        return
    changed = clone(budget)
    at = stamp(storage.now())
    changed["status"]["disruptionsAllowed"] = allowed - 1
    changed["status"].setdefault("disruptedPods", {})[pod] = at
    if allowed == 1:
        for one in changed["status"].get("conditions") or ():
            if one["type"] == "DisruptionAllowed":
                one |= {"status": "False", "reason": "InsufficientPods", "lastTransitionTime": at}
    storage.update(BUDGETS, budget, changed)


def _end(storage: Storage, pod: Object, options: Object, *, dry: bool) -> None:
    """Delete the pod; the preconditions are asked only now, after the budget."""
    preconditions(KINDS[PODS].resource, pod, options.get("preconditions") or {})
    if dry:
        return
    if not pod["metadata"].get("deletionTimestamp") and not is_finished(pod):
        pod = disrupted(storage, pod, "EvictionByEvictionAPI", "Eviction API: evicting")
    delete(storage, PODS, pod, grace=options.get("gracePeriodSeconds"), propagation=options.get("propagationPolicy") or "")
