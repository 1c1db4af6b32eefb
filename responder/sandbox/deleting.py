"""What a deletion does: grace for pods, finalizers, propagation. Source: apimachinery ``rest/delete.go``, kubernetes.md A3 and A5."""

from __future__ import annotations

from datetime import datetime, timedelta

from responder.sandbox.kinds import PODS
from responder.sandbox.objects import Object, Storage, clone, stamp
from responder.sandbox.pods import is_finished

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


def delete(storage: Storage, kind: str, item: Object, *, grace: int | None = None, propagation: str = "") -> Object:
    """Delete an object as the API server does, and return it as it is then.

    A pod that is bound and not finished gets its grace (in seconds; None for its own); everything that has finalizers waits for
    them; the rest is gone at once. ``propagation`` is ``Background``, ``Foreground``, ``Orphan``, or "" for the finalizers it has.
    """
    meta = item["metadata"]
    finalizers = _finalizers(list(meta.get("finalizers") or []), propagation)
    seconds = _grace(item, grace) if kind == PODS else 0
    if meta.get("deletionTimestamp"):
        seconds = min(seconds, meta.get("deletionGracePeriodSeconds") or 0)
    if not seconds and not finalizers:
        storage.remove(kind, item)
        return item
    if meta.get("deletionTimestamp") and seconds == (meta.get("deletionGracePeriodSeconds") or 0):
        return item
    changed = clone(item)
    changed["metadata"] |= {
        "deletionTimestamp": stamp(
            (begun_at(item) if "deletionTimestamp" in meta else storage.now()) + timedelta(seconds=seconds)
        ),
        "deletionGracePeriodSeconds": seconds,
    }
    if finalizers:
        changed["metadata"]["finalizers"] = finalizers
    return storage.update(kind, item, changed)


def disrupted(storage: Storage, pod: Object, reason: str, message: str) -> Object:
    """Write the condition DisruptionTarget into a pod."""
    changed = clone(pod)
    conditions = [one for one in changed["status"].get("conditions") or [] if one["type"] != "DisruptionTarget"]
    at = stamp(storage.now())
    condition = {
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message, "lastProbeTime": None,
        "lastTransitionTime": at,
    }  # fmt: skip
    changed["status"]["conditions"] = [*conditions, condition]
    return storage.update(PODS, pod, changed)


def begun_at(item: Object) -> datetime:
    """Return when a terminating object was asked to go: its timestamp is when its grace is over."""
    meta = item["metadata"]
    return datetime.fromisoformat(meta["deletionTimestamp"]) - timedelta(seconds=meta.get("deletionGracePeriodSeconds") or 0)


def _grace(pod: Object, given: int | None) -> int:
    if not pod["spec"].get("nodeName") or is_finished(pod):
        return 0
    return int(pod["spec"].get("terminationGracePeriodSeconds", 30)) if given is None else max(0, given)


def _finalizers(finalizers: list[str], propagation: str) -> list[str]:
    if not propagation:
        return finalizers
    kept = [one for one in finalizers if one not in {FOREGROUND, ORPHAN}]
    added = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(propagation)
    return [*kept, added] if added else kept
